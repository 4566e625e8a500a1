// augment_params: draws the parameter table of one view of a batch, or of several that differ by their stream alone.
//
//   index   (B,) int64     position in the data set, 0 or more
//   sizes   (B, 2) int32   height and width of each image
//   fields  view_field_count float64 (see common/view_fields.h)
//   seed    any int64; epoch 0 … 2^32 - 1; view 0 … 2^16 - 1, the first of `views`
//   -> params (views * B, augment_column_count) float32, noise_key (views * B,) int64: row v * B + b is view + v of b
//
// A row depends on (seed, epoch, index, view), the image's size and the fields, and on nothing else.
#pragma once

#include "csrc/ops/common/augment_params_math.h"

namespace sslfast {

struct AugmentParamsArgs {
  const int64_t* index;
  const int32_t* sizes;
  AugmentParams* params;
  int64_t* noise_key;
  int64_t count;  // of images
  int64_t views;
  DrawStream stream;
  ViewFields fields;
};

}  // namespace sslfast
