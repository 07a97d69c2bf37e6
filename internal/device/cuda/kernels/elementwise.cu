// Element-wise operations on n numbers of type act_t, or on matrices [rows, dim] whose rows have the given distances.

extern "C" __global__ void add(act_t* dst, const act_t* x, const act_t* y, i64 n) {
  begin();
  map(n, [](float a, float b) { return a + b; }, dst, x, y);
}
extern "C" __global__ void axpy(float s, const act_t* x, act_t* dst, i64 n) {
  begin();
  map(n, [=](float a, float b) { return b + s * a; }, dst, x, dst);
}
extern "C" __global__ void scale(act_t* dst, float s, i64 n) {
  begin();
  map(n, [=](float a) { return a * s; }, dst, dst);
}
extern "C" __global__ void scale_by(act_t* dst, const float* by, i64 n) {
  begin();
  float s = by[0];
  if (s == 1) return; // most often
  map(n, [=](float a) { return a * s; }, dst, dst);
}
extern "C" __global__ void shift(act_t* dst, const act_t* x, float s, i64 n) {
  begin();
  map(n, [=](float a) { return a + s; }, dst, x);
}
extern "C" __global__ void clip(act_t* dst, const act_t* x, float m, i64 n) {
  begin();
  map(n, [=](float a) { return a > m ? m : a < -m ? -m : a; }, dst, x);
}
extern "C" __global__ void clip_backward(act_t* dx, const act_t* dy, const act_t* x, float m, i64 n) {
  begin();
  map(n, [=](float d, float a) { return fabsf(a) > m ? 0 : d; }, dx, dy, x);
}
extern "C" __global__ void lerp(act_t* dst, const act_t* x, float s, i64 n) {
  begin();
  map(n, [=](float a, float b) { return (1 - s) * a + s * b; }, dst, dst, x);
}
extern "C" __global__ void swap(act_t* x, act_t* y, i64 n) {
  begin();
  parts<WIDTH>(1, n, aligned(x, y), [&](auto w, i64, i64 i) {
    auto a = load(w, x + i), b = load(w, y + i);
    store(x + i, b);
    store(y + i, a);
  });
}

// Copies a matrix [rows, dim] and converts it from one format to another.
extern "C" __global__ void convert(void* dst, i64 dstFormat, i64 dstLD, const void* x, i64 format, i64 ld, i64 rows, i64 dim) {
  begin();
  bool whole = rows == 1 || (dstLD % 8 == 0 && ld % 8 == 0);
  parts<8>(rows, dim, whole && aligned((const char*)dst, (const char*)x), [&](auto w, i64 r, i64 c) {
    storeAs(dst, r * dstLD + c, loadAs<decltype(w)::value>(x, r * ld + c, format), dstFormat);
  });
}

extern "C" __global__ void activate(i64 act, act_t* y, const act_t* x, i64 n) {
  begin();
  choose(act, [&](auto a) { map(n, [=](float v) { return curve(a, v).value; }, y, x); });
}
extern "C" __global__ void activate_backward(i64 act, act_t* dx, const act_t* dy, const act_t* x, i64 n) {
  begin();
  choose(act, [&](auto a) { map(n, [=](float d, float v) { return d * curve(a, v).slope; }, dx, dy, x); });
}

// whole reports whether rows at a distance can be accessed by vectors.
__device__ __forceinline__ bool whole(i64 ld) { return ld % WIDTH == 0; }

// y [rows, dim] = act(g)·up
extern "C" __global__ void gate(i64 act, act_t* y, const act_t* g, i64 ldg, const act_t* up, i64 ldu, i64 rows, i64 dim) {
  begin();
  bool vectors = aligned(y, g, up) && (rows == 1 || (whole(dim) && whole(ldg) && whole(ldu)));
  choose(act, [&](auto a) {
    parts<WIDTH>(rows, dim, vectors, [&](auto w, i64 r, i64 c) {
      store(y + r * dim + c, apply([=](float v, float u) { return curve(a, v).value * u; }, load(w, g + r * ldg + c), load(w, up + r * ldu + c)));
    });
  });
}

// dg = dy·up·act'(g), dup = dy·act(g)
extern "C" __global__ void gate_backward(i64 act, act_t* dg, i64 lddg, act_t* dup, i64 lddu, const act_t* dy, const act_t* g, i64 ldg, const act_t* up, i64 ldu, i64 rows, i64 dim) {
  begin();
  bool vectors = aligned(dg, dup, dy, g, up) && (rows == 1 || (whole(dim) && whole(lddg) && whole(lddu) && whole(ldg) && whole(ldu)));
  choose(act, [&](auto a) {
    parts<WIDTH>(rows, dim, vectors, [&](auto w, i64 r, i64 c) {
      auto x = load(w, g + r * ldg + c), u = load(w, up + r * ldu + c), d = load(w, dy + r * dim + c);
#pragma unroll
      for (int j = 0; j < w; j++) {
        Curve at = curve(a, x.v[j]);
        x.v[j] = d.v[j] * u.v[j] * at.slope;
        u.v[j] = d.v[j] * at.value;
      }
      store(dg + r * lddg + c, x);
      store(dup + r * lddu + c, u);
    });
  });
}
