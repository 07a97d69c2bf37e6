// Optimizers. n is the number of parameters.

extern "C" __global__ void adamw(float* p, const float* g, float* m, float* v, float gscale, float keep, float w1, float beta2, float w2, float rsqrt, float eps, float lr, i64 n) {
  EACH(i, n) {
    float d = g[i] * gscale, m1 = m[i] + w1 * (d - m[i]), v1 = beta2 * v[i] + w2 * d * d;
    m[i] = m1;
    v[i] = v1;
    p[i] = p[i] * keep - lr * m1 / (sqrtf(v1) * rsqrt + eps);
  }
}

// Updates Muon's average m of the gradient, and replaces g by the gradient that the step uses: m = momentum·m + fresh·g,
// g = fresh·g + momentum·m
extern "C" __global__ void muon_average(float* g, float* m, float fresh, float momentum, i64 n) {
  EACH(i, n) {
    float d = fresh * g[i], a = momentum * m[i] + d;
    m[i] = a;
    g[i] = d + momentum * a;
  }
}

// Divides x by the root of a sum of squares.
extern "C" __global__ void normalise(float* x, const double* squares, i64 n) {
  float s = (float)(1 / (sqrt(*squares) + 1e-30));
  EACH(i, n) x[i] *= s;
}

// p = keep·p - size·x
extern "C" __global__ void muon_step(float* p, const float* x, float keep, float size, i64 n) { EACH(i, n) p[i] = keep * p[i] - size * x[i]; }
