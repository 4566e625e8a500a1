// Registration of an op: one source file (ops/<op>.cpp) is compiled into the CPU library, where it defines the schema,
// and again into the CUDA library. It checks its arguments, allocates the output and hands a plain struct to the
// kernel.
//
//   static Tensor my_op(const Tensor& in) { …checks…; run(MyOpArgs{…}, in); return out; }
//   SSLFAST_OP(my_op, "my_op(Tensor input) -> Tensor")
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "csrc/stable/check.h"

#if defined(SSLFAST_CUDA_LIBRARY)
#include "csrc/stable/cuda.h"
#else
#include "csrc/stable/isa.h"
#endif

namespace sslfast {

// Runs the kernel registered for `Args` on the device of `like`.
template <class Args>
inline void run(const Args& args, const Tensor& like) {
#if defined(SSLFAST_SIMT)
  CudaContext context(nullptr, like);
  CudaKernel<Args>::function(args, context);
#elif defined(SSLFAST_CUDA_LIBRARY)
  const torch::stable::accelerator::DeviceGuard guard(like.get_device_index());
  CudaContext context(current_stream(like.get_device_index()), like);
  CudaKernel<Args>::function(args, context);
#else
  (void)like;
  CpuKernel<Args>::run(args);
#endif
}

}  // namespace sslfast

#if defined(SSLFAST_SIMT)
#define SSLFAST_OP(function, schema)                                            \
  STABLE_TORCH_LIBRARY_FRAGMENT(sslfast_simt, library) { library.def(schema); } \
  STABLE_TORCH_LIBRARY_IMPL(sslfast_simt, CPU, library) { library.impl(#function, TORCH_BOX(&function)); }
#elif defined(SSLFAST_CUDA_LIBRARY)
#define SSLFAST_OP(function, schema) \
  STABLE_TORCH_LIBRARY_IMPL(sslfast, CUDA, library) { library.impl(#function, TORCH_BOX(&function)); }
#else
#define SSLFAST_OP(function, schema)                                       \
  STABLE_TORCH_LIBRARY_FRAGMENT(sslfast, library) { library.def(schema); } \
  STABLE_TORCH_LIBRARY_IMPL(sslfast, CPU, library) { library.impl(#function, TORCH_BOX(&function)); }
#endif
