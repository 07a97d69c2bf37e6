// Operations on rows [rows, dim]. Where vectors is true, rows can be accessed WIDTH numbers at a time. The weight and bias
// of a norm are [heads, dim]: row r uses those of head r mod heads.

// y += bias in every row
extern "C" __global__ void add_rows(act_t* y, const float* bias, i64 vectors, i64 rows, i64 dim) {
  begin();
  parts<WIDTH>(rows, dim, vectors, [&](auto w, i64 r, i64 c) {
    act_t* at = y + r * dim + c;
    store(at, apply([](float a, float b) { return a + b; }, load(w, at), load(w, bias + c)));
  });
}

// In norms, blockDim.x threads share a row, a power of 2 up to 32, or a whole block. A thread has the numbers from i on, i
// + W, …, in chunks of W, for i < n. It keeps C chunks in registers. If C is 0, it has any number of chunks, and reads them
// from memory again; then the kernels' `chunks` is 0.
#define CHUNKS(c, i) \
  _Pragma("unroll") for (int c = 0, i = threadIdx.x * W; C ? c < C : i < n; c++, i += blockDim.x * W) \
    if (i < n)
#define LANES(j) _Pragma("unroll") for (int j = 0; j < W; j++)

// rowSum returns the sum of x over the threads of a row.
__device__ __forceinline__ float rowSum(float x) {
  if (blockDim.x > 32) return blockSum(x);
  for (int m = blockDim.x / 2; m; m >>= 1) x += __shfl_xor_sync(~0u, x, m);
  return x;
}

// loadOr returns the numbers of p from i on, or x for each if p is 0.
template <int W> __device__ __forceinline__ Vec<W> loadOr(float x, const float* p, int i) {
  if (p) return load<W>(p + i);
  Vec<W> all;
  LANES(j) all.v[j] = x;
  return all;
}

// y = (s - mean)·inv·w + b, with s = x + z, rounded and stored in sum, or s = x if there is no z. RMSNorm has no mean.
template <bool layer, int W, int C>
__device__ __forceinline__ void norm(act_t* y, float* mean, float* inv, act_t* sum, const act_t* x, const act_t* z, const float* w, const float* b, i64 heads, i64 rows, i64 dim, float eps) {
  const i64 r = blockIdx.x * (i64)blockDim.y + threadIdx.y;
  const int n = r < rows ? dim : 0; // all threads take part in the sums
  y += r * dim, x += r * dim, sum += r * dim;
  Packed<act_t, W> row[C + 1], other[C + 1];
  CHUNKS(c, i) row[C ? c : 0] = packed<W>(x + i);
  if (z) { // loads before stores, so that they can overlap
    z += r * dim;
    CHUNKS(c, i) other[C ? c : 0] = packed<W>(z + i);
    CHUNKS(c, i) {
      Vec<W> u = unpack<act_t, W>(C ? row[c] : packed<W>(x + i)), v = unpack<act_t, W>(C ? other[c] : packed<W>(z + i));
      LANES(j) u.v[j] += v.v[j];
      row[C ? c : 0] = pack<act_t, W>(u);
      *(Packed<act_t, W>*)(sum + i) = row[C ? c : 0];
    }
    x = sum;
  }
  auto at = [&](int c, int i) { return unpack<act_t, W>(C ? row[c] : packed<W>(x + i)); };
  float m = 0, squares = 0;
  if (layer) {
    CHUNKS(c, i) {
      Vec<W> v = at(c, i);
      LANES(j) m += v.v[j];
    }
    m = rowSum(m) / dim;
  }
  CHUNKS(c, i) {
    Vec<W> v = at(c, i);
    LANES(j) squares += (v.v[j] - m) * (v.v[j] - m);
  }
  const float k = 1 / sqrtf(rowSum(squares) / dim + eps);
  if (threadIdx.x == 0 && n) {
    if (mean) mean[r] = m;
    if (inv) inv[r] = k;
  }
  const i64 head = r % heads * dim;
  if (w) w += head;
  if (b) b += head;
  CHUNKS(c, i) {
    Vec<W> v = at(c, i), a = loadOr<W>(1, w, i), d = loadOr<W>(0, b, i);
    LANES(j) v.v[j] = (v.v[j] - m) * k * a.v[j] + d.v[j];
    store(y + i, v);
  }
}

