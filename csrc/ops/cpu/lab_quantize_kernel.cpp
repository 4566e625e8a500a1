// One thread an image: rows become Lab block by block, are summed into columns while they lie in the cache, and the
// columns into cells. The Lab image is never stored. Soft encoding then takes a block of cells at a time, one a lane.
#include "csrc/ops/lab_quantize.h"

#include <algorithm>
#include <vector>

#include "csrc/ops/cpu/lab_block.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

struct Workspace {
  explicit Workspace(const LabCells& cells)
      : columns(3 * static_cast<size_t>(cells.width)),
        count(static_cast<int64_t>(cells.cell_rows) * cells.cell_columns),
        means(3 * static_cast<size_t>(count)) {}

  std::vector<float> columns;  // per channel, sums over the rows of one row of cells
  int64_t count;
  std::vector<float> means;  // per channel, mean of each cell
};

template <class T>
inline void level_block(const T* __restrict in, int n, float* __restrict out) {
#pragma omp simd
  for (int i = 0; i < n; ++i) out[i] = lab_level(in[i]);
}

// Adds one row of an image to the sums of its columns.
template <class T, bool rgb>
void add_row(const T* row, int64_t plane, int width, float* columns) {
  float values[3][lab_block];
  for (int x = 0; x < width; x += lab_block) {
    const int n = std::min(lab_block, width - x);
    if constexpr (rgb) {
      for (int c = 0; c < 3; ++c) level_block(row + c * plane + x, n, values[c]);
    } else {
      rgb_to_lab_block(row + x, plane, n, values[0], lab_block);
    }
    for (int c = 0; c < 3; ++c) {
      float* __restrict sums = columns + static_cast<int64_t>(c) * width + x;
      const float* __restrict in = values[c];
#pragma omp simd
      for (int i = 0; i < n; ++i) sums[i] += in[i];
    }
  }
}

template <class T, bool rgb>
void cell_means(const LabCells& cells, int64_t image, Workspace& work) {
  const int64_t plane = static_cast<int64_t>(cells.height) * cells.width;
  const T* pixels = static_cast<const T*>(cells.images) + 3 * image * plane;
  for (int i = 0; i < cells.cell_rows; ++i) {
    const int top = lab_cell_begin(i, cells.height, cells.cell_rows);
    const int bottom = lab_cell_end(i, cells.height, cells.cell_rows);
    std::fill(work.columns.begin(), work.columns.end(), 0.0f);
    for (int y = top; y < bottom; ++y) {
      add_row<T, rgb>(pixels + static_cast<int64_t>(y) * cells.width, plane, cells.width, work.columns.data());
    }
    for (int j = 0; j < cells.cell_columns; ++j) {
      const int left = lab_cell_begin(j, cells.width, cells.cell_columns);
      const int right = lab_cell_end(j, cells.width, cells.cell_columns);
      const float area = static_cast<float>(bottom - top) * static_cast<float>(right - left);
      for (int c = 0; c < 3; ++c) {
        const float* sums = work.columns.data() + static_cast<int64_t>(c) * cells.width;
        float sum = 0.0f;
        for (int x = left; x < right; ++x) sum += sums[x];
        work.means[c * work.count + static_cast<int64_t>(i) * cells.cell_columns + j] = sum / area;
      }
    }
  }
}

// Calls body(image, work) with the means of every image.
template <class Body>
void for_each_image(const LabCells& cells, const Body& body) {
  const bool bytes = cells.dtype == ScalarType::Byte;
  const auto means = cells.rgb ? (bytes ? cell_means<uint8_t, true> : cell_means<float, true>)
                               : (bytes ? cell_means<uint8_t, false> : cell_means<float, false>);
  parallel_for(cells.count, 1, [&](int64_t begin, int64_t end) {
    Workspace work(cells);
    for (int64_t image = begin; image < end; ++image) {
      means(cells, image, work);
      body(image, work);
    }
  });
}

// --- hard classes ----------------------------------------------------------------------------------------------------

LabBins bins_of(const LabQuantizeArgs& args, const Workspace& work, int channel) {
  if (args.kind != LabKind::rescaled) return lab_grid(args.cells.rgb, channel);
  const float* values = work.means.data() + channel * work.count;
  float low = INFINITY, high = -INFINITY;
  for (int64_t k = 0; k < work.count; ++k) {
    low = values[k] < low ? values[k] : low;
    high = values[k] > high ? values[k] : high;
  }
  return lab_bins(low, high);
}

