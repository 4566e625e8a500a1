// One thread an image. Per thread: two sets of float32 planes, and the rows and tables of the separable filters.
#include <algorithm>
#include <cstring>
#include <vector>

#include "csrc/ops/augment.h"
#include "csrc/ops/common/augment_math.h"
#include "csrc/ops/cpu/augment_color.h"
#include "csrc/ops/cpu/convert.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

struct Workspace {
  Workspace(const AugmentArgs& args, int max_image_width)
      : pixels(static_cast<int64_t>(args.height) * args.width),
        front(pixels * args.channels),
        back(pixels * args.channels),
        row(static_cast<size_t>(max_image_width) * args.channels + 1),
        tap_index(args.width) {}

  int64_t pixels;
  std::vector<float> front, back;  // planes: what is read and what is written by a filter
  std::vector<float> row;          // one source row after the vertical pass, channels interleaved, one float of margin
  std::vector<int> tap_index;      // per output column: first source pixel of the horizontal pass
  std::vector<float> tap_weight;   // per output column: a weight a tap
  std::vector<const uint8_t*> rows;     // vertical pass: the source rows of one output row
  std::vector<const float*> blur_rows;  // the same for the blur
  std::vector<float> weights, padded;   // weights of the rows; one row with its reflected ends
};

// One vector register of the instruction set. As arrays, sums over many taps would live in memory, not in registers.
#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif
typedef float Lanes __attribute__((vector_size(4 * lanes)));

inline Lanes load_lanes(const float* source) {
  Lanes values;
  std::memcpy(&values, source, sizeof(values));
  return values;
}

// Weighted sums of `vectors` registers at a time, from column i on; returns where they end.
template <int vectors>
int64_t sum_block(const float* const* rows, const float* weights, int taps, float* out, int64_t i, int64_t n) {
  for (; i + lanes * vectors <= n; i += lanes * vectors) {
    Lanes sum[vectors] = {};
    for (int k = 0; k < taps; ++k) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) sum[v] += weights[k] * load_lanes(rows[k] + i + lanes * v);
    }
    std::memcpy(out + i, sum, sizeof(sum));
  }
  return i;
}

// The same for bytes, whose widening gcc does best in plain loops; a resize has few taps.
template <int vectors>
int64_t sum_block(const uint8_t* const* rows, const float* weights, int taps, float* out, int64_t i, int64_t n) {
  constexpr int block = 16 * vectors;
  for (; i + block <= n; i += block) {
    float sum[block] = {};
    for (int k = 0; k < taps; ++k) {
      const uint8_t* source = rows[k] + i;
      const float weight = weights[k];
#pragma omp simd
      for (int j = 0; j < block; ++j) sum[j] += weight * static_cast<float>(source[j]);
    }
    std::memcpy(out + i, sum, sizeof(sum));
  }
  return i;
}

// out[i] = sum of weight[k] * rows[k][i].
template <class T>
void weighted_sum(const T* const* rows, const float* weights, int taps, float* out, int64_t n) {
  int64_t i = sum_block<4>(rows, weights, taps, out, 0, n);
  for (i = sum_block<1>(rows, weights, taps, out, i, n); i < n; ++i) {
    float sum = 0.0f;
    for (int k = 0; k < taps; ++k) sum += weights[k] * static_cast<float>(rows[k][i]);
    out[i] = sum;
  }
}

// Fills the table of the horizontal pass, mirrored for a flip; returns the number of taps.
int horizontal_taps(const ResizeAxis& axis, int width, bool flip, Workspace& work) {
  int taps = 1;
  for (int x = 0; x < width; ++x) {
    const ResizeWindow window = resize_window(axis, x);
    taps = larger(taps, window.end - window.begin);
  }
  work.tap_weight.assign(static_cast<size_t>(taps) * width, 0.0f);
  for (int x = 0; x < width; ++x) {
    const ResizeWindow window = resize_window(axis, x);
    // Windows at the right border begin earlier, so that no tap lies outside of the row.
    const int begin = smaller(window.begin, axis.input - taps);
    const int column = flip ? width - 1 - x : x;
    work.tap_index[column] = begin;
    const float scale = window.inverse_sum * (1.0f / 255.0f);
    for (int j = window.begin; j < window.end; ++j) {
      work.tap_weight[static_cast<size_t>(column) * taps + j - begin] = resize_weight(axis, window.center, j) * scale;
    }
  }
  return taps;
}

// Three interleaved channels: a pixel is one vector of four floats, of which the last belongs to the next pixel.
typedef float Pixel __attribute__((vector_size(16), aligned(4)));

