// Attention of few queries to many keys, as in decoding: the time is that of reading keys and values, of type KV. The query
// rows that share a KV head (the queries of the heads of its group) read it together. A block has a tile of them and one split
// of the keys that they see; the splits' results are combined in their order (Flash-Decoding): by the blocks themselves if they form a
// cluster, otherwise afterwards. Keys have HD numbers, and values and results VD: as many but in decode_latent.cu.

#define WARPS 4
#ifndef VD
#define VD HD
#endif

// Shape is what a block needs to know beside Scores: the query rows of a KV head are in tiles, their keys in splits.
struct Shape {
  i64 tiles, splits;
};

// Row is a query row of a block: it sees the keys [first, end).
struct Row {
  int first, end, zero; // zero is the key without a bias by ALiBi
  float slope;
  const float* bias;
};

// Place is where a block works: on the rows from `row` on of the `rows` rows of KV head kv of sequence b, and keys [from, to).
struct Place {
  i64 b, kv, pair, row, rows;
  int from, to;
};

// place divides the visible keys evenly, in multiples of `step`. It may be called before awaitEarlier, as the host has written s.lens.
__device__ __forceinline__ Place place(const Scores& s, const Shape& shape, int tile, int step) {
  Place p;
  int pair = blockIdx.x / (int)shape.tiles;
  p.pair = pair, p.b = pair / (int)s.kvHeads, p.kv = pair % (int)s.kvHeads;
  p.row = blockIdx.x % (int)shape.tiles * tile, p.rows = (int)s.heads / (int)s.kvHeads * (int)s.queries;
  int first = reach(s, p.b, 0).first, end = reach(s, p.b, s.queries - 1).end;
  int per = ((end - first + (int)shape.splits - 1) / (int)shape.splits + step - 1) / step * step;
  p.from = first + blockIdx.y * per, p.to = min(end, p.from + per);
  return p;
}

// Head and query of row r of a place. There are few rows, and a division of 64 bits takes long.
__device__ __forceinline__ i64 headOf(const Scores& s, const Place& p, int r) { return p.kv * ((int)s.heads / (int)s.kvHeads) + ((int)p.row + r) / (int)s.queries; }
__device__ __forceinline__ i64 queryOf(const Scores& s, const Place& p, int r) { return ((int)p.row + r) % (int)s.queries; }

// rowAt returns where row r of a place begins in a view of its queries.
template <class T> __device__ __forceinline__ T* rowAt(const Scores& s, const Place& p, int r, const View& x) {
  return (T*)x.p + p.b * x.seq + headOf(s, p, r) * x.head + queryOf(s, p, r) * x.row;
}

__device__ __forceinline__ Row rowOf(const Scores& s, const Place& p, int r) {
  Row x = {0, 0, 0, 0, 0};
  if (p.row + r >= p.rows) return x;
  i64 h = headOf(s, p, r), i = queryOf(s, p, r);
  Reach see = reach(s, p.b, i);
  x.first = max((int)see.first, p.from), x.end = min((int)see.end, p.to), x.zero = i + see.len - s.queries;
  if (s.slopes) x.slope = s.coarse != 0 ? fromBF16(toBF16(s.slopes[h])) : s.slopes[h];
  if (s.bias) x.bias = s.bias + (h * s.queries + i) * s.keys;
  return x;
}

// scoreOf is score for a key of a row.
__device__ __forceinline__ float scoreOf(const Scores& s, const Row& row, int j, float dot) {
  if (j < row.first || j >= row.end) return -INFINITY;
  float x = dot * s.scale;
  if (s.slopes) x += s.coarse != 0 ? s.coarse * fromBF16(toBF16(row.slope * (float)j)) : row.slope * (float)(j - row.zero);
  if (s.bias) x += row.bias[j];
  return x;
}

// queryAt returns the 8 numbers from c on of a query row in bf16; zeros after the last row.
__device__ __forceinline__ Packed<bf16, 8> queryAt(const Scores& s, const Place& p, int r, int c, const View& q) {
  if (p.row + r >= p.rows) return {};
  const bf16* from = rowAt<const bf16>(s, p, r, q) + c;
  if (aligned(from)) return packed<8>(from);
  Vec<8> v;
  for (int j = 0; j < 8; j++) v.v[j] = from[j];
  return pack<bf16>(v);
}

