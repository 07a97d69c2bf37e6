// Losses of rows of logits [rows, vocab]: one block per row.

// Softmax is the largest logit of a row and the sum of the exponentials of its logits minus the largest.
struct Softmax {
  float top, sum;
};

__device__ Softmax softmax(const act_t* row, i64 vocab, float temperature) {
  float top = -INFINITY, sum = 0;
  for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) top = fmaxf(top, (float)row[i]);
  top = blockMax(top);
  for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) sum += expf((row[i] - top) / temperature);
  return {top, blockSum(sum)};
}

// If scale is not 0, the logits become scale times the gradient.
extern "C" __global__ void cross_entropy(float* ce, act_t* logits, const int* targets, i64 gradient, float scale, i64 vocab) {
  act_t* row = logits + blockIdx.x * vocab;
  int target = targets[blockIdx.x];
  if (target < 0) {
    if (threadIdx.x == 0) ce[blockIdx.x] = 0;
    if (gradient)
      for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) row[i] = 0;
    return;
  }
  Softmax s = softmax(row, vocab, 1);
  if (threadIdx.x == 0) ce[blockIdx.x] = s.top + logf(s.sum) - (float)row[target];
  if (!gradient) return;
  __syncthreads(); // wait until row[target] has been read
  for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) row[i] = scale * (expf(row[i] - s.top) / s.sum - (i == target));
}

// The contribution of a row of logits z to a distillation loss: weights of the student's probabilities at temperature 1,
// hard, and T, soft.
__device__ void distilled(act_t* z, Softmax hard, Softmax soft, float hardScale, float softScale, float temperature, int target, i64 vocab) {
  for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) {
    float p = expf(z[i] - hard.top) / hard.sum, q = expf((z[i] - soft.top) / temperature) / soft.sum;
    z[i] = hardScale * (p - (i == target)) + softScale * q;
  }
}

__device__ bool skipped(float* ce, float* kl, act_t* z, int target, i64 vocab) {
  if (target >= 0) return false;
  if (threadIdx.x == 0) ce[blockIdx.x] = kl[blockIdx.x] = 0;
  for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) z[i] = 0;
  return true;
}

// For a teacher whose logits are known.
extern "C" __global__ void distill(float* ce, float* kl, act_t* logits, const act_t* teacher, const int* targets, float weight, float temperature, float scale, i64 vocab) {
  act_t* z = logits + blockIdx.x * vocab;
  const act_t* t = teacher + blockIdx.x * vocab;
  int target = targets[blockIdx.x];
  if (skipped(ce, kl, z, target, vocab)) return;
  Softmax hard = softmax(z, vocab, 1), soft = softmax(z, vocab, temperature), other = softmax(t, vocab, temperature);
  float logRest = logf(soft.sum) - logf(other.sum), cross = 0;
  for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) {
    float a = (t[i] - other.top) / temperature, b = (z[i] - soft.top) / temperature;
    cross += expf(a) / other.sum * (a - b + logRest);
  }
  cross = blockSum(cross);
  if (threadIdx.x == 0) {
    ce[blockIdx.x] = hard.top + logf(hard.sum) - (float)z[target];
    kl[blockIdx.x] = cross < 0 ? 0 : cross; // preserves NaN
  }
  __syncthreads();
  float klScale = scale * weight * temperature;
  distilled(z, hard, soft, scale * (1 - weight), klScale, temperature, target, vocab);
  for (i64 i = threadIdx.x; i < vocab; i += blockDim.x) z[i] = z[i] - klScale * expf((t[i] - other.top) / temperature) / other.sum;
}

// For a teacher whose k most probable tokens are known: ids, logP [rows, k]. kept [rows, k] receives the student's
// probabilities of these.
extern "C" __global__ void distill_top(float* ce, float* kl, act_t* logits, const int* ids, const float* logP, float* kept, i64 k, const int* targets, float weight, float temperature, float scale, i64 vocab) {
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
extern "C" __global__ void top_log_p(int* ids, float* logP, const act_t* logits, float temperature, i64 vocab, i64 k) {
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

// Computes partial sums of x, or of its squares, in double.
extern "C" __global__ void partial_sums(double* part, const act_t* x, i64 squares, i64 n) {
  double sum = 0;
  EACH(i, n) sum += squares ? (double)x[i] * x[i] : (double)x[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) part[blockIdx.x] = sum;
}

// total = (first ? 0 : total) + weight·(the sum of the partial sums): one block
extern "C" __global__ void add_sums(double* total, const double* part, i64 parts, i64 weight, i64 first) {
  double sum = 0;
  for (i64 i = threadIdx.x; i < parts; i += blockDim.x) sum += part[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) *total = (first ? 0 : *total) + __longlong_as_double(weight) * sum;
}

extern "C" __global__ void scaled_total(float* dst, const double* total, float scale) { *dst = (float)*total * scale; }
