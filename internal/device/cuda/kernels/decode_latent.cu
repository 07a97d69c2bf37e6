// Attention of few queries to many latents, with tensor cores, for activations and a cache in bf16. Blocks, splits and their combination are
// those of decode.cu. Values are the first VD numbers of the keys, so tiles of STEP keys are copied to shared memory once. For each, the warps compute scores [ROWS, STEP], of which each has 8 keys; then weights, each
// of some rows; then sums [ROWS, VD], each of some columns. Rows in shared memory are 8 numbers longer than they are wide: 16 bytes times
// an odd number, so that eight rows share no banks.
constexpr int STEP = 32, STAGES = 3, LDK = HD + 8, LDP = STEP + 8;

template <int ROWS, int NWARPS> __device__ __forceinline__ void decodeLatent(const Scores& s, const Shape& shape, const View& out, float* lse, float* part, const View& q, const View& k) {
  constexpr int TILES = ROWS / 16, MINE = TILES * 4 / NWARPS, COLUMNS = (VD / 16 + NWARPS - 1) / NWARPS, THREADS = 32 * NWARPS;
  extern __shared__ __align__(16) bf16 shared[];
  bf16 *Q = shared, *K = Q + ROWS * LDK, *P = K + STAGES * STEP * LDK; // [ROWS, LDK], [STAGES, STEP, LDK], [ROWS, LDP]
  __shared__ float S[ROWS][STEP + 1], top[ROWS], sum[ROWS], kept[ROWS];
  __shared__ Row row[ROWS];
  __shared__ int grew;
  letNextStart();
  Place p = place(s, shape, ROWS, STEP);
  awaitEarlier();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, m = lane / 8, r8 = lane % 8;
  const bf16* keys = (const bf16*)k.p + p.b * k.seq + p.kv * k.head;
  auto request = [&](int tile) { // copies of the last key follow it; their scores are not used
    int j = p.from + tile * STEP;
    if (j < p.to)
      for (int i = threadIdx.x; i < STEP * (HD / 8); i += THREADS) {
        int r = i / (HD / 8), c = i % (HD / 8) * 8;
        copyAsync(K + (tile % STAGES * STEP + r) * LDK + c, keys + min(j + r, p.to - 1) * k.row + c);
      }
    commit();
  };
#pragma unroll
  for (int i = 0; i < STAGES - 1; i++) request(i);
  for (int i = threadIdx.x; i < ROWS; i += THREADS) row[i] = rowOf(s, p, i), top[i] = -INFINITY, sum[i] = 0;
  for (int i = threadIdx.x; i < ROWS * (HD / 8); i += THREADS) {
    int r = i / (HD / 8), c = i % (HD / 8) * 8;
    *(Packed<bf16, 8>*)(Q + r * LDK + c) = queryAt(s, p, r, c, q);
  }
  float o[TILES][COLUMNS][2][4] = {};
  const int tiles = (max(p.to - p.from, 0) + STEP - 1) / STEP, key = warp % 4 * 8;
  for (int n = 0; n < tiles; n++) {
    request(n + STAGES - 1);
    arrived<STAGES - 1>();
    __syncthreads();
    const bf16* tile = K + n % STAGES * STEP * LDK;
    float w[MINE][4] = {};
#pragma unroll 2
    for (int d = 0; d < HD; d += 32) {
      u32 y[4]; // keys' numbers d to d+31
      matrices<false>(y, tile + (key + r8) * LDK + d + m * 8);
#pragma unroll
      for (int i = 0; i < MINE; i++) {
        const bf16* from = Q + ((warp / 4 + i * (NWARPS / 4)) * 16 + m % 2 * 8 + r8) * LDK + d + m / 2 * 8;
        u32 x[4];
        matrices<false>(x, from);
        multiply(w[i], x[0], x[1], x[2], x[3], y[0], y[1]);
        if (d + 16 < HD) {
          matrices<false>(x, from + 16);
          multiply(w[i], x[0], x[1], x[2], x[3], y[2], y[3]);
        }
      }
    }
#pragma unroll
    for (int i = 0; i < MINE; i++)
#pragma unroll
      for (int c = 0; c < 4; c++) S[(warp / 4 + i * (NWARPS / 4)) * 16 + c / 2 * 8 + lane / 4][key + lane % 4 * 2 + c % 2] = w[i][c];
    if (threadIdx.x == 0) grew = 0;
    __syncthreads();
    for (int r = warp; r < ROWS; r += NWARPS) {
      float x = scoreOf(s, row[r], p.from + n * STEP + lane, S[r][lane]), before = top[r], most = x;
      for (int i = 16; i; i >>= 1) most = fmaxf(most, __shfl_xor_sync(~0u, most, i));
      most = fmaxf(most, before);
      float a = weight(x, most), all = a;
      for (int i = 16; i; i >>= 1) all += __shfl_xor_sync(~0u, all, i);
      P[r * LDP + lane] = a;
      if (lane == 0) {
        float f = weight(before, most);
        kept[r] = f, top[r] = most, sum[r] = sum[r] * f + all;
        if (f != 1) grew = 1;
      }
    }
    __syncthreads();
    if (grew) {
#pragma unroll
      for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          float f = kept[t * 16 + h * 8 + lane / 4];
#pragma unroll
          for (int c = 0; c < COLUMNS; c++)
#pragma unroll
            for (int e = 0; e < 4; e++) o[t][c][e / 2][h * 2 + e % 2] *= f;
        }
    }
#pragma unroll
    for (int j = 0; j < STEP; j += 16) {
      u32 x[TILES][4];
#pragma unroll
      for (int t = 0; t < TILES; t++) matrices<false>(x[t], P + (t * 16 + m % 2 * 8 + r8) * LDP + j + m / 2 * 8);
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) {
        int column = (warp + c * NWARPS) * 16;
        if (column >= VD) continue;
        u32 y[4];
        matrices<true>(y, tile + (j + m % 2 * 8 + r8) * LDK + column + m / 2 * 8);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
          multiply(o[t][c][0], x[t][0], x[t][1], x[t][2], x[t][3], y[0], y[1]);
          multiply(o[t][c][1], x[t][0], x[t][1], x[t][2], x[t][3], y[2], y[3]);
        }
      }
    }
    __syncthreads(); // the next request overwrites the tile before this one, and scores and weights are written again
  }
  arrived<0>();
  __syncthreads();
  const i64 all = (int)gridDim.x / (int)shape.tiles * p.rows, first = blockIdx.y * all + p.pair * p.rows + p.row;
