#include "csrc/stable/op.h"
namespace sslfast { namespace {
struct SmokeArgs { const float* in; float* out; int n; };
__global__ void smoke(SmokeArgs a) {
  __shared__ float s[64];
  int i = blockIdx.x * 64 + threadIdx.x;
  s[threadIdx.x] = i < a.n ? a.in[i] : 0.f;
  __syncthreads();
  if (i < a.n) a.out[i] = s[63 - threadIdx.x];
}
void run_smoke(const SmokeArgs& a, CudaContext& c) { launch(smoke, dim3((a.n+63)/64), dim3(64), 0, c, a); }
SSLFAST_CUDA_KERNEL(SmokeArgs, run_smoke)
Tensor smoke_op(const Tensor& in) {
  Tensor out = torch::stable::empty_like(in);
  SmokeArgs a{static_cast<const float*>(in.const_data_ptr()), static_cast<float*>(out.mutable_data_ptr()), (int)in.numel()};
  sslfast::run(a, in);
  return out;
}
SSLFAST_OP(smoke_op, "smoke_op(Tensor input) -> Tensor")
}}
