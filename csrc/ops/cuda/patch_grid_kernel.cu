// Forward: one unit of a patch's row a thread, 16 bytes where rows divide into them, else one value. Units lie in
// the result as the threads lie in the block:
//
//   threadIdx.x   unit of a row        (steps of blockDim.x)
//   threadIdx.y   row, channel after channel  (steps of blockDim.y)
//   threadIdx.z   patch
//
// Backward: one unit of an image's plane a thread. A block first lists the patches that touch its rows, in the order of
// k, in shared memory; then each thread walks the list. Nothing is added atomically.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>

#include "csrc/ops/patch_grid.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

constexpr int threads = 256;
constexpr int unit_bytes = 16;

// Values x … of an image's row of `width`, packed; zeros outside of the row.
template <class T>
__device__ uint4 gather_unit(const T* row, int x, int width) {
  uint32_t words[4] = {};
#pragma unroll
  for (int k = 0; k < static_cast<int>(unit_bytes / sizeof(T)); ++k) {
    if (x + k < 0 || x + k >= width) continue;
    const T value = __ldg(row + x + k);
    constexpr int in_word = sizeof(T) < 4 ? 4 / sizeof(T) : 1;
    if constexpr (sizeof(T) == 8) {
      words[2 * k] = static_cast<uint32_t>(value);
      words[2 * k + 1] = static_cast<uint32_t>(static_cast<uint64_t>(value) >> 32);
    } else {
      words[k / in_word] |= static_cast<uint32_t>(value) << k % in_word * 8 * sizeof(T);
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// The same, by whole words where the unit lies inside the row. Words that hold a byte of it may begin before and end
// behind it, but not outside of the images, which begin at a multiple of a word and end at `end`.
template <class T>
__device__ uint4 load_unit(const T* row, int x, int width, const char* end) {
  if (x < 0 || x + static_cast<int>(unit_bytes / sizeof(T)) > width) return gather_unit(row, x, width);
  const char* const first = reinterpret_cast<const char*>(row + x);
  const unsigned misaligned = static_cast<unsigned>(reinterpret_cast<uintptr_t>(first) % unit_bytes);
  if (misaligned == 0) return __ldg(reinterpret_cast<const uint4*>(first));
  const unsigned shift = misaligned % 4;
  const uint32_t* const words = reinterpret_cast<const uint32_t*>(first - shift);
  if (sizeof(T) < 4 && shift != 0) {
    if (first - shift + 20 > end) return gather_unit(row, x, width);
    uint32_t w[5];
#pragma unroll
    for (int i = 0; i < 5; ++i) w[i] = __ldg(words + i);
    return make_uint4(__funnelshift_r(w[0], w[1], 8 * shift), __funnelshift_r(w[1], w[2], 8 * shift),
                      __funnelshift_r(w[2], w[3], 8 * shift), __funnelshift_r(w[3], w[4], 8 * shift));
  }
  return make_uint4(__ldg(words), __ldg(words + 1), __ldg(words + 2), __ldg(words + 3));
}

// `units` a row of a patch; with `wide` they are 16 bytes, else one T.
template <class T, bool wide>
__global__ void __launch_bounds__(threads) patch_grid(PatchGridArgs args, int units) {
  const PatchGrid& grid = args.grid;
  const int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.z + threadIdx.z;
  if (i >= grid.images * grid.count) return;
  const int64_t b = i / grid.count;
  const Patch patch = patch_at(grid, b, i - b * grid.count);
  const int64_t plane = static_cast<int64_t>(grid.height) * grid.width;
  const T* const image = static_cast<const T*>(args.images) + b * grid.channels * plane;
  const char* const end =
      reinterpret_cast<const char*>(static_cast<const T*>(args.images) + grid.images * grid.channels * plane);
  const int rows = grid.channels * grid.patch_height;
  const int step_c = static_cast<int>(blockDim.y) / grid.patch_height;
  const int step_y = static_cast<int>(blockDim.y) - step_c * grid.patch_height;
  int c = static_cast<int>(threadIdx.y) / grid.patch_height;
  int y = static_cast<int>(threadIdx.y) - c * grid.patch_height;
  for (int row = threadIdx.y; row < rows; row += blockDim.y) {
    const int image_y = patch.top + y;
    const bool empty = image_y < 0 || image_y >= grid.height || is_dropped(patch, c);
    const T* const in = image + c * plane + static_cast<int64_t>(image_y) * grid.width;
    const int64_t out = (i * rows + row) * units;
    for (int u = threadIdx.x; u < units; u += blockDim.x) {
      if constexpr (wide) {
        const int x = patch.left + u * static_cast<int>(unit_bytes / sizeof(T));
        static_cast<uint4*>(args.patches)[out + u] = empty ? make_uint4(0, 0, 0, 0) : load_unit(in, x, grid.width, end);
      } else {
        const int x = patch.left + u;
        static_cast<T*>(args.patches)[out + u] = empty || x < 0 || x >= grid.width ? T{0} : __ldg(in + x);
      }
    }
    c += step_c;
    y += step_y;
    if (y >= grid.patch_height) {
      y -= grid.patch_height;
      ++c;
    }
  }
}

unsigned blocks_of(int64_t count) {
  check(count < int64_t{1} << 31, "patch_grid: ", count, " blocks are more than a GPU takes; use a smaller batch");
  return static_cast<unsigned>(count);
}

template <class T>
void run_typed(const PatchGridArgs& args, CudaContext& context) {
  const PatchGrid& grid = args.grid;
  const int64_t row_bytes = static_cast<int64_t>(grid.patch_width) * sizeof(T);
  const bool wide = row_bytes % unit_bytes == 0 && reinterpret_cast<uintptr_t>(args.images) % 4 == 0;
  const int units = static_cast<int>(wide ? row_bytes / unit_bytes : grid.patch_width);
  const int x = units < threads ? units : threads;
  const int rows = grid.channels * grid.patch_height;
  const int y = rows < threads / x ? rows : threads / x;
  const int z = threads / (x * y) < 64 ? threads / (x * y) : 64;
  const dim3 block(static_cast<unsigned>(x), static_cast<unsigned>(y), static_cast<unsigned>(z));
  const dim3 blocks(blocks_of((grid.images * grid.count + z - 1) / z));
  launch(wide ? patch_grid<T, true> : patch_grid<T, false>, blocks, block, 0, context, args, units);
}

void run_kernel(const PatchGridArgs& args, CudaContext& context) {
  switch (args.element_bytes) {
    case 1: return run_typed<uint8_t>(args, context);
    case 2: return run_typed<uint16_t>(args, context);
    case 4: return run_typed<uint32_t>(args, context);
    default: return run_typed<unsigned long long>(args, context);
  }
}

// --- backward
// ---------------------------------------------------------------------------------------------------------

template <class T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};

__device__ inline float widen(float value) { return value; }
__device__ inline double widen(double value) { return value; }
__device__ inline float widen(__half value) { return __half2float(value); }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline void narrow(float value, float* out) { *out = value; }
__device__ inline void narrow(double value, double* out) { *out = value; }
__device__ inline void narrow(float value, __half* out) { *out = __float2half_rn(value); }
__device__ inline void narrow(float value, __nv_bfloat16* out) { *out = __float2bfloat16_rn(value); }

// A patch that touches a block's rows; `first` is where pixel (0, 0) of the image would lie in the gradient's storage.
struct Cover {
  int64_t first;
  int top, left;
};

// Adds what the patch gives to pixels x … of row y.
template <class T, int pixels>
__device__ void add_cover(const PatchGridBackwardArgs& args, const Cover& cover, int x, int y,
                          typename SumOf<T>::type (&sum)[pixels]) {
  const int patch_y = y - cover.top, patch_x = x - cover.left;
  const int width = args.grid.patch_width;
  if (patch_y < 0 || patch_y >= args.grid.patch_height || patch_x <= -pixels || patch_x >= width) return;
  const T* const in = static_cast<const T*>(args.grad_patches) + (cover.first + static_cast<int64_t>(y) * width + x);
  if (pixels > 1 && patch_x >= 0 && patch_x + pixels <= width && reinterpret_cast<uintptr_t>(in) % unit_bytes == 0) {
    const uint4 unit = __ldg(reinterpret_cast<const uint4*>(in));
    T values[pixels];
    std::memcpy(values, &unit, sizeof(values));
#pragma unroll
    for (int v = 0; v < pixels; ++v) sum[v] += widen(values[v]);
    return;
  }
#pragma unroll
  for (int v = 0; v < pixels; ++v) {
    if (patch_x + v >= 0 && patch_x + v < width) sum[v] += widen(in[v]);
  }
}

// `pixels` of a row a thread: 16 bytes, or one where rows do not divide into them.
template <class T, int pixels>
__global__ void __launch_bounds__(threads) patch_grid_backward(PatchGridBackwardArgs args, int blocks_a_plane) {
  __shared__ Cover covers[threads];
  __shared__ int warp_hits[threads / 32];
  const PatchGrid& grid = args.grid;
  const int64_t plane = blockIdx.x / blocks_a_plane;
  const int64_t b = plane / grid.channels;
  const int c = static_cast<int>(plane - b * grid.channels);
  const int plane_pixels = grid.height * grid.width;
  const int block_first = (static_cast<int>(blockIdx.x) - static_cast<int>(plane) * blocks_a_plane) * threads * pixels;
  const int block_end = plane_pixels - block_first < threads * pixels ? plane_pixels : block_first + threads * pixels;
  const int first_row = block_first / grid.width, last_row = (block_end - 1) / grid.width;
  const int pixel = block_first + static_cast<int>(threadIdx.x) * pixels;
  const int y = pixel / grid.width, x = pixel - y * grid.width;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const int64_t patch_plane = static_cast<int64_t>(grid.patch_height) * grid.patch_width;
  typename SumOf<T>::type sum[pixels] = {};

  for (int64_t start = 0; start < grid.count; start += threads) {
    const int64_t k = start + threadIdx.x;
    Cover cover{};
    bool hit = false;
    if (k < grid.count) {
      const Patch patch = patch_at(grid, b, k);
      hit = patch.top <= last_row && patch.top + grid.patch_height > first_row && !is_dropped(patch, c);
      cover.first = ((b * grid.count + k) * grid.channels + c) * patch_plane -
                    static_cast<int64_t>(patch.top) * grid.patch_width - patch.left;
      cover.top = patch.top;
      cover.left = patch.left;
    }
    const unsigned hits = __ballot_sync(0xFFFFFFFFu, hit);
    if (lane == 0) warp_hits[warp] = __popc(hits);
    __syncthreads();  // the hits of all warps are counted, and the last list has been read
    int place = __popc(hits & ((1u << lane) - 1)), count = 0;
    for (int w = 0; w < threads / 32; ++w) {
      place += w < warp ? warp_hits[w] : 0;
      count += warp_hits[w];
    }
    if (hit) covers[place] = cover;
    __syncthreads();  // the list is complete
    if (pixel < plane_pixels) {
      for (int i = 0; i < count; ++i) add_cover<T, pixels>(args, covers[i], x, y, sum);
    }
  }

  if (pixel >= plane_pixels) return;
  T* const out = static_cast<T*>(args.grad_images) + plane * plane_pixels + pixel;
  T values[pixels];
#pragma unroll
  for (int v = 0; v < pixels; ++v) narrow(sum[v], &values[v]);
  if constexpr (pixels > 1) {
    uint4 unit;
    std::memcpy(&unit, values, sizeof(unit));
    *reinterpret_cast<uint4*>(out) = unit;
  } else {
    *out = values[0];
  }
}

template <class T, int pixels>
void run_backward(const PatchGridBackwardArgs& args, CudaContext& context) {
  const PatchGrid& grid = args.grid;
  constexpr int64_t block_pixels = threads * pixels;
  const int64_t blocks_a_plane = (static_cast<int64_t>(grid.height) * grid.width + block_pixels - 1) / block_pixels;
  const dim3 blocks(blocks_of(grid.images * grid.channels * blocks_a_plane));
  launch(patch_grid_backward<T, pixels>, blocks, dim3(threads), 0, context, args, static_cast<int>(blocks_a_plane));
}

template <class T>
void run_backward_typed(const PatchGridBackwardArgs& args, CudaContext& context) {
  constexpr int pixels = unit_bytes / sizeof(T);
  if (args.grid.width % pixels == 0) return run_backward<T, pixels>(args, context);
  run_backward<T, 1>(args, context);
}

void run_backward_kernel(const PatchGridBackwardArgs& args, CudaContext& context) {
  switch (args.dtype) {
    case ScalarType::Half: return run_backward_typed<__half>(args, context);
    case ScalarType::BFloat16: return run_backward_typed<__nv_bfloat16>(args, context);
    case ScalarType::Double: return run_backward_typed<double>(args, context);
    default: return run_backward_typed<float>(args, context);
  }
}

SSLFAST_CUDA_KERNEL(PatchGridArgs, run_kernel)
SSLFAST_CUDA_KERNEL(PatchGridBackwardArgs, run_backward_kernel)

}  // namespace
}  // namespace sslfast
