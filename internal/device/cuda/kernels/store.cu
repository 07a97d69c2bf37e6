// Keys and values as integers: a warp computes a row of a head.

// EACHROW iterates over i < n with all warps of the grid.
#define EACHROW(i, n) for (i64 i = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32; i < (n); i += (i64)gridDim.x * blockDim.x / 32)

// quantise makes the numbers f(0) to f(dim-1) the row of a view that starts at number `at`. All threads of a warp call it.
template <class F> __device__ __forceinline__ void quantise(const View& to, float* scales, i64 at, int dim, F f) {
  const int lane = threadIdx.x % 32;
  u32 top = 0; // the largest magnitude. As integers, NaN is above infinity, and that above all other numbers.
  for (int i = lane; i < dim; i += 32) top = max(top, __float_as_uint(f(i)) & 0x7fffffffu);
  for (int m = 16; m; m >>= 1) top = max(top, __shfl_xor_sync(~0u, top, m));
  const float largest = __uint_as_float(top), most = to.format == INT8 ? 127 : 7;
  const bool finite = top < 0x7f800000u, some = finite && largest >= 7.8886091e-31f; // 2^-100
  const float inverse = some ? __fdiv_rn(most, largest) : 0;
  if (lane == 0) scales[at / dim] = some ? __fdiv_rn(largest, most) : finite ? 0 : NAN;
  unsigned char* bytes = bytesAt(to, at);
  auto integer = [&](int i) { return __float2int_rn(__fmul_rn(f(i), inverse)); };
  if (to.format == INT8)
    for (int i = lane; i < dim; i += 32) bytes[i] = (unsigned char)integer(i);
  else
    for (int y = lane; y < dim / 2; y += 32) bytes[y] = (unsigned char)(integer(lowerOf(y)) + 8 | (integer(upperOf(y, dim)) + 8) << 4);
}

// rowOf returns where row t of a head of a sequence starts.
__device__ __forceinline__ i64 rowOf(const View& v, i64 seq, i64 head, i64 t) { return seq * v.seq + head * v.head + t * v.row; }

// Stores keys and values [rows, heads·headDim], in a format, from row first of each sequence's heads on, or from row at[0] if at is given. v may
// be omitted.
extern "C" __global__ void __launch_bounds__(128) store_ints(View keys, View values, float* keyScales, float* valueScales, const void* k, const void* v, i64 format, i64 rows, i64 tokens, i64 heads, i64 headDim, i64 first, const int* at) {
  begin();
  if (at) first = at[0];
  EACHROW(i, (v ? 2 : 1) * rows * heads) {
    const bool value = i >= rows * heads;
    const i64 from = value ? i - rows * heads : i, row = from / heads;
    const View& to = value ? values : keys;
    quantise(to, value ? valueScales : keyScales, rowOf(to, row / tokens, from % heads, first + row % tokens), headDim,
             [&](int d) { return load(value ? v : k, from * headDim + d, format); });
  }
}

// Rotates queries [rows, heads, headDim] in place, and stores keys and values like store_ints, the keys rotated as if that were rounded.
extern "C" __global__ void __launch_bounds__(128) rotate_store_ints(act_t* q, i64 ldq, const act_t* k, i64 ldk, const act_t* v, i64 ldv, View keys, View values, float* keyScales, float* valueScales, i64 first, const int* at, i64 tokens, i64 kvHeads, const int* pos, const float* cosines, const float* sines, i64 rows, i64 heads, i64 headDim, i64 planes, i64 interleaved) {
  begin();
  if (at) first = at[0];
  const i64 all = heads + 2 * kvHeads;
  EACHROW(i, rows * all) {
    const i64 row = i / all, part = i % all, turn = pos[row] * planes;
    // Number d of a head at x, rotated. Dims beyond the planes are not.
    auto rotated = [&](const act_t* x, int d) {
      if (d >= 2 * planes) return (float)x[d];
      const int plane = interleaved ? d / 2 : d % (int)planes;
      const bool second = interleaved ? d % 2 : d >= planes;
      const int other = interleaved ? d ^ 1 : second ? d - (int)planes : d + (int)planes;
      const float c = cosines[turn + plane], s = sines[turn + plane];
      return (float)act_t((float)x[d] * c + (float)x[other] * (second ? s : -s));
    };
    if (part < heads) {
      act_t* x = q + row * ldq + part * headDim;
      for (int p = threadIdx.x % 32; p < planes; p += 32) { // no other thread has the numbers of the plane
        const int a = interleaved ? 2 * p : p, b = interleaved ? a + 1 : a + (int)planes;
        const float y = rotated(x, a), z = rotated(x, b);
        x[a] = act_t(y), x[b] = act_t(z);
      }
      continue;
    }
    const bool value = part >= heads + kvHeads;
    const i64 head = (part - heads) % kvHeads;
    const act_t* x = (value ? v + row * ldv : k + row * ldk) + head * headDim;
    const View& to = value ? values : keys;
    quantise(to, value ? valueScales : keyScales, rowOf(to, row / tokens, head, first + row % tokens), headDim,
             [&](int d) { return value ? (float)x[d] : rotated(x, d); });
  }
}

// y [batch, heads, keys, headDim] are the numbers of rows in any format, and zeros from row lens[b] on if lens is given.
extern "C" __global__ void __launch_bounds__(128) expand(act_t* y, View from, const float* scales, const int* lens, i64 batch, i64 heads, i64 keys, i64 headDim) {
  begin();
  EACHROW(i, batch * heads * keys) {
    const i64 t = i % keys, head = i / keys % heads, b = i / keys / heads, at = rowOf(from, b, head, t);
    const bool real = !lens || t < lens[b];
    for (int d = threadIdx.x % 32; d < headDim; d += 32) y[i * headDim + d] = act_t(real ? numberAt(from, scales, at, d, headDim) : 0);
  }
}
