// Losses of rows of logits [rows, vocab]: one block per row.

// Softmax is the largest logit of a row and the sum of the exponentials of its logits minus the largest.
struct Softmax {
  float top, sum;
};

// Calls f(Constant<W>, i) for the parts of W numbers of a row, in which i is a multiple of WIDTH away from the first
// multiple of 16 bytes, or of one number.
template <class F> __device__ __forceinline__ void eachPart(const act_t* row, i64 n, F f, bool vectors = true) {
  i64 start = vectors ? (16 - ((unsigned long long)row & 15)) % 16 / sizeof(act_t) : n;
  if (start > n) start = n;
  i64 end = start + (n - start) / WIDTH * WIDTH;
  for (i64 i = threadIdx.x; i < start; i += blockDim.x) f(Constant<1>(), i);
  const int step = blockDim.x * WIDTH, count = (int)(end - start - threadIdx.x * WIDTH + step - 1) / step; // known before, to be unrolled
#pragma unroll 4
  for (int k = 0; k < count; k++) f(Constant<WIDTH>(), start + threadIdx.x * WIDTH + k * (i64)step);
  for (i64 i = end + threadIdx.x; i < n; i += blockDim.x) f(Constant<1>(), i);
}

// softmax reads a row once: each thread's sum is scaled anew when its largest logit changes. There is no branch, so that
// loads of several parts overlap.
__device__ Softmax softmax(const act_t* row, i64 vocab, float temperature) {
  float lowest = -3.402823466e38f, top = lowest, sum = 0, t = 1 / temperature; // not -INFINITY, whose difference to itself is NaN
  eachPart(row, vocab, [&](auto w, i64 i) {
    auto x = load(w, row + i);
    float most = top;
#pragma unroll
    for (int j = 0; j < w; j++) most = fmaxf(most, x.v[j]);
    sum *= exponential((top - most) * t);
    top = most;
#pragma unroll
    for (int j = 0; j < w; j++) sum += exponential((x.v[j] - top) * t);
  });
  float most = blockMax(top);
  return {most, blockSum(sum * exponential((top - most) * t))};
}

// Clears a row.
__device__ void clearRow(act_t* row, i64 n) {
  eachPart(row, n, [&](auto w, i64 i) { store(row + i, Vec<decltype(w)::value>{}); });
}

// If gradient is not 0, the logits become scale times the gradient.
extern "C" __global__ void __launch_bounds__(512) cross_entropy(float* ce, act_t* logits, const int* targets, i64 gradient, float scale, i64 vocab) {
  begin();
  act_t* row = logits + blockIdx.x * vocab;
  int target = targets[blockIdx.x];
  if (target < 0) {
    if (threadIdx.x == 0) ce[blockIdx.x] = 0;
    if (gradient) clearRow(row, vocab);
    return;
  }
  Softmax s = softmax(row, vocab, 1);
  if (threadIdx.x == 0) ce[blockIdx.x] = s.top + logf(s.sum) - (float)row[target];
  if (!gradient) return;
  __syncthreads(); // wait until row[target] has been read
  float inverse = 1 / s.sum;
  eachPart(row, vocab, [&](auto w, i64 i) {
    auto x = load(w, row + i);
#pragma unroll
    for (int j = 0; j < w; j++) x.v[j] = scale * (exponential(x.v[j] - s.top) * inverse - (i + j == target));
    store(row + i, x);
  });
}

// The contribution of a row of logits z to a distillation loss: weights of the student's probabilities at temperature 1,
// hard, and T, soft.
__device__ void distilled(act_t* z, Softmax hard, Softmax soft, float hardScale, float softScale, float temperature, int target, i64 vocab) {
  float t = 1 / temperature, hardInverse = 1 / hard.sum, softInverse = 1 / soft.sum;
  eachPart(z, vocab, [&](auto w, i64 i) {
    auto x = load(w, z + i);
#pragma unroll
    for (int j = 0; j < w; j++) {
      float p = exponential(x.v[j] - hard.top) * hardInverse, q = exponential((x.v[j] - soft.top) * t) * softInverse;
      x.v[j] = hardScale * (p - (i + j == target)) + softScale * q;
    }
    store(z + i, x);
  });
}