extern "C" __global__ void __launch_bounds__(512) rms_norm(act_t* y, float* inv, act_t* sum, const act_t* x, const act_t* z, const float* w, i64 heads, i64 chunks, i64 rows, i64 dim, float eps) {
  begin();
  if (chunks == 4) norm<false, WIDTH, 4>(y, 0, inv, sum, x, z, w, 0, heads, rows, dim, eps);
  else if (chunks == 3) norm<false, WIDTH, 3>(y, 0, inv, sum, x, z, w, 0, heads, rows, dim, eps);
  else if (chunks == 2) norm<false, WIDTH, 2>(y, 0, inv, sum, x, z, w, 0, heads, rows, dim, eps);
  else if (chunks == 1) norm<false, WIDTH, 1>(y, 0, inv, sum, x, z, w, 0, heads, rows, dim, eps);
  else norm<false, 1, 0>(y, 0, inv, sum, x, z, w, 0, heads, rows, dim, eps);
}

extern "C" __global__ void __launch_bounds__(512) layer_norm(act_t* y, float* mean, float* inv, act_t* sum, const act_t* x, const act_t* z, const float* w, const float* b, i64 heads, i64 chunks, i64 rows, i64 dim, float eps) {
  begin();
  if (chunks == 4) norm<true, WIDTH, 4>(y, mean, inv, sum, x, z, w, b, heads, rows, dim, eps);
  else if (chunks == 3) norm<true, WIDTH, 3>(y, mean, inv, sum, x, z, w, b, heads, rows, dim, eps);
  else if (chunks == 2) norm<true, WIDTH, 2>(y, mean, inv, sum, x, z, w, b, heads, rows, dim, eps);
  else if (chunks == 1) norm<true, WIDTH, 1>(y, mean, inv, sum, x, z, w, b, heads, rows, dim, eps);
  else norm<true, 1, 0>(y, mean, inv, sum, x, z, w, b, heads, rows, dim, eps);
}

// Writes the sums over threadIdx.y, or over nothing if that is always 0, to part [dim].
template <int W, int C> __device__ void writePart(float* part, const Vec<W>* mine, int n) {
  extern __shared__ __align__(16) float shared[]; // [blockDim.y, dim]
  if (blockDim.y == 1) {
    CHUNKS(c, i) store(part + i, mine[c]);
    return;
  }
  __syncthreads();
  CHUNKS(c, i) store(shared + threadIdx.y * n + i, mine[c]);
  __syncthreads();
  for (int i = threadIdx.y * blockDim.x + threadIdx.x; i < n; i += blockDim.x * blockDim.y) {
    float sum = 0;
    for (int y = 0; y < blockDim.y; y++) sum += shared[y * n + i];
    part[i] = sum;
  }
}

