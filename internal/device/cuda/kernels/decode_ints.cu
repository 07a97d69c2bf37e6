// Attention of few queries to many keys that are integers of INTS bits. Blocks, splits and their combination are those of decode.cu.
// Scores and weights, not numbers, are multiplied by the scales of rows.

constexpr int BYTES = HD * INTS / 8; // of a row

// Head is where the rows and scales of a KV head begin.
struct Head {
  const unsigned char *keys, *values;
  const float *keyScales, *valueScales;
};

__device__ __forceinline__ Head headAt(const Place& p, const View& k, const View& v, const float* keyScales, const float* valueScales) {
  const i64 key = p.b * k.seq + p.kv * k.head, value = p.b * v.seq + p.kv * v.head;
  return {bytesAt(k, key), bytesAt(v, value), keyScales + key / HD, valueScales + value / HD};
}

#ifndef TENSOR
// Without tensor cores: a row is read by LANES threads, PARTS loads of LOAD bytes each.
constexpr int NUMBERS = LOAD * 8 / INTS; // of a load
constexpr int LOADS = BYTES / LOAD;
constexpr int LANES = LOADS > 16 ? 32 : LOADS > 8 ? 16 : LOADS > 4 ? 8 : LOADS > 2 ? 4 : LOADS;
constexpr int PARTS = (LOADS + LANES - 1) / LANES;

struct Loaded {
  u32 w[LOAD == 8 ? 2 : 1];
};

__device__ __forceinline__ Loaded fetch(const unsigned char* p) {
  Loaded x = {};
  if constexpr (LOAD == 8) {
    const uint2 y = *(const uint2*)p;
    x.w[0] = y.x, x.w[1] = y.y;
  } else if constexpr (LOAD == 4) x.w[0] = *(const u32*)p;
  else x.w[0] = *p;
  return x;
}

__device__ __forceinline__ float number(const Loaded& x, int n) {
  if constexpr (INTS == 8) return (float)(signed char)(x.w[n / 4] >> n % 4 * 8);
  else return (float)((int)(x.w[0] >> n * 4 & 15) - 8);
}

// dimOf returns the dim of number n of a load from byte `at` of a row on.
__device__ __forceinline__ int dimOf(int at, int n) {
  if constexpr (INTS == 8) return at + n;
  else return n % 2 ? upperOf(at + n / 2, HD) : lowerOf(at + n / 2);
}

template <int ROWS> __device__ __forceinline__ void decodeInts(const Scores& s, const Shape& shape, const View& out, float* lse, float* part, const View& q, const View& k, const View& v, const float* keyScales, const float* valueScales) {
  constexpr int AHEAD = PARTS > 1 ? 1 : 2;     // keys and values on their way to a thread
  constexpr int STEP = AHEAD * (32 / LANES);   // keys of a warp at a time
  __shared__ Row row[ROWS];
  __shared__ float tops[WARPS * ROWS], sums[WARPS * ROWS];
  __shared__ __align__(16) float os[WARPS * ROWS * HD];
  letNextStart();
  const Place p = place(s, shape, ROWS, WARPS * STEP);
  const Head head = headAt(p, k, v, keyScales, valueScales);
  awaitEarlier();
  if (threadIdx.x < ROWS) row[threadIdx.x] = rowOf(s, p, threadIdx.x);
  __syncthreads();
  const int warp = threadIdx.x / 32, group = threadIdx.x % 32 / LANES, lane = threadIdx.x % LANES;
  auto byteOf = [&](int i) { return (i * LANES + lane) * LOAD; }; // where load i of this thread begins

  float x[ROWS][PARTS * NUMBERS], o[ROWS][PARTS * NUMBERS] = {}, top[ROWS], sum[ROWS] = {};
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    top[r] = -INFINITY;
    const act_t* from = rowAt<const act_t>(s, p, r, q);
#pragma unroll
    for (int c = 0; c < PARTS * NUMBERS; c++) {
      const int at = byteOf(c / NUMBERS);
      x[r][c] = p.row + r < p.rows && at < BYTES ? (float)from[dimOf(at, c % NUMBERS)] : 0;
    }
  }
  for (int j = p.from + warp * STEP; j < p.to; j += WARPS * STEP) {
    Loaded ks[AHEAD][PARTS] = {}, vs[AHEAD][PARTS] = {};
    float keyScale[AHEAD], valueScale[AHEAD], w[ROWS][AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      const i64 at = min(j + u * (32 / LANES) + group, p.to - 1); // scores of keys after the last are not used
      keyScale[u] = head.keyScales[at], valueScale[u] = head.valueScales[at];
#pragma unroll
      for (int i = 0; i < PARTS; i++)
        if (byteOf(i) < BYTES) ks[u][i] = fetch(head.keys + at * BYTES + byteOf(i)), vs[u][i] = fetch(head.values + at * BYTES + byteOf(i));
    }
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      float dot[ROWS] = {};
#pragma unroll
      for (int c = 0; c < PARTS * NUMBERS; c++) {
        const float y = number(ks[u][c / NUMBERS], c % NUMBERS);
#pragma unroll
        for (int r = 0; r < ROWS; r++) dot[r] += x[r][c] * y;
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int m = LANES / 2; m; m >>= 1) dot[r] += __shfl_xor_sync(~0u, dot[r], m);
        w[r][u] = scoreOf(s, row[r], j + u * (32 / LANES) + group, dot[r] * keyScale[u]);
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float most = top[r];
#pragma unroll
      for (int u = 0; u < AHEAD; u++) most = fmaxf(most, w[r][u]);
      const float kept = weight(top[r], most);
      sum[r] *= kept, top[r] = most;
#pragma unroll
      for (int c = 0; c < PARTS * NUMBERS; c++) o[r][c] *= kept;
#pragma unroll
      for (int u = 0; u < AHEAD; u++) {
        const float a = weight(w[r][u], most);
        sum[r] += a, w[r][u] = a * valueScale[u];
      }
    }
