// Products of few rows by blocks that belong to the products one after the other.

// Part is a block's product and the first of its columns of y.
struct Part {
  act_t* y;
  const void* w;
  i64 n, first;
};

// part returns the part of this block, of `columns` columns.
__device__ __forceinline__ Part part(const Products& p, int columns) {
  i64 block = blockIdx.x;
  int i = 0;
  for (; i < 3 && block >= (p.of[i].n + columns - 1) / columns; i++) block -= (p.of[i].n + columns - 1) / columns;
  return {p.of[i].y, p.of[i].w, p.of[i].n, block * columns};
}

// Without tensor cores: a warp computes two columns for ROWS rows from row ROWS·blockIdx.y on. Weights are of any format.
#define COLUMNS 2

template <int ROWS, int W, class E> __device__ __forceinline__ void multiplyRows(const Part& p, const act_t* x, i64 rows, i64 k) {
  i64 n = p.first + threadIdx.x / 32 * COLUMNS, r0 = blockIdx.y * (i64)ROWS;
  if (n >= p.n) return;
  const E* w[COLUMNS];
  float sum[COLUMNS][ROWS] = {};
#pragma unroll
  for (int c = 0; c < COLUMNS; c++) w[c] = (const E*)p.w + min(n + c, p.n - 1) * k; // a column after the last is not written
#pragma unroll 4
  for (i64 i = threadIdx.x % 32 * W; i < k; i += 32 * W) {
    Vec<W> v[COLUMNS];
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      if constexpr (sizeof(E) * W == 16) v[c] = unpack<E, W>(stream<Packed<E, W>>(w[c] + i));
      else v[c] = load<W>(w[c] + i);
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      Vec<W> u = load<W>(x + min(r0 + r, rows - 1) * k + i);
#pragma unroll
      for (int c = 0; c < COLUMNS; c++)
#pragma unroll
        for (int j = 0; j < W; j++) sum[c][r] += u.v[j] * v[c].v[j];
    }
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++)
#pragma unroll
    for (int c = 0; c < COLUMNS; c++) {
      float all = sum[c][r];
      for (int m = 16; m; m >>= 1) all += __shfl_xor_sync(~0u, all, m);
      if (threadIdx.x % 32 == 0 && r0 + r < rows && n + c < p.n) p.y[(r0 + r) * p.n + n + c] = all;
    }
}

template <int ROWS> __device__ __forceinline__ void multiplyAny(const Products& p, const act_t* x, i64 format, i64 vectors, i64 rows, i64 k) {
  Part at = part(p, COLUMNS * (blockDim.x / 32));
  if (format == F32 && vectors) multiplyRows<ROWS, 4, float>(at, x, rows, k);
  else if (format == F32) multiplyRows<ROWS, 1, float>(at, x, rows, k);
  else if (format == BF16 && vectors) multiplyRows<ROWS, 8, bf16>(at, x, rows, k);
  else if (format == BF16) multiplyRows<ROWS, 1, bf16>(at, x, rows, k);
  else if (vectors) multiplyRows<ROWS, 8, f16>(at, x, rows, k);
  else multiplyRows<ROWS, 1, f16>(at, x, rows, k);
}