// weight is the factor of what was summed relative to the maximum `top` if that is now `most`.
__device__ __forceinline__ float weight(float top, float most) { return top == -INFINITY ? 0 : exponential(top - most); }

// writeRow writes the numbers from c on of a query row's result: y are sums weighted by exponentials relative to `top`, and `sum` is that
// of the weights.
template <int W> __device__ __forceinline__ void writeRow(const Scores& s, const Place& p, int r, int c, Vec<W> y, float top, float sum, const View& out, float* lse) {
  i64 h = headOf(s, p, r), i = queryOf(s, p, r), at = p.b * out.seq + h * out.head + i * out.row + c;
#pragma unroll
  for (int j = 0; j < W; j++) y.v[j] = sum == 0 ? 0 : y.v[j] / sum; // NaN stays NaN
  const int size = out.format == F32 ? 4 : 2;
  if (((unsigned long long)out.p + at * size) % (W * size) == 0) storeAs(out.p, at, y, out.format);
  else
    for (int j = 0; j < W; j++) store(out.p, at + j, y.v[j], out.format);
  if (lse && c == 0) lse[p.pair * p.rows + p.row + r] = top + logf(sum);
}

#if !defined(INTS) && !defined(LATENT) // decode_ints.cu and decode_latent.cu come after this file's common part
// prefetchPart prefetches the beginning of a block's keys and values, of which all but the newest were written long ago.
__device__ __forceinline__ void prefetchPart(const Place& p, const View& k, const View& v) {
  constexpr int PIECE = 2048, PIECES = 16; // bytes, and how many of each
  const View& from = threadIdx.x < PIECES ? k : v;
  i64 bytes = max(p.to - p.from, 0) * (i64)HD * sizeof(KV), at = threadIdx.x % PIECES * PIECE;
  if (KVW * sizeof(KV) < 16 || threadIdx.x >= 2 * PIECES || from.row != HD || at >= bytes) return;
  prefetch((const char*)((const KV*)from.p + p.b * from.seq + p.kv * from.head + p.from * from.row) + at, min(bytes - at, (i64)PIECE));
}

#endif

// statsOf returns where the maximum and the sum of each row of each split are, after the rows themselves: [splits, rows, 2].
__device__ __forceinline__ float2* statsOf(float* part, i64 rows) { return (float2*)(part + (rows * VD + 1) / 2 * 2); }

constexpr int CLUSTER = 8; // the most splits of a cluster

// combineCluster combines the splits of a cluster: each block writes some of the rows. os are its own sums [ROWS, LDO] relative to the
// maxima `top`.
template <int ROWS, int LDO, int W> __device__ __forceinline__ void combineCluster(const Scores& s, const Place& p, const float* os, const float* top, const float* sum, const View& out, float* lse) {
  const int blocks = clusterBlocks();
  awaitCluster();
  for (int x = (clusterRank() * 32 * WARPS + threadIdx.x) * W; x < ROWS * VD; x += blocks * 32 * WARPS * W) {
    int r = x / VD, c = x % VD;
    if (p.row + r >= p.rows) break;
    float tops[CLUSTER], most = -INFINITY, all = 0;
    Vec<W> y = {};
#pragma unroll
    for (int n = 0; n < CLUSTER; n++) most = fmaxf(most, tops[n] = n < blocks ? fromBlock(top + r, n) : -INFINITY);
#pragma unroll
    for (int n = 0; n < CLUSTER; n++) {
      if (n >= blocks) break;
      float f = weight(tops[n], most);
      all += f * fromBlock(sum + r, n);
      y = apply([f](float a, float b) { return a + f * b; }, y, vecFromBlock<W>(os + r * LDO + c, n));
    }
    writeRow(s, p, r, c, y, most, all, out, lse);
  }
  awaitCluster();
}

