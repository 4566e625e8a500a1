// Drawing the tables of patch_grid; the same bits on every device. The streams are those of augment_params, in slots
// behind its own: an image's patches are drawn by (seed, epoch, image index, view) too.
#pragma once

#include <cstdint>

#include "csrc/ops/common/augment_params_math.h"

namespace sslfast {

inline constexpr uint32_t arrangement_slot = 32;     // word 0
inline constexpr uint32_t first_patch_slot = 64;     // patch k has the slots from first_patch_slot + 16 k on:
inline constexpr uint32_t slots_a_patch = 16;        // place and gate of the drop, up to 8 of dropped channels, and
inline constexpr uint32_t reduction_place = 9;       // of the patch's slots, words 0 and 1: the loss of resolution
inline constexpr int64_t most_drawn_patches = 4092;  // a slot has 16 bits

// What to draw from; the meaning is sslfast.augment.GridSpec's.
struct PatchDraw {
  int jitter;
  double channel_drop;
  int drop_least, drop_most;
  int channels;
  double reduce;
  int reduce_least, reduce_most;
};

SSLFAST_SHARED int64_t draw_arrangement(const DrawStream& stream, int64_t index, int64_t arrangements) {
  return static_cast<int64_t>(uniform_below(draw(stream, index, arrangement_slot).word[0], arrangements));
}

// Pixels down and to the right, and the dropped channels as bits.
SSLFAST_SHARED uint32_t draw_patch(const PatchDraw& spec, const DrawStream& stream, int64_t index, int64_t k,
                                   int32_t* offset) {
  const uint32_t slot = first_patch_slot + slots_a_patch * static_cast<uint32_t>(k);
  const Philox words = draw(stream, index, slot);
  offset[0] = static_cast<int32_t>(uniform_below(words.word[0], spec.jitter + 1.0));
  offset[1] = static_cast<int32_t>(uniform_below(words.word[1], spec.jitter + 1.0));
  if (!(uniform01(words.word[2]) < spec.channel_drop)) return 0;
  const double count = spec.drop_least + uniform_below(words.word[3], spec.drop_most - spec.drop_least + 1.0);
  return drop_channels(stream, index, slot + 1, spec.channels, static_cast<int>(count));
}

// The factor of reduce_resolution; 1 where the patch keeps its resolution.
SSLFAST_SHARED int32_t draw_reduction(const PatchDraw& spec, const DrawStream& stream, int64_t index, int64_t k) {
  const uint32_t slot = first_patch_slot + slots_a_patch * static_cast<uint32_t>(k) + reduction_place;
  const Philox words = draw(stream, index, slot);
  if (!(uniform01(words.word[0]) < spec.reduce)) return 1;
  return spec.reduce_least +
         static_cast<int32_t>(uniform_below(words.word[1], spec.reduce_most - spec.reduce_least + 1.0));
}

}  // namespace sslfast