extern "C" __global__ void __launch_bounds__(256) skinny_1(Products p, const act_t* x, i64 format, i64 vectors, i64 rows, i64 k) { begin(); multiplyAny<1>(p, x, format, vectors, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_2(Products p, const act_t* x, i64 format, i64 vectors, i64 rows, i64 k) { begin(); multiplyAny<2>(p, x, format, vectors, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_4(Products p, const act_t* x, i64 format, i64 vectors, i64 rows, i64 k) { begin(); multiplyAny<4>(p, x, format, vectors, rows, k); }

#ifdef TENSOR
// With tensor cores, for x and w in bf16 with k a multiple of 8. A block computes yᵀ [32, 8·WIDE] = w·xᵀ. Its warps share k: each has its
// own ring of tiles of 64 numbers of k on their way to shared memory, [32 + 8·WIDE, 64] of w and below it of x. In a product of tiles
// [16, 16] and [16, 8] thread t holds numbers of rows t/4 and t/4+8 of w and of row t/4 of x, all at the same four places of k. As
// the order of k does not matter, these are consecutive in memory here: a thread reads 8 numbers of k at once, for two products.
#define HIGH 32
constexpr int RING = 4;              // tiles of a warp
constexpr int PREFETCHED = 2048;     // bytes of each row of w that are on their way before x is there
typedef Packed<bf16, 8> Eight;

// place8 returns where the 8 numbers of k from 8c on of a tile's row r are: the rows of a pair are swapped so that they share no banks.
__device__ __forceinline__ int place8(int r, int c) { return r * 64 + (c ^ (r & 1) << 2) * 8; }

// If gated, the products are a gate and what goes through it, and a block has 16 columns of each: y = act(w0·xᵀ)·(w1·xᵀ).
template <int WIDE, bool gated> __device__ __forceinline__ void multiplyTiles(const Products& products, i64 act, const bf16* x, i64 rows, i64 k) {
  constexpr int TILE = (HIGH + 8 * WIDE) * 64, LD = HIGH + 1;
  extern __shared__ __align__(16) bf16 shared[]; // [warps, RING, TILE], and afterwards sums [warps, 8·WIDE, LD] in f32
  letNextStart();
  constexpr int COLUMNS_OUT = gated ? HIGH / 2 : HIGH;
  Part p = part(products, COLUMNS_OUT);
  int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto row = [&](int r) { // a row after the last is not written
    const void* w = gated && r >= COLUMNS_OUT ? products.of[1].w : p.w;
    return (const bf16*)w + min(p.first + r % COLUMNS_OUT, p.n - 1) * k;
  };
  if (threadIdx.x < HIGH) prefetch(row(threadIdx.x), min((i64)PREFETCHED, 2 * k));
  awaitEarlier();

  bf16* mine = shared + warp * RING * TILE;
  auto request = [&](int tile) { // number `tile` of this warp
    i64 from = (tile * (i64)warps + warp) * 64;
    if (from < k) {
      bf16* to = mine + tile % RING * TILE;
      int c = lane % 8;
      bool in = from + c * 8 < k;
      i64 at = in ? from + c * 8 : 0;
#pragma unroll
      for (int r = lane / 8; r < HIGH; r += 4) copyAsync(to + place8(r, c), row(r) + at, in);
#pragma unroll
      for (int r = lane / 8; r < 8 * WIDE; r += 4) copyAsync(to + place8(HIGH + r, c), x + (r < rows ? r : 0) * k + at, in && r < rows);
    }
    commit();
  };
#pragma unroll
  for (int i = 0; i < RING - 1; i++) request(i);
  float sum[2][WIDE][4] = {};
  for (int tile = 0; (tile * (i64)warps + warp) * 64 < k; tile++) {
    request(tile + RING - 1);
    arrived<RING - 1>();
    __syncwarp();
    const bf16* from = mine + tile % RING * TILE;
    auto eight = [&](int r, int u) { return packed<8>(from + place8(r + lane / 4, u * 4 + lane % 4)); };
#pragma unroll
    for (int u = 0; u < 2; u++) {
      Eight a[2][2] = {{eight(0, u), eight(8, u)}, {eight(16, u), eight(24, u)}};
#pragma unroll
      for (int n = 0; n < WIDE; n++) {
        Eight b = eight(HIGH + n * 8, u);
#pragma unroll
        for (int half = 0; half < 4; half += 2)
#pragma unroll
          for (int m = 0; m < 2; m++) multiply(sum[m][n], a[m][0].w[half], a[m][1].w[half], a[m][0].w[half + 1], a[m][1].w[half + 1], b.w[half], b.w[half + 1]);
      }
    }
    __syncwarp(); // the next request overwrites the tile
  }
  arrived<0>();
  __syncthreads();
  float* sums = (float*)shared;
#pragma unroll
  for (int m = 0; m < 2; m++)
#pragma unroll
    for (int n = 0; n < WIDE; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) sums[(warp * 8 * WIDE + n * 8 + lane % 4 * 2 + i % 2) * LD + m * 16 + i / 2 * 8 + lane / 4] = sum[m][n][i];
  __syncthreads();
  for (int i = threadIdx.x; i < COLUMNS_OUT * 8 * WIDE; i += blockDim.x) {
    int column = i % COLUMNS_OUT, r = i / COLUMNS_OUT;
    if (r >= rows || p.first + column >= p.n) continue;
    float y = 0, up = 0;
    for (int v = 0; v < warps; v++) {
      const float* of = sums + (v * 8 * WIDE + r) * LD + column;
      y += of[0];
      if (gated) up += of[COLUMNS_OUT];
    }
    if (gated) y = curve(act, y).value * up;
    p.y[r * p.n + p.first + column] = y;
  }
}

extern "C" __global__ void __launch_bounds__(256) skinny_tiles_8(Products p, const bf16* x, i64 rows, i64 k) { multiplyTiles<1, false>(p, 0, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_tiles_16(Products p, const bf16* x, i64 rows, i64 k) { multiplyTiles<2, false>(p, 0, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_tiles_32(Products p, const bf16* x, i64 rows, i64 k) { multiplyTiles<4, false>(p, 0, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_gate_8(Products p, i64 act, const bf16* x, i64 rows, i64 k) { multiplyTiles<1, true>(p, act, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_gate_16(Products p, i64 act, const bf16* x, i64 rows, i64 k) { multiplyTiles<2, true>(p, act, x, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_gate_32(Products p, i64 act, const bf16* x, i64 rows, i64 k) { multiplyTiles<4, true>(p, act, x, rows, k); }
#endif
