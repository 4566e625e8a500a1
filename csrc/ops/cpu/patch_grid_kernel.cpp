// Forward: patches are copied row by row, a few kilobytes a task. Backward: one plane of an image a task; every row of
// it is summed up in a buffer that stays in the first cache, so that it is written once.
#include "csrc/ops/patch_grid.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "csrc/ops/cpu/convert.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

#if defined(__AVX512F__)
constexpr int64_t register_bytes = 64;
#elif defined(__AVX2__)
constexpr int64_t register_bytes = 32;
#else
constexpr int64_t register_bytes = 16;
#endif
constexpr int64_t task_bytes = 64 * 1024;

// Copies rows of one length in registers of `width` bytes, the last of which may overlap the one before it: rows are so
// short that calls of memcpy would take longer than the copy.
template <int64_t width>
void copy_rows(char* out, const char* in, int64_t bytes, int64_t in_stride, int64_t rows) {
  for (int64_t y = 0; y < rows; ++y, out += bytes, in += in_stride) {
    for (int64_t i = 0; i + width <= bytes; i += width) std::memcpy(out + i, in + i, width);
    if (bytes % width != 0) std::memcpy(out + bytes - width, in + bytes - width, width);
  }
}

void copy_rows(char* out, const char* in, int64_t bytes, int64_t in_stride, int64_t rows) {
  if (bytes >= register_bytes) return copy_rows<register_bytes>(out, in, bytes, in_stride, rows);
  if (bytes >= 16) return copy_rows<16>(out, in, bytes, in_stride, rows);
  if (bytes >= 8) return copy_rows<8>(out, in, bytes, in_stride, rows);
  if (bytes >= 4) return copy_rows<4>(out, in, bytes, in_stride, rows);
  copy_rows<1>(out, in, bytes, in_stride, rows);
}

void copy_patch(const PatchGridArgs& args, int64_t b, int64_t k) {
  const PatchGrid& grid = args.grid;
  const Patch patch = patch_at(grid, b, k);
  const int64_t bytes = args.element_bytes, row_bytes = grid.patch_width * bytes, image_row_bytes = grid.width * bytes;
  const int64_t patch_bytes = grid.patch_height * row_bytes;
  // The rows and columns of the patch that lie inside the image.
  const int first_row = std::max(0, -patch.top), end_row = std::min(grid.patch_height, grid.height - patch.top);
  const int first = std::max(0, -patch.left), end = std::min(grid.patch_width, grid.width - patch.left);
  const bool whole = first_row == 0 && end_row == grid.patch_height && first == 0 && end == grid.patch_width;
  char* out = static_cast<char*>(args.patches) + (b * grid.count + k) * grid.channels * patch_bytes;
  const char* plane = static_cast<const char*>(args.images) + b * grid.channels * grid.height * image_row_bytes;
  for (int c = 0; c < grid.channels; ++c, out += patch_bytes, plane += grid.height * image_row_bytes) {
    const bool dropped = is_dropped(patch, c);
    if (dropped || !whole) std::memset(out, 0, patch_bytes);
    if (dropped) continue;
    const char* corner = plane + (patch.top + first_row) * image_row_bytes + (patch.left + first) * bytes;
    if (whole) {
      copy_rows(out, corner, row_bytes, image_row_bytes, grid.patch_height);
      continue;
    }
    for (int y = first_row; y < end_row; ++y, corner += image_row_bytes) {
      std::memcpy(out + y * row_bytes + first * bytes, corner, (end - first) * bytes);
    }
  }
}

void kernel(const PatchGridArgs& args) {
  const PatchGrid& grid = args.grid;
  const int64_t patch_bytes =
      static_cast<int64_t>(grid.channels) * grid.patch_height * grid.patch_width * args.element_bytes;
  parallel_for(grid.images * grid.count, std::max<int64_t>(1, task_bytes / patch_bytes),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin; i < end; ++i) copy_patch(args, i / grid.count, i % grid.count);
               });
}

template <class T>
using SumOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
struct Cover {
  const T* in;  // the patch's plane
  int top, begin, end, left;
};

// The patches that show plane `c` of image `b`, in the order of k.
template <class T>
void find_covers(const PatchGridBackwardArgs& args, int64_t b, int c, std::vector<Cover<T>>& covers) {
  const PatchGrid& grid = args.grid;
  const int64_t plane = static_cast<int64_t>(grid.patch_height) * grid.patch_width;
  covers.clear();
  for (int64_t k = 0; k < grid.count; ++k) {
    const Patch patch = patch_at(grid, b, k);
    if (is_dropped(patch, c)) continue;
    const T* in = static_cast<const T*>(args.grad_patches) + ((b * grid.count + k) * grid.channels + c) * plane;
    covers.push_back(
        {in, patch.top, std::max(0, patch.left), std::min(grid.width, patch.left + grid.patch_width), patch.left});
  }
}

template <class T>
void sum_planes(const PatchGridBackwardArgs& args) {
  const PatchGrid& grid = args.grid;
  parallel_for(grid.images * grid.channels, 1, [&](int64_t first, int64_t last) {
    std::vector<Cover<T>> covers;
    std::vector<SumOf<T>> sums(grid.width);
    SumOf<T>* const sum = sums.data();
    for (int64_t plane = first; plane < last; ++plane) {
      find_covers(args, plane / grid.channels, static_cast<int>(plane % grid.channels), covers);
      T* out = static_cast<T*>(args.grad_images) + plane * grid.height * grid.width;
      for (int y = 0; y < grid.height; ++y, out += grid.width) {
        std::fill(sums.begin(), sums.end(), SumOf<T>{0});
        for (const Cover<T>& cover : covers) {
          const int row = y - cover.top;
          if (row < 0 || row >= grid.patch_height) continue;
          const T* in = cover.in + static_cast<int64_t>(row) * grid.patch_width - cover.left;
#pragma omp simd
          for (int x = cover.begin; x < cover.end; ++x) sum[x] += widen(in[x]);
        }
        if constexpr (std::is_same_v<T, SumOf<T>>) {
          std::memcpy(out, sum, sizeof(T) * grid.width);
        } else {
#pragma omp simd
          for (int x = 0; x < grid.width; ++x) out[x] = convert<T>(sum[x]);
        }
      }
    }
  });
}

void backward_kernel(const PatchGridBackwardArgs& args) {
  switch (args.dtype) {
    case ScalarType::Half: return sum_planes<float16>(args);
    case ScalarType::BFloat16: return sum_planes<bfloat16>(args);
    case ScalarType::Double: return sum_planes<double>(args);
    default: return sum_planes<float>(args);
  }
}

SSLFAST_CPU_KERNEL(PatchGridArgs, kernel)
SSLFAST_CPU_KERNEL(PatchGridBackwardArgs, backward_kernel)

}  // namespace
}  // namespace sslfast
