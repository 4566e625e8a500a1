// CUDA side of the seam: kernels, the current stream, launches and scratch memory.
//
//   // ops/cuda/my_op_kernel.cu
//   __global__ void my_op(MyOpArgs args) { … }
//   static void run(const MyOpArgs& args, CudaContext& context) {
//     launch(my_op, grid, block, shared_bytes, context, args);
//   }
//   SSLFAST_CUDA_KERNEL(MyOpArgs, run)
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/ops.h>

#include <deque>

#include "csrc/stable/check.h"

#if !defined(SSLFAST_SIMT)
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#endif

namespace sslfast {

inline void cuda_check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // said here, so that whoever asks next does not take it for their own
  check(false, what, ": ", cudaGetErrorString(status));
}

// One call of an op: its stream, its device, and scratch memory that lives until the op returns (torch's allocator
// reuses it in stream order, so kernels still in flight are safe).
class CudaContext {
 public:
  CudaContext(cudaStream_t stream, const Tensor& like) : stream_(stream), like_(like) {}

  cudaStream_t stream() const { return stream_; }

  int multiprocessors() const { return attribute(cudaDevAttrMultiProcessorCount); }

  // Largest dynamic shared memory that a block may ask for, in bytes.
  int shared_limit() const { return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin); }

  // 80 for compute capability 8.0.
  int capability() const {
    return 10 * attribute(cudaDevAttrComputeCapabilityMajor) + attribute(cudaDevAttrComputeCapabilityMinor);
  }

  void* scratch(int64_t bytes) {
    held_.push_back(torch::stable::new_empty(like_, {bytes}, ScalarType::Byte));
    return held_.back().mutable_data_ptr();
  }

 private:
  int attribute(cudaDeviceAttr name) const {
    int value = 0;
    cuda_check(cudaDeviceGetAttribute(&value, name, like_.get_device_index()), "cudaDeviceGetAttribute");
    return value;
  }

  cudaStream_t stream_;
  Tensor like_;
  std::deque<Tensor> held_;
};

template <class Args>
struct CudaKernel {
  using Function = void (*)(const Args&, CudaContext&);
  static inline Function function = nullptr;
};

#if defined(__CUDACC__) || defined(SSLFAST_SIMT)
// A block has 48 KiB of shared memory without asking, variables and dynamic memory together. No kernel with dynamic
// memory has variables of more than the rest.
constexpr size_t shared_unasked = 32 * 1024;

// Lets a kernel have so much dynamic shared memory on the current device, which is the tensors'. It gets all that there
// is, once: a permission that another host thread's smaller launch could take back would fail at times.
inline void grant_shared(const void* kernel, size_t bytes, const CudaContext& context) {
  cudaFuncAttributes attributes{};
  cuda_check(cudaFuncGetAttributes(&attributes, kernel), "cudaFuncGetAttributes");
  const int most = context.shared_limit() - static_cast<int>(attributes.sharedSizeBytes);
  check(bytes <= static_cast<size_t>(most), "kernel launch: a block needs ", bytes,
        " bytes of shared memory, of which this GPU has ", most, "; use smaller inputs");
  if (attributes.maxDynamicSharedSizeBytes == most) return;
  cuda_check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), "cudaFuncSetAttribute");
}

// The one place where kernels are launched. `shared_bytes` may be as many as the device has for a block.
template <class... Parameters, class... Arguments>
inline void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, CudaContext& context,
                   Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  if (shared_bytes > shared_unasked) grant_shared(reinterpret_cast<const void*>(kernel), shared_bytes, context);
#if defined(SSLFAST_SIMT)
  simt::launch(kernel, grid, block, shared_bytes, context.stream(), static_cast<Parameters>(arguments)...);
#else
  kernel<<<grid, block, shared_bytes, context.stream()>>>(static_cast<Parameters>(arguments)...);
#endif
  cuda_check(cudaGetLastError(), "kernel launch");
}
#endif

#if !defined(SSLFAST_SIMT)
// torch's current stream. The symbol is looked up in the already loaded libtorch_cuda, so that the library can be built
// against a torch without CUDA.
inline cudaStream_t current_stream(int32_t device) {
  using Getter = AOTITorchError (*)(int32_t, void**);
  static const Getter getter = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_LAZY | RTLD_NOLOAD);
    check(library != nullptr, "sslfast: this torch has no CUDA; install a CUDA build of torch");
    return reinterpret_cast<Getter>(dlsym(library, "aoti_torch_get_current_cuda_stream"));
  }();
  check(getter != nullptr,
        "sslfast: this torch does not export its current CUDA stream; torch 2.11 or later is needed");
  void* stream = nullptr;
  check(getter(device, &stream) == AOTI_TORCH_SUCCESS, "sslfast: cannot read torch's current CUDA stream");
  return static_cast<cudaStream_t>(stream);
}
#endif

}  // namespace sslfast

// Declares `T* name`, the block's dynamic shared memory (16-byte aligned), inside a kernel.
#if defined(SSLFAST_SIMT)
#define SSLFAST_DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::simt::dynamic_shared())
#else
#define SSLFAST_DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(16) unsigned char sslfast_dynamic_shared[]; \
  T* const name = reinterpret_cast<T*>(sslfast_dynamic_shared)
#endif

#define SSLFAST_CUDA_KERNEL(Args, run)                               \
  [[maybe_unused]] static const bool sslfast_registered_##run = [] { \
    ::sslfast::CudaKernel<Args>::function = run;                     \
    return true;                                                     \
  }();