__device__ bool skipped(float* ce, float* kl, act_t* z, int target, i64 vocab) {
  if (target >= 0) return false;
  if (threadIdx.x == 0) ce[blockIdx.x] = kl[blockIdx.x] = 0;
  clearRow(z, vocab);
  return true;
}

// For a teacher whose logits are known.
extern "C" __global__ void __launch_bounds__(512) distill(float* ce, float* kl, act_t* logits, const act_t* teacher, const int* targets, float weight, float temperature, float scale, i64 vocab) {
  begin();
  act_t* z = logits + blockIdx.x * vocab;
  const act_t* t = teacher + blockIdx.x * vocab;
  int target = targets[blockIdx.x];
  if (skipped(ce, kl, z, target, vocab)) return;
  Softmax hard = softmax(z, vocab, 1), soft = softmax(z, vocab, temperature), other = softmax(t, vocab, temperature);
  float logRest = logf(soft.sum) - logf(other.sum), cross = 0, inverse = 1 / other.sum, by = 1 / temperature;
  bool together = (((unsigned long long)z ^ (unsigned long long)t) & 15) == 0; // both can be read by vectors
  eachPart(z, vocab, [&](auto w, i64 i) {
    auto x = load(w, z + i), y = load(w, t + i);
#pragma unroll
    for (int j = 0; j < w; j++) {
      float a = (y.v[j] - other.top) * by, b = (x.v[j] - soft.top) * by;
      cross += exponential(a) * inverse * (a - b + logRest);
    }
  }, together);
  cross = blockSum(cross);
  if (threadIdx.x == 0) {
    ce[blockIdx.x] = hard.top + logf(hard.sum) - (float)z[target];
    kl[blockIdx.x] = cross < 0 ? 0 : cross; // preserves NaN
  }
  __syncthreads();
  float klScale = scale * weight * temperature;
  float hardScale = scale * (1 - weight), hardInverse = 1 / hard.sum, softInverse = 1 / soft.sum;
  eachPart(z, vocab, [&](auto w, i64 i) {
    auto x = load(w, z + i), y = load(w, t + i);
#pragma unroll
    for (int j = 0; j < w; j++) {
      float p = exponential(x.v[j] - hard.top) * hardInverse, q = exponential((x.v[j] - soft.top) * by) * softInverse;
      x.v[j] = hardScale * (p - (i + j == target)) + klScale * (q - exponential((y.v[j] - other.top) * by) * inverse);
    }
    store(z + i, x);
  }, together);
}

// For a teacher whose k most probable tokens are known: ids, logP [rows, k]. kept [rows, k] receives the student's
// probabilities of these.
extern "C" __global__ void __launch_bounds__(512) distill_top(float* ce, float* kl, act_t* logits, const int* ids, const float* logP, float* kept, i64 k, const int* targets, float weight, float temperature, float scale, i64 vocab) {
  begin();
  act_t* z = logits + blockIdx.x * vocab;
  const int* id = ids + blockIdx.x * k;
  const float* lp = logP + blockIdx.x * k;
  float* q = kept + blockIdx.x * k;
  int target = targets[blockIdx.x];
  if (skipped(ce, kl, z, target, vocab)) return;
  Softmax hard = softmax(z, vocab, 1), soft = softmax(z, vocab, temperature);
  float known = 0, mine = 0, sum = 0;
  for (i64 j = threadIdx.x; j < k; j += blockDim.x) {
    float logQ = (z[id[j]] - soft.top) / temperature - logf(soft.sum), p = expf(lp[j]);
    q[j] = expf(logQ);
    known += p;
    mine += q[j];
    sum += p * (lp[j] - logQ);
  }
  float pTail = fmaxf(1 - blockSum(known), 0), qTail = fmaxf(1 - blockSum(mine), 1e-6f);
  sum = blockSum(sum);
  if (pTail > 0) sum += pTail * logf(pTail / qTail);
  if (threadIdx.x == 0) {
    ce[blockIdx.x] = hard.top + logf(hard.sum) - (float)z[target];
    kl[blockIdx.x] = sum < 0 ? 0 : sum;
  }
  __syncthreads();
  float klScale = scale * weight * temperature, ratio = pTail / qTail;
  distilled(z, hard, soft, scale * (1 - weight), klScale * (1 - ratio), temperature, target, vocab);
  __syncthreads();
  for (i64 j = threadIdx.x; j < k; j += blockDim.x) z[id[j]] = z[id[j]] + klScale * (q[j] * ratio - expf(lp[j]));
}

