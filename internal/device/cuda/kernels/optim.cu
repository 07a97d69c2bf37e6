// Optimizers. Averages are f32, and parameters are f32, whole or in two parts. Gradients are multiplied by *scale; if that is NaN,
// nothing is changed.

// scale = min(1, limit/(norm + 1e-6)) for the root of a sum of squares, which it replaces: 1 if limit is 0, and NaN if the norm is
// not finite.
extern "C" __global__ void clip_scale(float* scale, double* squares, i64 limit) {
  begin();
  double norm = sqrt(*squares), most = __longlong_as_double(limit);
  *squares = norm;
  *scale = !(norm < __longlong_as_double(0x7ff0000000000000)) ? __int_as_float(0x7fffffff) : most == 0 ? 1 : (float)fmin(1.0, most / (norm + 1e-6));
}

// A float in two parts is a bf16 near it and the difference, in 16 bits. Halves are rounded up, so that the difference fits.
__device__ __forceinline__ float joined(u16 high, u16 rest) { return __int_as_float(((int)high << 16) + (short)rest); }
__device__ __forceinline__ void separate(float x, u16& high, u16& rest) {
  u32 bits = x == x ? __float_as_uint(x) : 0x7fc00000, near = bits + 0x8000;
  high = (u16)(near >> 16);
  rest = (u16)(bits - (near & 0xffff0000));
}

extern "C" __global__ void split(u16* high, u16* rest, const float* x, i64 n) { begin(); EACH(i, n) separate(x[i], high[i], rest[i]); }
extern "C" __global__ void join(float* x, const u16* high, const u16* rest, i64 n) { begin(); EACH(i, n) x[i] = joined(high[i], rest[i]); }

// Halves are W numbers of 16 bits.
template <int W> struct alignas(2 * W) Halves {
  u16 v[W];
};

// Step is AdamW's step of one parameter of n numbers. Its chunks are counted from first on.
struct Step {
  void* p;
  const void* g;
  float *m, *v;
  void* copy; // may be 0; if p is REST, its high parts
  i64 pFormat, gFormat, copyFormat, n, first;
  float keep, w1, beta2, w2, rsqrt, eps, lr, unused;
};

// One block per chunk of CHUNK numbers of one of the parameters.
extern "C" __global__ void __launch_bounds__(256) adamw(const Step* steps, i64 count, const float* scale) {
  begin();
  const float gscale = *scale;
  if (gscale != gscale) return;
  i64 low = 0, high = count; // the step is in [low, high)
  while (high - low > 1) {
    i64 mid = (low + high) / 2;
    if (steps[mid].first <= blockIdx.x) low = mid;
    else high = mid;
  }
  const Step s = steps[low];
  auto update = [&](auto w, i64 i) {
    constexpr int W = decltype(w)::value;
    auto g = loadAs<W>(s.g, i, s.gFormat), m = load(w, s.m + i), v = load(w, s.v + i);
    Vec<W> p;
    Halves<W> high, rest;
    if (s.pFormat == REST) {
      high = *(const Halves<W>*)((const u16*)s.copy + i), rest = *(const Halves<W>*)((const u16*)s.p + i);
#pragma unroll
      for (int j = 0; j < W; j++) p.v[j] = joined(high.v[j], rest.v[j]);
    } else {
      p = load(w, (const float*)s.p + i);
    }
#pragma unroll
    for (int j = 0; j < W; j++) {
      float d = g.v[j] * gscale;
      m.v[j] = m.v[j] + s.w1 * (d - m.v[j]);
      v.v[j] = s.beta2 * v.v[j] + s.w2 * d * d;
      p.v[j] = p.v[j] * s.keep - s.lr * m.v[j] / (sqrtf(v.v[j]) * s.rsqrt + s.eps);
    }
    store(s.m + i, m);
    store(s.v + i, v);
    if (s.pFormat == REST) {
#pragma unroll
      for (int j = 0; j < W; j++) separate(p.v[j], high.v[j], rest.v[j]);
      *(Halves<W>*)((u16*)s.copy + i) = high;
      *(Halves<W>*)((u16*)s.p + i) = rest;
      return;
    }
    store((float*)s.p + i, p);
    if (s.copy) storeAs(s.copy, i, p, s.copyFormat);
  };
  i64 from = (blockIdx.x - s.first) * CHUNK, end = min(from + CHUNK, s.n);
  i64 whole = aligned((const char*)s.p, (const char*)s.g, s.m, s.v, (const char*)s.copy) ? from + (end - from) / 4 * 4 : from;
  for (i64 i = from + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x) update(Constant<4>(), i);
  for (i64 i = whole + threadIdx.x; i < end; i += blockDim.x) update(Constant<1>(), i);
}

// Updates Muon's average m of the gradient, and replaces g by the gradient that the step uses: m = momentum·m + fresh·g,
// g = fresh·g + momentum·m
extern "C" __global__ void muon_average(float* g, float* m, const float* scale, float fresh, float momentum, i64 n) {
  begin();
  fresh *= *scale;
  if (fresh != fresh) return;
  parts<4>(1, n, aligned(g, m), [&](auto w, i64, i64 i) {
    auto d = load(w, g + i), a = load(w, m + i);
#pragma unroll
    for (int j = 0; j < w; j++) {
      d.v[j] *= fresh;
      a.v[j] = momentum * a.v[j] + d.v[j];
      d.v[j] += momentum * a.v[j];
    }
    store(m + i, a);
    store(g + i, d);
  });
}

// Divides x by the root of a sum of squares.
extern "C" __global__ void normalise(float* x, const double* squares, i64 n) {
  begin();
  float s = (float)(1 / (sqrt(*squares) + 1e-30));
  map(n, [=](float a) { return a * s; }, x, x);
}

// p = keep·p - size·x
extern "C" __global__ void muon_step(float* p, const float* x, const float* scale, float keep, float size, i64 n) {
  begin();
  if (*scale != *scale) return;
  map(n, [=](float a, float b) { return keep * a - size * b; }, p, p, x);
}