#pragma unroll
    for (int u = 0; u < AHEAD; u++)
#pragma unroll
      for (int c = 0; c < PARTS * NUMBERS; c++) {
        const float y = number(vs[u][c / NUMBERS], c % NUMBERS);
#pragma unroll
        for (int r = 0; r < ROWS; r++) o[r][c] += w[r][u] * y;
      }
  }
  // The groups of a warp, then the warps. Only the first group's results are used.
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int m = LANES; m < 32; m *= 2) {
      const float other = __shfl_xor_sync(~0u, top[r], m), most = fmaxf(top[r], other), a = weight(top[r], most), b = weight(other, most);
      sum[r] = sum[r] * a + __shfl_xor_sync(~0u, sum[r], m) * b, top[r] = most;
#pragma unroll
      for (int c = 0; c < PARTS * NUMBERS; c++) o[r][c] = o[r][c] * a + __shfl_xor_sync(~0u, o[r][c], m) * b;
    }
    if (group > 0) continue;
#pragma unroll
    for (int c = 0; c < PARTS * NUMBERS; c++) {
      const int at = byteOf(c / NUMBERS);
      if (at < BYTES) os[(warp * ROWS + r) * HD + dimOf(at, c % NUMBERS)] = o[r][c];
    }
    if (lane == 0) tops[warp * ROWS + r] = top[r], sums[warp * ROWS + r] = sum[r];
  }
  __syncthreads();
  finish<ROWS, HD, COMBINED>(s, shape, p, os, tops, sums, out, lse, part);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) decode_1(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v, const float* ks, const float* vs) { decodeInts<1>(s, shape, out, lse, part, q, k, v, ks, vs); }
extern "C" __global__ void __launch_bounds__(32 * WARPS) decode_2(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v, const float* ks, const float* vs) { decodeInts<2>(s, shape, out, lse, part, q, k, v, ks, vs); }
extern "C" __global__ void __launch_bounds__(32 * WARPS) decode_4(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v, const float* ks, const float* vs) { decodeInts<4>(s, shape, out, lse, part, q, k, v, ks, vs); }

#else
// With tensor cores: integers go from memory to registers, and there become the bf16 numbers of operands, exactly. As sums over dims may have
// any order, and dims of results any place, a thread takes the dims of an operand's places from whole words of a row. BYTES is a multiple
// of 32.
constexpr int KEYWORDS = BYTES / 16, VALUEWORDS = BYTES / 32; // of a key for each of 4 threads, of a value for each of 8

// chunk is how many words of `words` a thread loads at once.
constexpr int chunk(int words) { return words % 4 == 0 ? 4 : words % 2 == 0 ? 2 : 1; }

// byteOf returns the byte of a row where word w of thread n of THREADS begins. Threads load neighbouring chunks.
template <int WORDS, int THREADS> __device__ __forceinline__ int byteOf(int n, int w) {
  constexpr int C = chunk(WORDS);
  return ((w / C * THREADS + n) * C + w % C) * 4;
}

