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
  void *m, *v;             // F32, BF16, or codes
  float *mScales, *vScales; // of codes
  void* copy;              // may be 0; if p is REST, its high parts
  i64 pFormat, gFormat, mFormat, copyFormat, n, first;
  float keep, w1, beta2, w2, rsqrt, eps, lr, unused;

  // Updates m, v and p given the gradient d.
  __device__ __forceinline__ void update(float d, float& m, float& v, float& p) const {
    m = m + w1 * (d - m);
    v = beta2 * v + w2 * d * d;
    p = p * keep - lr * m / (sqrtf(v) * rsqrt + eps);
  }
};

// stepOf returns the step that a block belongs to.
__device__ __forceinline__ Step stepOf(const Step* steps, i64 count) {
  i64 low = 0, high = count; // the step is in [low, high)
  while (high - low > 1) {
    i64 mid = (low + high) / 2;
    if (steps[mid].first <= blockIdx.x) low = mid;
    else high = mid;
  }
  return steps[low];
}

// One block per chunk of CHUNK numbers of one of the parameters.
extern "C" __global__ void __launch_bounds__(256) adamw(const Step* steps, i64 count, const float* scale) {
  begin();
  const float gscale = *scale;
  if (gscale != gscale) return;
  const Step s = stepOf(steps, count);
  auto update = [&](auto w, i64 i) {
    constexpr int W = decltype(w)::value;
    auto g = loadAs<W>(s.g, i, s.gFormat), m = loadAs<W>(s.m, i, s.mFormat), v = loadAs<W>(s.v, i, s.mFormat);
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
    for (int j = 0; j < W; j++) s.update(g.v[j] * gscale, m.v[j], v.v[j], p.v[j]);
    storeAs(s.m, i, m, s.mFormat);
    storeAs(s.v, i, v, s.mFormat);
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
  i64 whole = aligned((const char*)s.p, (const char*)s.g, (const char*)s.m, (const char*)s.v, (const char*)s.copy) ? from + (end - from) / 4 * 4 : from;
  for (i64 i = from + 4 * threadIdx.x; i < whole; i += 4 * blockDim.x) update(Constant<4>(), i);
  for (i64 i = whole + threadIdx.x; i < end; i += blockDim.x) update(Constant<1>(), i);
}

// Codes of a byte: see optim.Codes. Their blocks of 256 numbers have a scale.
__device__ __forceinline__ float lowEnd(int i) { // of the decade that ends at 10^(i-7)
  switch (i) {
    case 0: return 1e-8f;
    case 1: return 1e-7f;
    case 2: return 1e-6f;
    case 3: return 1e-5f;
    case 4: return 1e-4f;
    case 5: return 1e-3f;
    case 6: return 1e-2f;
  }
  return 1e-1f;
}

template <bool sign> __device__ __forceinline__ float decoded(u32 byte, float scale) {
  int c = sign ? (int)(signed char)byte : (int)byte, code = c < 0 ? -c : c;
  if (code == 0) return 0;
  int i = 31 - __clz(code);
  float part = (float)(1 << i), x = lowEnd(i + sign) * (1 + __fdiv_rn(9 * ((float)(code + 1) - part), part)) * scale;
  return c < 0 ? -x : x;
}

template <bool sign> __device__ __forceinline__ u32 encoded(float x, float scale) {
  if (scale == 0) return 0;
  float y = __fdiv_rn(fabsf(x), scale);
  int i = sign ? 6 : 7;
  while (i > 0 && y <= lowEnd(i + sign)) i--;
  float part = (float)(1 << i);
  int code = (1 << i) - 1 + (int)fmaxf(0.f, __fadd_rn(__fmul_rn(__fdiv_rn(y, lowEnd(i + sign)) - 1, __fdiv_rn(part, 9)), 0.5f));
  if (!sign && y > 0 && code == 0) code = 1;
  return (u32)(sign && x < 0 ? -code : code) & 255;
}

// Stores a block's numbers, one for each thread, as codes.
template <bool sign> __device__ __forceinline__ void storeCodes(void* codes, float* scales, i64 block, i64 i, i64 n, float x) {
  float scale = blockMax(i < n ? fabsf(x) : 0.f);
  if (i < n) ((unsigned char*)codes)[i] = (unsigned char)encoded<sign>(x, scale);
  if (threadIdx.x == 0) scales[block] = scale;
}

// adamw for averages in codes: one block per block of 256 numbers.
extern "C" __global__ void __launch_bounds__(256) adamw_codes(const Step* steps, i64 count, const float* scale) {
  begin();
  const float gscale = *scale;
  if (gscale != gscale) return;
  const Step s = stepOf(steps, count);
  const i64 block = blockIdx.x - s.first, i = block * 256 + threadIdx.x;
  float m = 0, v = 0, p = 0;
  if (i < s.n) {
    m = decoded<true>(((const unsigned char*)s.m)[i], s.mScales[block]);
    v = decoded<false>(((const unsigned char*)s.v)[i], s.vScales[block]);
    p = s.pFormat == REST ? joined(((const u16*)s.copy)[i], ((const u16*)s.p)[i]) : ((const float*)s.p)[i];
    s.update(load(s.g, i, s.gFormat) * gscale, m, v, p);
  }
  __syncthreads(); // all have read the scales
  storeCodes<true>(s.m, s.mScales, block, i, s.n, m);
  storeCodes<false>(s.v, s.vScales, block, i, s.n, v);
  if (i >= s.n) return;
  if (s.pFormat == REST) {
    separate(p, ((u16*)s.copy)[i], ((u16*)s.p)[i]);
    return;
  }
  ((float*)s.p)[i] = p;
  if (s.copy) store(s.copy, i, p, s.copyFormat);
}

// One block per block of codes.
extern "C" __global__ void __launch_bounds__(256) encode(void* codes, float* scales, const float* x, i64 format, i64 n) {
  begin();
  const i64 i = blockIdx.x * 256 + (i64)threadIdx.x;
  const float y = i < n ? x[i] : 0;
  if (format == SIGNED8) storeCodes<true>(codes, scales, blockIdx.x, i, n, y);
  else storeCodes<false>(codes, scales, blockIdx.x, i, n, y);
}

extern "C" __global__ void __launch_bounds__(256) decode(float* x, const unsigned char* codes, const float* scales, i64 format, i64 n) {
  begin();
  EACH(i, n) x[i] = format == SIGNED8 ? decoded<true>(codes[i], scales[i / 256]) : decoded<false>(codes[i], scales[i / 256]);
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

// Adafactor. A matrix has rows·cols numbers, and averages of the squares of its gradient by row and by column; beta is their decay.
struct Factored {
  void* p;
  const void* g;
  void* copy; // may be 0; if p is REST, its high parts
  float *row, *col;
  i64 pFormat, gFormat, copyFormat, rows, cols;
  const float* scale;
};

__device__ __forceinline__ float parameter(const Factored& s, i64 i) {
  return s.pFormat == REST ? joined(((const u16*)s.copy)[i], ((const u16*)s.p)[i]) : ((const float*)s.p)[i];
}

__device__ __forceinline__ float mixed(float average, double square, double beta) {
  return (float)(beta * average + (1 - beta) * (square + 1e-30));
}

#define FACTORED void *p, const void *g, void *copy, float *row, float *col, i64 pFormat, i64 gFormat, i64 copyFormat, i64 rows, i64 cols, const float *scale
#define THE_FACTORED Factored { p, g, copy, row, col, pFormat, gFormat, copyFormat, rows, cols, scale }

// One block per row: updates row, and writes the sums of the squares of the parameter's rows to sums.
extern "C" __global__ void __launch_bounds__(256) adafactor_rows(FACTORED, float* sums, i64 decay) {
  begin();
  const Factored s = THE_FACTORED;
  const float by = *s.scale;
  if (by != by) return;
  double squares = 0, own = 0;
  for (i64 j = threadIdx.x, at = blockIdx.x * s.cols; j < s.cols; j += blockDim.x) {
    float x = load(s.g, at + j, s.gFormat), y = parameter(s, at + j);
    squares += (double)x * x;
    own += (double)y * y;
  }
  squares = blockSum(squares);
  own = blockSum(own);
  if (threadIdx.x) return;
  s.row[blockIdx.x] = mixed(s.row[blockIdx.x], squares * by * by / s.cols, __longlong_as_double(decay));
  sums[blockIdx.x] = (float)own;
}

// Writes the sums of the squares of the gradient's columns over `per` rows to part [blocks, cols].
extern "C" __global__ void __launch_bounds__(256) adafactor_columns(FACTORED, float* part, i64 per) {
  begin();
  const Factored s = THE_FACTORED;
  const i64 first = blockIdx.y * per, end = min(first + per, s.rows);
  EACH(j, s.cols) {
    double sum = 0;
    for (i64 r = first; r < end; r++) {
      float x = load(s.g, r * s.cols + j, s.gFormat);
      sum += (double)x * x;
    }
    part[blockIdx.y * s.cols + j] = (float)sum;
  }
}

// Adds up the parts, and updates col.
extern "C" __global__ void __launch_bounds__(256) adafactor_columns_end(FACTORED, const float* part, i64 parts, i64 decay) {
  begin();
  const Factored s = THE_FACTORED;
  const float by = *s.scale;
  if (by != by) return;
  EACH(j, s.cols) {
    double sum = 0;
    for (i64 k = 0; k < parts; k++) sum += part[k * s.cols + j];
    s.col[j] = mixed(s.col[j], sum * by * by / s.rows, __longlong_as_double(decay));
  }
}

// The factor of the gradient's row r in an update, given the sum of row.
__device__ __forceinline__ float rowFactor(const Factored& s, i64 r, double total) {
  return (float)(*s.scale / sqrt((double)s.row[r] * s.rows / total));
}

// One block per row: writes the sums of the squares of the update's rows to sums. total is the sum of row.
extern "C" __global__ void __launch_bounds__(256) adafactor_norm(FACTORED, float* sums, const double* total) {
  begin();
  const Factored s = THE_FACTORED;
  if (*s.scale != *s.scale) return;
  double sum = 0;
  for (i64 j = threadIdx.x, at = blockIdx.x * s.cols; j < s.cols; j += blockDim.x) {
    float x = load(s.g, at + j, s.gFormat) * rsqrtf(s.col[j]);
    sum += (double)x * x;
  }
  sum = blockSum(sum);
  float f = rowFactor(s, blockIdx.x, *total);
  if (threadIdx.x == 0) sums[blockIdx.x] = (float)(sum * f * f);
}

// What a parameter and its update are multiplied by, given the means of the squares of both: see optim.Adafactor.Keep.
struct Sizes {
  float keep, size;
  __device__ Sizes(double own, double update, double lr, double threshold, double decay, bool relative) {
    if (relative) lr *= fmax(1e-3, sqrt(own));
    keep = (float)(1 - lr * decay);
    size = (float)(lr / fmax(1.0, sqrt(update) / threshold));
  }
};

// One block per row: p = keep·p - size·update. totals are the sums of row, of the squares of the parameter, and of those of the update.
extern "C" __global__ void __launch_bounds__(256) adafactor_step(FACTORED, const double* totals, i64 lr, i64 threshold, i64 decay, i64 relative) {
  begin();
  const Factored s = THE_FACTORED;
  if (*s.scale != *s.scale) return;
  const double n = (double)s.rows * s.cols;
  const Sizes k(totals[1] / n, totals[2] / n, __longlong_as_double(lr), __longlong_as_double(threshold), __longlong_as_double(decay), relative);
  const float f = k.size * rowFactor(s, blockIdx.x, totals[0]);
  for (i64 j = threadIdx.x, at = blockIdx.x * s.cols; j < s.cols; j += blockDim.x) {
    float x = k.keep * parameter(s, at + j) - f * rsqrtf(s.col[j]) * load(s.g, at + j, s.gFormat);
    if (s.pFormat == REST) {
      separate(x, ((u16*)s.copy)[at + j], ((u16*)s.p)[at + j]);
      continue;
    }
    ((float*)s.p)[at + j] = x;
    if (s.copy) store(s.copy, at + j, x, s.copyFormat);
  }
}

// A whole step of a vector p with the average v, by one block.
extern "C" __global__ void __launch_bounds__(1024) adafactor_vector(float* p, const void* g, float* v, i64 gFormat, const float* scale, i64 n, i64 rate, i64 lr, i64 threshold, i64 decay, i64 relative) {
  begin();
  const float by = *scale;
  if (by != by) return;
  double own = 0, update = 0;
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) {
    double d = (double)load(g, i, gFormat) * by;
    v[i] = mixed(v[i], d * d, __longlong_as_double(rate));
    update += d * d / v[i];
    own += (double)p[i] * p[i];
  }
  own = blockSum(own);
  update = blockSum(update);
  const Sizes k(own / n, update / n, __longlong_as_double(lr), __longlong_as_double(threshold), __longlong_as_double(decay), relative);
  for (i64 i = threadIdx.x; i < n; i += blockDim.x) p[i] = k.keep * p[i] - k.size * by * load(g, i, gFormat) * rsqrtf(v[i]);
}