// finish combines the warps of a block, which have ROWS rows each: os [WARPS, ROWS, LDO], of which VD are used, relative to the maxima
// tops [WARPS, ROWS], and sums [WARPS, ROWS]. It writes the result or, if there are several splits, this one's part [splits, rows, VD].
template <int ROWS, int LDO, int W> __device__ __forceinline__ void finish(const Scores& s, const Shape& shape, const Place& p, float* os, const float* tops, const float* sums, const View& out, float* lse, float* part) {
  __shared__ float factors[WARPS * ROWS], top[ROWS], sum[ROWS];
  if (threadIdx.x < ROWS) {
    int r = threadIdx.x;
    float most = -INFINITY, all = 0;
    for (int w = 0; w < WARPS; w++) most = fmaxf(most, tops[w * ROWS + r]);
    for (int w = 0; w < WARPS; w++) {
      float f = factors[w * ROWS + r] = weight(tops[w * ROWS + r], most);
      all += f * sums[w * ROWS + r];
    }
    top[r] = most, sum[r] = all;
  }
  __syncthreads();
  const bool cluster = clusterBlocks() > 1;
  i64 all = (int)gridDim.x / (int)shape.tiles * p.rows;
#pragma unroll 4
  for (int x = threadIdx.x * W; x < ROWS * VD; x += 32 * WARPS * W) {
    int r = x / VD, c = x % VD;
    if (p.row + r >= p.rows) break;
    Vec<W> y = {};
#pragma unroll
    for (int w = 0; w < WARPS; w++) y = apply([f = factors[w * ROWS + r]](float a, float b) { return a + f * b; }, y, load<W>(os + (w * ROWS + r) * LDO + c));
    if (cluster) {
      store(os + r * LDO + c, y); // where this thread alone has read
      continue;
    }
    if (shape.splits == 1) {
      writeRow(s, p, r, c, y, top[r], sum[r], out, lse);
      continue;
    }
    i64 at = blockIdx.y * all + p.pair * p.rows + p.row + r;
    store(part + at * VD + c, y);
    if (c == 0) statsOf(part, shape.splits * all)[at] = make_float2(top[r], sum[r]);
  }
  if (cluster) combineCluster<ROWS, LDO, W>(s, p, os, top, sum, out, lse);
}

// Combines the splits. A thread has W numbers of one of the `all` rows.
constexpr int COMBINED = VD % 4 == 0 ? 4 : 1;
extern "C" __global__ void __launch_bounds__(128) decode_combine(Scores s, View out, float* lse, float* part, i64 splits, i64 all) {
  begin();
  constexpr int W = COMBINED;
  const int i = blockIdx.x * blockDim.x + threadIdx.x, at = i / (VD / W), c = i % (VD / W) * W;
  if (at >= all) return;
  const float2* stats = statsOf(part, splits * all) + at;
  Place p = {};
  int rows = (int)s.heads / (int)s.kvHeads * (int)s.queries, pair = at / rows;
  p.rows = rows, p.pair = pair, p.b = pair / (int)s.kvHeads, p.kv = pair % (int)s.kvHeads, p.row = at % rows;
  float top = -INFINITY, sum = 0;
#pragma unroll 8
  for (int n = 0; n < (int)splits; n++) top = fmaxf(top, stats[n * all].x);
  Vec<W> y = {};
#pragma unroll 8
  for (int n = 0; n < (int)splits; n++) {
    float2 of = stats[n * all];
    float f = weight(of.x, top);
    sum += f * of.y;
    y = apply([f](float a, float b) { return a + f * b; }, y, load<W>(part + (n * all + at) * VD + c));
  }
  writeRow(s, p, 0, c, y, top, sum, out, lse);
}

#if !defined(INTS) && !defined(LATENT)
// Without tensor cores: a row of a head is read by LANES threads, PARTS loads of KVW numbers each.
constexpr int LOADS = (HD + KVW - 1) / KVW;
constexpr int LANES = LOADS > 16 ? 32 : LOADS > 8 ? 16 : LOADS > 4 ? 8 : LOADS > 2 ? 4 : LOADS;
constexpr int PARTS = (LOADS + LANES - 1) / LANES;

