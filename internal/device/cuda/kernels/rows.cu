// Operations on rows [rows, dim]: one block per row unless noted otherwise. The weight and bias of a norm are [heads,
// dim]: row r uses those of head r mod heads.

extern "C" __global__ void add_rows(act_t* y, const float* bias, i64 rows, i64 dim) { EACH(i, rows * dim) y[i] = y[i] + bias[i % dim]; }

extern "C" __global__ void rms_norm(act_t* y, float* inv, const act_t* x, const float* w, i64 heads, i64 dim, float eps) {
  const act_t* row = x + blockIdx.x * dim;
  if (w) w += blockIdx.x % heads * dim;
  float squares = 0;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) squares += (float)row[i] * (float)row[i];
  float r = 1 / sqrtf(blockSum(squares) / dim + eps);
  if (inv && threadIdx.x == 0) inv[blockIdx.x] = r;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) y[blockIdx.x * dim + i] = row[i] * r * (w ? w[i] : 1);
}

// dx = inv·(dy·w - xn·mean(dy·w·xn)) with xn = x·inv
extern "C" __global__ void rms_norm_backward(act_t* dx, const act_t* dy, const act_t* x, const float* w, const float* inv, i64 heads, i64 dim) {
  if (w) w += blockIdx.x % heads * dim;
  i64 at = blockIdx.x * dim;
  float r = inv[blockIdx.x], dot = 0;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) dot += dy[at + i] * (w ? w[i] : 1) * x[at + i] * r;
  dot = blockSum(dot) / dim;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) dx[at + i] = r * (dy[at + i] * (w ? w[i] : 1) - x[at + i] * r * dot);
}

extern "C" __global__ void layer_norm(act_t* y, float* mean, float* inv, const act_t* x, const float* w, const float* b, i64 heads, i64 dim, float eps) {
  const act_t* row = x + blockIdx.x * dim;
  if (w) w += blockIdx.x % heads * dim;
  if (b) b += blockIdx.x % heads * dim;
  float sum = 0, squares = 0;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) sum += row[i];
  float m = blockSum(sum) / dim;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) squares += ((float)row[i] - m) * ((float)row[i] - m);
  float r = 1 / sqrtf(blockSum(squares) / dim + eps);
  if (threadIdx.x == 0) {
    if (mean) mean[blockIdx.x] = m;
    if (inv) inv[blockIdx.x] = r;
  }
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) y[blockIdx.x * dim + i] = (row[i] - m) * r * (w ? w[i] : 1) + (b ? b[i] : 0);
}

// dx = inv·(g - mean(g) - xn·mean(g·xn)) with g = dy·w, xn = (x - mean)·inv
extern "C" __global__ void layer_norm_backward(act_t* dx, const act_t* dy, const act_t* x, const float* w, const float* mean, const float* inv, i64 heads, i64 dim) {
  if (w) w += blockIdx.x % heads * dim;
  i64 at = blockIdx.x * dim;
  float m = mean[blockIdx.x], r = inv[blockIdx.x], sum = 0, dot = 0;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) {
    float g = dy[at + i] * (w ? w[i] : 1);
    sum += g;
    dot += g * (x[at + i] - m) * r;
  }
  sum = blockSum(sum) / dim;
  dot = blockSum(dot) / dim;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) dx[at + i] = r * (dy[at + i] * (w ? w[i] : 1) - sum - (x[at + i] - m) * r * dot);
}

// Partial sums over rows for each column: of dy, or if x is given, of dy·(x - mean)·inv. Blocks have 32 by 8 threads; the
// second dimension of the grid counts the parts of `per` rows. A row holds those of heads norms. part [parts, dim]
extern "C" __global__ void column_sums(float* part, const act_t* dy, const act_t* x, const float* mean, const float* inv, i64 heads, i64 rows, i64 dim, i64 per) {
  __shared__ float sums[8][32];
  i64 c = blockIdx.x * 32 + threadIdx.x, end = min((blockIdx.y + 1) * per, rows);
  float sum = 0;
  if (c < dim)
    for (i64 r = blockIdx.y * per + threadIdx.y; r < end; r += 8) {
      float d = dy[r * dim + c];
      i64 norm = r * heads + c / (dim / heads);
      sum += x ? d * (x[r * dim + c] - (mean ? mean[norm] : 0)) * inv[norm] : d;
    }
  sums[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && c < dim) {
    for (int i = 1; i < 8; i++) sum += sums[i][threadIdx.x];
    part[blockIdx.y * dim + c] = sum;
  }
}

// dst[c] += the sum of part [parts, dim] over the parts
extern "C" __global__ void add_parts(float* dst, const float* part, i64 parts, i64 dim) {
  EACH(c, dim) {
    float sum = 0;
    for (i64 p = 0; p < parts; p++) sum += part[p * dim + c];
    dst[c] += sum;
  }
}

// Rotates each head's leading planes: one thread per plane or per dim that is not rotated. table [positions, planes]
// holds cosines, followed by sines.
extern "C" __global__ void rotate(act_t* y, const act_t* x, const int* pos, const float* cosines, const float* sines, i64 rows, i64 heads, i64 headDim, i64 planes, i64 interleaved, float sign) {
  i64 units = headDim - planes;
  EACH(i, rows * heads * units) {
    i64 u = i % units, head = i / units, row = head / heads;
    const act_t* from = x + head * headDim;
    act_t* to = y + head * headDim;
    if (u >= planes) {
      to[u + planes] = from[u + planes];
      continue;
    }
    i64 j = interleaved ? 2 * u : u, k = interleaved ? 2 * u + 1 : u + planes, at = pos[row] * planes + u;
    float c = cosines[at], s = sines[at] * sign, a = from[j], b = from[k];
    to[j] = a * c - b * s;
    to[k] = b * c + a * s;
  }
}

// y[h,i,j] = table[bucket[j-i+queries-1],h]
extern "C" __global__ void relative_bias(float* y, const float* table, const int* bucket, i64 heads, i64 queries, i64 keys) {
  EACH(i, heads * queries * keys) {
    i64 j = i % keys, q = i / keys % queries, h = i / keys / queries;
    y[i] = table[bucket[j - q + queries - 1] * heads + h];
  }
}

// dtable[b,h] += the sum of dy where bucket is b: one block per bucket and head, one thread per diagonal.
extern "C" __global__ void relative_bias_backward(float* dtable, const float* dy, const int* bucket, i64 heads, i64 queries, i64 keys) {
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

// y[i] = table[ids[i]]
extern "C" __global__ void gather(act_t* y, const void* table, i64 format, const int* ids, i64 dim) {
  i64 from = ids[blockIdx.x] * dim;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) y[blockIdx.x * dim + i] = load(table, from + i, format);
}

// dtable[ids[k]] += the sum of dy[order[m]] for first[k] <= m < first[k+1]: one block per id, so sums have a fixed order.
extern "C" __global__ void scatter_add(float* dtable, const act_t* dy, const int* ids, const int* first, const int* order, i64 dim) {
  i64 to = ids[blockIdx.x] * dim;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) {
    float sum = dtable[to + i];
    for (int m = first[blockIdx.x]; m < first[blockIdx.x + 1]; m++) sum += (float)dy[order[m] * dim + i];
    dtable[to + i] = sum;
  }
}

extern "C" __global__ void clear_rows(act_t* y, const int* ids, i64 id, i64 dim) {
  if (ids[blockIdx.x] != id) return;
  for (i64 i = threadIdx.x; i < dim; i += blockDim.x) y[blockIdx.x * dim + i] = 0;
}
