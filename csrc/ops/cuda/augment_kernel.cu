// One block an image. The working planes lie in shared memory where two sets of them fit, else in scratch memory, one
// slot a resident block (blocks then walk over the images).
//
//   resize -> front;  rotate: front -> back;  colour in place;  blur: front -> back (rows) -> front (columns);  store
//
// Threads own pixels (thread, thread + blockDim, …) in every pixel-wise step, so barriers stand only around the steps
// that read other threads' pixels.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "csrc/ops/augment.h"
#include "csrc/ops/common/augment_math.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

constexpr int threads = 256;

__device__ inline void convert(float value, float* out) { *out = value; }
__device__ inline void convert(float value, __half* out) { *out = __float2half_rn(value); }
__device__ inline void convert(float value, __nv_bfloat16* out) { *out = __float2bfloat16_rn(value); }

struct View {
  const AugmentArgs& args;
  int64_t image;
  AugmentParams params;
  int pixels;
  float* front;
  float* back;
};

__device__ void resize(const View& view) {
  const AugmentArgs& args = view.args;
  const int image_width = args.sizes[2 * view.image + 1];
  const Crop crop = crop_of(view.params, args.sizes[2 * view.image], image_width);
  const bool bicubic = view.params.bicubic != 0.0f;
  const ResizeAxis vertical = resize_axis(crop.height, args.height, bicubic);
  const ResizeAxis horizontal = resize_axis(crop.width, args.width, bicubic);
  const int64_t stride = static_cast<int64_t>(image_width) * args.channels;
  const uint8_t* source =
      args.storage + args.offsets[view.image] + crop.top * stride + static_cast<int64_t>(crop.left) * args.channels;
  const bool flip = view.params.hflip != 0.0f, mirror = view.params.vflip != 0.0f;
  for (int p = threadIdx.x; p < view.pixels; p += threads) {
    const int y = p / args.width;
    const int x = p - y * args.width;
    const ResizeWindow rows = resize_window(vertical, mirror ? args.height - 1 - y : y);
    const ResizeWindow columns = resize_window(horizontal, flip ? args.width - 1 - x : x);
    const float scale = rows.inverse_sum * columns.inverse_sum * (1.0f / 255.0f);
    for (int c = 0; c < args.channels; ++c) {
      float sum = 0.0f;
      for (int i = rows.begin; i < rows.end; ++i) {
        const uint8_t* row = source + i * stride + c;
        float row_sum = 0.0f;
        for (int j = columns.begin; j < columns.end; ++j) {
          row_sum += resize_weight(horizontal, columns.center, j) * static_cast<float>(row[j * args.channels]);
        }
        sum += resize_weight(vertical, rows.center, i) * row_sum;
      }
      view.front[c * view.pixels + p] = bicubic ? clamp01(sum * scale) : sum * scale;
    }
  }
}

__device__ void swap_planes(View& view) {
  float* front = view.front;
  view.front = view.back;
  view.back = front;
}

__device__ void rotate(View& view) {
  const int height = view.args.height, width = view.args.width;
  const Rotation rotation = rotation_of(view.params, height, width);
  __syncthreads();
  for (int p = threadIdx.x; p < view.pixels; p += threads) {
    const int y = p / width;
    for (int c = 0; c < view.args.channels; ++c) {
      const float* plane = view.front + c * view.pixels;
      view.back[c * view.pixels + p] = rotated_sample(plane, height, width, rotation, p - y * width, y);
    }
  }
  swap_planes(view);
}

// Gray of pixel p: the weighted sum of three channels, else their mean.
__device__ float gray_at(const View& view, int p) {
  const float* pixel = view.front + p;
  if (view.args.channels == 3) return gray_of(pixel[0], pixel[view.pixels], pixel[2 * view.pixels]);
  float sum = 0.0f;
  for (int c = 0; c < view.args.channels; ++c) sum += pixel[c * view.pixels];
  return sum / static_cast<float>(view.args.channels);
}

__device__ void jitter_pixel(const View& view, int p, int step, float gray_mean) {
  float* pixel = view.front + p;
  const AugmentParams& params = view.params;
  if (step == step_hue) {
    if (view.args.channels == 3 && params.hue != 0.0f) {
      shift_hue(pixel[0], pixel[view.pixels], pixel[2 * view.pixels], params.hue);
    }
    return;
  }
  const float factor =
      step == step_brightness ? params.brightness : (step == step_contrast ? params.contrast : params.saturation);
  if (factor == 1.0f) return;
  const float other = step == step_brightness ? 0.0f : (step == step_contrast ? gray_mean : gray_at(view, p));
  for (int c = 0; c < view.args.channels; ++c) pixel[c * view.pixels] = blend(pixel[c * view.pixels], other, factor);
}

// Sum over the block, the same bits in every thread and every run; a barrier stands between two calls.
__device__ float block_sum(float value) {
  __shared__ float partial[threads / 32];
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, lanes);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
  for (int warp = 0; warp < threads / 32; ++warp) sum += partial[warp];
  return sum;
}

