// Products of few rows in bf16 with k a multiple of 128, for so many columns that a multiprocessor computes several tiles of them, on GPUs
// with clusters. A cluster of blocks computes some columns, and its blocks share k. Each has its part of x in shared memory, so that x is read
// once, and each warp a ring of tiles [16, 128] of w on their way, through all of the warp's columns. The time of a warp is that of its
// instructions: there are no checks of bounds within a tile.
typedef Packed<bf16, 8> Eight;
constexpr int SLOTS = 3;         // tiles of a warp's ring
constexpr int SLOT = 16 * 128;   // numbers of a tile

// weights returns row j of the rows of w for the columns [first, first + n). If gated, the gate's n rows are before the other's.
template <bool gated> __device__ __forceinline__ const bf16* weights(const Products& p, int first, int n, int j, i64 k) {
  if (gated) return (const bf16*)(j < n ? p.of[0].w : p.of[1].w) + (first + (j < n ? j : j - n)) * k;
  i64 c = first + j;
  int i = 0;
  for (; i < 3 && c >= p.of[i].n; i++) c -= p.of[i].n;
  return (const bf16*)p.of[i].w + c * k;
}

// Rows of 128 numbers in shared memory, in pieces of 8. The pieces of odd rows are swapped so that two rows share no banks.
__device__ __forceinline__ int piece(int row, int c) { return row * 128 + (c ^ row % 2 * 4) * 8; }

// If gated, the products are a gate and what goes through it: y = act(x·w0ᵀ)·(x·w1ᵀ).
template <int WIDE, bool gated> __device__ __forceinline__ void multiplyStream(const Products& products, i64 act, const bf16* x, i64 rows, i64 k) {
  constexpr int X = 8 * WIDE;
  extern __shared__ __align__(16) bf16 shared[]; // x [parts, X, 128], rings [warps, SLOTS, 16, 128], and sums [X, LD] in f32
  letNextStart();
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int rank = clusterRank(), blocks = clusterBlocks(), clusters = gridDim.x / blocks, cluster = blockIdx.x / blocks;
  i64 all = products.of[0].n;
  if (!gated) all += products.of[1].n + products.of[2].n + products.of[3].n;
  const int first = all * cluster / clusters, n = all * (cluster + 1) / clusters - first, total = gated ? 2 * n : n; // columns, and rows of w
  const int per = max((total + 16 * warps - 1) / (16 * warps), 1), high = (total + warps * per - 1) / (warps * per); // tiles of a warp, and rows of each
  const int pieces = k / 128, begun = pieces * rank / blocks, parts = pieces * (rank + 1) / blocks - begun, LD = (total + 7) / 8 * 8 + 4;
  bf16* ring = shared + (pieces + blocks - 1) / blocks * X * 128 + warp * SLOTS * SLOT;
  float* sums = (float*)(shared + (pieces + blocks - 1) / blocks * X * 128 + warps * SLOTS * SLOT); // at the same place in all blocks

  // A thread copies 8 numbers of every other row of a tile.
  const bf16* from[8];
  bf16* to = ring + piece(lane / 16, lane % 16);
  int mine = 0, part = 0, tile = warp, slot = 0; // rows of this thread; of the next request
  auto request = [&]() {
    if (tile * high < total) {
      if (part == 0) {
        int left = min(high, total - tile * high);
        mine = (left - lane / 16 + 1) / 2;
#pragma unroll
        for (int i = 0; i < 8; i++) from[i] = weights<gated>(products, first, n, tile * high + min(lane / 16 + 2 * i, left - 1), k) + begun * 128 + lane % 16 * 8;
      }
#pragma unroll
      for (int i = 0; i < 8; i++) {
        if (i < mine) copyAsync(to + slot * SLOT + i * 256, from[i]);
        from[i] += 128;
      }
      if (++part == parts) part = 0, tile += warps;
      slot = slot == SLOTS - 1 ? 0 : slot + 1;
    }
    commit();
  };
#pragma unroll
  for (int i = 0; i < SLOTS - 1; i++) request();
  awaitEarlier();
  const int row = threadIdx.x / 16 % X, c = threadIdx.x % 16; // the number of threads is a multiple of 16·X
  for (int t = threadIdx.x / (16 * X); t < parts; t += blockDim.x / (16 * X))
    copyAsync(shared + t * X * 128 + piece(row, c), x + (row < rows ? row * k + (begun + t) * 128 + c * 8 : 0), row < rows);
  commit();
  arrived<0>();
  __syncthreads();

  const int odd = lane / 4 % 2 * 32, at = lane / 4 * 128 + lane % 4 * 8; // odd rows have the pieces of k in another order
  int next = 0;                                                        // slot to use
  for (int t = warp; t * high < total; t += warps) {
    float sum[WIDE][4] = {};
    const bf16* b = shared + at;
    for (int i = 0; i < parts; i++, b += X * 128) {
      request();
      arrived<SLOTS - 1>();
      __syncwarp();
      const bf16* a = ring + next * SLOT + at;
      next = next == SLOTS - 1 ? 0 : next + 1;
#pragma unroll
      for (int u = 0; u < 128; u += 32) {
        const int here = u % 64 ? u - odd : u + odd;
        Eight low = packed<8>(a + here), up = packed<8>(a + here + 8 * 128);
#pragma unroll
        for (int m = 0; m < WIDE; m++) {
          Eight y = packed<8>(b + here + m * 8 * 128);
#pragma unroll
          for (int half = 0; half < 4; half += 2) multiply(sum[m], low.w[half], up.w[half], low.w[half + 1], up.w[half + 1], y.w[half], y.w[half + 1]);
        }
      }
      __syncwarp(); // the next request overwrites the tile
    }
#pragma unroll
    for (int m = 0; m < WIDE; m++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        int j = i / 2 * 8 + lane / 4;
        if (j < high && t * high + j < total) sums[(m * 8 + lane % 4 * 2 + i % 2) * LD + t * high + j] = sum[m][i];
      }
  }
  arrived<0>();
  awaitCluster();
  for (int i = rank * blockDim.x + threadIdx.x; i < n * X; i += blocks * blockDim.x) {
    int r = i / n, j = i % n, p = 0;
    if (r >= rows) break;
    float y = 0, up = 0;
    for (int b = 0; b < blocks; b++) {
      y += fromBlock(sums + r * LD + j, b);
      if (gated) up += fromBlock(sums + r * LD + n + j, b);
    }
    if (gated) y = curve(act, y).value * up;
    i64 to = first + j;
    for (; !gated && p < 3 && to >= products.of[p].n; p++) to -= products.of[p].n;
    products.of[p].y[r * products.of[p].n + to] = y;
  }
  awaitCluster();
}

extern "C" __global__ void __launch_bounds__(256, 1) stream_8(Products p, i64 act, const bf16* x, i64 rows, i64 k) { multiplyStream<1, false>(p, act, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256, 1) stream_16(Products p, i64 act, const bf16* x, i64 rows, i64 k) { multiplyStream<2, false>(p, act, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256, 1) stream_gate_8(Products p, i64 act, const bf16* x, i64 rows, i64 k) { multiplyStream<1, true>(p, act, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256, 1) stream_gate_16(Products p, i64 act, const bf16* x, i64 rows, i64 k) { multiplyStream<2, true>(p, act, x, rows, k); }