// loadWords loads the words of thread n of THREADS. They are used once, and not moved before awaitEarlier.
template <int WORDS, int THREADS> __device__ __forceinline__ void loadWords(u32 x[WORDS], const unsigned char* row, int n) {
  constexpr int C = chunk(WORDS);
#pragma unroll
  for (int w = 0; w < WORDS; w += C) {
    const unsigned char* p = row + byteOf<WORDS, THREADS>(n, w);
    if constexpr (C == 4) asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x[w]), "=r"(x[w + 1]), "=r"(x[w + 2]), "=r"(x[w + 3]) : "l"(p));
    else if constexpr (C == 2) asm volatile("ld.global.L1::no_allocate.v2.u32 {%0, %1}, [%2];" : "=r"(x[w]), "=r"(x[w + 1]) : "l"(p));
    else asm volatile("ld.global.L1::no_allocate.u32 %0, [%1];" : "=r"(x[w]) : "l"(p));
  }
}

// Two bf16 numbers of the integers at the bottom of the halves of x: as 128 + n has the bits of n at its end. Other bits are ignored.
__device__ __forceinline__ u32 addProduct(u32 a, u32 b, u32 c) {
  u32 d;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
  return d;
}
__device__ __forceinline__ u32 pairOf(u32 x) {
  if constexpr (INTS == 8) return addProduct((x & 0x00800080) | 0x43004300, 0xbf80bf80, (x & 0x007f007f) | 0x43004300); // less 128, or 256 if it is negative
  else return addProduct((x & 0x000f000f) | 0x43004300, 0x3f803f80, 0xc308c308);                                          // less 136
}

// keyDim returns the dim at place i of step d of thread n's operands: of its dims 2n, 2n+1, 2n+8 and 2n+9 of the 16.
__device__ __forceinline__ int keyDim(int n, int d, int i) {
  if constexpr (INTS == 8) return byteOf<KEYWORDS, 4>(n, d) + i % 2 * 2 + i / 2;
  const int at = byteOf<KEYWORDS, 4>(n, d / 2) + d % 2 + i % 2 * 2;
  return i / 2 ? upperOf(at, HD) : lowerOf(at);
}

// keyOperand makes step d's operand of a key's words.
__device__ __forceinline__ void keyOperand(u32 y[2], const u32 words[KEYWORDS], int d) {
  const u32 w = INTS == 8 ? words[d] : words[d / 2] >> d % 2 * 8;
  y[0] = pairOf(w), y[1] = pairOf(w >> INTS);
}

// valueDim returns the dim of column n of the 8 in tile t.
__device__ __forceinline__ int valueDim(int n, int t) {
  if constexpr (INTS == 8) return byteOf<VALUEWORDS, 8>(n, t / 4) + t % 4;
  const int at = byteOf<VALUEWORDS, 8>(n, t / 8) + t / 2 % 4;
  return t % 2 ? upperOf(at, HD) : lowerOf(at);
}

// valuePair makes half of tile t's operand of the words of two values.
__device__ __forceinline__ u32 valuePair(const u32 a[VALUEWORDS], const u32 b[VALUEWORDS], int t) {
  const int word = t * INTS / 32, byte = t * INTS / 8 % 4; // the lower half gets that byte of a, the upper half that of b
  const u32 both = __byte_perm(a[word], b[word], byte | byte << 4 | (byte + 4) << 8 | (byte + 4) << 12);
  return pairOf(INTS == 4 && t % 2 ? both >> 4 : both);
}

// Scores are in units of ln 2 here, as in decode.cu.
constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f, LOWEST = -1e30f, SLACK = 8;

__device__ __forceinline__ float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// prefetchInts prefetches the beginning of a block's keys and values, of which all but the newest were written long ago.
__device__ __forceinline__ void prefetchInts(const Place& p, const Head& head) {
  constexpr int PIECE = 2048, PIECES = 16; // bytes, and how many of each
  const i64 bytes = max(p.to - p.from, 0) * (i64)BYTES, at = threadIdx.x % PIECES * PIECE;
  if (threadIdx.x >= 2 * PIECES || at >= bytes) return;
  prefetch((threadIdx.x < PIECES ? head.keys : head.values) + p.from * (i64)BYTES + at, min(bytes - at, (i64)PIECE));
}

