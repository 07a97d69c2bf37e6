// Products y [rows, n] = x·wᵀ of few rows x [rows, k] by weights w [n, k]: the time is that of reading the weights. Up to four
// products with the same x are computed by one launch, whose blocks belong to the products one after the other.

struct Products {
  struct {
    act_t* y;
    const void* w;
    i64 n;
  } of[4];
};

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

extern "C" __global__ void __launch_bounds__(256) skinny_1(Products p, const act_t* x, i64 format, i64 vectors, i64 rows, i64 k) { multiplyAny<1>(p, x, format, vectors, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_2(Products p, const act_t* x, i64 format, i64 vectors, i64 rows, i64 k) { multiplyAny<2>(p, x, format, vectors, rows, k); }
extern "C" __global__ void __launch_bounds__(256) skinny_4(Products p, const act_t* x, i64 format, i64 vectors, i64 rows, i64 k) { multiplyAny<4>(p, x, format, vectors, rows, k); }

#ifdef TENSOR
// With tensor cores, for x and w in bf16 with k a multiple of 8. A block computes yᵀ [16·HIGH, 8·WIDE] = w·xᵀ; its warps share k, 64 at
// a time. In a product of tiles [16, 16] and [16, 8] thread t holds numbers of rows t/4 and t/4+8 of w and of row t/4 of x, all
// at the same four places of k. As the order of k does not matter, these are consecutive in memory here: a thread loads 8
// numbers of k at once, for two products.
template <int WIDE, int HIGH> __device__ __forceinline__ void multiplyTiles(const Products& products, const bf16* x, i64 rows, i64 k) {
  typedef Packed<bf16, 8> Eight;
  extern __shared__ __align__(16) float sums[]; // [warps, 16·HIGH, 8·WIDE]
  Part p = part(products, 16 * HIGH);
  int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const bf16 *w[HIGH][2], *xs[WIDE];
#pragma unroll
  for (int m = 0; m < 2 * HIGH; m++) w[m / 2][m % 2] = (const bf16*)p.w + min(p.first + m * 8 + lane / 4, p.n - 1) * k; // a row after the last is not written
#pragma unroll
  for (int n = 0; n < WIDE; n++) xs[n] = n * 8 + lane / 4 < rows ? x + (n * 8 + lane / 4) * k : 0;

  float c[HIGH][WIDE][4] = {};
  for (i64 from = warp * 64; from < k; from += warps * 64) {
    Eight a[2][HIGH][2] = {}, b[2][WIDE] = {};
#pragma unroll
    for (int u = 0; u < 2; u++) {
      i64 i = from + u * 32 + lane % 4 * 8;
      if (i >= k) continue;
#pragma unroll
      for (int m = 0; m < HIGH; m++) a[u][m][0] = stream<Eight>(w[m][0] + i), a[u][m][1] = stream<Eight>(w[m][1] + i);
#pragma unroll
      for (int n = 0; n < WIDE; n++)
        if (xs[n]) b[u][n] = packed<8>(xs[n] + i);
    }
#pragma unroll
    for (int u = 0; u < 2; u++)
#pragma unroll
      for (int half = 0; half < 4; half += 2)
#pragma unroll
        for (int m = 0; m < HIGH; m++)
#pragma unroll
          for (int n = 0; n < WIDE; n++)
            multiply(c[m][n], a[u][m][0].w[half], a[u][m][1].w[half], a[u][m][0].w[half + 1], a[u][m][1].w[half + 1], b[u][n].w[half], b[u][n].w[half + 1]);
  }
#pragma unroll
  for (int m = 0; m < HIGH; m++)
#pragma unroll
    for (int n = 0; n < WIDE; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        sums[(warp * 16 * HIGH + m * 16 + i / 2 * 8 + lane / 4) * 8 * WIDE + n * 8 + lane % 4 * 2 + i % 2] = c[m][n][i];
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * HIGH * 8 * WIDE; i += blockDim.x) {
    int column = i % (16 * HIGH), row = i / (16 * HIGH);
    float sum = 0;
    for (int v = 0; v < warps; v++) sum += sums[(v * 16 * HIGH + column) * 8 * WIDE + row];
    if (row < rows && p.first + column < p.n) p.y[row * p.n + p.first + column] = sum;
  }
}

extern "C" __global__ void __launch_bounds__(512) skinny_tiles_8(Products p, const bf16* x, i64 rows, i64 k) { multiplyTiles<1, 2>(p, x, rows, k); }
extern "C" __global__ void __launch_bounds__(512) skinny_tiles_16(Products p, const bf16* x, i64 rows, i64 k) { multiplyTiles<2, 2>(p, x, rows, k); }
extern "C" __global__ void __launch_bounds__(512) skinny_tiles_32(Products p, const bf16* x, i64 rows, i64 k) { multiplyTiles<4, 2>(p, x, rows, k); }
#endif
