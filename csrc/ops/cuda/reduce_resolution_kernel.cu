// A block owns rows of blocks of one plane, each `factor` pixels high: a thread sums a column into shared memory, then
// the columns of its pixel's block, and writes the mean to all rows. Every pixel is read and written once, by
// neighbours side by side.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "csrc/ops/reduce_resolution.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

constexpr int most_threads = 256;

template <class T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};

__device__ inline float widen(uint8_t value) { return static_cast<float>(value); }
__device__ inline float widen(float value) { return value; }
__device__ inline double widen(double value) { return value; }
__device__ inline float widen(__half value) { return __half2float(value); }
__device__ inline float widen(__nv_bfloat16 value) { return __bfloat162float(value); }
__device__ inline void narrow(float value, uint8_t* out) { *out = static_cast<uint8_t>(value + 0.5f); }
__device__ inline void narrow(float value, float* out) { *out = value; }
__device__ inline void narrow(double value, double* out) { *out = value; }
__device__ inline void narrow(float value, __half* out) { *out = __float2half_rn(value); }
__device__ inline void narrow(float value, __nv_bfloat16* out) { *out = __float2bfloat16_rn(value); }

template <class T>
__global__ void __launch_bounds__(most_threads) reduce_resolution(ReduceResolutionArgs args) {
  using Sum = typename SumOf<T>::type;
  SSLFAST_DYNAMIC_SHARED(Sum, sums);
  const int64_t plane = blockIdx.x;
  const int wanted = args.factors[plane / args.channels];
  // A block of the plane's size holds it all; beyond that sums of coordinates could overflow.
  const int longest = args.height > args.width ? args.height : args.width;
  const int factor = wanted < 1 ? 1 : (wanted < longest ? wanted : longest);
  const int64_t first = plane * args.height * args.width;
  const T* const in = static_cast<const T*>(args.images) + first;
  T* const out = static_cast<T*>(args.out) + first;
  const int strips = (args.height + factor - 1) / factor;
  for (int strip = blockIdx.y; strip < strips; strip += gridDim.y) {
    const int top = strip * factor;
    const int rows = args.height - top < factor ? args.height - top : factor;
    for (int x = threadIdx.x; x < args.width; x += blockDim.x) {
      Sum sum = 0;
      for (int y = 0; y < rows; ++y) sum += widen(in[static_cast<int64_t>(top + y) * args.width + x]);
      sums[x] = sum;
    }
    __syncthreads();  // the columns of all blocks are summed
    for (int x = threadIdx.x; x < args.width; x += blockDim.x) {
      const int left = x - x % factor;
      const int columns = args.width - left < factor ? args.width - left : factor;
      Sum sum = 0;
#pragma unroll 1  // unrolled, it spills
      for (int i = 0; i < columns; ++i) sum += sums[left + i];
      T mean;
      narrow(sum / (static_cast<Sum>(rows) * static_cast<Sum>(columns)), &mean);
      for (int y = 0; y < rows; ++y) out[static_cast<int64_t>(top + y) * args.width + x] = mean;
    }
    __syncthreads();  // the sums have been read
  }
}

template <class T>
void run_typed(const ReduceResolutionArgs& args, CudaContext& context) {
  const int64_t planes = args.count * args.channels;
  check(planes < int64_t{1} << 31, "reduce_resolution: ", planes,
        " planes are more than a GPU takes; use a smaller batch");
  const int warps = (args.width + 31) / 32;
  const dim3 block(static_cast<unsigned>(warps < most_threads / 32 ? 32 * warps : most_threads));
  const dim3 grid(static_cast<unsigned>(planes), static_cast<unsigned>(args.height < 8 ? args.height : 8));
  const size_t shared_bytes = static_cast<size_t>(args.width) * sizeof(typename SumOf<T>::type);
  launch(reduce_resolution<T>, grid, block, shared_bytes, context, args);
}

void run_kernel(const ReduceResolutionArgs& args, CudaContext& context) {
  switch (args.dtype) {
    case ScalarType::Byte: return run_typed<uint8_t>(args, context);
    case ScalarType::Half: return run_typed<__half>(args, context);
    case ScalarType::BFloat16: return run_typed<__nv_bfloat16>(args, context);
    case ScalarType::Double: return run_typed<double>(args, context);
    default: return run_typed<float>(args, context);
  }
}

SSLFAST_CUDA_KERNEL(ReduceResolutionArgs, run_kernel)

}  // namespace
}  // namespace sslfast