// Read is UNITS times 16 keys and values of a warp on their way to a thread. Its columns of scores are keys 2n and 2n+1 of each 8 with
// n = lane % 4.
template <int UNITS> struct Read {
  u32 keys[2 * UNITS][KEYWORDS], values[2 * UNITS][2][VALUEWORDS];
  float keyScales[2 * UNITS][2], valueScales[2 * UNITS][2];
};

// Keys after the last are copies of it; their scores are not used.
template <int UNITS> __device__ __forceinline__ void readKeys(Read<UNITS>& r, const Head& head, int j, int end) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int e = 0; e < 2 * UNITS; e++) {
    loadWords<KEYWORDS, 4>(r.keys[e], head.keys + (i64)min(j + e * 8 + lane / 4, end - 1) * BYTES, lane % 4);
#pragma unroll
    for (int n = 0; n < 2; n++) r.keyScales[e][n] = head.keyScales[min(j + e * 8 + lane % 4 * 2 + n, end - 1)];
  }
}

template <int UNITS> __device__ __forceinline__ void readValues(Read<UNITS>& r, const Head& head, int j, int end) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int e = 0; e < 2 * UNITS; e++)
#pragma unroll
    for (int n = 0; n < 2; n++) {
      const i64 at = min(j + e * 8 + lane % 4 * 2 + n, end - 1);
      loadWords<VALUEWORDS, 8>(r.values[e][n], head.values + at * BYTES, lane / 4);
      r.valueScales[e][n] = head.valueScales[at];
    }
}

