#include "csrc/ops/patch_grid_params.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

// One thread a patch.
__global__ void patch_grid_params(PatchGridParamsArgs args) {
  const int64_t entry = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (entry >= args.images * args.count) return;
  const int64_t b = entry / args.count;
  draw_entry(args, b, entry - b * args.count);
}

void run_kernel(const PatchGridParamsArgs& args, CudaContext& context) {
  constexpr int threads = 128;
  const dim3 grid(static_cast<unsigned>((args.images * args.count + threads - 1) / threads));
  launch(patch_grid_params, grid, dim3(threads), 0, context, args);
}

SSLFAST_CUDA_KERNEL(PatchGridParamsArgs, run_kernel)

}  // namespace
}  // namespace sslfast
