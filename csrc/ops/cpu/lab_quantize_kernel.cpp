// One thread an image: rows become Lab block by block, are summed into columns while they lie in the cache, and the
// columns into cells. The Lab image is never stored.
#include "csrc/ops/lab_quantize.h"

#include <algorithm>
#include <vector>

#include "csrc/ops/cpu/lab_block.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

struct Workspace {
  explicit Workspace(const LabQuantizeArgs& args)
      : columns(3 * static_cast<size_t>(args.width)),
        cells(static_cast<int64_t>(args.cell_rows) * args.cell_columns),
        means(3 * static_cast<size_t>(cells)) {}

  std::vector<float> columns;  // per channel, sums over the rows of one row of cells
  int64_t cells;
  std::vector<float> means;  // per channel, mean of each cell
};

// Adds one row of an image to the sums of its columns.
template <class T>
void add_row(const T* row, int64_t plane, int width, float* columns) {
  float lab[3][lab_block];
  for (int x = 0; x < width; x += lab_block) {
    const int n = std::min(lab_block, width - x);
    rgb_to_lab_block(row + x, plane, n, lab[0], lab_block);
    for (int c = 0; c < 3; ++c) {
      float* __restrict sums = columns + static_cast<int64_t>(c) * width + x;
      const float* __restrict values = lab[c];
#pragma omp simd
      for (int i = 0; i < n; ++i) sums[i] += values[i];
    }
  }
}

template <class T>
void cell_means(const LabQuantizeArgs& args, int64_t image, Workspace& work) {
  const int64_t plane = static_cast<int64_t>(args.height) * args.width;
  const T* pixels = static_cast<const T*>(args.images) + 3 * image * plane;
  for (int i = 0; i < args.cell_rows; ++i) {
    const int top = lab_cell_begin(i, args.height, args.cell_rows);
    const int bottom = lab_cell_end(i, args.height, args.cell_rows);
    std::fill(work.columns.begin(), work.columns.end(), 0.0f);
    for (int y = top; y < bottom; ++y) {
      add_row(pixels + static_cast<int64_t>(y) * args.width, plane, args.width, work.columns.data());
    }
    for (int j = 0; j < args.cell_columns; ++j) {
      const int left = lab_cell_begin(j, args.width, args.cell_columns);
      const int right = lab_cell_end(j, args.width, args.cell_columns);
      const float share = 1.0f / (static_cast<float>(bottom - top) * static_cast<float>(right - left));
      for (int c = 0; c < 3; ++c) {
        const float* sums = work.columns.data() + static_cast<int64_t>(c) * args.width;
        float sum = 0.0f;
        for (int x = left; x < right; ++x) sum += sums[x];
        work.means[c * work.cells + static_cast<int64_t>(i) * args.cell_columns + j] = sum * share;
      }
    }
  }
}

LabBins bins_of(const LabQuantizeArgs& args, const Workspace& work, int channel) {
  if (!args.rescaled) return lab_grid(channel);
  const float* values = work.means.data() + channel * work.cells;
  float low = INFINITY, high = -INFINITY;
  for (int64_t k = 0; k < work.cells; ++k) {
    low = values[k] < low ? values[k] : low;
    high = values[k] > high ? values[k] : high;
  }
  return lab_bins(low, high, channel == 0 ? lab_lightness_bins : lab_color_bins);
}

void quantize(const LabQuantizeArgs& args, int64_t image, const Workspace& work) {
  const float* means = work.means.data();
  const LabBins bins[3] = {bins_of(args, work, 0), bins_of(args, work, 1), bins_of(args, work, 2)};
  for (int64_t k = 0; k < work.cells; ++k) {
    args.lightness[image * work.cells + k] = lab_bin(bins[0], means[k], lab_lightness_bins);
    args.color[image * work.cells + k] = lab_color_bins * lab_bin(bins[1], means[work.cells + k], lab_color_bins) +
                                         lab_bin(bins[2], means[2 * work.cells + k], lab_color_bins);
  }
}

void kernel(const LabQuantizeArgs& args) {
  parallel_for(args.count, 1, [&](int64_t begin, int64_t end) {
    Workspace work(args);
    for (int64_t image = begin; image < end; ++image) {
      if (args.dtype == ScalarType::Byte) {
        cell_means<uint8_t>(args, image, work);
      } else {
        cell_means<float>(args, image, work);
      }
      quantize(args, image, work);
    }
  });
}

SSLFAST_CPU_KERNEL(LabQuantizeArgs, kernel)

}  // namespace
}  // namespace sslfast