template <int TILES, int UNITS> __device__ __forceinline__ void decodeTiles(const Scores& s, const Shape& shape, const View& out, float* lse, float* part, const View& q, const View& k, const View& v, const float* keyScales, const float* valueScales) {
  constexpr int ROWS = 16 * TILES, STEPS = HD / 16, KEYS = 16 * UNITS; // keys of a warp at a time
  extern __shared__ __align__(16) uint4 operands[]; // of the queries, by thread: [TILES, STEPS, 32]; at the end the sums
  __shared__ Row row[ROWS];
  __shared__ float tops[WARPS * ROWS], sums[WARPS * ROWS];
  letNextStart();
  const Place p = place(s, shape, ROWS, WARPS * KEYS);
  const Head head = headAt(p, k, v, keyScales, valueScales);
  prefetchInts(p, head);
  awaitEarlier();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Read<UNITS> read;
  int j = p.from + warp * KEYS;
  if (j < p.to) readKeys(read, head, j, p.to);
  for (int i = threadIdx.x; i < ROWS; i += 32 * WARPS) row[i] = rowOf(s, p, i);
  for (int i = threadIdx.x; i < TILES * STEPS * 32; i += 32 * WARPS) {
    u32 x[4] = {}; // of rows r and r+8, first the thread's dims 0 and 1 of this step, then 2 and 3
    for (int n = 0; n < 4; n++) {
      const int r = i / 32 / STEPS * 16 + n % 2 * 8 + i % 32 / 4;
      if (p.row + r >= p.rows) continue;
      const bf16* from = rowAt<const bf16>(s, p, r, q);
      const int d = i / 32 % STEPS;
      x[n] = from[keyDim(i % 4, d, n / 2 * 2)].bits | (u32)from[keyDim(i % 4, d, n / 2 * 2 + 1)].bits << 16;
    }
    operands[i] = make_uint4(x[0], x[1], x[2], x[3]);
  }
  __syncthreads();

  // Keys that all rows see have a simple score unless there is a bias.
  const bool plain = !s.slopes && !s.bias;
  const int allFrom = max((int)reach(s, p.b, s.queries - 1).first, p.from), allTo = min((int)reach(s, p.b, 0).end, p.to);
  const float scale = s.scale * LOG2E;
  float o[TILES][HD / 8][4] = {}, top[TILES][2], sum[TILES][2] = {};
#pragma unroll
  for (int t = 0; t < TILES; t++) top[t][0] = top[t][1] = LOWEST;
  for (; j < p.to; j += WARPS * KEYS) {
    readValues(read, head, j, p.to);
    float w[TILES][2 * UNITS][4] = {};
#pragma unroll
    for (int d = 0; d < STEPS; d++) {
      u32 y[2 * UNITS][2];
#pragma unroll
      for (int e = 0; e < 2 * UNITS; e++) keyOperand(y[e], read.keys[e], d);
#pragma unroll
      for (int t = 0; t < TILES; t++) {
        const uint4 x = operands[(t * STEPS + d) * 32 + lane];
#pragma unroll
        for (int e = 0; e < 2 * UNITS; e++) multiply(w[t][e], x.x, x.y, x.z, x.w, y[e][0], y[e][1]);
      }
    }
    const bool simple = plain && j >= allFrom && j + KEYS <= allTo;
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
      for (int e = 0; e < 2 * UNITS; e++)
#pragma unroll
        for (int n = 0; n < 4; n++) {
          float& a = w[t][e][n];
          a *= read.keyScales[e][n % 2];
          if (simple) a *= scale;
          else a = LOG2E * scoreOf(s, row[t * 16 + n / 2 * 8 + lane / 4], j + e * 8 + lane % 4 * 2 + n % 2, a);
        }
    if (j + WARPS * KEYS < p.to) readKeys(read, head, j + WARPS * KEYS, p.to);
    bool over = false; // whether a score exceeds what sums are relative to by more than SLACK
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
      for (int e = 0; e < 2 * UNITS; e++)
#pragma unroll
        for (int n = 0; n < 4; n++) over |= w[t][e][n] > top[t][n / 2] + SLACK;
    if (__any_sync(~0u, over)) { // seldom, but for the first keys
#pragma unroll
      for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          float most = top[t][h];
#pragma unroll
          for (int e = 0; e < 2 * UNITS; e++) most = fmaxf(most, fmaxf(w[t][e][h * 2], w[t][e][h * 2 + 1]));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
          const float kept = power(top[t][h] - most);
          sum[t][h] *= kept, top[t][h] = most;
#pragma unroll
          for (int d = 0; d < HD / 8; d++) o[t][d][h * 2] *= kept, o[t][d][h * 2 + 1] *= kept;
        }
    }
    u32 weights[TILES][UNITS][4];
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
      for (int e = 0; e < 2 * UNITS; e++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          const float a = power(w[t][e][h * 2] - top[t][h]), b = power(w[t][e][h * 2 + 1] - top[t][h]);
          sum[t][h] += a + b; // this thread's part of the sum
          weights[t][e / 2][e % 2 * 2 + h] = bf16::pair(a * read.valueScales[e][0], b * read.valueScales[e][1]);
        }
#pragma unroll
    for (int d = 0; d < HD / 8; d++)
#pragma unroll
      for (int u = 0; u < UNITS; u++) {
        const u32 y0 = valuePair(read.values[2 * u][0], read.values[2 * u][1], d), y1 = valuePair(read.values[2 * u + 1][0], read.values[2 * u + 1][1], d);
#pragma unroll
        for (int t = 0; t < TILES; t++) multiply(o[t][d], weights[t][u][0], weights[t][u][1], weights[t][u][2], weights[t][u][3], y0, y1);
      }
  }
  __syncthreads();
  constexpr int LDO = HD + 8;     // so that rows share few banks
  float* os = (float*)operands;   // [WARPS, ROWS, LDO]
#pragma unroll
  for (int t = 0; t < TILES; t++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float all = sum[t][h];
      all += __shfl_xor_sync(~0u, all, 1);
      all += __shfl_xor_sync(~0u, all, 2);
      const int at = warp * ROWS + t * 16 + h * 8 + lane / 4;
      if (lane % 4 == 0) tops[at] = top[t][h] * LN2, sums[at] = all;
#pragma unroll
      for (int d = 0; d < HD / 8; d++)
#pragma unroll
        for (int n = 0; n < 2; n++) os[at * LDO + valueDim(lane % 4 * 2 + n, d)] = o[t][d][h * 2 + n];
    }
  __syncthreads();
  finish<ROWS, LDO, 4>(s, shape, p, os, tops, sums, out, lse, part);
}

// A multiprocessor runs two blocks at once, or three where a third of its registers suffices. Rows of 4 bits are read 32 at a time, as they are
// short.
extern "C" __global__ void __launch_bounds__(32 * WARPS, INTS == 8 && HD <= 128 ? 3 : 2) decode_16(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v, const float* ks, const float* vs) { decodeTiles<1, INTS == 4 && HD <= 128 ? 2 : 1>(s, shape, out, lse, part, q, k, v, ks, vs); }
#if HD <= 128
extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) decode_32(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v, const float* ks, const float* vs) { decodeTiles<2, 1>(s, shape, out, lse, part, q, k, v, ks, vs); }
#endif
#endif
