// Right kernels that use what the bench offers, one after another; test_bench.py says what each must compute.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <map>
#include <string>
#include <vector>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

struct ExampleArgs {
  std::string name;
  const Tensor& in;
  Tensor& out;

  template <class T>
  const T* input() const {
    return static_cast<const T*>(in.const_data_ptr());
  }
  template <class T>
  T* output() const {
    return static_cast<T*>(out.mutable_data_ptr());
  }
};

constexpr unsigned all_lanes = 0xffffffffu;

// Sum of 256 numbers a block.
__global__ void block_sum(const float* in, float* out, int count) {
  __shared__ float partial[8];
  const int i = static_cast<int>(blockIdx.x * 256 + threadIdx.x);
  float value = i < count ? in[i] : 0.0f;
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_down_sync(all_lanes, value, lanes);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  if (threadIdx.x < 8) {
    value = partial[threadIdx.x];
    for (int lanes = 4; lanes > 0; lanes /= 2) value += __shfl_down_sync(0x000000ffu, value, lanes);
    if (threadIdx.x == 0) out[blockIdx.x] = value;
  }
}

// Through a padded tile; blocks of 32 x 8 threads.
__global__ void transpose(const float* in, float* out, int rows, int columns) {
  __shared__ float tile[32][33];
  const int x = static_cast<int>(blockIdx.x * 32 + threadIdx.x);
  for (int k = static_cast<int>(threadIdx.y); k < 32; k += 8) {
    const int y = static_cast<int>(blockIdx.y * 32) + k;
    if (x < columns && y < rows) tile[k][threadIdx.x] = in[y * columns + x];
  }
  __syncthreads();
  const int row = static_cast<int>(blockIdx.y * 32 + threadIdx.x);
  for (int k = static_cast<int>(threadIdx.y); k < 32; k += 8) {
    const int column = static_cast<int>(blockIdx.x * 32) + k;
    if (row < rows && column < columns) out[column * rows + row] = tile[threadIdx.x][k];
  }
}

// Square of a matrix, tiles of 16 x 16 in dynamic shared memory.
__global__ void square(const float* in, float* out, int size) {
  SSLFAST_DYNAMIC_SHARED(float, shared);
  float* left = shared;
  float* right = shared + 256;
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  const int row = static_cast<int>(blockIdx.y) * 16 + ty, column = static_cast<int>(blockIdx.x) * 16 + tx;
  float sum = 0.0f;
  for (int k = 0; k < size; k += 16) {
    left[ty * 16 + tx] = row < size && k + tx < size ? in[row * size + k + tx] : 0.0f;
    right[ty * 16 + tx] = k + ty < size && column < size ? in[(k + ty) * size + column] : 0.0f;
    __syncthreads();
    for (int i = 0; i < 16; ++i) sum += left[ty * 16 + i] * right[i * 16 + tx];
    __syncthreads();
  }
  if (row < size && column < size) out[row * size + column] = sum;
}

// Counts of 16 values, in shared memory first.
__global__ void histogram(const uint8_t* in, int* out, int count) {
  __shared__ int bins[16];
  if (threadIdx.x < 16) bins[threadIdx.x] = 0;
  __syncthreads();
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < count;
       i += static_cast<int>(gridDim.x * blockDim.x)) {
    atomicAdd(&bins[in[i] % 16], 1);
  }
  __syncthreads();
  if (threadIdx.x < 16) atomicAdd(&out[threadIdx.x], bins[threadIdx.x]);
}