// dx = inv·(g - mean(g) - xn·mean(g·xn)) with g = dy·w, xn = (x - mean)·inv; RMSNorm has no means of x and g. If add is
// true, this is added to dx. dx may be dy. Each thread has `per` rows in succession. If they are not 0, dw and db
// [blocks, dim] receive each block's sums of dy·xn and of dy.
template <bool layer, int W, int C>
__device__ __forceinline__ void normBackward(act_t* dx, float* dw, float* db, const act_t* dy, const act_t* x, const float* w, const float* mean, const float* inv, i64 heads, i64 rows, i64 dim, i64 per, bool add) {
  const i64 first = (blockIdx.x * (i64)blockDim.y + threadIdx.y) * per;
  if (dw) dw += blockIdx.x * dim;
  if (db) db += blockIdx.x * dim;
  Vec<W> dws[C + 1], dbs[C + 1];
#pragma unroll
  for (int c = 0; c < C; c++) LANES(j) dws[c].v[j] = dbs[c].v[j] = 0;
  Packed<act_t, W> nextX[C + 1], nextD[C + 1], old[C + 1];
  auto fetch = [&](i64 r) { // while the row before is computed
    const int n = C && r < rows && r < first + per ? dim : 0;
    CHUNKS(c, i) nextX[c] = packed<W>(x + r * dim + i), nextD[c] = packed<W>(dy + r * dim + i);
  };
  if (C) fetch(first);
  for (i64 r = first; r < first + per; r++) {
    const i64 at = r * dim;
    const int n = r < rows ? dim : 0; // all threads take part in the sums
    const float m = layer && n ? mean[r] : 0, k = n ? inv[r] : 0, *wr = w ? w + r % heads * dim : 0;
    Vec<W> xn[C + 1], g[C + 1];
    // Computes xn and g, and returns dy.
    auto compute = [&](int c, int i) {
      Vec<W> d = unpack<act_t, W>(C ? nextD[c] : packed<W>(dy + at + i)), a = loadOr<W>(1, wr, i);
      Vec<W> v = unpack<act_t, W>(C ? nextX[c] : packed<W>(x + at + i));
      LANES(j) {
        xn[c].v[j] = (v.v[j] - m) * k;
        g[c].v[j] = d.v[j] * a.v[j];
      }
      return d;
    };
    float sum = 0, dot = 0;
    CHUNKS(c, i) {
      const int o = C ? c : 0;
      Vec<W> d = compute(o, i);
      LANES(j) {
        sum += g[o].v[j];
        dot += g[o].v[j] * xn[o].v[j];
      }
      if (C) {
        LANES(j) {
          dws[o].v[j] += d.v[j] * xn[o].v[j];
          dbs[o].v[j] += d.v[j];
        }
      } else { // W is 1
        if (dw) dw[i] = (r == first ? 0 : dw[i]) + d.v[0] * xn[0].v[0];
        if (db) db[i] = (r == first ? 0 : db[i]) + d.v[0];
      }
      if (C && add) old[o] = packed<W>(dx + at + i);
    }
    if (C) fetch(r + 1);
    sum = layer ? rowSum(sum) / dim : 0;
    dot = rowSum(dot) / dim;
    CHUNKS(c, i) {
      const int o = C ? c : 0;
      if (!C) compute(0, i);
      Vec<W> v;
      LANES(j) v.v[j] = k * (g[o].v[j] - sum - xn[o].v[j] * dot);
      if (add) {
        Vec<W> before = unpack<act_t, W>(C ? old[o] : packed<W>(dx + at + i));
        LANES(j) v.v[j] += before.v[j];
      }
      store(dx + at + i, v);
    }
  }
  if (C && dw) writePart<W, C>(dw, dws, dim);
  if (C && db) writePart<W, C>(db, dbs, dim);
}

extern "C" __global__ void __launch_bounds__(512) rms_norm_backward(act_t* dx, float* dw, const act_t* dy, const act_t* x, const float* w, const float* inv, i64 heads, i64 chunks, i64 rows, i64 dim, i64 per, i64 add) {
  begin();
  if (chunks == 1) normBackward<false, WIDTH, 1>(dx, dw, 0, dy, x, w, 0, inv, heads, rows, dim, per, add);
  else if (chunks == 2) normBackward<false, WIDTH, 2>(dx, dw, 0, dy, x, w, 0, inv, heads, rows, dim, per, add);
  else if (chunks == 3) normBackward<false, WIDTH, 3>(dx, dw, 0, dy, x, w, 0, inv, heads, rows, dim, per, add);
  else normBackward<false, 1, 0>(dx, dw, 0, dy, x, w, 0, inv, heads, rows, dim, per, add);
}

extern "C" __global__ void __launch_bounds__(512) layer_norm_backward(act_t* dx, float* dw, float* db, const act_t* dy, const act_t* x, const float* w, const float* mean, const float* inv, i64 heads, i64 chunks, i64 rows, i64 dim, i64 per, i64 add) {
  begin();
  if (chunks == 1) normBackward<true, WIDTH, 1>(dx, dw, db, dy, x, w, mean, inv, heads, rows, dim, per, add);
  else if (chunks == 2) normBackward<true, WIDTH, 2>(dx, dw, db, dy, x, w, mean, inv, heads, rows, dim, per, add);
  else if (chunks == 3) normBackward<true, WIDTH, 3>(dx, dw, db, dy, x, w, mean, inv, heads, rows, dim, per, add);
  else normBackward<true, 1, 0>(dx, dw, db, dy, x, w, mean, inv, heads, rows, dim, per, add);
}

