// The functions of package activation.
enum { IDENTITY, RELU, SILU, GELU, GELU_TANH, QUICK_GELU, RELU2 };

__device__ __forceinline__ float relu(float x) { return x < 0 ? 0 : x; } // unlike fmaxf, preserves NaN
__device__ __forceinline__ float sigmoid(float x) { return quotient(1, 1 + exponential(-x)); }
__device__ __forceinline__ float tanhOf(float x) { return sizeof(act_t) == 2 ? 1 - quotient(2, 1 + exponential(2 * x)) : tanhf(x); }

// Curve is the value of a function at a point, and its derivative.
struct Curve {
  float value, slope;
};

__device__ __forceinline__ Curve curve(int act, float x) {
  switch (act) {
  case RELU: return {relu(x), x > 0 ? 1.0f : 0.0f};
  case SILU: { float s = sigmoid(x); return {x * s, s + x * s * (1 - s)}; }
  case GELU: { float p = 0.5f * erfcf(-0.70710678118654752f * x); return {x * p, p + x * exponential(-0.5f * x * x) * 0.39894228040143268f}; }
  case GELU_TANH: {
    const float c = 0.79788456080286536f;
    float t = tanhOf(c * (x + 0.044715f * x * x * x));
    return {0.5f * x * (1 + t), 0.5f * (1 + t) + 0.5f * x * (1 - t * t) * c * (1 + 3 * 0.044715f * x * x)};
  }
  case QUICK_GELU: { float s = sigmoid(1.702f * x); return {x * s, s + x * s * (1 - s) * 1.702f}; }
  case RELU2: return {relu(x) * relu(x), 2 * relu(x)};
  }
  return {x, 1};
}

// Calls f(Constant<act>), so that loops contain only the code of one function.
template <class F> __device__ __forceinline__ void choose(i64 act, F f) {
  switch (act) {
  case RELU: return f(Constant<RELU>());
  case SILU: return f(Constant<SILU>());
  case GELU: return f(Constant<GELU>());
  case GELU_TANH: return f(Constant<GELU_TANH>());
  case QUICK_GELU: return f(Constant<QUICK_GELU>());
  case RELU2: return f(Constant<RELU2>());
  }
  f(Constant<IDENTITY>());
}