void horizontal_pass_rgb(const float* row, int taps, int width, const Workspace& work, float* const* out) {
  constexpr int batch = 16;  // pixels that are summed before they are spread over the planes
  for (int x0 = 0; x0 < width; x0 += batch) {
    float sums[4 * batch];
    const int n = smaller(batch, width - x0);
    for (int i = 0; i < n; ++i) {
      const float* weight = work.tap_weight.data() + static_cast<size_t>(x0 + i) * taps;
      const float* in = row + 3 * static_cast<int64_t>(work.tap_index[x0 + i]);
      Pixel sum = {};
      for (int j = 0; j < taps; ++j) sum += weight[j] * *reinterpret_cast<const Pixel*>(in + 3 * j);
      *reinterpret_cast<Pixel*>(sums + 4 * i) = sum;
    }
    for (int c = 0; c < 3; ++c) {
      for (int i = 0; i < n; ++i) out[c][x0 + i] = sums[4 * i + c];
    }
  }
}

void horizontal_pass(const float* row, int taps, int width, int channels, const Workspace& work, float* const* out) {
  for (int x = 0; x < width; ++x) {
    const float* weight = work.tap_weight.data() + static_cast<size_t>(x) * taps;
    const float* in = row + static_cast<int64_t>(work.tap_index[x]) * channels;
    for (int c = 0; c < channels; ++c) {
      float sum = 0.0f;
      for (int j = 0; j < taps; ++j) sum += weight[j] * in[j * channels + c];
      out[c][x] = sum;
    }
  }
}

// Vertical pass on the interleaved source rows, then the horizontal pass into planes.
void resize(const AugmentArgs& args, int64_t b, const AugmentParams& params, Workspace& work) {
  const int image_width = args.sizes[2 * b + 1];
  const int channels = args.channels, width = args.width;
  const Crop crop = crop_of(params, args.sizes[2 * b], image_width);
  const bool bicubic = params.bicubic != 0.0f;
  const ResizeAxis vertical = resize_axis(crop.height, args.height, bicubic);
  const int taps = horizontal_taps(resize_axis(crop.width, width, bicubic), width, params.hflip != 0.0f, work);
  const int64_t stride = static_cast<int64_t>(image_width) * channels;
  const uint8_t* source =
      args.storage + args.offsets[b] + crop.top * stride + static_cast<int64_t>(crop.left) * channels;

  work.rows.resize(static_cast<size_t>(2.0f * vertical.support) + 2);
  work.weights.resize(work.rows.size());
  float* out[max_channels];
  for (int y = 0; y < args.height; ++y) {
    const ResizeWindow window = resize_window(vertical, params.vflip != 0.0f ? args.height - 1 - y : y);
    for (int j = window.begin; j < window.end; ++j) {
      work.rows[j - window.begin] = source + j * stride;
      work.weights[j - window.begin] = resize_weight(vertical, window.center, j) * window.inverse_sum;
    }
    weighted_sum(work.rows.data(), work.weights.data(), window.end - window.begin, work.row.data(),
                 static_cast<int64_t>(crop.width) * channels);
    for (int c = 0; c < channels; ++c) out[c] = work.front.data() + c * work.pixels + static_cast<int64_t>(y) * width;
    if (channels == 3) {
      horizontal_pass_rgb(work.row.data(), taps, width, work, out);
    } else {
      horizontal_pass(work.row.data(), taps, width, channels, work, out);
    }
  }
  if (bicubic) {
    for (float& value : work.front) value = clamp01(value);
  }
}

void rotate(const AugmentArgs& args, const AugmentParams& params, Workspace& work) {
  const Rotation rotation = rotation_of(params, args.height, args.width);
  for (int c = 0; c < args.channels; ++c) {
    const float* in = work.front.data() + c * work.pixels;
    float* out = work.back.data() + c * work.pixels;
    for (int y = 0; y < args.height; ++y) {
      for (int x = 0; x < args.width; ++x) {
        out[static_cast<int64_t>(y) * args.width + x] = rotated_sample(in, args.height, args.width, rotation, x, y);
      }
    }
  }
  std::swap(work.front, work.back);
}

