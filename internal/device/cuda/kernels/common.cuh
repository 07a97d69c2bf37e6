// Common definitions of all kernels. Integers are passed as 64 bits, so that every argument takes 8 bytes. act_t is float
// or bf16, the type of activations and their gradients; each type makes a separate module. Statistics, biases, the weights of
// norms and their gradients are floats. Matrices of weights and their gradients have the format that an argument names.
typedef long long i64;
typedef unsigned int u32;
typedef unsigned short u16;

#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)

// A kernel may be launched while those before it run (programmatic dependent launch), so that the time of launching is not added to
// theirs. Each begins with begin, which waits until they have ended and their results can be seen. A kernel can instead call letNextStart,
// prefetch what it will read, and then call awaitEarlier. Before, it may read only what the host has copied to the GPU: kernels
// after such a copy begin when that has ended.
__device__ __forceinline__ void letNextStart() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

__device__ __forceinline__ void awaitEarlier() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

__device__ __forceinline__ void begin() {
  letNextStart();
  awaitEarlier();
}

// prefetch makes the L2 cache hold `bytes` bytes from p on, a multiple of 16, if the GPU can. p is a multiple of 16.
__device__ __forceinline__ void prefetch(const void* p, u32 bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}

// Iterates over i < n with all threads of the grid.
#define EACH(i, n) for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < (n); i += (i64)gridDim.x * blockDim.x)

// The formats of package device.
enum { F32, BF16, F16, REST, INT8, INT4, SIGNED8, UNSIGNED8 };

__device__ __forceinline__ float fromBF16(u16 x) { return __uint_as_float((u32)x << 16); }

// toBF16 rounds to nearest, ties to even. NaN stays NaN.
__device__ __forceinline__ u16 toBF16(float x) {
  u32 b = __float_as_uint(x);
  if ((b & 0x7fffffff) > 0x7f800000) return (u16)(b >> 16 | 0x40);
  return (u16)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

// The types of numbers. low and high return the numbers in a word of two, and pair makes one.
struct bf16 {
  u16 bits;
  bf16() = default;
  __device__ __forceinline__ bf16(float x) {
#if __CUDA_ARCH__ >= 900
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
#else
    bits = toBF16(x);
#endif
  }
  __device__ __forceinline__ operator float() const { return fromBF16(bits); }
  static __device__ __forceinline__ float low(u32 w) { return __uint_as_float(w << 16); }
  static __device__ __forceinline__ float high(u32 w) { return __uint_as_float(w & 0xffff0000); }
  static __device__ __forceinline__ u32 pair(float low, float high) {
#if __CUDA_ARCH__ >= 900
    u32 w;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(w) : "f"(high), "f"(low));
    return w;
#else
    return toBF16(low) | (u32)toBF16(high) << 16;
#endif
  }
};

__device__ __forceinline__ float fromF16(u16 x) {
  float y;
  asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x));
  return y;
}

__device__ __forceinline__ u16 toF16(float x) {
  u16 y;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x));
  return y;
}

struct f16 {
  u16 bits;
  f16() = default;
  __device__ __forceinline__ f16(float x) : bits(toF16(x)) {}
  __device__ __forceinline__ operator float() const { return fromF16(bits); }
  static __device__ __forceinline__ float low(u32 w) { return fromF16((u16)w); }
  static __device__ __forceinline__ float high(u32 w) { return fromF16((u16)(w >> 16)); }
  static __device__ __forceinline__ u32 pair(float low, float high) { return toF16(low) | (u32)toF16(high) << 16; }
};

// load returns element i of an array in a format.
__device__ __forceinline__ float load(const void* p, i64 i, int format) {
  if (format == F32) return ((const float*)p)[i];
  u16 x = ((const u16*)p)[i];
  return format == BF16 ? fromBF16(x) : fromF16(x);
}

__device__ __forceinline__ void store(void* p, i64 i, float x, int format) {
  if (format == F32) ((float*)p)[i] = x;
  else ((u16*)p)[i] = format == BF16 ? toBF16(x) : toF16(x);
}

// Vectors: a thread that reads or writes 16 bytes at a time uses all of the memory's bandwidth; one that reads 2 or 4 does
// not. Kernels compute with W numbers at once: as many as 16 bytes hold if everything is aligned, otherwise one.

// Constant is an integer known to the compiler, for arguments of lambdas.
template <int N> struct Constant {
  static constexpr int value = N;
  __device__ __forceinline__ constexpr operator int() const { return N; }
};

// Vec is W numbers in registers.
template <int W> struct Vec {
  float v[W];
};

// Packed is W numbers as they are stored.
template <class E, int W> struct alignas(W * sizeof(E) < 16 ? W * sizeof(E) : 16) Packed {
  u32 w[W * sizeof(E) / 4];
};
template <> struct Packed<float, 1> { float x; };
template <> struct Packed<bf16, 1> { bf16 x; };
template <> struct Packed<f16, 1> { f16 x; };

template <int W, class E> __device__ __forceinline__ Packed<E, W> packed(const E* p) { return *(const Packed<E, W>*)p; }

