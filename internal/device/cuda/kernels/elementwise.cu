// Element-wise operations on n numbers of type act_t.

extern "C" __global__ void add(act_t* dst, const act_t* x, const act_t* y, i64 n) { EACH(i, n) dst[i] = (float)x[i] + (float)y[i]; }
extern "C" __global__ void axpy(float s, const act_t* x, act_t* dst, i64 n) { EACH(i, n) dst[i] = dst[i] + s * x[i]; }
extern "C" __global__ void scale(act_t* dst, float s, i64 n) { EACH(i, n) dst[i] = dst[i] * s; }
extern "C" __global__ void scale_by(act_t* dst, const float* s, i64 n) { EACH(i, n) dst[i] = dst[i] * s[0]; }
extern "C" __global__ void shift(act_t* dst, const act_t* x, float s, i64 n) { EACH(i, n) dst[i] = x[i] + s; }
extern "C" __global__ void clip(act_t* dst, const act_t* x, float m, i64 n) { EACH(i, n) { float v = x[i]; dst[i] = v > m ? m : v < -m ? -m : v; } }
extern "C" __global__ void clip_backward(act_t* dx, const act_t* dy, const act_t* x, float m, i64 n) { EACH(i, n) dx[i] = fabsf(x[i]) <= m ? (float)dy[i] : 0; }
extern "C" __global__ void lerp(act_t* dst, const act_t* x, float s, i64 n) { EACH(i, n) dst[i] = (1 - s) * dst[i] + s * x[i]; }
extern "C" __global__ void swap(act_t* x, act_t* y, i64 n) { EACH(i, n) { act_t t = x[i]; x[i] = y[i]; y[i] = t; } }

// Converts x from one format to another in dst.
extern "C" __global__ void convert(void* dst, i64 dstFormat, const void* x, i64 format, i64 n) {
  EACH(i, n) store(dst, i, load(x, i, format), dstFormat);
}

// The functions of package activation.
enum { IDENTITY, RELU, SILU, GELU, GELU_TANH, QUICK_GELU, RELU2 };

__device__ __forceinline__ float relu(float x) { return x < 0 ? 0 : x; } // unlike fmaxf, preserves NaN
__device__ __forceinline__ float sigmoid(float x) { return 1 / (1 + expf(-x)); }

__device__ __forceinline__ float value(int act, float x) {
  switch (act) {
  case RELU: return relu(x);
  case SILU: return x * sigmoid(x);
  case GELU: return 0.5f * x * erfcf(-0.70710678118654752f * x);
  case GELU_TANH: return 0.5f * x * (1 + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
  case QUICK_GELU: return x * sigmoid(1.702f * x);
  case RELU2: return relu(x) * relu(x);
  }
  return x;
}

__device__ __forceinline__ float slope(int act, float x) {
  switch (act) {
  case RELU: return x > 0 ? 1 : 0;
  case SILU: { float s = sigmoid(x); return s + x * s * (1 - s); }
  case GELU: return 0.5f * erfcf(-0.70710678118654752f * x) + x * expf(-0.5f * x * x) * 0.39894228040143268f;
  case GELU_TANH: {
    const float c = 0.79788456080286536f;
    float t = tanhf(c * (x + 0.044715f * x * x * x));
    return 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * c * (1 + 3 * 0.044715f * x * x);
  }
  case QUICK_GELU: { float s = sigmoid(1.702f * x); return s + x * s * (1 - s) * 1.702f; }
  case RELU2: return 2 * relu(x);
  }
  return 1;
}

extern "C" __global__ void activate(i64 act, act_t* y, const act_t* x, i64 n) { EACH(i, n) y[i] = value(act, x[i]); }
extern "C" __global__ void activate_backward(i64 act, act_t* dx, const act_t* dy, const act_t* x, i64 n) { EACH(i, n) dx[i] = dy[i] * slope(act, x[i]); }
extern "C" __global__ void gate(i64 act, act_t* y, const act_t* g, const act_t* up, i64 n) { EACH(i, n) y[i] = value(act, g[i]) * up[i]; }
extern "C" __global__ void gate_backward(i64 act, act_t* dg, act_t* dup, const act_t* dy, const act_t* g, const act_t* up, i64 n) {
  EACH(i, n) {
    float x = g[i], d = dy[i], u = up[i];
    dg[i] = d * u * slope(act, x);
    dup[i] = d * value(act, x);
  }
}
