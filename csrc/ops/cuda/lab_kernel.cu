// A thread owns `width` neighbouring pixels: 4 where every plane begins at a multiple of 16 bytes of floats, so that
// loads and stores are that wide, else 1. Blocks stand side by side over a plane (x) and walk over the images (y).
#include "csrc/ops/cuda/lab_light.h"
#include "csrc/ops/lab.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

constexpr int threads = 256;

template <class T, int width>
struct alignas(sizeof(T) * width) Pack {
  T value[width];
};

template <class T, int width>
__device__ Pack<T, width> load(const T* source) {
  return *reinterpret_cast<const Pack<T, width>*>(source);
}
template <class T, int width>
__device__ void store(T* target, const Pack<T, width>& values) {
  *reinterpret_cast<Pack<T, width>*>(target) = values;
}
// Left to itself, the compiler stores four floats one by one.
__device__ void store(float* target, const Pack<float, 4>& values) {
  __stcs(reinterpret_cast<float4*>(target),
         make_float4(values.value[0], values.value[1], values.value[2], values.value[3]));
}

template <class T, int width>
__global__ void __launch_bounds__(threads) rgb_to_lab_kernel(RgbToLabArgs args) {
  __shared__ float table[lab_table_size];
  fill_light<T>(table);
  __syncthreads();
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * width;
  if (first >= args.plane) return;
  for (int64_t b = blockIdx.y; b < args.count; b += gridDim.y) {
    const T* in = static_cast<const T*>(args.images) + 3 * b * args.plane + first;
    const Pack<T, width> red = load<T, width>(in);
    const Pack<T, width> green = load<T, width>(in + args.plane);
    const Pack<T, width> blue = load<T, width>(in + 2 * args.plane);
    Pack<float, width> lightness, green_red, blue_yellow;
#pragma unroll
    for (int k = 0; k < width; ++k) {
      lab_from_linear(light(table, red.value[k]), light(table, green.value[k]), light(table, blue.value[k]),
                      lightness.value[k], green_red.value[k], blue_yellow.value[k]);
    }
    float* out = args.lab + 3 * b * args.plane + first;
    store(out, lightness);
    store(out + args.plane, green_red);
    store(out + 2 * args.plane, blue_yellow);
  }
}

__device__ void finish(float value, float& out) { out = value; }
__device__ void finish(float value, uint8_t& out) { out = lab_byte(value); }

template <class T, int width>
__global__ void __launch_bounds__(threads) lab_to_rgb_kernel(LabToRgbArgs args) {
  const int64_t first = (static_cast<int64_t>(blockIdx.x) * threads + threadIdx.x) * width;
  if (first >= args.plane) return;
  for (int64_t b = blockIdx.y; b < args.count; b += gridDim.y) {
    const float* in = args.lab + 3 * b * args.plane + first;
    const Pack<float, width> lightness = load<float, width>(in);
    const Pack<float, width> green_red = load<float, width>(in + args.plane);
    const Pack<float, width> blue_yellow = load<float, width>(in + 2 * args.plane);
    Pack<T, width> red, green, blue;
#pragma unroll
    for (int k = 0; k < width; ++k) {
      float r, g, b_;
      lab_to_srgb(lightness.value[k], green_red.value[k], blue_yellow.value[k], r, g, b_);
      finish(r, red.value[k]);
      finish(g, green.value[k]);
      finish(b_, blue.value[k]);
    }
    T* out = static_cast<T*>(args.images) + 3 * b * args.plane + first;
    store(out, red);
    store(out + args.plane, green);
    store(out + 2 * args.plane, blue);
  }
}

bool aligned(const void* pointer, int64_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

// `rgb_bytes` of a channel; launches the kernel of four pixels a thread where the planes allow it.
template <class Args>
void launch_widest(void (*wide)(Args), void (*narrow)(Args), const Args& args, const void* lab, const void* images,
                   int64_t rgb_bytes, CudaContext& context) {
  const bool fits = args.plane % 4 == 0 && aligned(lab, 16) && aligned(images, 4 * rgb_bytes);
  const int64_t pixels = int64_t{threads} * (fits ? 4 : 1);
  const int64_t across = (args.plane + pixels - 1) / pixels;
  // Sixteen blocks a multiprocessor fill it; each then serves many images with one table.
  const int64_t wanted = 16 * static_cast<int64_t>(context.multiprocessors()) / across;
  const int64_t down = wanted < 1 ? 1 : (wanted < args.count ? wanted : args.count);
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(down));
  launch(fits ? wide : narrow, grid, dim3(threads), 0, context, args);
}

void run_rgb_to_lab(const RgbToLabArgs& args, CudaContext& context) {
  if (args.dtype == ScalarType::Byte) {
    return launch_widest(rgb_to_lab_kernel<uint8_t, 4>, rgb_to_lab_kernel<uint8_t, 1>, args, args.lab, args.images, 1,
                         context);
  }
  launch_widest(rgb_to_lab_kernel<float, 4>, rgb_to_lab_kernel<float, 1>, args, args.lab, args.images, 4, context);
}

void run_lab_to_rgb(const LabToRgbArgs& args, CudaContext& context) {
  if (args.dtype == ScalarType::Byte) {
    return launch_widest(lab_to_rgb_kernel<uint8_t, 4>, lab_to_rgb_kernel<uint8_t, 1>, args, args.lab, args.images, 1,
                         context);
  }
  launch_widest(lab_to_rgb_kernel<float, 4>, lab_to_rgb_kernel<float, 1>, args, args.lab, args.images, 4, context);
}

SSLFAST_CUDA_KERNEL(RgbToLabArgs, run_rgb_to_lab)
SSLFAST_CUDA_KERNEL(LabToRgbArgs, run_lab_to_rgb)

}  // namespace
}  // namespace sslfast
