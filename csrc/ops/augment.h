// augment: one view of every image of a batch.
//
//   storage    (bytes,) uint8                packed images, rows of interleaved channels (H, W, C)
//   offsets    (B,) int64, sizes (B, 2) int32   where each image begins; its height and width
//   params     (B, augment_column_count) float32 (see common/view_fields.h); noise_key (B,) int64
//   mean, std  one number a channel, or one for all
//   -> (B, C, H, W) float32, float16 or bfloat16, contiguous or channels_last
//
// Working planes are float32 in [0, 1], one after another: plane c of a view is working[c * H * W …].
#pragma once

#include <cstdint>

#include "csrc/ops/common/view_fields.h"
#include "csrc/stable/check.h"

namespace sslfast {

inline constexpr int max_channels = 16;

struct AugmentArgs {
  const uint8_t* storage;
  const int64_t* offsets;
  const int32_t* sizes;
  const AugmentParams* params;
  const int64_t* noise_key;
  void* out;
  ScalarType dtype;
  int64_t storage_bytes;
  int64_t count;
  int height, width, channels;
  int64_t stride_channel, stride_pixel;  // of the result, in elements
  float mean[max_channels];
  float inverse_std[max_channels];
};

}  // namespace sslfast
