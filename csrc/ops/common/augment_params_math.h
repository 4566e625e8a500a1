// Drawing the parameters of one view of one image; the same bits on every device.
//
// Every product that feeds a sum is an explicit fma, so that no compiler's contraction can change a result; sqrt and
// division are correctly rounded everywhere; exp is our own.
//
// Counter of the generator: (slot | view << 16, epoch, index low, index high). A draw's slot never moves when other
// options are switched on, so a flip stays the same flip whether or not the view is blurred.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/ops/common/philox.h"
#include "csrc/ops/common/view_fields.h"

namespace sslfast {

enum class Slot : uint32_t {
  crop = 0,            // ten tries, one slot each: words 0 and 1 are area and ratio, words 2 and 3 are top and left
  flip_rotation = 10,  // words: horizontal flip, angle, vertical flip, whether to rotate
  jitter_grayscale = 11,
  jitter_factors = 12,
  jitter_order = 13,
  blur_solarize = 14,
  noise = 15,  // words 0 and 1 are the key of the noise
  channel_drop = 16,
  cutout = 17,
  cutout_place = 18,
  dropped_channels = 19,  // four slots: a word for each of sixteen channels
};

struct DrawStream {
  uint64_t seed;
  uint32_t epoch;
  uint32_t view;
};

SSLFAST_SHARED Philox draw(const DrawStream& stream, int64_t index, uint32_t slot) {
  return philox(stream.seed, slot | stream.view << 16, stream.epoch, static_cast<uint32_t>(index),
                static_cast<uint32_t>(static_cast<uint64_t>(index) >> 32));
}
SSLFAST_SHARED Philox draw(const DrawStream& stream, int64_t index, Slot slot) {
  return draw(stream, index, static_cast<uint32_t>(slot));
}

// exp of |x| < 700, within 1 ulp; identical on every device.
SSLFAST_SHARED double exact_exp(double x) {
  const double n = rint(x * 1.4426950408889634);
  double r = fma(n, -6.93147180369123816490e-01, x);
  r = fma(n, -1.90821492927058770002e-10, r);
  double p = 1.0 / 6227020800.0;
  const double inverse_factorials[] = {1.0 / 479001600.0,
                                       1.0 / 39916800.0,
                                       1.0 / 3628800.0,
                                       1.0 / 362880.0,
                                       1.0 / 40320.0,
                                       1.0 / 5040.0,
                                       1.0 / 720.0,
                                       1.0 / 120.0,
                                       1.0 / 24.0,
                                       1.0 / 6.0,
                                       0.5,
                                       1.0,
                                       1.0};
  for (double coefficient : inverse_factorials) p = fma(p, r, coefficient);
  return ldexp(p, static_cast<int>(n));
}

SSLFAST_SHARED double uniform_between(uint32_t word, double low, double high) {
  return fma(uniform01(word), high - low, low);
}

// Uniform integer in [0, count), as a double.
SSLFAST_SHARED double uniform_below(uint32_t word, double count) { return floor(uniform01(word) * count); }

SSLFAST_SHARED void set_crop(AugmentParams& out, double top, double left, double height, double width) {
  out.crop_top = static_cast<float>(top);
  out.crop_left = static_cast<float>(left);
  out.crop_height = static_cast<float>(height);
  out.crop_width = static_cast<float>(width);
}

// Largest central rectangle of aspect `ratio` (width / height), scaled by `fraction`.
SSLFAST_SHARED void center_crop(AugmentParams& out, double image_height, double image_width, double ratio,
                                double fraction) {
  const double full_width = image_width <= image_height * ratio ? image_width : image_height * ratio;
  const double width = fmax(1.0, rint(full_width * fraction));
  const double height = fmax(1.0, fmin(image_height, rint(full_width / ratio * fraction)));
  set_crop(out, rint((image_height - height) * 0.5), rint((image_width - width) * 0.5), height, width);
}

// Random-resized-crop (Szegedy et al. 2015; sampling rule of torchvision's RandomResizedCrop): area and log aspect
// ratio are uniform; ten tries to fit, then the central crop of the nearest allowed ratio.
SSLFAST_SHARED void random_crop(AugmentParams& out, const ViewFields& spec, const DrawStream& stream, int64_t index,
                                double image_height, double image_width) {
  const double area = image_height * image_width;
  for (uint32_t attempt = 0; attempt < 10; ++attempt) {
    const Philox words = draw(stream, index, static_cast<uint32_t>(Slot::crop) + attempt);
    const double target = area * uniform_between(words.word[0], spec.crop_scale_low, spec.crop_scale_high);
    const double ratio = exact_exp(uniform_between(words.word[1], spec.crop_log_ratio_low, spec.crop_log_ratio_high));
    const double width = rint(sqrt(target * ratio));
    const double height = rint(sqrt(target / ratio));
    if (width < 1.0 || height < 1.0 || width > image_width || height > image_height) continue;
    set_crop(out, uniform_below(words.word[2], image_height - height + 1.0),
             uniform_below(words.word[3], image_width - width + 1.0), height, width);
    return;
  }
  const double image_ratio = image_width / image_height;
  const double low = exact_exp(spec.crop_log_ratio_low);
  const double high = exact_exp(spec.crop_log_ratio_high);
  center_crop(out, image_height, image_width, image_ratio < low ? low : (image_ratio > high ? high : image_ratio), 1.0);
}

// The angle in degrees, from the words of `flip_rotation`: 0, one of the list, or any of the range.
SSLFAST_SHARED float draw_rotation(const ViewFields& spec, const Philox& words) {
  if (!(uniform01(words.word[3]) < spec.rotation_probability)) return 0.0f;
  if (spec.rotation_is_range != 0.0) {
    return static_cast<float>(uniform_between(words.word[1], spec.rotation_low, spec.rotation_high));
  }
  if (!(spec.rotation_count > 0.0)) return 0.0f;
  const double* angles = &spec.rotation_0;
  return static_cast<float>(angles[static_cast<int>(uniform_below(words.word[1], spec.rotation_count))]);
}

// The dropped channels, as bits: `drop` of `channels`, every choice equally likely (selection sampling, Knuth 3.4.2).
// Four channels take a slot, from `first_slot` on.
SSLFAST_SHARED uint32_t drop_channels(const DrawStream& stream, int64_t index, uint32_t first_slot, int channels,
                                      int drop) {
  uint32_t dropped = 0;
  int left = drop < channels ? drop : channels;
  for (int c = 0; c < channels; ++c) {
    const uint32_t slot = first_slot + static_cast<uint32_t>(c) / 4;
    const uint32_t word = draw(stream, index, slot).at(static_cast<uint32_t>(c) % 4);
    if (uniform01(word) * (channels - c) < left) {
      dropped |= 1u << c;
      --left;
    }
  }
  return dropped;
}

// A rectangle of the view whose area and log aspect ratio are uniform, cut to the view, its corner uniform.
SSLFAST_SHARED void draw_cutout(AugmentParams& out, const ViewFields& spec, const DrawStream& stream, int64_t index) {
  const Philox shape = draw(stream, index, Slot::cutout);
  out.cutout_top = out.cutout_left = out.cutout_height = out.cutout_width = 0.0f;
  if (!(uniform01(shape.word[0]) < spec.cutout)) return;
  const double area = spec.view_height * spec.view_width *
                      uniform_between(shape.word[1], spec.cutout_scale_low, spec.cutout_scale_high);
  const double ratio = exact_exp(uniform_between(shape.word[2], spec.cutout_log_ratio_low, spec.cutout_log_ratio_high));
  const double height = fmin(spec.view_height, fmax(1.0, rint(sqrt(area / ratio))));
  const double width = fmin(spec.view_width, fmax(1.0, rint(sqrt(area * ratio))));
  const Philox place = draw(stream, index, Slot::cutout_place);
  out.cutout_top = static_cast<float>(uniform_below(place.word[0], spec.view_height - height + 1.0));
  out.cutout_left = static_cast<float>(uniform_below(place.word[1], spec.view_width - width + 1.0));
  out.cutout_height = static_cast<float>(height);
  out.cutout_width = static_cast<float>(width);
}

// Draws the row of one image. Returns the key of its noise.
SSLFAST_SHARED int64_t draw_params(AugmentParams& out, const ViewFields& spec, const DrawStream& stream, int64_t index,
                                   int32_t image_height, int32_t image_width) {
  if (spec.random_crop != 0.0) {
    random_crop(out, spec, stream, index, image_height, image_width);
  } else {
    center_crop(out, image_height, image_width, spec.view_width / spec.view_height, spec.center_fraction);
  }

  out.bicubic = static_cast<float>(spec.bicubic);
  const Philox geometry = draw(stream, index, Slot::flip_rotation);
  out.hflip = uniform01(geometry.word[0]) < spec.hflip ? 1.0f : 0.0f;
  out.vflip = uniform01(geometry.word[2]) < spec.vflip ? 1.0f : 0.0f;
  out.rotation = draw_rotation(spec, geometry);
  out.rotation_zoom = static_cast<float>(spec.rotation_zoom);

  const Philox gates = draw(stream, index, Slot::jitter_grayscale);
  const Philox factors = draw(stream, index, Slot::jitter_factors);
  const bool jitter = uniform01(gates.word[0]) < spec.jitter;
  const double strengths[3] = {spec.brightness, spec.contrast, spec.saturation};
  float* targets[3] = {&out.brightness, &out.contrast, &out.saturation};
  for (int i = 0; i < 3; ++i) {
    const double low = fmax(0.0, 1.0 - strengths[i]);
    *targets[i] = jitter ? static_cast<float>(uniform_between(factors.word[i], low, 1.0 + strengths[i])) : 1.0f;
  }
  out.hue = jitter ? static_cast<float>(uniform_between(factors.word[3], -spec.hue, spec.hue)) : 0.0f;
  out.jitter_order = static_cast<float>(uniform_below(draw(stream, index, Slot::jitter_order).word[0], 24.0));
  out.grayscale = uniform01(gates.word[1]) < spec.grayscale ? 1.0f : 0.0f;

  const Philox filters = draw(stream, index, Slot::blur_solarize);
  const bool blur = uniform01(filters.word[0]) < spec.blur;
  out.blur_sigma =
      blur ? static_cast<float>(uniform_between(filters.word[1], spec.blur_sigma_low, spec.blur_sigma_high)) : 0.0f;
  out.blur_kernel = static_cast<float>(spec.blur_kernel);
  out.solarize_threshold =
      uniform01(filters.word[2]) < spec.solarize ? static_cast<float>(spec.solarize_threshold) : 2.0f;

  out.sobel = uniform01(filters.word[3]) < spec.sobel ? 1.0f : 0.0f;

  out.noise_gaussian = static_cast<float>(spec.noise_gaussian);
  out.noise_salt_pepper = static_cast<float>(spec.noise_salt_pepper);
  out.noise_masking = static_cast<float>(spec.noise_masking);
  const Philox drop = draw(stream, index, Slot::channel_drop);
  out.channel_drop = 0.0f;
  if (uniform01(drop.word[0]) < spec.channel_drop) {
    const double count =
        spec.channel_drop_low + uniform_below(drop.word[1], spec.channel_drop_high - spec.channel_drop_low + 1.0);
    const int channels = static_cast<int>(spec.channels);
    out.channel_drop = static_cast<float>(
        drop_channels(stream, index, static_cast<uint32_t>(Slot::dropped_channels), channels, static_cast<int>(count)));
  }
  draw_cutout(out, spec, stream, index);
  const Philox noise = draw(stream, index, Slot::noise);
  return static_cast<int64_t>(static_cast<uint64_t>(noise.word[1]) << 32 | noise.word[0]);
}

}  // namespace sslfast
