// patch_grid_params: draws the tables of patch_grid for a batch.
//
//   index         (B,) int64, 0 or more   position of each image in the data set
//   arrangements  (A, K) int64            orders, one of which every image draws; absent: the patches in their order
//   patches       K, 1 … 4092
//   jitter        0 … 2^30; every patch draws its offsets from 0 … jitter
//   channel_drop  probability that a patch loses drop_count[0] … drop_count[1] of `channels` (1 … 32) channels
//   reduce        probability that a patch loses resolution by a factor of reduce_factor[0] … reduce_factor[1], at
//   least 1 seed any int64; epoch 0 … 2^32 - 1; view 0 … 2^16 - 1
//   -> order (B, K) int64, offsets (B, K, 2) int32, dropped (B, K) int32, arrangement (B,) int64, reduced (B, K) int32
//
// A row depends on (seed, epoch, index, view) and the numbers above, and on nothing else.
#pragma once

#include "csrc/ops/common/patch_grid_params_math.h"

namespace sslfast {

struct PatchGridParamsArgs {
  const int64_t* index;
  const int64_t* arrangements;  // null: the patches in their order
  int64_t* order;
  int32_t* offsets;
  int32_t* dropped;
  int64_t* arrangement;
  int32_t* reduced;
  int64_t images;
  int64_t count;  // patches an image
  int64_t choices;
  DrawStream stream;
  PatchDraw spec;
};

// Patch k of image b, and (with its first patch) the image's arrangement.
SSLFAST_SHARED void draw_entry(const PatchGridParamsArgs& args, int64_t b, int64_t k) {
  const int64_t index = args.index[b], entry = b * args.count + k;
  const int64_t chosen = args.arrangements == nullptr ? 0 : draw_arrangement(args.stream, index, args.choices);
  args.order[entry] = args.arrangements == nullptr ? k : args.arrangements[chosen * args.count + k];
  args.dropped[entry] = static_cast<int32_t>(draw_patch(args.spec, args.stream, index, k, args.offsets + 2 * entry));
  args.reduced[entry] = draw_reduction(args.spec, args.stream, index, k);
  if (k == 0) args.arrangement[b] = chosen;
}

}  // namespace sslfast
