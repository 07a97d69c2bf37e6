// Attention for every kind of score, in f32, by tiles of TILE queries and TILE keys of heads of HD dims and values of VD. Blocks have 16
// by 16 threads. Thread (x, y) holds rows y, y+16, … and columns x, x+16, … of a tile. Nothing of the size queries·keys
// is stored (Dao et al., arXiv 2205.14135), and sums have a fixed order: each gradient is summed by one block.

#define R (TILE / 16)
#define COLUMNS(N) (((N) + 15) / 16)            // of a thread, in a tile [TILE, N]
#define LD ((HD > VD ? HD : VD) | 1)            // odd, so that the elements of a column are in different banks
#define C COLUMNS(HD)
#define CV COLUMNS(VD)

// Loads tile [TILE, N] starting at row t of a head, with zeros after its last row.
template <int N> __device__ __forceinline__ void loadTile(float* tile, const View& v, i64 b, i64 h, i64 t, i64 rows) {
  i64 at = b * v.seq + h * v.head;
  for (int i = threadIdx.y * 16 + threadIdx.x; i < TILE * N; i += 256) {
    int r = i / N, c = i % N;
    tile[r * LD + c] = t + r < rows ? load(v.p, at + (t + r) * v.row + c, v.format) : 0;
  }
}

// acc = a·bᵀ of two tiles [TILE, N]
template <int N> __device__ __forceinline__ void product(float acc[R][R], const float* a, const float* b) {
#pragma unroll
  for (int i = 0; i < R; i++)
#pragma unroll
    for (int j = 0; j < R; j++) acc[i][j] = 0;
  for (int d = 0; d < N; d++) {
    float x[R], y[R];
#pragma unroll
    for (int i = 0; i < R; i++) x[i] = a[(threadIdx.y + 16 * i) * LD + d];
#pragma unroll
    for (int j = 0; j < R; j++) y[j] = b[(threadIdx.x + 16 * j) * LD + d];
#pragma unroll
    for (int i = 0; i < R; i++)
#pragma unroll
      for (int j = 0; j < R; j++) acc[i][j] += x[i] * y[j];
  }
}

// acc [TILE, N] += s·v, or sᵀ·v, of tiles s [TILE, TILE] and v [TILE, N]
template <bool transposed, int N> __device__ __forceinline__ void accumulate(float acc[R][COLUMNS(N)], const float* s, const float* v) {
  for (int k = 0; k < TILE; k++) {
    float x[R];
#pragma unroll
    for (int i = 0; i < R; i++) {
      int r = threadIdx.y + 16 * i;
      x[i] = transposed ? s[k * (TILE + 1) + r] : s[r * (TILE + 1) + k];
    }
#pragma unroll
    for (int c = 0; c < COLUMNS(N); c++) {
      int col = threadIdx.x + 16 * c;
      float y = N % 16 == 0 || col < N ? v[k * LD + col] : 0;
#pragma unroll
      for (int i = 0; i < R; i++) acc[i][c] += x[i] * y;
    }
  }
}

// Reductions over the 16 threads of a row.
__device__ __forceinline__ float rowMax(float x) {
  for (int m = 8; m; m >>= 1) x = fmaxf(x, __shfl_xor_sync(~0u, x, m));
  return x;
}
__device__ __forceinline__ float rowSum(float x) {
  for (int m = 8; m; m >>= 1) x += __shfl_xor_sync(~0u, x, m);
  return x;
}

template <int N> __device__ __forceinline__ void storeTile(const View& v, i64 b, i64 h, i64 t, i64 rows, const float acc[R][COLUMNS(N)]) {
#pragma unroll
  for (int i = 0; i < R; i++) {
    i64 r = t + threadIdx.y + 16 * i;
    if (r >= rows) continue;
#pragma unroll
    for (int c = 0; c < COLUMNS(N); c++) {
      int col = threadIdx.x + 16 * c;
      if (N % 16 == 0 || col < N) store(v.p, b * v.seq + h * v.head + r * v.row + col, acc[i][c], v.format);
    }
  }
}

