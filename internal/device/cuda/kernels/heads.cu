// Operations on the parts of heads, which latent attention needs.

// y [rows, heads, m+n] = a [rows, heads, m] and b [rows, heads, n], or [rows, n] if each is 0; zeros for what is omitted.
extern "C" __global__ void join_heads(act_t* y, i64 ldy, const act_t* a, i64 lda, const act_t* b, i64 ldb, i64 rows, i64 heads, i64 m, i64 n, i64 each) {
  begin();
  i64 width = m + n;
  EACH(i, rows * heads * width) {
    i64 c = i % width, h = i / width % heads, r = i / width / heads;
    y[r * ldy + h * width + c] = c < m ? (a ? a[r * lda + h * m + c] : act_t(0.f)) : b ? b[r * ldb + h * each + c - m] : act_t(0.f);
  }
}

// The reverse. a and b may be omitted; if each is 0, b is the sum over the heads.
extern "C" __global__ void split_heads(act_t* a, i64 lda, act_t* b, i64 ldb, const act_t* y, i64 ldy, i64 rows, i64 heads, i64 m, i64 n, i64 each) {
  begin();
  i64 width = m + n;
  EACH(i, a ? rows * heads * m : 0) {
    i64 c = i % m, h = i / m % heads, r = i / m / heads;
    a[r * lda + h * m + c] = y[r * ldy + h * width + c];
  }
  if (!b) return;
  i64 of = each ? heads : 1;
  EACH(i, rows * of * n) {
    i64 c = i % n, h = i / n % of, r = i / n / of;
    const act_t* from = y + r * ldy + h * width + m + c;
    float sum = *from;
    for (i64 other = 1; !each && other < heads; other++) sum += (float)from[other * width];
    b[r * ldb + h * each + c] = sum;
  }
}

// Copies heads of m numbers, and makes them n numbers wide: by zeros, or by leaving out the last.
extern "C" __global__ void resize_heads(View to, View from, i64 batch, i64 rows, i64 heads, i64 m, i64 n) {
  begin();
  EACH(i, batch * rows * heads * n) {
    i64 c = i % n, h = i / n % heads, r = i / n / heads % rows, b = i / n / heads / rows;
    ((act_t*)to.p)[b * to.seq + h * to.head + r * to.row + c] = c < m ? ((const act_t*)from.p)[b * from.seq + h * from.head + r * from.row + c] : act_t(0.f);
  }
}

// Products of few rows of each head with a matrix of its own: y = x·w with w [heads, k, n], or y = x·wᵀ with w [heads, n, k]. A block
// computes some columns of a head blockIdx.y for 8 rows from row 8·blockIdx.z on.
#define ROWS 8

template <class E> __device__ __forceinline__ void multiplyHead(const E* w, const float (*x)[ROWS], act_t* y, i64 rowY, i64 rows, i64 n, i64 k) {
  i64 c = blockIdx.x * (i64)blockDim.x + threadIdx.x;
  if (c >= n) return;
  float sum[ROWS] = {};
#pragma unroll 8
  for (i64 i = 0; i < k; i++) {
    float v = w[i * n + c];
#pragma unroll
    for (int r = 0; r < ROWS; r++) sum[r] += x[i][r] * v;
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++)
    if (r < rows) y[r * rowY + c] = sum[r];
}

// A warp computes one column.
template <class E> __device__ __forceinline__ void multiplyHeadT(const E* w, const float (*x)[ROWS], act_t* y, i64 rowY, i64 rows, i64 n, i64 k) {
  i64 c = blockIdx.x * (i64)(blockDim.x / 32) + threadIdx.x / 32;
  if (c >= n) return;
  float sum[ROWS] = {};
#pragma unroll 4
  for (i64 i = threadIdx.x % 32; i < k; i += 32) {
    float v = w[c * k + i];
#pragma unroll
    for (int r = 0; r < ROWS; r++) sum[r] += x[i][r] * v;
  }
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    for (int m = 16; m; m >>= 1) sum[r] += __shfl_xor_sync(~0u, sum[r], m);
    if (threadIdx.x % 32 == 0 && r < rows) y[r * rowY + c] = sum[r];
  }
}

// The x of a block is in shared memory, [k, ROWS].
template <bool transposed> __device__ __forceinline__ void multiplyHeads(act_t* y, i64 headY, i64 rowY, const act_t* x, i64 headX, i64 rowX, const void* w, i64 format, i64 rows, i64 n, i64 k) {
  extern __shared__ float held[];
  float(*all)[ROWS] = (float(*)[ROWS])held;
  i64 h = blockIdx.y, first = blockIdx.z * (i64)ROWS, left = min(rows - first, (i64)ROWS);
  for (i64 i = threadIdx.x; i < k * ROWS; i += blockDim.x) {
    i64 r = i / k, c = i % k;
    all[c][r] = r < left ? (float)x[h * headX + (first + r) * rowX + c] : 0;
  }
  __syncthreads();
  y += h * headY + first * rowY;
  auto run = [&](auto* matrix) {
    matrix += h * n * k;
    if constexpr (transposed) multiplyHeadT(matrix, all, y, rowY, left, n, k);
    else multiplyHead(matrix, all, y, rowY, left, n, k);
  };
  if (format == F32) run((const float*)w);
  else if (format == BF16) run((const bf16*)w);
  else run((const f16*)w);
}

extern "C" __global__ void __launch_bounds__(128) multiply_heads(act_t* y, i64 headY, i64 rowY, const act_t* x, i64 headX, i64 rowX, const void* w, i64 format, i64 rows, i64 n, i64 k) {
  begin();
  multiplyHeads<false>(y, headY, rowY, x, headX, rowX, w, format, rows, n, k);
}
extern "C" __global__ void __launch_bounds__(128) multiply_heads_t(act_t* y, i64 headY, i64 rowY, const act_t* x, i64 headX, i64 rowX, const void* w, i64 format, i64 rows, i64 n, i64 k) {
  begin();
  multiplyHeads<true>(y, headY, rowY, x, headX, rowX, w, format, rows, n, k);
}