void quantize(const LabQuantizeArgs& args, int64_t image, const Workspace& work) {
  const float* means = work.means.data();
  LabBins bins[3];
  for (int c = 0; c < 3; ++c) {
    bins[c] = bins_of(args, work, c);
    lab_store_range(bins[c], args.cells.rgb, args.ranges + 2 * (3 * image + c));
  }
  int64_t* first = args.first + image * work.count;
  int64_t* rest = args.rest + image * work.count;
  for (int64_t k = 0; k < work.count; ++k) {
    const float a = means[work.count + k], b = means[2 * work.count + k];
    first[k] = lab_bin(bins[0], means[k], lab_lightness_bins);
    rest[k] = args.kind == LabKind::ab313
                  ? lab_nearest_bin(args.gamut, a, b)
                  : lab_color_bins * lab_bin(bins[1], a, lab_color_bins) + lab_bin(bins[2], b, lab_color_bins);
  }
}

void kernel(const LabQuantizeArgs& args) {
  for_each_image(args.cells, [&](int64_t image, const Workspace& work) { quantize(args, image, work); });
}

// --- soft encoding ---------------------------------------------------------------------------------------------------

constexpr int lanes = 64;  // cells at a time

// The nearest bins so far of every lane, the nearest first.
struct Nearest {
  float distance[lab_most_neighbours][lanes];
  int32_t bin[lab_most_neighbours][lanes];
};

// Puts one candidate a lane into its place. The later of two equal distances stays behind.
inline void insert(Nearest& nearest, int neighbours, float* __restrict distance, int32_t* __restrict bin) {
  for (int k = 0; k < neighbours; ++k) {
    float* __restrict best = nearest.distance[k];
    int32_t* __restrict best_bin = nearest.bin[k];
#pragma omp simd
    for (int i = 0; i < lanes; ++i) {
      const bool nearer = distance[i] < best[i];
      const float pushed = nearer ? best[i] : distance[i];
      const int32_t pushed_bin = nearer ? best_bin[i] : bin[i];
      best[i] = nearer ? distance[i] : best[i];
      best_bin[i] = nearer ? bin[i] : best_bin[i];
      distance[i] = pushed;
      bin[i] = pushed_bin;
    }
  }
}

void find_nearest(const LabGamut& gamut, int neighbours, const float (&a)[lanes], const float (&b)[lanes],
                  Nearest& nearest) {
  int32_t column[lanes], row[lanes], bin[lanes];
  float distance[lanes];
  for (int i = 0; i < lanes; ++i) {
    column[i] = lab_gamut_cell(a[i]);
    row[i] = lab_gamut_cell(b[i]);
  }
  for (int k = 0; k < neighbours; ++k) {
    std::fill_n(nearest.distance[k], lanes, INFINITY);
    std::fill_n(nearest.bin[k], lanes, 0);
  }
  for (int da = lab_window_begin; da < lab_window_end; ++da) {
    for (int db = lab_window_begin; db < lab_window_end; ++db) {
#pragma omp simd
      for (int i = 0; i < lanes; ++i) {
        bin[i] = lab_gamut_bin(gamut, column[i] + da, row[i] + db);
        distance[i] = bin[i] < 0 ? INFINITY : lab_square_distance(a[i], b[i], column[i] + da, row[i] + db);
      }
      insert(nearest, neighbours, distance, bin);
    }
  }
}

void soft_encode(const LabSoftEncodeArgs& args, int64_t image, const Workspace& work) {
  const float* const mean_a = work.means.data() + work.count;
  const float* const mean_b = mean_a + work.count;
  Nearest nearest;
  float a[lanes] = {}, b[lanes] = {};
  for (int64_t begin = 0; begin < work.count; begin += lanes) {
    const int n = static_cast<int>(std::min<int64_t>(lanes, work.count - begin));
    std::copy_n(mean_a + begin, n, a);
    std::copy_n(mean_b + begin, n, b);
    find_nearest(args.gamut, args.neighbours, a, b, nearest);
    float sum[lanes] = {};
    float weight[lab_most_neighbours][lanes];
    for (int k = 0; k < args.neighbours; ++k) {
      for (int i = 0; i < n; ++i) {
        weight[k][i] = lab_weight(nearest.distance[k][i], nearest.distance[0][i], args.falloff);
        sum[i] += weight[k][i];
      }
    }
    for (int k = 0; k < args.neighbours; ++k) {
      const int64_t out = (image * args.neighbours + k) * work.count + begin;
      for (int i = 0; i < n; ++i) {
        args.indices[out + i] = nearest.bin[k][i];
        args.weights[out + i] = weight[k][i] / sum[i];
      }
    }
  }
}

void soft_encode_kernel(const LabSoftEncodeArgs& args) {
  for_each_image(args.cells, [&](int64_t image, const Workspace& work) { soft_encode(args, image, work); });
}

SSLFAST_CPU_KERNEL(LabQuantizeArgs, kernel)
SSLFAST_CPU_KERNEL(LabSoftEncodeArgs, soft_encode_kernel)

}  // namespace
}  // namespace sslfast
