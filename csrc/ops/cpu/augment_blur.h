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
  Scratch<float> padded;  // a row with its reflected ends
  Scratch<float> strip;   // the result
  std::vector<float> weights;
  std::vector<const float*> rows;
};

inline void blur_row(const float* in, int width, int radius, BlurWork& work, float* out) {
  float* padded = work.padded.get(width + 2 * radius);
  for (int x = -radius; x < 0; ++x) padded[x + radius] = in[reflect(x, width)];
  std::memcpy(padded + radius, in, sizeof(float) * width);
  for (int x = width; x < width + radius; ++x) padded[x + radius] = in[reflect(x, width)];
  for (int k = 0; k <= 2 * radius; ++k) work.rows[k] = padded + k;
  weighted_sum(work.rows.data(), work.weights.data(), 2 * radius + 1, out, width);
}

// Calls prepare(rows of the view) before they are read, and take(blurred rows, number of their first pixel).
template <class Prepare, class Take>
void blur(const Planes& view, const AugmentParams& params, int radius, BlurWork& work, const Prepare& prepare,
          const Take& take) {
  const int height = view.height, width = view.width, taps = 2 * radius + 1;
  work.weights.resize(taps);
  work.rows.resize(taps);
  float sum = 0.0f;
  for (int k = -radius; k <= radius; ++k) sum += work.weights[k + radius] = blur_weight(params, k);
  for (float& weight : work.weights) weight /= sum;

  // A strip reads `radius` rows beyond its ends; the rows ahead of it come a strip at a time.
  const int rows = strip_rows(view), slots = smaller(height, 2 * (radius + rows));
  const int64_t slot_stride = whole_cache_lines(width);
  float* ring = work.ring.get(view.channels * slots * slot_stride);
  const auto slot = [&](int c, int y) { return ring + (static_cast<int64_t>(c) * slots + y % slots) * slot_stride; };
  const Planes result{work.strip.get(view.channels * whole_cache_lines(static_cast<int64_t>(rows) * width)),
                      whole_cache_lines(static_cast<int64_t>(rows) * width), rows, width, view.channels};
  int ready = 0;
  for_each_strip(view, [&](int begin, int end) {
    while (ready < smaller(height, end + radius)) {
      const int until = smaller(height, ready + rows);
      prepare(view.rows(ready, until));
      for (int c = 0; c < view.channels; ++c) {
        for (int y = ready; y < until; ++y) blur_row(view.row(c, y), width, radius, work, slot(c, y));
      }
      ready = until;
    }
    for (int c = 0; c < view.channels; ++c) {
      for (int y = begin; y < end; ++y) {
        for (int k = 0; k < taps; ++k) work.rows[k] = slot(c, reflect(y + k - radius, height));
        weighted_sum(work.rows.data(), work.weights.data(), taps, result.row(c, y - begin), width);
      }
    }
    take(result.rows(0, end - begin), static_cast<int64_t>(begin) * width);
  });
}

}  // namespace
}  // namespace sslfast
