// Qualifier for functions that the CPU and the CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define SSLFAST_HOST_DEVICE __host__ __device__
#else
#define SSLFAST_HOST_DEVICE
#endif

// Every instruction set compiles its own copy ("static"), so that no function built with AVX-512 can be linked into the
// baseline kernels.
#define SSLFAST_SHARED static inline SSLFAST_HOST_DEVICE