__device__ __forceinline__ Packed<KV, KVW> fetch(const KV* p) {
  if constexpr (sizeof(KV) * KVW == 16) return stream<Packed<KV, KVW>>(p);
  else return packed<KVW>(p);
}

template <int ROWS> __device__ __forceinline__ void decode(const Scores& s, const Shape& shape, const View& out, float* lse, float* part, const View& q, const View& k, const View& v) {
  constexpr int AHEAD = PARTS > 2 ? 1 : (ROWS * PARTS * KVW > 16 ? 2 : 4) / PARTS; // keys and values on their way to a thread
  constexpr int STEP = AHEAD * (32 / LANES);                                      // keys of a warp at a time
  __shared__ Row row[ROWS];
  __shared__ float tops[WARPS * ROWS], sums[WARPS * ROWS];
  __shared__ __align__(16) float os[WARPS * ROWS * HD];
  letNextStart();
  Place p = place(s, shape, ROWS, WARPS * STEP);
  prefetchPart(p, k, v);
  awaitEarlier();
  if (threadIdx.x < ROWS) row[threadIdx.x] = rowOf(s, p, threadIdx.x);
  __syncthreads();
  int warp = threadIdx.x / 32, group = threadIdx.x % 32 / LANES, lane = threadIdx.x % LANES;
  const KV *keys = (const KV*)k.p + p.b * k.seq + p.kv * k.head, *values = (const KV*)v.p + p.b * v.seq + p.kv * v.head;

  float x[ROWS][PARTS * KVW], o[ROWS][PARTS * KVW] = {}, top[ROWS], sum[ROWS] = {};
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
    top[r] = -INFINITY;
    const act_t* from = rowAt<const act_t>(s, p, r, q);
#pragma unroll
    for (int c = 0; c < PARTS * KVW; c++) {
      int at = (c / KVW * LANES + lane) * KVW + c % KVW;
      x[r][c] = p.row + r < p.rows && at < HD ? (float)from[at] : 0;
    }
  }
  for (int j = p.from + warp * STEP; j < p.to; j += WARPS * STEP) {
    Packed<KV, KVW> ks[AHEAD][PARTS] = {}, vs[AHEAD][PARTS] = {};
#pragma unroll
    for (int u = 0; u < AHEAD; u++)
#pragma unroll
      for (int i = 0; i < PARTS; i++) {
        int c = (i * LANES + lane) * KVW;
        i64 at = min(j + u * (32 / LANES) + group, p.to - 1); // scores of keys after the last are not used
        if (HD % (LANES * KVW) == 0 || c < HD) ks[u][i] = fetch(keys + at * k.row + c), vs[u][i] = fetch(values + at * v.row + c);
      }
    float w[ROWS][AHEAD];
#pragma unroll
    for (int u = 0; u < AHEAD; u++) {
      float dot[ROWS] = {};
#pragma unroll
      for (int i = 0; i < PARTS; i++) {
        Vec<KVW> y = unpack<KV, KVW>(ks[u][i]);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
          for (int c = 0; c < KVW; c++) dot[r] += x[r][i * KVW + c] * y.v[c];
      }
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
#pragma unroll
        for (int m = LANES / 2; m; m >>= 1) dot[r] += __shfl_xor_sync(~0u, dot[r], m);
        w[r][u] = scoreOf(s, row[r], j + u * (32 / LANES) + group, dot[r]);
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      float most = top[r];
#pragma unroll
      for (int u = 0; u < AHEAD; u++) most = fmaxf(most, w[r][u]);
      float kept = weight(top[r], most);
      sum[r] *= kept, top[r] = most;
#pragma unroll
      for (int c = 0; c < PARTS * KVW; c++) o[r][c] *= kept;
#pragma unroll
      for (int u = 0; u < AHEAD; u++) sum[r] += w[r][u] = weight(w[r][u], most);
    }
#pragma unroll
    for (int u = 0; u < AHEAD; u++)
#pragma unroll
      for (int i = 0; i < PARTS; i++) {
        Vec<KVW> y = unpack<KV, KVW>(vs[u][i]);
#pragma unroll
        for (int r = 0; r < ROWS; r++)
#pragma unroll
          for (int c = 0; c < KVW; c++) o[r][i * KVW + c] += w[r][u] * y.v[c];
      }
  }
  // The groups of a warp, then the warps. Only the first group's results are used.
