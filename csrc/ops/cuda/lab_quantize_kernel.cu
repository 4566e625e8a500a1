// Two kernels an op. In the first a warp owns a cell: its lanes walk over the cell's pixels, and neighbouring warps
// share the cache lines of neighbouring cells; the Lab image is never stored. In the second, for hard classes, a block
// owns an image: the ranges of its channels, then the classes of its cells; for soft ones, a thread owns a cell. No
// atomics: every sum has one owner and a fixed order.
#include "csrc/ops/cuda/lab_light.h"
#include "csrc/ops/lab_quantize.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

constexpr int threads = 256;
constexpr int warps = threads / 32;
constexpr unsigned all_lanes = 0xFFFFFFFFu;

// means[(image * 3 + channel) * cells + cell]
template <class T, bool rgb>
__global__ void __launch_bounds__(threads) lab_means_kernel(LabCells args, float* means) {
  __shared__ float table[lab_table_size];
  if constexpr (!rgb) {
    fill_light<T>(table);
    __syncthreads();
  }
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
      float values[3];
      if constexpr (rgb) {
#pragma unroll
        for (int c = 0; c < 3; ++c) values[c] = lab_level(pixel[c * plane]);
      } else {
        lab_from_linear(light(table, pixel[0]), light(table, pixel[plane]), light(table, pixel[2 * plane]), values[0],
                        values[1], values[2]);
      }
#pragma unroll
      for (int c = 0; c < 3; ++c) sums[c] += values[c];
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
  const int cells = args.cells.cell_rows * args.cells.cell_columns;
  for (int64_t b = blockIdx.x; b < args.cells.count; b += gridDim.x) {
    const float* image = means + 3 * b * cells;
    LabBins bins[3];
#pragma unroll
    for (int c = 0; c < 3; ++c) {
      bins[c] = lab_grid(args.cells.rgb, c);
      if (args.kind == LabKind::rescaled) {
        const Range range = block_range(image + static_cast<int64_t>(c) * cells, cells, partial[c]);
        bins[c] = lab_bins(range.low, range.high);
      }
      if (threadIdx.x == 0) lab_store_range(bins[c], args.cells.rgb, args.ranges + 2 * (3 * b + c));
    }
    for (int k = threadIdx.x; k < cells; k += threads) {
      const float second = image[static_cast<int64_t>(cells) + k];
      const float third = image[2 * static_cast<int64_t>(cells) + k];
      args.first[b * cells + k] = lab_bin(bins[0], image[k], lab_lightness_bins);
      args.rest[b * cells + k] =
          args.kind == LabKind::ab313
              ? lab_nearest_bin(args.gamut, second, third)
              : lab_color_bins * lab_bin(bins[1], second, lab_color_bins) + lab_bin(bins[2], third, lab_color_bins);
    }
  }
}

// The sorted lists stay in registers: every loop over them is unrolled, and `neighbours` only cuts what is stored.
__global__ void __launch_bounds__(threads) lab_soft_encode_kernel(LabSoftEncodeArgs args, const float* means) {
  const int64_t cells = static_cast<int64_t>(args.cells.cell_rows) * args.cells.cell_columns;
  const int64_t thread = static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x;
  if (thread >= args.cells.count * cells) return;
  const int64_t image = thread / cells;
  const int64_t cell = thread - image * cells;
  const float a = means[(3 * image + 1) * cells + cell];
  const float b = means[(3 * image + 2) * cells + cell];
  const int column = lab_gamut_cell(a), row = lab_gamut_cell(b);
  float nearest[lab_most_neighbours];
  int bins[lab_most_neighbours];
#pragma unroll
  for (int k = 0; k < lab_most_neighbours; ++k) {
    nearest[k] = INFINITY;
    bins[k] = 0;
  }
#pragma unroll 1
  for (int da = lab_window_begin; da < lab_window_end; ++da) {
#pragma unroll 1
    for (int db = lab_window_begin; db < lab_window_end; ++db) {
      int bin = lab_gamut_bin(args.gamut, column + da, row + db);
      if (bin < 0) continue;
      float distance = lab_square_distance(a, b, column + da, row + db);
#pragma unroll
      for (int k = 0; k < lab_most_neighbours; ++k) {
        const bool nearer = distance < nearest[k];
        const float pushed = nearer ? nearest[k] : distance;
        const int pushed_bin = nearer ? bins[k] : bin;
        nearest[k] = nearer ? distance : nearest[k];
        bins[k] = nearer ? bin : bins[k];
        distance = pushed;
        bin = pushed_bin;
      }
    }
  }
  const float closest = nearest[0];
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < lab_most_neighbours; ++k) {
    nearest[k] = lab_weight(nearest[k], closest, args.falloff);
    if (k < args.neighbours) sum += nearest[k];
  }
  const int64_t out = image * args.neighbours * cells + cell;
#pragma unroll
  for (int k = 0; k < lab_most_neighbours; ++k) {
    if (k < args.neighbours) {
      args.indices[out + k * cells] = bins[k];
      args.weights[out + k * cells] = nearest[k] / sum;
    }
  }
}

// Means of all cells, in scratch memory.
const float* run_means(const LabCells& args, CudaContext& context) {
  const int64_t cells = static_cast<int64_t>(args.cell_rows) * args.cell_columns;
  const int64_t across = (cells + warps - 1) / warps;
  const int64_t wanted = 16 * static_cast<int64_t>(context.multiprocessors()) / across;
  const int64_t down = wanted < 1 ? 1 : (wanted < args.count ? wanted : args.count);
  float* means = static_cast<float*>(context.scratch(args.count * 3 * cells * static_cast<int64_t>(sizeof(float))));
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(down));
  const bool bytes = args.dtype == ScalarType::Byte;
  const auto kernel = args.rgb ? (bytes ? lab_means_kernel<uint8_t, true> : lab_means_kernel<float, true>)
                               : (bytes ? lab_means_kernel<uint8_t, false> : lab_means_kernel<float, false>);
  launch(kernel, grid, dim3(threads), 0, context, args, means);
  return means;
}

void run_kernel(const LabQuantizeArgs& args, CudaContext& context) {
  const float* means = run_means(args.cells, context);
  const int64_t filling = 16 * static_cast<int64_t>(context.multiprocessors());
  const int64_t blocks = args.cells.count < filling ? args.cells.count : filling;
  launch(lab_classes_kernel, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, context, args, means);
}

void run_soft_encode(const LabSoftEncodeArgs& args, CudaContext& context) {
  const float* means = run_means(args.cells, context);
  const int64_t count = args.cells.count * args.cells.cell_rows * args.cells.cell_columns;
  const int64_t blocks = (count + threads - 1) / threads;
  check(blocks < int64_t{1} << 31, "lab_soft_encode: ", count, " cells are more than a GPU takes; use a smaller batch");
  launch(lab_soft_encode_kernel, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, context, args, means);
}

SSLFAST_CUDA_KERNEL(LabQuantizeArgs, run_kernel)
SSLFAST_CUDA_KERNEL(LabSoftEncodeArgs, run_soft_encode)

}  // namespace
}  // namespace sslfast