#pragma unroll
  for (int t = 0; t < TILES; t++)
#pragma unroll
    for (int e = 0; e < 4; e++)
#pragma unroll
      for (int c = 0; c < COLUMNS; c++) {
        int r = t * 16 + e / 2 * 8 + lane / 4, column = (warp + c * NWARPS) * 16 + e % 2 * 8 + lane % 4 * 2;
        if (p.row + r >= p.rows || column >= VD) continue;
        Vec<2> y = {{o[t][c][e % 2][e / 2 * 2], o[t][c][e % 2][e / 2 * 2 + 1]}};
        if (shape.splits == 1) {
          writeRow(s, p, r, column, y, top[r], sum[r], out, lse);
          continue;
        }
        store(part + (first + r) * VD + column, y);
        if (column == 0) statsOf(part, shape.splits * all)[first + r] = make_float2(top[r], sum[r]);
      }
}

extern "C" __global__ void __launch_bounds__(128) decode_16(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decodeLatent<16, 4>(s, shape, out, lse, part, q, k); }
extern "C" __global__ void __launch_bounds__(256) decode_32(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decodeLatent<32, 8>(s, shape, out, lse, part, q, k); }
extern "C" __global__ void __launch_bounds__(256) decode_64(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decodeLatent<64, 8>(s, shape, out, lse, part, q, k); }
