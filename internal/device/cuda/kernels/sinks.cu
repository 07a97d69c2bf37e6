// Attention to sinks (Xiao et al., arXiv 2309.17453), after that to a window: a warp adds to a row of the result, out with the logarithm of its sum
// of exponentials in lse, the first `sinks` keys that the row's window does not have. q are the queries for them.
constexpr int PER = (HD + 31) / 32; // numbers of a thread: t, t+32, …

extern "C" __global__ void __launch_bounds__(128) attend_sinks(Scores s, View out, float* lse, View q, View k, View v, const float* keyScales, const float* valueScales, i64 sinks, i64 batch) {
  begin();
  const i64 row = (blockIdx.x * (i64)blockDim.x + threadIdx.x) / 32;
  if (row >= batch * s.heads * s.queries) return;
  const i64 i = row % s.queries, h = row / s.queries % s.heads, b = row / s.queries / s.heads, kv = h / (s.heads / s.kvHeads);
  const Reach see = reach(s, b, i);
  const int n = min(sinks, min(see.first, see.end)), lane = threadIdx.x % 32;
  if (n <= 0) return;
  const i64 from = b * q.seq + h * q.head + i * q.row, to = b * out.seq + h * out.head + i * out.row;
  float x[PER], o[PER], top = lse[row], sum = top == -INFINITY ? 0 : 1; // relative to top
#pragma unroll
  for (int c = 0; c < PER; c++) {
    const int d = c * 32 + lane;
    x[c] = d < HD ? load(q.p, from + d, q.format) : 0;
    o[c] = d < HD && sum > 0 ? load(out.p, to + d, out.format) : 0;
  }
  for (int j = 0; j < n; j++) {
    const i64 key = b * k.seq + kv * k.head + j * k.row, value = b * v.seq + kv * v.head + j * v.row;
    float dot = 0;
#pragma unroll
    for (int c = 0; c < PER; c++)
      if (c * 32 + lane < HD) dot += x[c] * numberAt(k, keyScales, key, c * 32 + lane, HD);
    for (int m = 16; m; m >>= 1) dot += __shfl_xor_sync(~0u, dot, m);
    const float score = dot * s.scale + biasOf(s, see, h, i, j), most = fmaxf(top, score);
    const float kept = top == -INFINITY ? 0 : expf(top - most), weight = score == -INFINITY ? 0 : expf(score - most);
    sum = sum * kept + weight, top = most;
#pragma unroll
    for (int c = 0; c < PER; c++)
      if (c * 32 + lane < HD) o[c] = o[c] * kept + weight * numberAt(v, valueScales, value, c * 32 + lane, HD);
  }
#pragma unroll
  for (int c = 0; c < PER; c++)
    if (c * 32 + lane < HD) store(out.p, to + c * 32 + lane, sum == 0 ? 0 : o[c] / sum, out.format);
  if (lane == 0) lse[row] = top + logf(sum);
}