void blur(const AugmentArgs& args, const AugmentParams& params, int radius, Workspace& work) {
  const int height = args.height, width = args.width;
  std::vector<float>&weights = work.weights, &padded = work.padded;
  std::vector<const float*>& rows = work.blur_rows;
  weights.resize(2 * radius + 1);
  padded.resize(width + 2 * radius);
  rows.resize(2 * radius + 1);
  float sum = 0.0f;
  for (int k = -radius; k <= radius; ++k) sum += weights[k + radius] = blur_weight(params, k);
  for (float& weight : weights) weight /= sum;
  for (int c = 0; c < args.channels; ++c) {
    float* plane = work.front.data() + c * work.pixels;
    float* middle = work.back.data() + c * work.pixels;
    for (int y = 0; y < height; ++y) {
      const float* in = plane + static_cast<int64_t>(y) * width;
      for (int x = -radius; x < 0; ++x) padded[x + radius] = in[reflect(x, width)];
      std::memcpy(padded.data() + radius, in, sizeof(float) * width);
      for (int x = width; x < width + radius; ++x) padded[x + radius] = in[reflect(x, width)];
      for (int k = 0; k <= 2 * radius; ++k) rows[k] = padded.data() + k;
      weighted_sum(rows.data(), weights.data(), 2 * radius + 1, middle + static_cast<int64_t>(y) * width, width);
    }
    for (int y = 0; y < height; ++y) {
      for (int k = -radius; k <= radius; ++k) {
        rows[k + radius] = middle + static_cast<int64_t>(reflect(y + k, height)) * width;
      }
      weighted_sum(rows.data(), weights.data(), 2 * radius + 1, plane + static_cast<int64_t>(y) * width, width);
    }
  }
}

void sobel(const AugmentArgs& args, Workspace& work) {
  for (int c = 0; c < args.channels; ++c) {
    const float* in = work.front.data() + c * work.pixels;
    float* out = work.back.data() + c * work.pixels;
    for (int y = 0; y < args.height; ++y) {
      for (int x = 0; x < args.width; ++x) *out++ = sobel_at(in, args.height, args.width, x, y);
    }
  }
  std::swap(work.front, work.back);
}

template <class T>
void store(const AugmentArgs& args, int64_t b, const AugmentParams& params, const Workspace& work) {
  const uint32_t pixels = static_cast<uint32_t>(work.pixels);
  T* view = static_cast<T*>(args.out) + b * work.pixels * args.channels;
  const bool rare = params.noise_gaussian > 0.0f || params.noise_salt_pepper > 0.0f || params.noise_masking > 0.0f ||
                    params.channel_drop != 0.0f;
  const Cutout cutout = cutout_of(params, args.height, args.width);
  for (int c = 0; c < args.channels; ++c) {
    const float* __restrict in = work.front.data() + c * work.pixels;
    T* __restrict out = view + c * args.stride_channel;
    const float mean = args.mean[c], inverse_std = args.inverse_std[c], threshold = params.solarize_threshold;
    const int64_t stride = args.stride_pixel;
    if (rare) {
      for (uint32_t p = 0; p < pixels; ++p) {
        out[p * stride] = convert<T>(finish(in[p], params, args.noise_key[b], p, pixels, c, mean, inverse_std));
      }
    } else if (stride == 1) {
#pragma omp simd
      for (uint32_t p = 0; p < pixels; ++p) out[p] = convert<T>((solarize(in[p], threshold) - mean) * inverse_std);
    } else {
      for (uint32_t p = 0; p < pixels; ++p) {
        out[p * stride] = convert<T>((solarize(in[p], threshold) - mean) * inverse_std);
      }
    }
    for (int y = cutout.top; y < cutout.bottom; ++y) {
      for (int x = cutout.left; x < cutout.right; ++x) {
        out[(static_cast<int64_t>(y) * args.width + x) * stride] = convert<T>(0.0f);
      }
    }
  }
}

void make_view(const AugmentArgs& args, int64_t b, Workspace& work) {
  const AugmentParams& params = args.params[b];
  resize(args, b, params, work);
  if (has_rotation(params)) rotate(args, params, work);
  jitter_colors(work.front.data(), work.pixels, args.channels, params);
  if (const int radius = blur_radius(params); radius > 0) blur(args, params, radius, work);
  if (params.sobel != 0.0f) sobel(args, work);
  switch (args.dtype) {
    case ScalarType::Half: return store<float16>(args, b, params, work);
    case ScalarType::BFloat16: return store<bfloat16>(args, b, params, work);
    default: return store<float>(args, b, params, work);
  }
}

void kernel(const AugmentArgs& args) {
  int max_image_width = 1;
  for (int64_t b = 0; b < args.count; ++b) {
    const int32_t height = args.sizes[2 * b], width = args.sizes[2 * b + 1];
    check(inside_storage(args.offsets[b], height, width, args.channels, args.storage_bytes), "augment: image ", b,
          " (offset ", args.offsets[b], ", ", height, " x ", width, " x ", args.channels,
          " bytes) does not lie inside the storage of ", args.storage_bytes,
          " bytes; check offsets, sizes and channels");
    max_image_width = larger(max_image_width, width);
  }
  parallel_for(args.count, 1, [&](int64_t begin, int64_t end) {
    Workspace work(args, max_image_width);
    for (int64_t b = begin; b < end; ++b) make_view(args, b, work);
  });
}

SSLFAST_CPU_KERNEL(AugmentArgs, kernel)

}  // namespace
}  // namespace sslfast
