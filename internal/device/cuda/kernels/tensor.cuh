// Instructions that CUDA C has no name for: loads past the first cache, copies to shared memory and products of tiles.

// stream loads 16 bytes that are used once. The compiler does not move it before awaitEarlier.
template <class P> __device__ __forceinline__ P stream(const void* p) {
  P x;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(x.w[0]), "=r"(x.w[1]), "=r"(x.w[2]), "=r"(x.w[3]) : "l"(p));
  return x;
}

__device__ __forceinline__ u32 sharedAddress(const void* p) {
  u32 at;
  asm("{ .reg .u64 a; cvta.to.shared.u64 a, %1; cvt.u32.u64 %0, a; }" : "=r"(at) : "l"(p));
  return at;
}

// copyAsync copies 16 bytes to shared memory, or zeros if `real` is false. Copies until a commit make a group; arrived waits until at
// most N groups are not complete. Then the thread sees its own copies.
__device__ __forceinline__ void copyAsync(void* to, const void* from, bool real = true) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(sharedAddress(to)), "l"(from), "r"(real ? 16 : 0) : "memory");
}
__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ __forceinline__ void arrived() { asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory"); }

// matrices loads four 8 by 8 matrices of 16-bit numbers. Threads 8m to 8m+7 pass the addresses of the rows of matrix m. Of each
// matrix thread t gets the numbers 2(t%4) and 2(t%4)+1 of row t/4; of its transpose with transposed.
template <bool transposed> __device__ __forceinline__ void matrices(u32 x[4], const void* row) {
  if constexpr (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(sharedAddress(row)) : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3]) : "r"(sharedAddress(row)) : "memory");
}

// multiply adds to c [16, 8] the product of a [16, 16] and b [16, 8], in bf16. With r = t/4 and s = 2(t%4), thread t holds
//   c[r][s], c[r][s+1], c[r+8][s], c[r+8][s+1]
//   a[r][s..s+1], a[r+8][s..s+1], a[r][s+8..s+9], a[r+8][s+8..s+9]
//   b[s..s+1][r], b[s+8..s+9][r]
__device__ __forceinline__ void multiply(float c[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}
