// Common definitions of all kernels. Integers are passed as 64 bits, so that every argument takes 8 bytes. act_t is float
// or bf16, the type of activations and their gradients; each type makes a separate module. Weights, statistics and the
// gradients of weights are floats.
typedef long long i64;
typedef unsigned int u32;
typedef unsigned short u16;

#define INFINITY __int_as_float(0x7f800000)

// Iterates over i < n with all threads of the grid.
#define EACH(i, n) for (i64 i = blockIdx.x * (i64)blockDim.x + threadIdx.x; i < (n); i += (i64)gridDim.x * blockDim.x)

// The formats of package device.
enum { F32, BF16, F16 };

__device__ __forceinline__ float fromBF16(u16 x) { return __uint_as_float((u32)x << 16); }

// toBF16 rounds to nearest, ties to even. NaN stays NaN.
__device__ __forceinline__ u16 toBF16(float x) {
  u32 b = __float_as_uint(x);
  if ((b & 0x7fffffff) > 0x7f800000) return (u16)(b >> 16 | 0x40);
  return (u16)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}

// bf16 is a 16-bit number that computes as a float.
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
};

#ifdef ACTIVATIONS
typedef ACTIVATIONS act_t;
#endif

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