// Contrast needs the mean gray of the whole view at its place in the order: what comes before it is a pass of its own.
__device__ void jitter_colors(const View& view) {
  const AugmentParams& params = view.params;
  const int order = jitter_order(params);
  int done = 0;
  float gray_mean = 0.0f;
  if (params.contrast != 1.0f) {
    while (jitter_step(order, done) != step_contrast) ++done;
    float sum = 0.0f;
    for (int p = threadIdx.x; p < view.pixels; p += threads) {
      for (int k = 0; k < done; ++k) jitter_pixel(view, p, jitter_step(order, k), 0.0f);
      sum += gray_at(view, p);
    }
    gray_mean = block_sum(sum) / static_cast<float>(view.pixels);
  }
  for (int p = threadIdx.x; p < view.pixels; p += threads) {
    for (int k = done; k < 4; ++k) jitter_pixel(view, p, jitter_step(order, k), gray_mean);
    if (params.grayscale != 0.0f) {
      const float gray = gray_at(view, p);
      for (int c = 0; c < view.args.channels; ++c) view.front[c * view.pixels + p] = gray;
    }
  }
}

// One axis of the separable blur; `step` is the distance of neighbours in memory.
__device__ void blur_axis(const View& view, const float* in, float* out, int radius, float inverse_sum,
                          bool horizontal) {
  const int width = view.args.width;
  const int size = horizontal ? width : view.args.height;
  const int step = horizontal ? 1 : width;
  __syncthreads();
  for (int p = threadIdx.x; p < view.pixels; p += threads) {
    const int y = p / width;
    const int position = horizontal ? p - y * width : y;
    for (int c = 0; c < view.args.channels; ++c) {
      const float* origin = in + c * view.pixels + p - position * step;
      float sum = 0.0f;
      for (int k = -radius; k <= radius; ++k) {
        sum += blur_weight(view.params, k) * origin[reflect(position + k, size) * step];
      }
      out[c * view.pixels + p] = sum * inverse_sum;
    }
  }
}

__device__ void blur(const View& view) {
  const int radius = blur_radius(view.params);
  if (radius == 0) return;
  float sum = 0.0f;
  for (int k = -radius; k <= radius; ++k) sum += blur_weight(view.params, k);
  blur_axis(view, view.front, view.back, radius, 1.0f / sum, true);
  blur_axis(view, view.back, view.front, radius, 1.0f / sum, false);
}

__device__ void sobel(View& view) {
  const int height = view.args.height, width = view.args.width;
  __syncthreads();
  for (int p = threadIdx.x; p < view.pixels; p += threads) {
    const int y = p / width;
    for (int c = 0; c < view.args.channels; ++c) {
      view.back[c * view.pixels + p] = sobel_at(view.front + c * view.pixels, height, width, p - y * width, y);
    }
  }
  swap_planes(view);
}

template <class T>
__device__ void store(const View& view, bool valid) {
  const AugmentArgs& args = view.args;
  T* out = static_cast<T*>(args.out) + view.image * view.pixels * args.channels;
  const int64_t key = args.noise_key[view.image];
  const Cutout cutout = cutout_of(view.params, args.height, args.width);
  for (int p = threadIdx.x; p < view.pixels; p += threads) {
    const int y = p / args.width, x = p - y * args.width;
    const bool cut = y >= cutout.top && y < cutout.bottom && x >= cutout.left && x < cutout.right;
    for (int c = 0; c < args.channels; ++c) {
      float value = nanf("");
      if (valid) {
        value = finish(view.front[c * view.pixels + p], view.params, key, static_cast<uint32_t>(p),
                       static_cast<uint32_t>(view.pixels), c, args.mean[c], args.inverse_std[c]);
        value = cut ? 0.0f : value;
      }
      convert(value, out + c * args.stride_channel + p * args.stride_pixel);
    }
  }
}

template <class T>
__global__ void __launch_bounds__(threads, 2) augment(AugmentArgs args, float* scratch) {
  SSLFAST_DYNAMIC_SHARED(float, shared);
  const int64_t pixels = static_cast<int64_t>(args.height) * args.width;
  float* planes = scratch == nullptr ? shared : scratch + blockIdx.x * 2 * pixels * args.channels;
  for (int64_t b = blockIdx.x; b < args.count; b += gridDim.x) {
    View view{args, b, args.params[b], static_cast<int>(pixels), planes, planes + pixels * args.channels};
    const bool valid =
        inside_storage(args.offsets[b], args.sizes[2 * b], args.sizes[2 * b + 1], args.channels, args.storage_bytes);
    if (valid) {
      resize(view);
      if (has_rotation(view.params)) rotate(view);
      jitter_colors(view);
      blur(view);
      if (view.params.sobel != 0.0f) sobel(view);
    }
    store<T>(view, valid);
    __syncthreads();
  }
}

template <class T>
void run_typed(const AugmentArgs& args, CudaContext& context) {
  const int64_t bytes = int64_t{2} * args.height * args.width * args.channels * sizeof(float);
  if (bytes <= 48 * 1024) {
    launch(augment<T>, dim3(static_cast<unsigned>(smaller<int64_t>(args.count, 1 << 20))), dim3(threads),
           static_cast<size_t>(bytes), context, args, static_cast<float*>(nullptr));
    return;
  }
  const int64_t blocks = smaller<int64_t>(args.count, 4 * context.multiprocessors());
  float* scratch = static_cast<float*>(context.scratch(blocks * bytes));
  launch(augment<T>, dim3(static_cast<unsigned>(blocks)), dim3(threads), 0, context, args, scratch);
}

void run_kernel(const AugmentArgs& args, CudaContext& context) {
  switch (args.dtype) {
    case ScalarType::Half: return run_typed<__half>(args, context);
    case ScalarType::BFloat16: return run_typed<__nv_bfloat16>(args, context);
    default: return run_typed<float>(args, context);
  }
}

SSLFAST_CUDA_KERNEL(AugmentArgs, run_kernel)

}  // namespace
}  // namespace sslfast
