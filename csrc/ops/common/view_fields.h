// The two tables of the augmentation, named once: Python reads the order of the columns from here (through _host).
#pragma once

namespace sslfast {

// clang-format off

// One row an image and view: what was drawn. All float32.
#define SSLFAST_AUGMENT_COLUMNS(X)                                                           \
  X(crop_top) X(crop_left) X(crop_height) X(crop_width) /* pixels of the stored image */     \
  X(bicubic)                                            /* 0: bilinear resize, 1: bicubic */ \
  X(hflip) X(vflip)                                     /* 0 or 1 */                         \
  X(rotation)                                           /* degrees, counter-clockwise */     \
  X(rotation_zoom)                                      /* magnification about the centre */ \
  X(brightness) X(contrast) X(saturation)               /* factors, 1 leaves as is */        \
  X(hue)                                                /* turns, 0 leaves as is */          \
  X(jitter_order)          /* 0 … 23: permutation of the four above, lexicographic */        \
  X(grayscale)                                          /* 0 or 1 */                         \
  X(blur_sigma)                                         /* pixels, 0 is off */               \
  X(blur_kernel)                                        /* odd width in pixels */            \
  X(sobel)                                              /* 0 or 1 */                         \
  X(solarize_threshold)                                 /* in [0, 1]; above 1 is off */      \
  X(noise_gaussian)                                     /* standard deviation */             \
  X(noise_salt_pepper) X(noise_masking)                 /* fractions of the pixels */        \
  X(channel_drop)                                       /* bit c: channel c is dropped */    \
  X(cutout_top) X(cutout_left) X(cutout_height) X(cutout_width) /* pixels of the view */

// One row a view: what to draw from. All float64; the meaning is sslfast.augment.ViewSpec's.
#define SSLFAST_VIEW_FIELDS(X)                                                                 \
  X(view_height) X(view_width) X(channels) X(bicubic)                                          \
  X(random_crop) X(crop_scale_low) X(crop_scale_high)                                          \
  X(crop_log_ratio_low) X(crop_log_ratio_high) X(center_fraction)                              \
  X(hflip) X(vflip)                                                                            \
  X(rotation_count)                                                                            \
  X(rotation_0) X(rotation_1) X(rotation_2) X(rotation_3) X(rotation_4) X(rotation_5)          \
  X(rotation_6) X(rotation_7) X(rotation_8) X(rotation_9) X(rotation_10) X(rotation_11)        \
  X(rotation_12) X(rotation_13) X(rotation_14) X(rotation_15)                                  \
  X(rotation_is_range) X(rotation_low) X(rotation_high) X(rotation_probability)                \
  X(rotation_zoom)                                                                             \
  X(jitter) X(brightness) X(contrast) X(saturation) X(hue)                                     \
  X(grayscale)                                                                                 \
  X(blur) X(blur_sigma_low) X(blur_sigma_high) X(blur_kernel)                                  \
  X(sobel) X(solarize) X(solarize_threshold)                                                   \
  X(noise_gaussian) X(noise_salt_pepper) X(noise_masking)                                      \
  X(channel_drop) X(channel_drop_low) X(channel_drop_high)                                     \
  X(cutout) X(cutout_scale_low) X(cutout_scale_high) X(cutout_log_ratio_low) X(cutout_log_ratio_high)

// clang-format on

#define SSLFAST_FLOAT_MEMBER(name) float name;
#define SSLFAST_DOUBLE_MEMBER(name) double name;
#define SSLFAST_COUNT_MEMBER(name) +1

struct AugmentParams {
  SSLFAST_AUGMENT_COLUMNS(SSLFAST_FLOAT_MEMBER)
};
struct ViewFields {
  SSLFAST_VIEW_FIELDS(SSLFAST_DOUBLE_MEMBER)
};

inline constexpr int augment_column_count = 0 SSLFAST_AUGMENT_COLUMNS(SSLFAST_COUNT_MEMBER);
inline constexpr int view_field_count = 0 SSLFAST_VIEW_FIELDS(SSLFAST_COUNT_MEMBER);
static_assert(sizeof(AugmentParams) == augment_column_count * sizeof(float));
static_assert(sizeof(ViewFields) == view_field_count * sizeof(double));

#undef SSLFAST_FLOAT_MEMBER
#undef SSLFAST_DOUBLE_MEMBER
#undef SSLFAST_COUNT_MEMBER

}  // namespace sslfast
