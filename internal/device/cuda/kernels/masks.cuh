// Views and masks, which the attention kernels share.

struct View {
  void* p;
  i64 seq, head, row, format;
};

struct Scores {
  const int* lens;
  const float *slopes, *bias;
  const int* firsts; // [batch, queries]: where the text of each query begins; 0: all with the sequence
  i64 queries, keys, heads, kvHeads, causal, window;
  float scale, pad0, coarse, pad1;
};

struct Reach {
  i64 first, end, len;
};

// Returns the keys [first, end) that query i of sequence b sees, if all of the sequence is one text.
__device__ __forceinline__ Reach reach(const Scores& s, i64 b, i64 i) {
  Reach r = {0, 0, s.lens ? s.lens[b] : s.keys};
  r.end = r.len;
  if (s.causal) r.end = min(max(i + 1 + r.len - s.queries, 0LL), r.len);
  if (s.window) r.first = max(r.end - s.window, 0LL);
  return r;
}

// Returns the first key of the text that query i of sequence b belongs to.
__device__ __forceinline__ i64 textStart(const Scores& s, i64 b, i64 i) { return s.firsts && i < s.queries ? s.firsts[b * s.queries + i] : 0; }

// Returns the keys [first, end) that query i of sequence b sees. Kernels for few queries need not know of several texts, and save registers.
__device__ __forceinline__ Reach reachInText(const Scores& s, i64 b, i64 i) {
  Reach r = reach(s, b, i);
  r.first = max(r.first, textStart(s, b, i));
  return r;
}

// Returns what is added to the scaled score of query i for key j, given the first key of the query's text.
__device__ __forceinline__ float biasOf(const Scores& s, const Reach& r, i64 h, i64 i, i64 j, i64 start = 0) {
  float x = 0;
  if (s.slopes) x += s.coarse != 0 ? s.coarse * fromBF16(toBF16(fromBF16(toBF16(s.slopes[h])) * (float)(j - start))) : s.slopes[h] * (float)(j - i - r.len + s.queries);
  if (s.bias) x += s.bias[(h * s.queries + i) * s.keys + j];
  return x;
}

// Returns the scaled score of a dot product, or -INFINITY if the key is not seen.
__device__ __forceinline__ float score(const Scores& s, i64 b, i64 h, i64 i, i64 j, float dot) {
  Reach r = reachInText(s, b, i);
  if (i >= s.queries || j < r.first || j >= r.end) return -INFINITY;
  return dot * s.scale + biasOf(s, r, h, i, j, textStart(s, b, i));
}