#pragma unroll
  for (int r = 0; r < ROWS; r++) {
#pragma unroll
    for (int m = LANES; m < 32; m *= 2) {
      float other = __shfl_xor_sync(~0u, top[r], m), most = fmaxf(top[r], other), a = weight(top[r], most), b = weight(other, most);
      sum[r] = sum[r] * a + __shfl_xor_sync(~0u, sum[r], m) * b, top[r] = most;
#pragma unroll
      for (int c = 0; c < PARTS * KVW; c++) o[r][c] = o[r][c] * a + __shfl_xor_sync(~0u, o[r][c], m) * b;
    }
    if (group == 0) {
#pragma unroll
      for (int c = 0; c < PARTS * KVW; c++) {
        int at = (c / KVW * LANES + lane) * KVW + c % KVW;
        if (at < HD) os[(warp * ROWS + r) * HD + at] = o[r][c];
      }
      if (lane == 0) tops[warp * ROWS + r] = top[r], sums[warp * ROWS + r] = sum[r];
    }
  }
  __syncthreads();
  finish<ROWS, HD, COMBINED>(s, shape, p, os, tops, sums, out, lse, part);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) decode_1(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decode<1>(s, shape, out, lse, part, q, k, v); }
extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) decode_2(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decode<2>(s, shape, out, lse, part, q, k, v); }
extern "C" __global__ void __launch_bounds__(32 * WARPS, 4) decode_4(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decode<4>(s, shape, out, lse, part, q, k, v); }

#ifdef TENSOR
// With tensor cores, for keys, values and activations in bf16. Each warp has its own tiles of 16 keys on their way to shared memory,
// in rows of LD numbers. Products are of 16 query rows by 8 keys, and by 8 dims of values
// (FlashAttention-2): a thread holds scores and sums of rows t/4 and t/4+8.
#define LD (HD % 64 == 0 ? HD : HD + 8)
#define TILE 16
constexpr int STAGES = HD <= 128 ? 3 : 2, PAIR = 2 * TILE * LD;

// cell returns where the 8 numbers from c on of row r are. No eight rows' share banks.
__device__ __forceinline__ int cell(int r, int c) { return r * LD + (HD % 64 == 0 ? c ^ r % 8 * 8 : c); }

// along is cell(r, c + d) given at = cell(r, c), for d a multiple of 16 and c 0 or 8.
__device__ __forceinline__ int along(int at, int d) { return HD % 64 == 0 ? (at ^ d % 64) + d / 64 * 64 : at + d; }

// request makes a warp copy the tiles of keys and values from key j on. Those after the last are copies of it; their scores are not used.
// Rows of whole tiles without gaps, as in a cache, need few instructions.
__device__ __forceinline__ void request(bf16* to, const bf16* keys, const bf16* values, i64 keyRow, i64 valueRow, int j, int end) {
  constexpr int EIGHTS = HD / 8, COPIES = TILE * EIGHTS / 32; // of a row; of a thread for keys
  int lane = threadIdx.x % 32;
  if (32 % EIGHTS == 0 && keyRow == HD && valueRow == HD && j + TILE <= end) {
    const bf16 *k = keys + j * (i64)HD + lane * 8, *v = values + j * (i64)HD + lane * 8;
    constexpr int STEP = 32 / EIGHTS; // rows of a copy by all threads
    int at = cell(lane / EIGHTS, lane % EIGHTS * 8);
#pragma unroll
    for (int n = 0; n < COPIES; n++) {
      int put = (HD % 64 == 0 ? at ^ n * STEP % 8 * 8 : at) + n * STEP * LD;
      copyAsync(to + put, k + n * 256);
      copyAsync(to + put + TILE * LD, v + n * 256);
    }
  } else if (j < end) {
#pragma unroll
    for (int n = 0; n < COPIES; n++) {
      int i = n * 32 + lane, r = i / EIGHTS, c = i % EIGHTS * 8;
      i64 at = min(j + r, end - 1);
      copyAsync(to + cell(r, c), keys + at * keyRow + c);
      copyAsync(to + cell(TILE + r, c), values + at * valueRow + c);
    }
  }
  commit();
}