// Sums over `per` rows for W columns per thread; see column_sums.
template <int W> __device__ __forceinline__ void columnSums(float* part, const act_t* dy, const act_t* x, const float* mean, const float* inv, i64 heads, i64 rows, i64 dim, i64 per) {
  __shared__ float sums[8][32 * W];
  const i64 c = (blockIdx.x * 32LL + threadIdx.x) * W, end = min((blockIdx.y + 1) * per, rows), head = c / (dim / heads);
  Vec<W> sum = {};
  if (c < dim) {
#pragma unroll 4
    for (i64 r = blockIdx.y * per + threadIdx.y; r < end; r += 8) {
      Vec<W> d = load<W>(dy + r * dim + c);
      if (x) {
        Vec<W> v = load<W>(x + r * dim + c);
        float m = mean ? mean[r * heads + head] : 0, k = inv[r * heads + head];
        LANES(j) d.v[j] *= (v.v[j] - m) * k;
      }
      LANES(j) sum.v[j] += d.v[j];
    }
  }
  LANES(j) sums[threadIdx.y][threadIdx.x * W + j] = sum.v[j];
  __syncthreads();
  for (int i = threadIdx.y * 32 + threadIdx.x; i < 32 * W; i += 256) {
    i64 at = blockIdx.x * 32LL * W + i;
    float total = 0;
    for (int y = 0; y < 8; y++) total += sums[y][i];
    if (at < dim) part[blockIdx.y * dim + at] = total;
  }
}

// Partial sums over rows for each column: of dy, or if x is given, of dy·(x - mean)·inv. Blocks have 32 by 8 threads; the
// second dimension of the grid counts the parts of `per` rows. A row holds those of heads norms. part [parts, dim]
extern "C" __global__ void __launch_bounds__(256) column_sums(float* part, const act_t* dy, const act_t* x, const float* mean, const float* inv, i64 heads, i64 vectors, i64 rows, i64 dim, i64 per) {
  begin();
  if (vectors) columnSums<WIDTH>(part, dy, x, mean, inv, heads, rows, dim, per);
  else columnSums<1>(part, dy, x, mean, inv, heads, rows, dim, per);
}

// dst[c] += the sum of part [parts, dim] over the parts. Blocks have 32 by 32 threads.
extern "C" __global__ void __launch_bounds__(1024) add_parts(float* dst, const float* part, i64 parts, i64 dim) {
  begin();
  __shared__ float sums[32][33];
  i64 c = blockIdx.x * 32LL + threadIdx.x;
  float sum = 0;
  if (c < dim) {
#pragma unroll 4
    for (i64 p = threadIdx.y; p < parts; p += 32) sum += part[p * dim + c];
  }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && c < dim) {
    for (int y = 1; y < 32; y++) sum += sums[y][threadIdx.x];
    dst[c] += sum;
  }
}

// Rotation is x [rows, heads, headDim] before a rotation and y after it, with the rows' distances.
struct Rotation {
  act_t* y;
  i64 ldy;
  const act_t* x;
  i64 ldx;
  const int* pos;
  const float *cosines, *sines; // [positions, planes]
  i64 rows, heads, headDim, planes;
  float sign;
};

// turnPlanes rotates W planes by angles with the given cosines and sines, or back if sign is -1. half holds their numbers as they are in
// memory: in pairs if neighbours is true, otherwise the first of each plane and then the second.
template <int W, bool neighbours> __device__ __forceinline__ void turnPlanes(Vec<W> half[2], const Vec<W>& cosine, const Vec<W>& sine, float sign) {
  LANES(j) {
    float& a = neighbours ? half[2 * j / W].v[2 * j % W] : half[0].v[j];
    float& b = neighbours ? half[(2 * j + 1) / W].v[(2 * j + 1) % W] : half[1].v[j];
    float p = a, q = b, s = sine.v[j] * sign;
    a = p * cosine.v[j] - q * s;
    b = q * cosine.v[j] + p * s;
  }
}

