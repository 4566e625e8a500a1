// Steps that go from working planes to working planes, or to the result when nothing comes behind them (`last`): colour
// from contrast on, sobel, noise.
#pragma once

#include "csrc/ops/cuda/augment_color.cuh"

namespace sslfast {
namespace {

// Element `k` of the values of 4 pixels of 3 channels as they lie in memory, 4 a unit: its unit, and its pixel and
// channel.
template <class V, class Visit>
__device__ void for_each_unit(const V& view, int pixel, const Visit& visit) {
  if (view.contiguous()) {
#pragma unroll
    for (int c = 0; c < 3; ++c) visit(view.at(c, pixel), [c](int i) { return i * 3 + c; });
  } else {
#pragma unroll
    for (int unit = 0; unit < 3; ++unit) visit(3 * pixel + 4 * unit, [unit](int i) { return 4 * unit + i; });
  }
}

// Pixels pixel … pixel + count - 1; those of the group that do not exist stay as they are.
template <class V, int width, int group>
__device__ void load_pixels(const V& view, int pixel, int count, Pixel<width> (&pixels)[group]) {
  if constexpr (width == 3) {
    if (view.wide) {
      for_each_unit(view, pixel, [&](int at, const auto& place) {
        float v[4];
        load_four(view.planes + at, v);
#pragma unroll
        for (int i = 0; i < 4; ++i) pixels[place(i) / 3].value[place(i) % 3] = v[i];
      });
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < group; ++i) {
    if (i >= count) break;
    SSLFAST_EACH_CHANNEL(c, width, view.channels()) pixels[i].value[c] = decode(view.planes[view.at(c, pixel + i)]);
  }
}

template <class V, int width, int group>
__device__ void store_pixels(const V& view, int pixel, int count, Pixel<width> (&pixels)[group], bool last) {
  if (last) {
    const float threshold = view.params.solarize_threshold;
    const bool solarized = threshold <= 1.0f;
#pragma unroll
    for (int i = 0; i < group; ++i) {
      SSLFAST_EACH_CHANNEL(c, width, view.channels()) {
        if (solarized) pixels[i].value[c] = solarize(pixels[i].value[c], threshold);
        pixels[i].value[c] = normalised(view, pixels[i].value[c], c);
      }
    }
  }
  if constexpr (width == 3) {
    if (view.wide) {
      const auto store_all = [&](auto code, typename V::Value* to) {
        for_each_unit(view, pixel, [&](int at, const auto& place) {
          float v[4];
#pragma unroll
          for (int i = 0; i < 4; ++i) v[i] = pixels[place(i) / 3].value[place(i) % 3];
          store_four<decltype(code)>(to + at, v);
        });
      };
      last ? store_all(ResultCode<typename V::Result>{}, view.out) : store_all(PlaneCode{}, view.planes);
      return;
    }
  }
#pragma unroll
  for (int i = 0; i < group; ++i) {
    if (i >= count) break;
    SSLFAST_EACH_CHANNEL(c, width, view.channels()) {
      const int at = view.at(c, pixel + i);
      last ? store_one<ResultCode<typename V::Result>>(view.out + at, pixels[i].value[c])
           : store_one<PlaneCode>(view.planes + at, pixels[i].value[c]);
    }
  }
}

// Colour from contrast on.
template <class V>
__device__ void recolor(const V& view, const ColorPlan& plan, float gray_mean, bool last) {
  for (int pixel = threadIdx.x * V::group; pixel < view.pixels; pixel += blockDim.x * V::group) {
    Pixel<V::pixel_width> pixels[V::group] = {};
    const int count = smaller(V::group, view.pixels - pixel);
    load_pixels(view, pixel, count, pixels);
    finish_color(pixels, view.params, plan, view.channels(), gray_mean);
    store_pixels(view, pixel, count, pixels, last);
  }
}

template <class V>
__device__ void store_value(const V& view, int at, float value, int channel, bool last) {
  if (last) {
    value = normalised(view, solarize(value, view.params.solarize_threshold), channel);
    store_one<ResultCode<typename V::Result>>(view.out + at, value);
  } else {
    store_one<PlaneCode>(view.planes + at, value);
  }
}

// A column of planes in the work memory, as fixed point where planes are, or where the work memory holds no more.
template <class V>
struct KeptColumn {
  float* work;
  bool coded;

  __device__ explicit KeptColumn(const V& view)
      : work(view.work), coded(V::fixed_point || view.args.height > view.work_size) {}
  __device__ float read(int y) const { return coded ? decode(reinterpret_cast<const uint16_t*>(work)[y]) : work[y]; }
  __device__ void write(int y, float value) const {
    coded ? store_one<PlaneCode>(reinterpret_cast<uint16_t*>(work) + y, value) : store_one<PlaneCode>(work + y, value);
  }
};

// In place: threads own columns and go down together, a barrier a row, with three values of three rows in registers.
// What the block has overwritten on the left, the last column of its columns before, is kept in the work memory.
template <class V>
__device__ void sobel(const V& view, bool last) {
  const int height = view.args.height, width = view.args.width;
  const KeptColumn column(view);
  for (int c = 0; c < view.channels(); ++c) {
    for (int first = 0; first < width; first += blockDim.x) {
      const int x = first + static_cast<int>(threadIdx.x);
      const int left = larger(x - 1, 0), right = smaller(x + 1, width - 1);
      const bool inside = x < width, kept = threadIdx.x == 0 && first > 0;
      const auto read_row = [&](int y, float (&row)[3]) {
        const int begin = y * width;
        row[0] = kept ? column.read(y) : decode(view.planes[view.at(c, begin + left)]);
        row[1] = decode(view.planes[view.at(c, begin + x)]);
        row[2] = decode(view.planes[view.at(c, begin + right)]);
      };
      float up[3] = {}, here[3] = {}, down[3] = {};
      __syncthreads();  // the planes are complete, and the kept column too
      if (inside) read_row(0, here);
#pragma unroll
      for (int i = 0; i < 3; ++i) up[i] = down[i] = here[i];
      for (int y = 0; y < height; ++y) {
        if (inside && y + 1 < height) read_row(y + 1, down);
        __syncthreads();  // rows up to y + 1 are read
        if (inside) store_value(view, view.at(c, y * width + x), sobel_of(up, here, down), c, last);
        if (threadIdx.x == blockDim.x - 1) column.write(y, here[1]);
#pragma unroll
        for (int i = 0; i < 3; ++i) {
          up[i] = here[i];
          here[i] = down[i];
        }
      }
    }
  }
}

// Whether a view has more to do at its end than solarize and normalisation.
__device__ inline bool is_spoiled(const AugmentParams& params) {
  return params.noise_gaussian > 0.0f || params.noise_salt_pepper > 0.0f || params.noise_masking > 0.0f ||
         params.channel_drop != 0.0f || (params.cutout_height > 0.0f && params.cutout_width > 0.0f);
}

template <class V>
__device__ void spoil(const V& view) {
  const AugmentArgs& args = view.args;
  const int64_t key = args.noise_key[view.image];
  const Cutout cutout = cutout_of(view.params, args.height, args.width);
  __syncthreads();  // the planes are complete, noise may come
  for (int pixel = threadIdx.x; pixel < view.pixels; pixel += blockDim.x) {
    const int y = pixel / args.width, x = pixel - y * args.width;
    const bool cut = y >= cutout.top && y < cutout.bottom && x >= cutout.left && x < cutout.right;
    for (int c = 0; c < view.channels(); ++c) {
      const int at = view.at(c, pixel);
      const float value = finish(decode(view.planes[at]), view.params, key, static_cast<uint32_t>(pixel),
                                 static_cast<uint32_t>(view.pixels), c, args.mean[c], args.inverse_std[c]);
      store_one<ResultCode<typename V::Result>>(view.out + at, cut ? 0.0f : value);
    }
  }
}

// The view of an image that does not lie inside the storage.
template <class V>
__device__ void store_nan(const V& view) {
  for (int64_t k = threadIdx.x; k < static_cast<int64_t>(view.pixels) * view.channels(); k += blockDim.x) {
    store_one<ResultCode<typename V::Result>>(view.out + k, nanf(""));
  }
}

}  // namespace
}  // namespace sslfast
