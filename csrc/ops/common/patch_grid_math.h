// Where the patches of a grid lie.
#pragma once

#include <cstdint>

#include "csrc/stable/host_device.h"

namespace sslfast {

// Tables and sizes of patch_grid; absent tables are null.
struct PatchGrid {
  const int64_t* order;
  const int32_t* offsets;
  const int32_t* dropped;
  int64_t images;
  int64_t count;  // results an image
  int channels, height, width;
  int rows, columns;
  int patch_height, patch_width;
  int stride_y, stride_x;
};

// Image coordinates of a patch's first pixel, and its dropped channels as bits.
struct Patch {
  int top, left;
  uint32_t dropped;
};

SSLFAST_SHARED int clamp_to(int64_t value, int low, int high) {
  return static_cast<int>(value < low ? low : (value > high ? high : value));
}

// Result k of image b. A patch beyond the image is moved to its border, which it still does not touch: no sum of
// coordinates overflows.
SSLFAST_SHARED Patch patch_at(const PatchGrid& grid, int64_t b, int64_t k) {
  const int64_t entry = b * grid.count + k;
  const int64_t number = grid.order == nullptr ? k : grid.order[entry];
  if (number < 0 || number >= static_cast<int64_t>(grid.rows) * grid.columns) return {grid.height, grid.width, 0};
  const int64_t row = number / grid.columns;
  int64_t top = row * grid.stride_y;
  int64_t left = (number - row * grid.columns) * grid.stride_x;
  if (grid.offsets != nullptr) {
    top += grid.offsets[2 * entry];
    left += grid.offsets[2 * entry + 1];
  }
  return {clamp_to(top, -grid.patch_height, grid.height), clamp_to(left, -grid.patch_width, grid.width),
          grid.dropped == nullptr ? 0 : static_cast<uint32_t>(grid.dropped[entry])};
}

SSLFAST_SHARED bool is_dropped(const Patch& patch, int channel) {
  return channel < 32 && (patch.dropped >> channel & 1u) != 0;
}

}  // namespace sslfast