// A thread rotates W planes of up to 8 heads, which have the same cosines and sines, or copies W numbers after the planes. The
// two numbers of a plane are beside each other if neighbours is true, and otherwise `planes` apart.
template <int W, bool neighbours> __device__ __forceinline__ void rotateHeads(const Rotation& o) {
  i64 turned = o.planes / W, units = turned + (o.x == o.y && o.ldx == o.ldy ? 0 : (o.headDim - 2 * o.planes) / W), groups = (o.heads + 7) / 8;
  EACH(i, o.rows * groups * units) {
    i64 u = i % units, row = i / units / groups, head = i / units % groups, next = groups * o.headDim; // neighbours read neighbouring heads
    const act_t* from = o.x + row * o.ldx + head * o.headDim;
    act_t* to = o.y + row * o.ldy + head * o.headDim;
    if (u >= turned) {
      i64 c = 2 * o.planes + (u - turned) * W;
      for (; head < o.heads; head += groups, from += next, to += next) store(to + c, load<W>(from + c));
      continue;
    }
    i64 first = neighbours ? 2 * u * W : u * W, second = neighbours ? first + W : first + o.planes, at = o.pos[row] * o.planes + u * W;
    Vec<W> c = load<W>(o.cosines + at), s = load<W>(o.sines + at);
#pragma unroll 4
    for (; head < o.heads; head += groups, from += next, to += next) {
      Vec<W> half[2] = {load<W>(from + first), load<W>(from + second)};
      turnPlanes<W, neighbours>(half, c, s, o.sign);
      store(to + first, half[0]);
      store(to + second, half[1]);
    }
  }
}

// Rotates each head's leading planes.
extern "C" __global__ void rotate(act_t* y, i64 ldy, const act_t* x, i64 ldx, const int* pos, const float* cosines, const float* sines, i64 vectors, i64 rows, i64 heads, i64 headDim, i64 planes, i64 interleaved, float sign) {
  begin();
  Rotation o = {y, ldy, x, ldx, pos, cosines, sines, rows, heads, headDim, planes, sign};
  if (interleaved && vectors) rotateHeads<WIDTH, true>(o);
  else if (interleaved) rotateHeads<1, true>(o);
  else if (vectors) rotateHeads<WIDTH, false>(o);
  else rotateHeads<1, false>(o);
}

// Keys is what one step stores: queries are rotated in place, and keys, rotated, and values become rows of a cache.
struct Keys {
  act_t* q;
  i64 ldq;
  const act_t *k, *v;
  i64 ldk, ldv, tokens, heads, kvHeads, first;
};

// A thread has W planes of a head, or W numbers after the planes. Values are not rotated.
template <int W, bool neighbours> __device__ __forceinline__ void rotateStore(const Rotation& o, const Keys& s, const View& keys, const View& values) {
  const int turned = o.planes / W, units = turned + (o.headDim - 2 * o.planes) / W, heads = s.heads, all = heads + 2 * s.kvHeads;
  const u32 n = o.rows * all * units;
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x) {
    const int u = i % units, part = i / units % all, row = i / units / all;
    const bool query = part < heads, value = part >= heads + s.kvHeads;
    const i64 head = query ? part : (part - heads) % s.kvHeads;
    const act_t* from = head * o.headDim + (query ? s.q + row * s.ldq : value ? s.v + row * s.ldv : s.k + row * s.ldk);
    const View& cache = value ? values : keys;
    void* to = query ? s.q : cache.p;
    const i64 at = query ? row * s.ldq + head * o.headDim : row / s.tokens * cache.seq + head * cache.head + (s.first + row % s.tokens) * cache.row;
    const i64 format = query ? sizeof(act_t) == 4 ? F32 : BF16 : cache.format;
    if (u >= turned) {
      const i64 c = 2 * o.planes + (u - turned) * W;
      if (!query) storeAs(to, at + c, load<W>(from + c), format);
      continue;
    }
    const i64 first = neighbours ? 2 * u * W : u * W, second = neighbours ? first + W : first + o.planes;
    Vec<W> half[2] = {load<W>(from + first), load<W>(from + second)};
    if (!value) {
      const i64 turn = o.pos[row] * o.planes + u * W;
      turnPlanes<W, neighbours>(half, load<W>(o.cosines + turn), load<W>(o.sines + turn), o.sign);
    }
    storeAs(to, at + first, half[0], format);
    storeAs(to, at + second, half[1], format);
  }
}