// One block per tile of queries, head and sequence.
extern "C" __global__ void __launch_bounds__(256) attend(Scores s, View out, float* lse, View q, View k, View v) {
  begin();
  extern __shared__ float shared[];
  float *Q = shared, *K = Q + TILE * LD, *V = K + TILE * LD, *P = V + TILE * LD;
  i64 t = blockIdx.x * (i64)TILE, h = blockIdx.y, b = blockIdx.z, kv = h / (s.heads / s.kvHeads);
  loadTile<HD>(Q, q, b, h, t, s.queries);
  float o[R][CV] = {}, top[R], sum[R] = {};
  for (int i = 0; i < R; i++) top[i] = -INFINITY;
  i64 last = min(t + TILE, s.queries) - 1, end = reachInText(s, b, last).end;
  for (i64 j = reachInText(s, b, t).first / TILE * TILE; j < end; j += TILE) {
    __syncthreads();
    loadTile<HD>(K, k, b, kv, j, s.keys);
    loadTile<VD>(V, v, b, kv, j, s.keys);
    __syncthreads();
    float acc[R][R];
    product<HD>(acc, Q, K);
#pragma unroll
    for (int i = 0; i < R; i++) {
      int r = threadIdx.y + 16 * i;
      float most = top[i];
#pragma unroll
      for (int x = 0; x < R; x++) {
        acc[i][x] = score(s, b, h, t + r, j + threadIdx.x + 16 * x, acc[i][x]);
        most = fmaxf(most, acc[i][x]);
      }
      most = rowMax(most);
      float kept = most == -INFINITY ? 1 : expf(top[i] - most), part = 0;
#pragma unroll
      for (int x = 0; x < R; x++) {
        float p = most == -INFINITY ? 0 : expf(acc[i][x] - most);
        P[r * (TILE + 1) + threadIdx.x + 16 * x] = p;
        part += p;
      }
      sum[i] = sum[i] * kept + rowSum(part);
      top[i] = most;
#pragma unroll
      for (int c = 0; c < CV; c++) o[i][c] *= kept;
    }
    __syncwarp(); // a row of P belongs to one half of a warp
    accumulate<false, VD>(o, P, V);
  }
#pragma unroll
  for (int i = 0; i < R; i++) {
    i64 r = t + threadIdx.y + 16 * i;
    if (lse && threadIdx.x == 0 && r < s.queries) lse[(b * s.heads + h) * s.queries + r] = top[i] + logf(sum[i]);
    float inverse = sum[i] == 0 ? 0 : 1 / sum[i]; // NaN stays NaN
#pragma unroll
    for (int c = 0; c < CV; c++) o[i][c] *= inverse;
  }
  storeTile<VD>(out, b, h, t, s.queries, o);
}

// delta [batch, heads, queries] is dout·out of each row: one warp per row.
extern "C" __global__ void attend_delta(float* delta, View dout, View out, i64 batch, i64 heads, i64 queries) {
  begin();
  i64 row = blockIdx.x * (i64)(blockDim.x >> 5) + (threadIdx.x >> 5);
  if (row >= batch * heads * queries) return;
  i64 i = row % queries, h = row / queries % heads, b = row / queries / heads;
  float sum = 0;
  for (int d = threadIdx.x & 31; d < VD; d += 32)
    sum += load(dout.p, b * dout.seq + h * dout.head + i * dout.row + d, dout.format) * load(out.p, b * out.seq + h * out.head + i * out.row + d, out.format);
  for (int m = 16; m; m >>= 1) sum += __shfl_xor_sync(~0u, sum, m);
  if ((threadIdx.x & 31) == 0) delta[row] = sum;
}

// Computes the probabilities P and the gradient of unscaled scores dS of a tile of queries t and keys j, and adds to
// dbias.
__device__ __forceinline__ void gradients(float* P, float* dS, const Scores& s, i64 b, i64 h, i64 t, i64 j, const float* Q, const float* K, const float* V,
                                          const float* dO, const float* lse, const float* delta, float* dbias) {
  float acc[R][R], dp[R][R];
  product<HD>(acc, Q, K);
  product<VD>(dp, dO, V);
#pragma unroll
  for (int i = 0; i < R; i++) {
    i64 r = t + threadIdx.y + 16 * i, at = (b * s.heads + h) * s.queries + r;
    float total = r < s.queries ? lse[at] : 0, less = r < s.queries ? delta[at] : 0;
#pragma unroll
    for (int x = 0; x < R; x++) {
      i64 key = j + threadIdx.x + 16 * x;
      float z = score(s, b, h, r, key, acc[i][x]), p = z == -INFINITY ? 0 : expf(z - total), ds = p * (dp[i][x] - less);
      int place = (threadIdx.y + 16 * i) * (TILE + 1) + threadIdx.x + 16 * x;
      if (P) P[place] = p;
      dS[place] = ds * s.scale;
      if (dbias && p > 0) dbias[(h * s.queries + r) * s.keys + key] += ds;
    }
  }
}

