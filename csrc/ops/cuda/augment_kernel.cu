// One block a view, in these passes:
//
//   resize       stored bytes -> planes, with the colour steps in front of contrast and the sum of gray
//   recolor      planes -> planes or result: contrast (by the mean gray) and the colour behind it
//   blur         in place of recolor: rows (with that colour) planes -> planes, columns planes -> planes or result;
//                bfloat16 on tensor cores in one pass, planes -> planes or result; large radii, and lines that the work
//                memory does not hold, piece by piece after recolor
//   sobel        planes -> planes or result, spoil: noise, channel drop, cutout: planes -> result; where asked for
//
// Planes lie in shared memory where they and the work memory are so small that three blocks share a multiprocessor
// (32 px SimCLR), else in the memory of the result itself: nothing else is kept in device memory.
//
// What bounds it is instructions: estimates from the machine code for sm_90a, SimCLR in bfloat16 at 224 px from crops
// of 180 px, a thread and pixel: vertical pass 23, horizontal 49, colour 42, recolor 35 or (every second view) blur 62:
// 162 (54 a value), so 255,000 warp instructions a view. An H200 issues 924e9 a second: 3.6 million views if it never
// waited, 2.4 million at two thirds of that. With floats in the vertical pass, a remainder in every hue and a blur on
// plain cores, 212 a pixel, the same count is some 290. At 32 px, where the set-up of a block counts for 45: about 160,
// 5,100 a view.
//
// Memory is no bound: a 224 px view moves 1.1 MB, 0.2 of them to read the image and 0.3 for each of: planes written,
// planes read, result written. At 2.4 million views a second that is 55 % of what an H200's memory gives, and what
// stays in the second-level cache is less. Planes in the shared memory of a cluster of two blocks would halve it and
// save 5 of the 162 instructions (addresses of planes), but leave one block a multiprocessor, which has nothing else to
// do while it waits at a barrier; so there is no such path. Nor do lanes store 16 bytes but in the blur: at 8 a warp's
// store already fills whole lines.
#include "csrc/ops/cuda/augment_blur.cuh"
#include "csrc/ops/cuda/augment_color.cuh"
#include "csrc/ops/cuda/augment_planes.cuh"
#include "csrc/ops/cuda/augment_resize.cuh"
#include "csrc/ops/cuda/augment_store.cuh"