// Rotates queries, and stores keys and values, the keys rotated, from row first of each sequence on, or from row at[0] if at is given.
extern "C" __global__ void rotate_store(act_t* q, i64 ldq, const act_t* k, i64 ldk, const act_t* v, i64 ldv, View keys, View values, i64 first, const int* at, i64 tokens, i64 kvHeads, const int* pos, const float* cosines, const float* sines, i64 vectors, i64 rows, i64 heads, i64 headDim, i64 planes, i64 interleaved) {
  begin();
  Rotation o = {q, ldq, q, ldq, pos, cosines, sines, rows, heads, headDim, planes, 1};
  Keys s = {q, ldq, k, v, ldk, ldv, tokens, heads, kvHeads, at ? at[0] : first};
  if (interleaved && vectors) rotateStore<WIDTH, true>(o, s, keys, values);
  else if (interleaved) rotateStore<1, true>(o, s, keys, values);
  else if (vectors) rotateStore<WIDTH, false>(o, s, keys, values);
  else rotateStore<1, false>(o, s, keys, values);
}

// y[h,i,j] = table[bucket[j-i+queries-1],h]. If at is given, there is one query, at at[0], and bucket [keys] ends with its own.
extern "C" __global__ void relative_bias(float* y, const float* table, const int* bucket, const int* at, i64 heads, i64 queries, i64 keys) {
  begin();
  EACH(i, heads * queries * keys) {
    i64 j = i % keys, q = i / keys % queries, h = i / keys / queries;
    i64 from = at ? keys - 1 - max(at[0] - j, 0LL) : j - q + queries - 1;
    y[i] = table[bucket[from] * heads + h];
  }
}

// dtable[b,h] += the sum of dy where bucket is b: one block per bucket and head, one thread per diagonal.
extern "C" __global__ void relative_bias_backward(float* dtable, const float* dy, const int* bucket, i64 heads, i64 queries, i64 keys) {
  begin();
  i64 b = blockIdx.x, h = blockIdx.y;
  float sum = 0;
  for (i64 d = threadIdx.x; d < queries + keys - 1; d += blockDim.x) {
    if (bucket[d] != b) continue;
    i64 off = d - queries + 1; // j - i
    for (i64 i = max(0LL, -off); i < min(queries, keys - off); i++) sum += dy[(h * queries + i) * keys + i + off];
  }
  sum = blockSum(sum);
  if (threadIdx.x == 0) dtable[b * heads + h] += sum;
}

// y[i] = table[ids[i]]: one block per row
template <int W> __device__ __forceinline__ void gatherRow(act_t* y, const void* table, i64 format, i64 from, i64 dim) {
  for (i64 i = threadIdx.x * W; i < dim; i += blockDim.x * W) store(y + blockIdx.x * dim + i, loadAs<W>(table, from + i, format));
}
extern "C" __global__ void __launch_bounds__(512) gather(act_t* y, const void* table, i64 format, const int* ids, i64 vectors, i64 dim) {
  begin();
  i64 from = ids[blockIdx.x] * dim;
  if (vectors) gatherRow<WIDTH>(y, table, format, from, dim);
  else gatherRow<1>(y, table, format, from, dim);
}

// dtable[ids[k]] += the sum of dy[order[m]] for first[k] <= m < first[k+1]: one block per id, so sums have a fixed order.
template <int W> __device__ __forceinline__ void scatterRow(void* dtable, i64 format, const act_t* dy, i64 to, int begin, int end, const int* order, i64 dim) {
  for (i64 i = threadIdx.x * W; i < dim; i += blockDim.x * W) {
    Vec<W> sum = loadAs<W>(dtable, to + i, format);
#pragma unroll 4
    for (int m = begin; m < end; m++) {
      Vec<W> d = load<W>(dy + order[m] * dim + i);
      LANES(j) sum.v[j] += d.v[j];
    }
    storeAs(dtable, to + i, sum, format);
  }
}
extern "C" __global__ void __launch_bounds__(512) scatter_add(void* dtable, i64 format, const act_t* dy, const int* ids, const int* first, const int* order, i64 vectors, i64 dim) {
  begin();
  i64 to = ids[blockIdx.x] * dim;
  int begin = first[blockIdx.x], end = first[blockIdx.x + 1];
  if (vectors) scatterRow<WIDTH>(dtable, format, dy, to, begin, end, order, dim);
  else scatterRow<1>(dtable, format, dy, to, begin, end, order, dim);
}

extern "C" __global__ void __launch_bounds__(512) clear_rows(act_t* y, const int* ids, i64 id, i64 dim) {
  begin();
  if (ids[blockIdx.x] != id) return;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) y[blockIdx.x * dim + i] = 0;
}