// One block per tile of queries, head and sequence, starting at sequence first. With dbias the grid has one sequence.
extern "C" __global__ void __launch_bounds__(256) attend_dq(Scores s, View dq, float* dbias, View dout, const float* lse, const float* delta, View q, View k, View v, i64 first) {
  begin();
  extern __shared__ float shared[];
  float *Q = shared, *K = Q + TILE * LD, *V = K + TILE * LD, *dO = V + TILE * LD, *dS = dO + TILE * LD;
  i64 t = blockIdx.x * (i64)TILE, h = blockIdx.y, b = first + blockIdx.z, kv = h / (s.heads / s.kvHeads);
  loadTile<HD>(Q, q, b, h, t, s.queries);
  loadTile<VD>(dO, dout, b, h, t, s.queries);
  float acc[R][C] = {};
  i64 last = min(t + TILE, s.queries) - 1, end = reachInText(s, b, last).end;
  for (i64 j = reachInText(s, b, t).first / TILE * TILE; j < end; j += TILE) {
    __syncthreads();
    loadTile<HD>(K, k, b, kv, j, s.keys);
    loadTile<VD>(V, v, b, kv, j, s.keys);
    __syncthreads();
    gradients(0, dS, s, b, h, t, j, Q, K, V, dO, lse, delta, dbias);
    __syncwarp();
    accumulate<false, HD>(acc, dS, K);
  }
  storeTile<HD>(dq, b, h, t, s.queries, acc);
}

// One block per tile of keys, KV head and sequence. It iterates over the queries of the group's heads.
extern "C" __global__ void __launch_bounds__(256) attend_dkv(Scores s, View dk, View dv, View dout, const float* lse, const float* delta, View q, View k, View v) {
  begin();
  extern __shared__ float shared[];
  float *Q = shared, *K = Q + TILE * LD, *V = K + TILE * LD, *dO = V + TILE * LD, *P = dO + TILE * LD, *dS = P + TILE * (TILE + 1);
  i64 j = blockIdx.x * (i64)TILE, kv = blockIdx.y, b = blockIdx.z, group = s.heads / s.kvHeads;
  loadTile<HD>(K, k, b, kv, j, s.keys);
  loadTile<VD>(V, v, b, kv, j, s.keys);
  float ak[R][C] = {}, av[R][CV] = {};
  for (i64 h = kv * group; h < (kv + 1) * group; h++)
    for (i64 t = 0; t < s.queries; t += TILE) {
      i64 last = min(t + TILE, s.queries) - 1;
      if (reachInText(s, b, last).end <= j || reachInText(s, b, t).first >= j + TILE) continue;
      __syncthreads();
      loadTile<HD>(Q, q, b, h, t, s.queries);
      loadTile<VD>(dO, dout, b, h, t, s.queries);
      __syncthreads();
      gradients(P, dS, s, b, h, t, j, Q, K, V, dO, lse, delta, 0);
      __syncthreads();
      accumulate<true, VD>(av, P, dO);
      accumulate<true, HD>(ak, dS, Q);
    }
  storeTile<HD>(dk, b, kv, j, s.keys, ak);
  storeTile<VD>(dv, b, kv, j, s.keys, av);
}

// Stores keys and values [sequences·tokens, heads·HD] as rows, starting at row first, of each sequence's heads, or at row at[0] if at is given.
// values may be omitted.
extern "C" __global__ void store_kv(View keys, View values, View k, View v, i64 rows, i64 tokens, i64 heads, i64 first, const int* at) {
  begin();
  if (at) first = at[0];
  EACH(i, rows * heads * HD) {
    i64 d = i % HD, h = i / HD % heads, r = i / HD / heads, seq = r / tokens, t = first + r % tokens;
    store(keys.p, seq * keys.seq + h * keys.head + t * keys.row + d, load(k.p, i, k.format), keys.format);
    if (values.p) store(values.p, seq * values.seq + h * values.head + t * values.row + d, load(v.p, i, v.format), values.format);
  }
}
