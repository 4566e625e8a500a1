// Crop, flips and antialiased resize: bytes of any size to the planes of a view.
//
// Row by row of the result: the vertical pass sums source rows (interleaved bytes) into one row of floats, the
// horizontal pass sums that row's pixels into the planes.
#pragma once

#include <vector>

#include "csrc/ops/augment.h"
#include "csrc/ops/cpu/augment_planes.h"

namespace sslfast {
namespace {

// The horizontal pass: column x is the sum over j < taps of a weight times source pixel first[x] + j. Where the pixels
// of `lanes` neighbouring columns lie within a few registers, those columns are a group (the last one overlaps the one
// before it) and are picked out of the registers; `weight` then holds [group][tap][lane], otherwise [column][tap].
struct ColumnTable {
  int taps;
  int registers;  // that a group is picked out of; 0 without groups
  std::vector<ResizeWindow> windows;
  std::vector<int> first;  // per column
  std::vector<int> base;   // per group: its first source pixel
  Scratch<int32_t> index;  // per group and lane: the column's first source pixel, from `base` on
  Scratch<float> weight;
};

struct ResizeWork {
  ColumnTable columns;
  Scratch<float> row;                // one row after the vertical pass
  std::vector<const uint8_t*> rows;  // the source rows of one row of the result, and their weights
  std::vector<float> weights;
};

inline int group_begin(int group, int width) { return smaller(group * lanes, width - lanes); }

inline float column_weight(const ResizeAxis& axis, const ResizeWindow& window, int pixel) {
  if (pixel < window.begin || pixel >= window.end) return 0.0f;
  return resize_weight(axis, window.center, pixel) * (window.inverse_sum * (1.0f / 255.0f));
}

// Fills base and index; returns the registers that hold the pixels of any group, 0 where those are too many.
inline int group_columns(int width, ColumnTable& table) {
  const int groups = (width + lanes - 1) / lanes;
  table.base.resize(groups);
  int32_t* index = table.index.get(static_cast<int64_t>(groups) * lanes);
  int reach = 0;
  for (int g = 0; g < groups; ++g) {
    const int* first = table.first.data() + group_begin(g, width);
    const int low = smaller(first[0], first[lanes - 1]), high = larger(first[0], first[lanes - 1]);
    reach = larger(reach, high + table.taps - low);
    table.base[g] = low;
    for (int i = 0; i < lanes; ++i) index[g * lanes + i] = first[i] - low;
  }
  return reach <= lanes * most_picked ? larger(2, (reach + lanes - 1) / lanes) : 0;
}

inline void fill_columns(const ResizeAxis& axis, int width, int channels, bool flip, ColumnTable& table) {
  table.windows.resize(width);
  table.first.resize(width);
  table.taps = 1;
  for (int x = 0; x < width; ++x) {
    const ResizeWindow window = resize_window(axis, flip ? width - 1 - x : x);
    table.windows[x] = window;
    table.taps = larger(table.taps, window.end - window.begin);
  }
  // Windows at the right border begin earlier, so that no tap lies outside of the row.
  const int taps = table.taps;
  for (int x = 0; x < width; ++x) table.first[x] = smaller(table.windows[x].begin, axis.input - taps);
  table.registers = (channels == 1 || channels == 3) && width >= lanes ? group_columns(width, table) : 0;
  const int width_of_group = table.registers > 0 ? lanes : 1;
  const int groups = (width + width_of_group - 1) / width_of_group;
  float* weight = table.weight.get(static_cast<int64_t>(groups) * width_of_group * taps);
  for (int g = 0; g < groups; ++g) {
    const int begin = table.registers > 0 ? group_begin(g, width) : g;
    for (int j = 0; j < taps; ++j) {
      for (int x = begin; x < begin + width_of_group; ++x) {
        *weight++ = column_weight(axis, table.windows[x], table.first[x] + j);
      }
    }
  }
}

// `in`: one plane a channel, `registers` readable from every group's base on.
template <int channels, int registers>
void horizontal_pass_grouped(const float* const* in, int width, ColumnTable& table, float* const* out) {
  const int groups = static_cast<int>(table.base.size()), taps = table.taps;
  const int32_t* index = table.index.data();
  const float* weight = table.weight.data();
  for (int g = 0; g < groups; ++g) {
    Lanes pixels[channels][registers], sum[channels] = {};
    for (int c = 0; c < channels; ++c) {
      for (int r = 0; r < registers; ++r) pixels[c][r] = load_lanes(in[c] + table.base[g] + r * lanes);
    }
    LaneIndices pixel = load_lanes(index + g * lanes);
    for (int j = 0; j < taps; ++j, ++pixel, weight += lanes) {
      for (int c = 0; c < channels; ++c) sum[c] += load_lanes(weight) * pick_lanes(pixels[c], pixel);
    }
    const int x = group_begin(g, width);
    for (int c = 0; c < channels; ++c) store_lanes(out[c] + x, sum[c]);
  }
}

template <int channels>
void horizontal_pass_grouped(const float* const* in, int width, ColumnTable& table, float* const* out) {
  if (table.registers == 2) return horizontal_pass_grouped<channels, 2>(in, width, table, out);
  if (table.registers == 3) return horizontal_pass_grouped<channels, 3>(in, width, table, out);
  horizontal_pass_grouped<channels, 4>(in, width, table, out);
}

// Three interleaved channels: a pixel is one vector of four floats, of which the last belongs to the next pixel.
typedef float Pixel __attribute__((vector_size(16), aligned(4)));

inline void horizontal_pass_rgb(const float* row, int width, ColumnTable& table, float* const* out) {
  constexpr int batch = 16;  // pixels that are summed before they are spread over the planes
  const int taps = table.taps;
  const float* weight = table.weight.data();
  for (int x0 = 0; x0 < width; x0 += batch) {
    float sums[4 * batch];
    const int n = smaller(batch, width - x0);
    for (int i = 0; i < n; ++i, weight += taps) {
      const float* in = row + 3 * static_cast<int64_t>(table.first[x0 + i]);
      Pixel sum = {};
      for (int j = 0; j < taps; ++j) sum += weight[j] * *reinterpret_cast<const Pixel*>(in + 3 * j);
      *reinterpret_cast<Pixel*>(sums + 4 * i) = sum;
    }
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < n; ++i) out[c][x0 + i] = sums[4 * i + c];
    }
  }
}