// One row of 32 results a collective; the input is one number a lane.
__global__ void collectives(const int* in, int* out) {
  const int lane = static_cast<int>(threadIdx.x);
  const int value = in[lane];
  int row = 0;
  const auto put = [&](int result) { out[32 * row++ + lane] = result; };
  put(__shfl_sync(all_lanes, value, 5));
  put(__shfl_sync(all_lanes, value, 3, 8));
  put(__shfl_up_sync(all_lanes, value, 2));
  put(__shfl_down_sync(all_lanes, value, 3, 16));
  put(__shfl_xor_sync(all_lanes, value, 9));
  put(static_cast<int>(__ballot_sync(all_lanes, value % 3 == 0)));
  put(__any_sync(all_lanes, value == in[31]));
  put(__all_sync(all_lanes, value == in[31]));
  put(__reduce_add_sync(all_lanes, value));
  put(__reduce_min_sync(all_lanes, value));
  put(__reduce_max_sync(all_lanes, value));
  put(static_cast<int>(__reduce_xor_sync(all_lanes, static_cast<unsigned>(value))));
  put(static_cast<int>(__match_any_sync(all_lanes, value % 5)));
  int same = 0;
  put(static_cast<int>(__match_all_sync(all_lanes, value, &same)));
  put(__syncthreads_count(value % 2 == 0));
  put(__syncthreads_or(value < 0));
  put(__syncthreads_and(value < 1000));
  // Two halves of the warp in different collectives at the same time.
  put(lane < 16 ? __reduce_max_sync(0x0000ffffu, value) : __shfl_sync(0xffff0000u, value, 31));
}

__global__ void integer_intrinsics(const int* in, int* out, int count) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= count) return;
  const int x = in[i];
  const auto u = static_cast<unsigned>(x);
  int* row = out + 9 * i;
  row[0] = __popc(u);
  row[1] = __clz(x);
  row[2] = __ffs(x);
  row[3] = static_cast<int>(__brev(u));
  row[4] = static_cast<int>(__umulhi(u, 0x9e3779b9u));
  row[5] = static_cast<int>(__byte_perm(u, 0x44332211u, 0x7531));
  row[6] = __float2int_rn(static_cast<float>(x) * 0.5f);
  row[7] = __float_as_int(__int_as_float(x));
  row[8] = min(max(x, -7), 7);
}

// float32 -> 16 bits -> float32, and a sum of two in 16 bits.
__global__ void round_trip(const float* in, float* out, int count) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= count) return;
  const __half half = __float2half_rn(in[i]);
  const __nv_bfloat16 brain = __float2bfloat16_rn(in[i]);
  const float2 pair = __half22float2(__hadd2(__halves2half2(half, half), __floats2half2_rn(1.0f, 2.0f)));
  float* row = out + 4 * i;
  row[0] = __half2float(half);
  row[1] = __bfloat162float(brain);
  row[2] = pair.y;
  row[3] = __bfloat162float(__hfma(brain, brain, brain));
}

// Twice each number, four at a time.
__global__ void vectorised(const float* in, float* out, int count) {
  const int i = 4 * static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i + 4 <= count) {
    const float4 v = __ldg(reinterpret_cast<const float4*>(in + i));
    __stcs(reinterpret_cast<float4*>(out + i), make_float4(2 * v.x, 2 * v.y, 2 * v.z, 2 * v.w));
  } else {
    for (int k = i; k < count; ++k) out[k] = 2 * in[k];
  }
}

// Twice each number, through a variable in shared memory beside the dynamic memory.
__global__ void beside_variables(const float* in, float* out) {
  __shared__ float own[256];
  SSLFAST_DYNAMIC_SHARED(float, shared);
  own[threadIdx.x] = in[threadIdx.x];
  shared[threadIdx.x] = in[threadIdx.x];
  __syncthreads();
  out[threadIdx.x] = own[threadIdx.x] + shared[threadIdx.x];
}

// The order in which the threads of the grid begin.
__global__ void order(int* counter, int* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = atomicAdd(counter, 1); }

