// The host functions of the CUDA runtime that launching code needs. The sm_80 "device" has one multiprocessor, so
// that kernels which fill the machine once and then loop do loop here; the sm_90 one has four, so that they also split.
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

#include "hopper.h"
#include "launch.h"

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1 };
enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock,
  cudaDevAttrMaxSharedMemoryPerBlock,
  cudaDevAttrMaxSharedMemoryPerBlockOptin,
  cudaDevAttrMultiProcessorCount,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor,
  cudaDevAttrComputeCapabilityMajor,
  cudaDevAttrComputeCapabilityMinor,
  cudaDevAttrWarpSize,
};
enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize,
  cudaFuncAttributePreferredSharedMemoryCarveout,
};

inline const char* cudaGetErrorString(cudaError_t status) {
  return status == cudaSuccess ? "no error" : "invalid value";
}
namespace simt {
inline cudaError_t last_error = cudaSuccess;
}
inline cudaError_t cudaGetLastError() { return std::exchange(simt::last_error, cudaSuccess); }
inline cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }

inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlock: *value = 48 * 1024; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = simt::shared_limit(); break;
    case cudaDevAttrMultiProcessorCount: *value = simt::multiprocessors(); break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = simt::shared_limit() + 1024; break;
    case cudaDevAttrComputeCapabilityMajor: *value = simt::is_hopper() ? 9 : 8; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrWarpSize: *value = warpSize; break;
    default: return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

// The bench learns what a kernel declares of shared memory when it runs.
struct cudaFuncAttributes {
  size_t sharedSizeBytes;
  int maxDynamicSharedSizeBytes;
};

template <class Kernel>
inline cudaError_t cudaFuncGetAttributes(cudaFuncAttributes* attributes, Kernel kernel) {
  *attributes = {0, simt::granted_shared(reinterpret_cast<const void*>(kernel))};
  return cudaSuccess;
}

template <class Kernel>
inline cudaError_t cudaFuncSetAttribute(Kernel kernel, cudaFuncAttribute attribute, int value) {
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  const bool granted = simt::grant_shared(reinterpret_cast<const void*>(kernel), value);
  return granted ? cudaSuccess : simt::last_error = cudaErrorInvalidValue;
}

template <class Kernel>
inline cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, Kernel, int, size_t) {
  return *blocks = 2, cudaSuccess;
}

inline cudaError_t cudaMemsetAsync(void* memory, int value, size_t bytes, cudaStream_t) {
  return std::memset(memory, value, bytes), cudaSuccess;
}