// Scores are in units of ln 2 here, for powers of 2. LOWEST is less than all of them, and finite so that differences are numbers.
constexpr float LOG2E = 1.44269504f, LN2 = 0.69314718f, LOWEST = -1e30f;
constexpr float SLACK = 8; // how much a score may exceed the one that sums are relative to

__device__ __forceinline__ float power(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

template <int TILES> __device__ __forceinline__ void decodeTiles(const Scores& s, const Shape& shape, const View& out, float* lse, float* part, const View& q, const View& k, const View& v) {
  constexpr int ROWS = 16 * TILES;
  extern __shared__ __align__(16) bf16 shared[]; // Q [ROWS, LD], then for each warp and stage K and V [TILE, LD]
  __shared__ Row row[ROWS];
  __shared__ float tops[WARPS * ROWS], sums[WARPS * ROWS];
  letNextStart();
  Place p = place(s, shape, ROWS, WARPS * TILE);
  prefetchPart(p, k, v);
  awaitEarlier();
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  bf16* mine = shared + ROWS * LD + warp * STAGES * PAIR;
  const bf16 *keys = (const bf16*)k.p + p.b * k.seq + p.kv * k.head, *values = (const bf16*)v.p + p.b * v.seq + p.kv * v.head;

  for (int i = threadIdx.x; i < ROWS; i += 32 * WARPS) row[i] = rowOf(s, p, i);
  for (int i = threadIdx.x; i < ROWS * HD / 8; i += 32 * WARPS) {
    int r = i / (HD / 8), c = i % (HD / 8) * 8;
    *(Packed<bf16, 8>*)(shared + cell(r, c)) = queryAt(s, p, r, c, q);
  }
  int j = p.from + warp * TILE, stage = 0;
#pragma unroll
  for (int i = 0; i < STAGES - 1; i++) request(mine + i * PAIR, keys, values, k.row, v.row, j + i * WARPS * TILE, p.to);
  __syncthreads();

  // Keys that all rows see have a simple score unless there is a bias.
  const bool plain = !s.slopes && !s.bias;
  const int allFrom = max((int)reach(s, p.b, s.queries - 1).first, p.from), allTo = min((int)reach(s, p.b, 0).end, p.to);
  const float scale = s.scale * LOG2E;
  float o[TILES][HD / 8][4] = {}, top[TILES][2], sum[TILES][2] = {};
#pragma unroll
  for (int t = 0; t < TILES; t++) top[t][0] = top[t][1] = LOWEST;
  const int m = lane / 8, r8 = lane % 8; // the matrix and its row whose address this thread passes
  const int atK = cell(m / 2 * 8 + r8, m % 2 * 8), atV = cell(TILE + m % 2 * 8 + r8, m / 2 * 8), atQ = cell(m % 2 * 8 + r8, m / 2 * 8);
  for (; j < p.to; j += WARPS * TILE, stage = stage == STAGES - 1 ? 0 : stage + 1) {
    request(mine + (stage == 0 ? STAGES - 1 : stage - 1) * PAIR, keys, values, k.row, v.row, j + (STAGES - 1) * WARPS * TILE, p.to);
    arrived<STAGES - 1>();
    __syncwarp();
    const bf16* tiles = mine + stage * PAIR;
    float w[TILES][2][4] = {}; // scores of keys j to j+7 and j+8 to j+15
#pragma unroll
    for (int d = 0; d < HD; d += 16) {
      u32 y[4];
      matrices<false>(y, tiles + along(atK, d));
#pragma unroll
      for (int t = 0; t < TILES; t++) {
        u32 x[4];
        matrices<false>(x, shared + t * 16 * LD + along(atQ, d));
        multiply(w[t][0], x[0], x[1], x[2], x[3], y[0], y[1]);
        multiply(w[t][1], x[0], x[1], x[2], x[3], y[2], y[3]);
      }
    }
    if (plain && j >= allFrom && j + TILE <= allTo) {
#pragma unroll
      for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int n = 0; n < 8; n++) w[t][n / 4][n % 4] *= scale;
    } else {
#pragma unroll
      for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int n = 0; n < 8; n++) {
          float& a = w[t][n / 4][n % 4];
          a = LOG2E * scoreOf(s, row[t * 16 + n % 4 / 2 * 8 + lane / 4], j + n / 4 * 8 + lane % 4 * 2 + n % 2, a);
        }
    }
    bool over = false; // whether a score exceeds what sums are relative to by more than SLACK
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
      for (int n = 0; n < 8; n++) over |= w[t][n / 4][n % 4] > top[t][n % 4 / 2] + SLACK;
    if (__any_sync(~0u, over)) { // seldom, but for the first tile
#pragma unroll
      for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int h = 0; h < 2; h++) {
          float most = top[t][h];
#pragma unroll
          for (int n = 0; n < 4; n++) most = fmaxf(most, w[t][n / 2][h * 2 + n % 2]);
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
          most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
          float kept = power(top[t][h] - most);
          sum[t][h] *= kept, top[t][h] = most;
#pragma unroll
          for (int d = 0; d < HD / 8; d++) o[t][d][h * 2] *= kept, o[t][d][h * 2 + 1] *= kept;
        }
    }
    u32 weights[TILES][4];
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
      for (int h = 0; h < 2; h++) {
        float a[4];
#pragma unroll
        for (int n = 0; n < 4; n++) a[n] = power(w[t][n / 2][h * 2 + n % 2] - top[t][h]);
        sum[t][h] += (a[0] + a[1]) + (a[2] + a[3]); // this thread's part of the sum
        weights[t][h] = bf16::pair(a[0], a[1]), weights[t][h + 2] = bf16::pair(a[2], a[3]);
      }
