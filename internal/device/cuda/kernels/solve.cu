// Systems of linear equations, in f64.

// dst = x, with damp added to the diagonal of a matrix of n columns
extern "C" __global__ void widen(double* dst, const float* x, double damp, i64 n, i64 count) {
  begin();
  EACH(i, count) dst[i] = x[i] + (i % (n + 1) == 0 ? damp : 0);
}

// Factors the block a [w, w] of a matrix with rows of ld numbers, w <= SIDE, into L·Lᵀ, and writes the inverse of L to inverse [w, w].
// If there is no L, bad is set.
extern "C" __global__ void __launch_bounds__(256) cholesky_block(double* inverse, int* bad, const double* a, i64 ld, i64 w) {
  begin();
  __shared__ double l[SIDE][SIDE + 1];
  for (int i = threadIdx.x; i < w * w; i += 256) l[i / w][i % w] = a[i / w * ld + i % w];
  __syncthreads();
  for (int k = 0; k < w; k++) {
    double pivot = l[k][k], root = pivot > 0 ? sqrt(pivot) : 1; // not if it is NaN
    if (!(pivot > 0) && threadIdx.x == 0) *bad = 1;
    __syncthreads();
    for (int i = k + threadIdx.x; i < w; i += 256) l[i][k] = i == k ? root : l[i][k] / root;
    __syncthreads();
    int m = w - k - 1;
    for (int i = threadIdx.x; i < m * m; i += 256) {
      int r = k + 1 + i / m, c = k + 1 + i % m;
      if (c <= r) l[r][c] -= l[r][k] * l[c][k];
    }
    __syncthreads();
  }
  int c = threadIdx.x; // a thread computes a column
  if (c >= w) return;
  for (int i = 0; i < w; i++) {
    double x = i == c;
    for (int k = c; k < i; k++) x -= l[i][k] * inverse[k * w + c];
    inverse[i * w + c] = i < c ? 0 : x / l[i][i];
  }
}
