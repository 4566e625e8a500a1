// Two kernels. In the first a warp owns a cell: its lanes walk over the cell's pixels, and neighbouring warps share the
// cache lines of neighbouring cells; the Lab image is never stored. In the second a block owns an image: the ranges of
// its channels, then the classes of its cells. No atomics: every sum has one owner and a fixed order.
#include "csrc/ops/cuda/lab_light.h"
#include "csrc/ops/lab_quantize.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / 32;
constexpr unsigned all_lanes = 0xFFFFFFFFu;

// means[(image * 3 + channel) * cells + cell]
template <class T>
__global__ void __launch_bounds__(threads) lab_means_kernel(LabQuantizeArgs args, float* means) {
  __shared__ float table[lab_table_size];
  fill_light<T>(table);
  __syncthreads();
  const int cells = args.cell_rows * args.cell_columns;
  const int cell = blockIdx.x * warps + threadIdx.x / 32;
  if (cell >= cells) return;
  const int i = cell / args.cell_columns;
  const int j = cell - i * args.cell_columns;
  const int top = lab_cell_begin(i, args.height, args.cell_rows);
  const int left = lab_cell_begin(j, args.width, args.cell_columns);
  const int width = lab_cell_end(j, args.width, args.cell_columns) - left;
  const int pixels = (lab_cell_end(i, args.height, args.cell_rows) - top) * width;
  const int64_t plane = static_cast<int64_t>(args.height) * args.width;
  for (int64_t b = blockIdx.y; b < args.count; b += gridDim.y) {
    const T* image = static_cast<const T*>(args.images) + 3 * b * plane;
    float sums[3] = {0.0f, 0.0f, 0.0f};
    for (int p = threadIdx.x % 32; p < pixels; p += 32) {
      const int y = p / width;
      const T* pixel = image + static_cast<int64_t>(top + y) * args.width + left + (p - y * width);
      float l, a, b_;
      lab_from_linear(light(table, pixel[0]), light(table, pixel[plane]), light(table, pixel[2 * plane]), l, a, b_);
      sums[0] += l;
      sums[1] += a;
      sums[2] += b_;
    }
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      float sum = sums[c];
      for (int lanes = 16; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(all_lanes, sum, lanes);
      if (threadIdx.x % 32 == 0) means[(3 * b + c) * cells + cell] = sum / static_cast<float>(pixels);
    }
  }
}

struct Range {
  float low, high;
};

// NaN widens nothing.
__device__ Range widened(Range a, Range b) {
  return {b.low < a.low ? b.low : a.low, b.high > a.high ? b.high : a.high};
}

// Least and greatest of n values, in every thread of the block. `partial` is read until the next barrier.
__device__ Range block_range(const float* values, int n, Range (&partial)[warps]) {
  Range range{INFINITY, -INFINITY};
  for (int k = threadIdx.x; k < n; k += threads) range = widened(range, {values[k], values[k]});
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    range =
        widened(range, {__shfl_xor_sync(all_lanes, range.low, lanes), __shfl_xor_sync(all_lanes, range.high, lanes)});
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = range;
  __syncthreads();
  for (int warp = 0; warp < warps; ++warp) range = widened(range, partial[warp]);
  return range;
}

__global__ void __launch_bounds__(threads) lab_classes_kernel(LabQuantizeArgs args, const float* means) {
  __shared__ Range partial[3][warps];  // a barrier of another channel lies between its uses by two images
  const int cells = args.cell_rows * args.cell_columns;
  for (int64_t b = blockIdx.x; b < args.count; b += gridDim.x) {
    const float* image = means + 3 * b * cells;
    LabBins bins[3] = {lab_grid(0), lab_grid(1), lab_grid(2)};
    if (args.rescaled) {
#pragma unroll
      for (int c = 0; c < 3; ++c) {
        const Range range = block_range(image + static_cast<int64_t>(c) * cells, cells, partial[c]);
        bins[c] = lab_bins(range.low, range.high, c == 0 ? lab_lightness_bins : lab_color_bins);
      }
    }
    for (int k = threadIdx.x; k < cells; k += threads) {
      args.lightness[b * cells + k] = lab_bin(bins[0], image[k], lab_lightness_bins);
      args.color[b * cells + k] =
          lab_color_bins * lab_bin(bins[1], image[static_cast<int64_t>(cells) + k], lab_color_bins) +
          lab_bin(bins[2], image[2 * static_cast<int64_t>(cells) + k], lab_color_bins);
    }
  }
}

void run_kernel(const LabQuantizeArgs& args, CudaContext& context) {
  const int64_t cells = static_cast<int64_t>(args.cell_rows) * args.cell_columns;
  const int64_t across = (cells + warps - 1) / warps;
  const int64_t filling = 16 * static_cast<int64_t>(context.multiprocessors());
  const int64_t wanted = filling / across;
  const int64_t down = wanted < 1 ? 1 : (wanted < args.count ? wanted : args.count);
  float* means = static_cast<float*>(context.scratch(args.count * 3 * cells * static_cast<int64_t>(sizeof(float))));
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(down));
  const auto kernel = args.dtype == ScalarType::Byte ? lab_means_kernel<uint8_t> : lab_means_kernel<float>;
  launch(kernel, grid, dim3(threads), 0, context, args, means);
  const int64_t blocks = args.count < filling ? args.count : filling;
  launch(lab_classes_kernel, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, context, args,
         static_cast<const float*>(means));
}

SSLFAST_CUDA_KERNEL(LabQuantizeArgs, run_kernel)

}  // namespace
}  // namespace sslfast