#pragma unroll
    for (int d = 0; d < HD; d += 16) {
      u32 y[4];
      matrices<true>(y, tiles + along(atV, d));
#pragma unroll
      for (int t = 0; t < TILES; t++) {
        multiply(o[t][d / 8], weights[t][0], weights[t][1], weights[t][2], weights[t][3], y[0], y[1]);
        multiply(o[t][d / 8 + 1], weights[t][0], weights[t][1], weights[t][2], weights[t][3], y[2], y[3]);
      }
    }
    __syncwarp(); // the next request overwrites the tile
  }
  arrived<0>();
  __syncthreads();
  constexpr int LDO = HD + 8;               // so that the stores of four rows share no banks
  float* os = (float*)(shared + ROWS * LD); // instead of the tiles: [WARPS, ROWS, LDO]
#pragma unroll
  for (int t = 0; t < TILES; t++)
#pragma unroll
    for (int h = 0; h < 2; h++) {
      float all = sum[t][h];
      all += __shfl_xor_sync(~0u, all, 1);
      all += __shfl_xor_sync(~0u, all, 2);
      int at = warp * ROWS + t * 16 + h * 8 + lane / 4;
      if (lane % 4 == 0) tops[at] = top[t][h] * LN2, sums[at] = all;
#pragma unroll
      for (int d = 0; d < HD / 8; d++)
        *(float2*)(os + at * LDO + d * 8 + lane % 4 * 2) = make_float2(o[t][d][h * 2], o[t][d][h * 2 + 1]);
    }
  __syncthreads();
  finish<ROWS, LDO, 4>(s, shape, p, os, tops, sums, out, lse, part);
}

extern "C" __global__ void __launch_bounds__(32 * WARPS) decode_16(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decodeTiles<1>(s, shape, out, lse, part, q, k, v); }
#if HD <= 128
extern "C" __global__ void __launch_bounds__(32 * WARPS, 2) decode_32(Scores s, Shape shape, View out, float* lse, float* part, View q, View k, View v) { decodeTiles<2>(s, shape, out, lse, part, q, k, v); }
#endif
#endif
#endif
