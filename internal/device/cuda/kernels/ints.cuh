// Rows of integers, INT8 or INT4, of which each has a scale. Those of a view have dim numbers without gaps, and the scale of the row that
// starts at number i is scales[i / dim].

// A row of INT4 consists of blocks of 32 numbers, of which byte i has number i in its lower half and number i+16 in its upper half, each
// plus 8; the last block may have fewer. lowerOf and upperOf return the numbers that byte y of a row has.
__device__ __forceinline__ int lowerOf(int y) { return y / 16 * 32 + y % 16; }
__device__ __forceinline__ int upperOf(int y, int dim) { return lowerOf(y) + min(32, dim - y / 16 * 32) / 2; }

// bytesAt returns where number i, the first of a row, is.
__device__ __forceinline__ unsigned char* bytesAt(const View& v, i64 i) { return (unsigned char*)v.p + (v.format == INT4 ? i / 2 : i); }

// integerAt returns number i of a row.
__device__ __forceinline__ int integerAt(const unsigned char* row, int i, int dim, i64 format) {
  if (format == INT8) return (signed char)row[i];
  const int block = i / 32 * 32, half = min(32, dim - block) / 2, in = i - block;
  return in < half ? (row[block / 2 + in] & 15) - 8 : (row[block / 2 + in - half] >> 4) - 8;
}

// numberAt returns number i of the row that starts at number `at` of a view in any format.
__device__ __forceinline__ float numberAt(const View& v, const float* scales, i64 at, int i, int dim) {
  if (v.format < INT8) return load(v.p, at + i, v.format);
  return (float)integerAt(bytesAt(v, at), i, dim, v.format) * scales[at / dim];
}
