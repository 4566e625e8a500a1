#include "csrc/ops/augment_params.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

// One thread an image, one row of blocks a view.
__global__ void augment_params(AugmentParamsArgs args) {
  const int64_t b = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (b >= args.count) return;
  const int64_t row = blockIdx.y * args.count + b;
  DrawStream stream = args.stream;
  stream.view += blockIdx.y;
  args.noise_key[row] =
      draw_params(args.params[row], args.fields, stream, args.index[b], args.sizes[2 * b], args.sizes[2 * b + 1]);
}

void run_kernel(const AugmentParamsArgs& args, CudaContext& context) {
  constexpr int threads = 128;
  const dim3 grid(static_cast<unsigned>((args.count + threads - 1) / threads), static_cast<unsigned>(args.views));
  launch(augment_params, grid, dim3(threads), 0, context, args);
}

SSLFAST_CUDA_KERNEL(AugmentParamsArgs, run_kernel)

}  // namespace
}  // namespace sslfast
