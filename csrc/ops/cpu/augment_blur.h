// Gaussian blur, strip by strip: rows are blurred along themselves into a ring of rows, and sums of the ring's rows
// make the result. Only the ring and one strip lie between the planes and what takes the result.
#pragma once

#include <cstring>
#include <vector>

#include "csrc/ops/cpu/augment_planes.h"

namespace sslfast {
namespace {

struct BlurWork {
  Scratch<float> ring;    // [channel][slot][column]; row y is in slot y mod slots
  Scratch<float> padded;  // rows of a strip with their reflected ends, one after another
  Scratch<float> strip;   // the result
  std::vector<float> weights;
  std::vector<const float*> rows;  // what is summed up
  std::vector<int64_t> offsets;    // where the rows that a strip sums up are in a channel's ring, from the top down
};

inline void set_weights(const AugmentParams& params, int radius, BlurWork& work) {
  const int taps = 2 * radius + 1;
  work.weights.resize(taps);
  float sum = 0.0f;
  for (int k = 0; k < taps; ++k) sum += work.weights[k] = blur_weight(params, k - radius);
  for (float& weight : work.weights) weight /= sum;
}

inline void pad_row(const float* in, int width, int radius, float* out) {
  float* row = out + radius;
  std::memcpy(row, in, sizeof(float) * width);
  const int simple = smaller(radius, width - 1);
  for (int x = 1; x <= simple; ++x) {
    row[-x] = in[x];
    row[width - 1 + x] = in[width - 1 - x];
  }
  for (int x = simple + 1; x <= radius; ++x) {
    row[-x] = in[reflect(-x, width)];
    row[width - 1 + x] = in[reflect(width - 1 + x, width)];
  }
}

// Rows [begin, end) of a channel, blurred along themselves, to its ring. All are padded before the first is read:
// values that have just been written in other pieces than they are read in would have to be waited for.
inline void blur_along_rows(const Planes& view, int c, int begin, int end, int radius, BlurWork& work, float* ring,
                            int slots, int64_t row_stride) {
  const int taps = 2 * radius + 1;
  const int64_t padded_stride = whole_cache_lines(view.width + 2 * radius);
  float* padded = work.padded.get((end - begin) * padded_stride);
  for (int y = begin; y < end; ++y) pad_row(view.row(c, y), view.width, radius, padded + (y - begin) * padded_stride);
  for (int y = begin; y < end; ++y, padded += padded_stride) {
    for (int k = 0; k < taps; ++k) work.rows[k] = padded + k;
    weighted_sum(work.rows.data(), work.weights.data(), taps, ring + y % slots * row_stride, view.width);
  }
}

// Calls prepare(first row, last row + 1) before rows of the view are read, and take(blurred rows, number of their first
// pixel).
template <class Prepare, class Take>
void blur(const Planes& view, const AugmentParams& params, int radius, BlurWork& work, const Prepare& prepare,
          const Take& take) {
  const int height = view.height, width = view.width, channels = view.channels;
  set_weights(params, radius, work);
  // A strip reads `radius` rows beyond its ends; the rows ahead of it come a strip at a time.
  const int rows = strip_rows(view), slots = smaller(height, 2 * (radius + rows));
  const int64_t row_stride = whole_cache_lines(width), ring_stride = slots * row_stride;
  float* ring = work.ring.get(channels * ring_stride);
  const int64_t strip_stride = whole_cache_lines(static_cast<int64_t>(rows) * width);
  const Planes strip{work.strip.get(channels * strip_stride), strip_stride, rows, width, channels};
  work.offsets.resize(rows + 2 * radius);
  work.rows.resize(rows + 2 * radius);
  int ready = 0;
  for_each_strip(view, [&](int begin, int end) {
    while (ready < smaller(height, end + radius)) {
      const int until = smaller(height, ready + rows);
      prepare(ready, until);
      for (int c = 0; c < channels; ++c) {
        blur_along_rows(view, c, ready, until, radius, work, ring + c * ring_stride, slots, row_stride);
      }
      ready = until;
    }
    const int reach = end - begin + 2 * radius;
    for (int i = 0; i < reach; ++i) work.offsets[i] = reflect(begin - radius + i, height) % slots * row_stride;
    for (int c = 0; c < channels; ++c) {
      for (int i = 0; i < reach; ++i) work.rows[i] = ring + c * ring_stride + work.offsets[i];
      for (int y = 0; y < end - begin; ++y) {
        weighted_sum(work.rows.data() + y, work.weights.data(), 2 * radius + 1, strip.row(c, y), width);
      }
    }
    take(strip.rows(0, end - begin), static_cast<int64_t>(begin) * width);
  });
}

}  // namespace
}  // namespace sslfast