template <class E, int W> __device__ __forceinline__ Vec<W> unpack(const Packed<E, W>& p) {
  Vec<W> x;
  if constexpr (W == 1) x.v[0] = p.x;
  else {
#pragma unroll
    for (int j = 0; j < W; j++) {
      if constexpr (sizeof(E) == 4) x.v[j] = __uint_as_float(p.w[j]);
      else x.v[j] = j & 1 ? E::high(p.w[j / 2]) : E::low(p.w[j / 2]);
    }
  }
  return x;
}

// pack rounds x.
template <class E, int W> __device__ __forceinline__ Packed<E, W> pack(const Vec<W>& x) {
  Packed<E, W> p;
  if constexpr (W == 1) p.x = x.v[0];
  else if constexpr (sizeof(E) == 4) {
#pragma unroll
    for (int j = 0; j < W; j++) p.w[j] = __float_as_uint(x.v[j]);
  } else {
#pragma unroll
    for (int j = 0; j < W; j += 2) p.w[j / 2] = E::pair(x.v[j], x.v[j + 1]);
  }
  return p;
}

template <int W, class E> __device__ __forceinline__ Vec<W> load(const E* p) { return unpack<E, W>(packed<W>(p)); }
template <int W, class E> __device__ __forceinline__ Vec<W> load(Constant<W>, const E* p) { return load<W>(p); }
template <int W, class E> __device__ __forceinline__ void store(E* p, const Vec<W>& x) { *(Packed<E, W>*)p = pack<E, W>(x); }

// loadAs and storeAs are for elements from i on of an array in a format.
template <int W> __device__ __forceinline__ Vec<W> loadAs(const void* p, i64 i, i64 format) {
  if (format == F32) return load<W>((const float*)p + i);
  return format == BF16 ? load<W>((const bf16*)p + i) : load<W>((const f16*)p + i);
}

template <int W> __device__ __forceinline__ void storeAs(void* p, i64 i, const Vec<W>& x, i64 format) {
  if (format == F32) store((float*)p + i, x);
  else if (format == BF16) store((bf16*)p + i, x);
  else store((f16*)p + i, x);
}

// aligned reports whether all pointers are multiples of 16.
template <class... P> __device__ __forceinline__ bool aligned(const P*... p) { return ((((unsigned long long)p & 15) == 0) && ...); }

// Calls f(Constant<W>, row, column) for the parts of W numbers of a matrix [rows, dim], and f(Constant<1>, row, column)
// for the rest: for all if vectors is false.
template <int W, class F> __device__ __forceinline__ void parts(i64 rows, i64 dim, bool vectors, F f) {
  i64 per = vectors ? dim / W : 0, rest = dim - per * W;
  EACH(i, rows * per) {
    i64 r = rows == 1 ? 0 : i / per;
    f(Constant<W>(), r, (i - r * per) * W);
  }
  EACH(i, rows * rest) {
    i64 r = rows == 1 ? 0 : i / rest;
    f(Constant<1>(), r, per * W + i - r * rest);
  }
}

template <int W, class F, class... X> __device__ __forceinline__ Vec<W> apply(F f, const Vec<W>& x, const X&... y) {
  Vec<W> z;
#pragma unroll
  for (int j = 0; j < W; j++) z.v[j] = f(x.v[j], y.v[j]...);
  return z;
}

// dst[i] = f(x[i], …) for i < n
template <class E, class F, class... X> __device__ __forceinline__ void map(i64 n, F f, E* dst, const X*... x) {
  parts<16 / sizeof(E)>(1, n, aligned(dst, x...), [&](auto w, i64, i64 i) { store(dst + i, apply(f, load(w, x + i)...)); });
}

#ifdef ACTIVATIONS
typedef ACTIVATIONS act_t;

constexpr int WIDTH = 16 / sizeof(act_t); // numbers of type act_t in 16 bytes

// Exponentials and quotients for results that are rounded to act_t: the approximations are much closer than bf16 is.
__device__ __forceinline__ float exponential(float x) { return sizeof(act_t) == 2 ? __expf(x) : expf(x); }
__device__ __forceinline__ float quotient(float x, float y) { return sizeof(act_t) == 2 ? __fdividef(x, y) : x / y; }
#endif

// blockSum returns the sum of x over the threads of a block, in every thread. The order of summation depends only on the
// size of the block.
template <typename T> __device__ T blockSum(T x) {
  __shared__ T part[32];
  for (int m = 16; m; m >>= 1) x += __shfl_xor_sync(~0u, x, m);
  __syncthreads(); // the previous call's sums may still be in use
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = x;
  __syncthreads();
  T sum = 0;
  for (int i = 0; i < blockDim.x >> 5; i++) sum += part[i];
  return sum;
}

__device__ __forceinline__ float blockMax(float x) {
  __shared__ float part[32];
  for (int m = 16; m; m >>= 1) x = fmaxf(x, __shfl_xor_sync(~0u, x, m));
  __syncthreads();
  if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = x;
  __syncthreads();
  float top = part[0];
  for (int i = 1; i < blockDim.x >> 5; i++) top = fmaxf(top, part[i]);
  return top;
}