void run_example(const ExampleArgs& args, CudaContext& context) {
  const int count = static_cast<int>(args.in.numel());
  const auto blocks = [&](int threads) { return dim3(static_cast<unsigned>((count + threads - 1) / threads)); };
  const std::string& name = args.name;
  if (name == "block_sum") {
    launch(block_sum, blocks(256), dim3(256), 0, context, args.input<float>(), args.output<float>(), count);
  } else if (name == "transpose") {
    const int rows = static_cast<int>(args.in.size(0)), columns = static_cast<int>(args.in.size(1));
    const dim3 grid(static_cast<unsigned>((columns + 31) / 32), static_cast<unsigned>((rows + 31) / 32));
    launch(transpose, grid, dim3(32, 8), 0, context, args.input<float>(), args.output<float>(), rows, columns);
  } else if (name == "square") {
    const int size = static_cast<int>(args.in.size(0));
    const auto tiles = static_cast<unsigned>((size + 15) / 16);
    launch(square, dim3(tiles, tiles), dim3(16, 16), 512 * sizeof(float), context, args.input<float>(),
           args.output<float>(), size);
  } else if (name == "histogram") {
    cuda_check(cudaMemsetAsync(args.output<int>(), 0, 16 * sizeof(int), context.stream()), "cudaMemsetAsync");
    launch(histogram, dim3(static_cast<unsigned>(2 * context.multiprocessors())), dim3(64), 0, context,
           args.input<uint8_t>(), args.output<int>(), count);
  } else if (name == "collectives") {
    launch(collectives, dim3(1), dim3(32), 0, context, args.input<int>(), args.output<int>());
  } else if (name == "integer_intrinsics") {
    launch(integer_intrinsics, dim3(1), dim3(64), 0, context, args.input<int>(), args.output<int>(), count);
  } else if (name == "round_trip") {
    launch(round_trip, blocks(64), dim3(64), 0, context, args.input<float>(), args.output<float>(), count);
  } else if (name == "vectorised") {
    launch(vectorised, blocks(128), dim3(32), 0, context, args.input<float>(), args.output<float>(), count);
  } else if (name == "order") {
    auto* counter = static_cast<int*>(context.scratch(sizeof(int)));
    cuda_check(cudaMemsetAsync(counter, 0, sizeof(int), context.stream()), "cudaMemsetAsync");
    launch(order, blocks(8), dim3(8), 0, context, counter, args.output<int>());
  } else if (name == "too_much_shared") {
    launch(square, dim3(1), dim3(16, 16), 200 * 1024, context, args.input<float>(), args.output<float>(), 16);
  } else if (name == "all_shared" || name == "all_but_variables") {
    const int bytes = context.shared_limit() - (name == "all_shared" ? 0 : 1024);
    launch(beside_variables, dim3(1), dim3(256), static_cast<size_t>(bytes), context, args.input<float>(),
           args.output<float>());
#if defined(SSLFAST_SIMT)
  } else if (name == "shared_not_asked_for" || name == "shared_asked_for_by_another") {
    if (name == "shared_asked_for_by_another") {
      launch(beside_variables, dim3(1), dim3(256), 56 * 1024, context, args.input<float>(), args.output<float>());
    }
    simt::launch(beside_variables, dim3(1), dim3(256), 64 * 1024, context.stream(), args.input<float>(),
                 args.output<float>());
  } else if (name == "variables_not_asked_for") {
    simt::launch(beside_variables, dim3(1), dim3(256), 48 * 1024, context.stream(), args.input<float>(),
                 args.output<float>());
#endif
  } else {
    check(name == "too_many_threads", "no example is called ", name);
    launch(order, dim3(1), dim3(2048), 0, context, args.output<int>(), args.output<int>());
  }
}

SSLFAST_CUDA_KERNEL(ExampleArgs, run_example)

Tensor example(std::string name, const Tensor& input, std::vector<int64_t> sizes, ScalarType dtype) {
  Tensor out = torch::stable::new_empty(input, sizes, dtype);
  run(ExampleArgs{name, input, out}, input);
  return out;
}

SSLFAST_OP(example, "example(str name, Tensor input, int[] sizes, ScalarType dtype) -> Tensor")

}  // namespace
}  // namespace sslfast