namespace sslfast {
namespace {

// Threads of a block and blocks of a multiprocessor: 24 warps of up to 80 registers, 16 of 128 for any channels.
template <int width, bool resident>
struct Shape {
  static constexpr int threads = width == 3 && !resident ? 384 : 256;
  static constexpr int blocks = resident ? 3 : 2;
};
constexpr int static_shared = 1024;    // an upper bound of what the kernels declare
constexpr int widest_image = 1 << 27;  // pixels; 32 bits count the bytes of a row

// Sum over the block, the same bits in every thread and every run; what threads wrote before is there for all.
__device__ float block_sum(float value) {
  __shared__ float partial[Shape<3, false>::threads / 32];
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, lanes);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += partial[warp];
  return sum;
}

// `planes_size`: floats of shared memory that the planes take, 0 where they lie in the result.
template <class T, int width, bool resident>
__global__ void __launch_bounds__(Shape<width, resident>::threads, Shape<width, resident>::blocks)
    augment(AugmentArgs args, int planes_size, int work_size) {
  SSLFAST_DYNAMIC_SHARED(float, shared);
  __shared__ AugmentParams params;
  const int64_t b = blockIdx.x;
  static_assert(augment_column_count <= Shape<3, true>::threads / 2, "a thread a column, of the smallest block too");
  if (threadIdx.x < augment_column_count) {
    reinterpret_cast<float*>(&params)[threadIdx.x] = reinterpret_cast<const float*>(args.params + b)[threadIdx.x];
  }
  const int pixels = args.height * args.width;
  Stored<T>* const out = static_cast<Stored<T>*>(args.out) + b * pixels * args.channels;
  Stored<T>* planes = out;
  if constexpr (resident) planes = reinterpret_cast<Stored<T>*>(shared);
  const View<T, width, resident> view{
      args, params, b, pixels, planes, out, resident ? shared + planes_size : shared, work_size, args.width % 4 == 0};
  if (!inside_storage(args.offsets[b], args.sizes[2 * b], args.sizes[2 * b + 1], args.channels, args.storage_bytes) ||
      args.sizes[2 * b + 1] >= widest_image) {
    store_nan(view);
    return;
  }
  __syncthreads();  // the row of parameters
  const ColorPlan plan = color_plan(params);
  const float gray_mean = block_sum(make_planes(view, plan)) / static_cast<float>(pixels);
  const int radius = blur_radius(params);
  const bool has_sobel = params.sobel != 0.0f, spoiled = is_spoiled(params);
  const bool last = !has_sobel && !spoiled;
  if (radius == 0 || !blur_has_color(view, radius)) recolor(view, plan, gray_mean, radius == 0 && last);
  if (radius > 0) blur_view(view, plan, gray_mean, radius, last);
  if (has_sobel) sobel(view, !spoiled);
  if (spoiled) spoil(view);
}

template <class T, int width, bool resident>
void start(const AugmentArgs& args, CudaContext& context, int64_t planes_bytes, int64_t work_bytes,
           int threads = Shape<width, resident>::threads) {
  check(args.count < int64_t{1} << 31, "augment: ", args.count, " views are more than a launch takes; use fewer");
  launch(augment<T, width, resident>, dim3(static_cast<unsigned>(args.count)), dim3(threads),
         static_cast<size_t>(planes_bytes + work_bytes), context, args, static_cast<int>(planes_bytes / 4),
         static_cast<int>(work_bytes / 4));
}

// Bytes of work memory: enough for what cannot do with less, and, where a block may have so much, for the blur's faster
// passes, which stage a row of all channels or four columns.
int64_t work_for(const AugmentArgs& args, int64_t limit, int64_t share) {
  // Sobel keeps a column as float32, or as fixed point.
  const int64_t column = int64_t{args.height} * (int64_t{args.height} * 4 <= limit ? 4 : 2);
  int64_t bytes = (larger(least_blur_work(args.height, args.width) * 4, column) + 15) / 16 * 16;
  check(bytes <= limit, "augment: a view of ", args.height, " rows needs ", bytes, " bytes of shared memory, of which ",
        "this GPU has ", limit, "; use a smaller view");
  const int64_t row = int64_t{1} * blur_line(args.width, max_blur_margin) * args.channels;
  const int64_t columns = int64_t{4} * blur_line(args.height, max_blur_margin);
  for (const int64_t line : {row, columns}) {
    const int64_t wanted = (blur_weight_count + line) * 4;
    if (wanted <= limit) bytes = larger(bytes, wanted);
  }
  return larger(bytes, share / 16 * 16);
}

template <class T>
void run_typed(const AugmentArgs& args, CudaContext& context) {
  const int64_t limit = context.shared_limit() - static_shared;
  const int64_t values = int64_t{1} * args.height * args.width * args.channels;
  check(values < int64_t{1} << 31, "augment: a view of (", args.height, ", ", args.width, ") with ", args.channels,
        " channels has ", values, " values; on a GPU it must have less than 2^31, use a smaller view");
  const int64_t planes_bytes = (values * sizeof(Stored<T>) + 15) / 16 * 16;
  const int64_t work_bytes = work_for(args, limit, values * 4 + 4096);
  const int64_t block_bytes = planes_bytes + work_bytes + static_shared;
  if (args.channels == 3 && block_bytes <= limit / Shape<3, true>::blocks) {
    // Twice the blocks of half the threads where they fit: less of what every warp of a block computes for itself.
    const int parts = block_bytes <= limit / Shape<3, true>::blocks / 2 ? 2 : 1;
    return start<T, 3, true>(args, context, planes_bytes, work_bytes, Shape<3, true>::threads / parts);
  }
  const int64_t share = work_for(args, limit, limit / Shape<3, false>::blocks - static_shared);
  if (args.channels == 3) return start<T, 3, false>(args, context, 0, share);
  start<T, max_channels, false>(args, context, 0, share);
}

void run_kernel(const AugmentArgs& args, CudaContext& context) {
  switch (args.dtype) {
    case ScalarType::Half: return run_typed<__half>(args, context);
    case ScalarType::BFloat16: return run_typed<__nv_bfloat16>(args, context);
    default: return run_typed<float>(args, context);
  }
}

SSLFAST_CUDA_KERNEL(AugmentArgs, run_kernel)

}  // namespace
}  // namespace sslfast
