// Clusters of blocks, which run at the same time and can read each other's shared memory, from compute capability 9.0 on. Kernels that
// use them are launched on such GPUs only.
#if __CUDA_ARCH__ >= 900
#define CLUSTERS 1
#else
#define CLUSTERS 0
#endif

// The number of blocks of a cluster, and this block's among them.
__device__ __forceinline__ int clusterBlocks() {
  int n = 1;
#if CLUSTERS
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(n));
#endif
  return n;
}
__device__ __forceinline__ int clusterRank() {
  int n = 0;
#if CLUSTERS
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(n));
#endif
  return n;
}

// awaitCluster waits until all threads of the cluster are here and what they wrote can be seen. A block must not end while another may
// read its memory.
__device__ __forceinline__ void awaitCluster() {
#if CLUSTERS
  asm volatile("barrier.cluster.arrive.release;\n\tbarrier.cluster.wait.acquire;" ::: "memory");
#endif
}

// inBlock returns the address of what is in block `rank` of the cluster where p is in this block's shared memory, and the others load it.
__device__ __forceinline__ u32 inBlock(const void* p, int rank) {
  u32 at = sharedAddress(p);
#if CLUSTERS
  asm("mapa.shared::cluster.u32 %0, %0, %1;" : "+r"(at) : "r"(rank));
#endif
  return at;
}
__device__ __forceinline__ float fromBlock(const float* p, int rank) {
  float x = 0;
#if CLUSTERS
  asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(x) : "r"(inBlock(p, rank)) : "memory");
#endif
  return x;
}
template <int W> __device__ __forceinline__ Vec<W> vecFromBlock(const float* p, int rank) { // p is aligned to W numbers
  Vec<W> x = {};
#if CLUSTERS
  if constexpr (W == 4)
    asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(x.v[0]), "=f"(x.v[1]), "=f"(x.v[2]), "=f"(x.v[3]) : "r"(inBlock(p, rank)) : "memory");
  else
    for (int j = 0; j < W; j++) x.v[j] = fromBlock(p + j, rank);
#endif
  return x;
}