// Computes the k largest logits of each row, for equal logits the lower id first, and their log-probabilities at a
// temperature.
extern "C" __global__ void __launch_bounds__(512) top_log_p(int* ids, float* logP, const act_t* logits, float temperature, i64 vocab, i64 k) {
  begin();
  __shared__ float values[32];
  __shared__ int places[32];
  const act_t* row = logits + blockIdx.x * vocab;
  Softmax s = {0, 1};
  if (logP) s = softmax(row, vocab, temperature);
  float last = INFINITY;
  int lastID = -1;
  for (i64 j = 0; j < k; j++) {
    float best = -INFINITY;
    int at = 0x7fffffff;
    for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) {
      float x = row[i];
      bool left = x < last || x == last && i > lastID;
      if (left && (x > best || at == 0x7fffffff)) best = x, at = i;
    }
    for (int m = 16; m; m >>= 1) {
      float x = __shfl_xor_sync(~0u, best, m);
      int i = __shfl_xor_sync(~0u, at, m);
      if (i != 0x7fffffff && (at == 0x7fffffff || x > best || x == best && i < at)) best = x, at = i;
    }
    __syncthreads();
    if ((threadIdx.x & 31) == 0) values[threadIdx.x >> 5] = best, places[threadIdx.x >> 5] = at;
    __syncthreads();
    best = values[0], at = places[0];
    for (int i = 1; i < blockDim.x >> 5; i++)
      if (places[i] != 0x7fffffff && (at == 0x7fffffff || values[i] > best || values[i] == best && places[i] < at)) best = values[i], at = places[i];
    last = best, lastID = at;
    if (threadIdx.x == 0) {
      ids[blockIdx.x * k + j] = at;
      if (logP) logP[blockIdx.x * k + j] = (best - s.top) / temperature - logf(s.sum);
    }
  }
}

// Term is a term of a sum: weight times the sum of n numbers x, or of their squares. Its chunks are counted from first on.
struct Term {
  const void* x;
  i64 format, n, first, squares;
  double weight;
};

// Returns the sum of a chunk over a block's 256 threads.
template <class E> __device__ double chunkSum(const E* x, i64 n, bool squares) {
  constexpr int W = 16 / sizeof(E);
  double sum = 0;
  auto add = [&](auto w, i64 i) {
    auto v = load(w, x + i);
    float few = 0; // a double is slow to make
#pragma unroll
    for (int j = 0; j < w; j++) {
      if (squares) few += v.v[j] * v.v[j];
      else sum += v.v[j];
    }
    if (squares) sum += few;
  };
  i64 end = aligned(x) ? n / W * W : 0;
#pragma unroll 4
  for (i64 i = threadIdx.x * W; i < end; i += 256 * W) add(Constant<W>(), i);
  for (i64 i = end + threadIdx.x; i < n; i += 256) add(Constant<1>(), i);
  return blockSum(sum);
}

// part[i] is the sum of chunk i, of CHUNK numbers, times its term's weight: one block per chunk.
extern "C" __global__ void __launch_bounds__(256) partial_sums(double* part, const Term* terms, i64 count) {
  begin();
  i64 low = 0, high = count; // the term is in [low, high)
  while (high - low > 1) {
    i64 mid = (low + high) / 2;
    if (terms[mid].first <= blockIdx.x) low = mid;
    else high = mid;
  }
  const Term t = terms[low];
  i64 from = (blockIdx.x - t.first) * CHUNK, n = min((i64)CHUNK, t.n - from);
  double sum = t.format == F32 ? chunkSum((const float*)t.x + from, n, t.squares)
    : t.format == BF16 ? chunkSum((const bf16*)t.x + from, n, t.squares) : chunkSum((const f16*)t.x + from, n, t.squares);
  if (threadIdx.x == 0) part[blockIdx.x] = t.weight * sum;
}

// total = the sum of the partial sums: one block
extern "C" __global__ void __launch_bounds__(1024) add_sums(double* total, const double* part, i64 parts) {
  begin();
  double sum = 0;
#pragma unroll 4
  for (i64 i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) *total = sum;
}

extern "C" __global__ void scaled_total(float* dst, const double* total, float scale) { begin(); *dst = (float)*total * scale; }