inline void horizontal_pass(const float* row, int width, int channels, ColumnTable& table, float* const* out) {
  const int taps = table.taps;
  const float* weight = table.weight.data();
  for (int x = 0; x < width; ++x, weight += taps) {
    const float* in = row + static_cast<int64_t>(table.first[x]) * channels;
    for (int c = 0; c < channels; ++c) {
      float sum = 0.0f;
      for (int j = 0; j < taps; ++j) sum += weight[j] * in[j * channels + c];
      out[c][x] = sum;
    }
  }
}

// One row of floats, `pixels` long, to a row of the planes.
inline void resize_row(const float* row, int width, int channels, ColumnTable& columns, float* const* out) {
  if (columns.registers > 0) return horizontal_pass_grouped<1>(&row, width, columns, out);
  if (channels == 3) return horizontal_pass_rgb(row, width, columns, out);
  horizontal_pass(row, width, channels, columns, out);
}

// Makes rows of a view out of image b of the batch.
class Resize {
 public:
  Resize(const AugmentArgs& args, int64_t b, const Planes& view, ResizeWork& work)
      : params_(args.params[b]),
        crop_(crop_of(params_, args.sizes[2 * b], args.sizes[2 * b + 1])),
        axis_(resize_axis(crop_.height, view.height, params_.bicubic != 0.0f)),
        stride_(static_cast<int64_t>(args.sizes[2 * b + 1]) * args.channels),
        source_(args.storage + args.offsets[b] + crop_.top * stride_ +
                static_cast<int64_t>(crop_.left) * args.channels),
        view_(view),
        work_(work),
        fetched_(params_.vflip != 0.0f ? crop_.height : 0) {
    fill_columns(resize_axis(crop_.width, view.width, axis_.bicubic), view.width, view.channels, params_.hflip != 0.0f,
                 work.columns);
    work.rows.resize(static_cast<size_t>(2.0f * axis_.support) + 2);
    work.weights.resize(work.rows.size());
  }

  void operator()(int begin, int end) const {
    for (int y = begin; y < end; ++y) make_row(y);
  }

 private:
  void make_row(int y) const {
    const ResizeWindow window = resize_window(axis_, params_.vflip != 0.0f ? view_.height - 1 - y : y);
    for (int j = window.begin; j < window.end; ++j) {
      work_.rows[j - window.begin] = source_ + j * stride_;
      work_.weights[j - window.begin] = resize_weight(axis_, window.center, j) * window.inverse_sum;
    }
    fetch_ahead(window);
    const int taps = window.end - window.begin, pixels = crop_.width;
    float* out[max_channels];
    for (int c = 0; c < view_.channels; ++c) out[c] = view_.row(c, y);
    const int64_t room = whole_cache_lines(pixels + most_picked * lanes);
    if (view_.channels == 3 && work_.columns.registers > 0) {
      float* split = work_.row.get(3 * room);
      weighted_sum_split(work_.rows.data(), work_.weights.data(), taps, split, room, pixels);
      const float* in[3] = {split, split + room, split + 2 * room};
      horizontal_pass_grouped<3>(in, view_.width, work_.columns, out);
    } else {
      float* row = work_.row.get(room * view_.channels);
      weighted_sum(work_.rows.data(), work_.weights.data(), taps, row, static_cast<int64_t>(pixels) * view_.channels);
      resize_row(row, view_.width, view_.channels, work_.columns, out);
    }
    for (int c = 0; axis_.bicubic && c < view_.channels; ++c) {
      for (int x = 0; x < view_.width; ++x) out[c][x] = clamp01(out[c][x]);
    }
  }

  // Asks for the source rows that the rows after this one will read: the processor cannot guess where the rows of a
  // crop begin.
  void fetch_ahead(const ResizeWindow& window) const {
    const int ahead = 2 + static_cast<int>(2.0f * axis_.scale);
    const bool upwards = params_.vflip != 0.0f;
    const int begin = upwards ? larger(window.begin - ahead, 0) : larger(window.end, fetched_);
    const int end = upwards ? smaller(window.begin, fetched_) : smaller(window.end + ahead, crop_.height);
    for (int j = begin; j < end; ++j) {
      const uint8_t* row = source_ + j * stride_;
      const int64_t bytes = static_cast<int64_t>(crop_.width) * view_.channels;
      for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(row + i);
    }
    if (begin < end) fetched_ = upwards ? begin : end;
  }

  const AugmentParams& params_;
  Crop crop_;
  ResizeAxis axis_;
  int64_t stride_;
  const uint8_t* source_;
  Planes view_;
  ResizeWork& work_;
  mutable int fetched_;  // up to this row, or down to it where the view is flipped
};

}  // namespace
}  // namespace sslfast
