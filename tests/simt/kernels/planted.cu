// One kernel for each kind of bug that the bench must find, right or wrong by choice. The input has 100 or more numbers
// and the result as many; what the right kernels compute is checked by test_planted_bugs.py.
#include <map>
#include <string>

#include "csrc/stable/op.h"
#include "csrc/stable/tensor_core.h"

namespace sslfast {
namespace {

struct PlantedArgs {
  std::string bug;
  bool broken;
  const float* in;
  float* out;
  int count;
};

constexpr int threads = 64;

__device__ int position() { return static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); }

// Copies through shared memory, reversed within the block.
__global__ void missing_barrier(const float* in, float* out, int count, bool broken) {
  __shared__ float tile[threads];
  const int i = position();
  tile[threadIdx.x] = i < count ? in[i] : 0.0f;
  if (!broken) __syncthreads();
  if (i < count) out[i] = tile[threads - 1 - threadIdx.x];
}

// Every warp reverses its own 32 numbers.
__global__ void missing_warp_barrier(const float* in, float* out, int count, bool broken) {
  __shared__ float tile[threads];
  const int i = position();
  tile[threadIdx.x] = i < count ? in[i] : 0.0f;
  if (!broken) __syncwarp();
  if (i < count) out[i] = tile[threadIdx.x ^ 31];
}

// Half warps meet, then the middle of the warp: what lane 0 wrote reaches lane 16 through lanes 8 to 15.
__global__ void missing_partial_barrier(const float* in, float* out, int count, bool broken) {
  __shared__ float tile[threads];
  const int i = position(), lane = static_cast<int>(threadIdx.x) % 32;
  float* warp = tile + threadIdx.x - lane;
  warp[lane] = in[i % count];
  __syncwarp(lane < 16 ? 0x0000ffffu : 0xffff0000u);
  float value = warp[lane ^ 15];
  if (lane >= 8 && lane < 24) {
    if (!broken) __syncwarp(0x00ffff00u);
    value += warp[lane < 16 ? 31 - lane : lane - 16];
  }
  if (i < count) out[i] = value;
}

// Reads what the previous step of the loop needs before every thread has left that step.
__global__ void missing_second_barrier(const float* in, float* out, int count, bool broken) {
  __shared__ float tile[threads];
  float sum = 0.0f;
  for (int step = 0; step < 3; ++step) {
    tile[threadIdx.x] = in[step * threads % count + threadIdx.x % 32];
    __syncthreads();
    sum += tile[(threadIdx.x + 40) % threads];
    if (!broken) __syncthreads();
  }
  if (position() < count) out[position()] = sum;
}

__global__ void same_place(const float* in, float* out, int count, bool broken) {
  __shared__ float value;
  if (broken || threadIdx.x == 0) value = in[0];
  __syncthreads();
  if (position() < count) out[position()] = value;
}

// Adds each number's right neighbour; the last thread of the block must load the halo.
__global__ void unwritten_shared(const float* in, float* out, int count, bool broken) {
  __shared__ float tile[threads + 1];
  const int i = position();
  tile[threadIdx.x] = i < count ? in[i] : 0.0f;
  if (threadIdx.x == threads - 1 && !broken) tile[threads] = i + 1 < count ? in[i + 1] : 0.0f;
  __syncthreads();
  if (i < count) out[i] = tile[threadIdx.x] + tile[threadIdx.x + 1];
}

__global__ void dynamic_shared_too_small(const float* in, float* out, int count, bool broken) {
  SSLFAST_DYNAMIC_SHARED(float, tile);
  const int i = position();
  const int slot = broken ? static_cast<int>(threadIdx.x) + 1 : static_cast<int>(threadIdx.x);
  tile[slot] = i < count ? in[i] : 0.0f;
  if (i < count) out[i] = tile[slot];
}

// The wrong index stays inside of the two-dimensional array, so that an allocation check alone would miss it.
__global__ void row_overflow(const float* in, float* out, int count, bool broken) {
  __shared__ float tile[2][32];
  const int i = position();
  const int column = static_cast<int>(threadIdx.x) % 32 + (broken && threadIdx.x == 31 ? 1 : 0);
  tile[threadIdx.x / 32][column] = i < count ? in[i] : 0.0f;
  if (i < count) out[i] = tile[threadIdx.x / 32][column];
}

__device__ void store_at(float* place, int index, float value) { place[index] = value; }

// Through a pointer the compiler does not know the array's extent.
__global__ void pointer_overflow(const float* in, float* out, int count, bool broken) {
  __shared__ float tile[threads];
  const int i = position();
  store_at(tile, static_cast<int>(threadIdx.x) + (broken ? 1 : 0), i < count ? in[i] : 0.0f);
  __syncthreads();
  if (i < count) out[i] = tile[threadIdx.x];
}

__global__ void local_array(const float* in, float* out, int count, bool broken) {
  float values[4];
  const int i = position();
  for (int k = 0; k < 4; ++k) values[k] = in[(i + k) % count];
  if (i < count) out[i] = values[broken ? i : i % 4];
}

__global__ void missing_tail_guard(const float* in, float* out, int count, bool broken) {
  const int i = position();
  if (broken || i < count) out[i] = in[i % count];
}

__global__ void before_the_start(const float* in, float* out, int count, bool broken) {
  const int i = position();
  if (i < count) out[i] = broken || i > 0 ? in[i - 1] : 0.0f;
}

__global__ void barrier_in_branch(const float* in, float* out, int count, bool broken) {
  if (!broken || threadIdx.x < 32) __syncthreads();
  if (position() < count) out[position()] = in[position()];
}

__global__ void return_before_barrier(const float* in, float* out, int count, bool broken) {
  const int i = position();
  if (broken && i >= count) return;
  __syncthreads();
  if (i < count) out[i] = in[i];
}

__global__ void two_barriers(const float* in, float* out, int count, bool broken) {
  if (broken && threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  if (position() < count) out[position()] = in[position()];
}

__global__ void lane_is_missing(const float* in, float* out, int count, bool broken) {
  float value = in[position() % count];
  if (!broken || threadIdx.x % 32 < 31) value = __shfl_down_sync(0xffffffffu, value, 1);
  if (position() < count) out[position()] = value;
}

__global__ void mask_without_caller(const float* in, float* out, int count, bool broken) {
  const float sum = static_cast<float>(__popc(__ballot_sync(broken ? 0x0000ffffu : 0xffffffffu, in[0] > -1.0f)));
  if (position() < count) out[position()] = sum;
}

__global__ void shuffle_from_outside(const float* in, float* out, int count, bool broken) {
  const float value = in[position() % count];
  if (threadIdx.x % 32 < 16) {
    const float other = __shfl_sync(0x0000ffffu, value, broken ? 16 : 15);
    if (position() < count) out[position()] = other;
  } else if (position() < count) {
    out[position()] = value;
  }
}

__global__ void blocks_write_one_place(const float* in, float* out, int count, bool broken) {
  const int i = position();
  if (i < count) out[broken ? static_cast<int>(threadIdx.x) : i] = in[i];
}

// The last block to finish adds up what the others have written.
__global__ void missing_fence(const float* in, float* out, int count, bool broken, float* partial, unsigned* finished) {
  __shared__ bool last;
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = in[blockIdx.x];
    if (!broken) __threadfence();
    last = atomicAdd(finished, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last) return;
  float sum = 0.0f;
  for (unsigned b = 0; b < gridDim.x; ++b) sum += partial[b];
  for (int i = static_cast<int>(threadIdx.x); i < count; i += threads) out[i] = sum;
}

__global__ void atomic_and_plain(const float* in, float* out, int count, bool broken) {
  __shared__ int votes;
  if (threadIdx.x == 0) votes = 0;
  __syncthreads();
  if (position() < count && in[position()] > -1.0f) atomicAdd(&votes, 1);
  if (!broken) __syncthreads();
  if (position() < count) out[position()] = static_cast<float>(votes > 0);
}

__global__ void unwritten_global(const float* in, float* out, int count, bool broken, float* scratch) {
  const int i = position();
  if (i >= count) return;
  if (!broken || i % 7 != 3) scratch[i] = in[i];
  out[i] = scratch[i];
}

__global__ void host_pointer(const float* in, float* out, int count, bool broken, const float* host) {
  const int i = position();
  if (i < count) out[i] = broken ? *host : in[i];
}

__global__ void misaligned(const float* in, float* out, int count, bool broken) {
  const int i = position() * 4;
  if (i + 5 <= count) {
    *reinterpret_cast<float4*>(out + i) = *reinterpret_cast<const float4*>(in + i + (broken ? 1 : 0));
  } else {
    for (int k = i; k < count; ++k) out[k] = in[k];
  }
}

// The parts of the vector are in registers, where the host compiler sees them apart.
__global__ void misaligned_store(const float* in, float* out, int count, bool broken) {
  const int i = position() * 4;
  if (i + 5 <= count) {
    const float4 four = make_float4(in[i], in[i + 1], in[i + 2], in[i + 3]);
    *reinterpret_cast<float4*>(out + i + (broken ? 1 : 0)) = four;
  } else {
    for (int k = i; k < count; ++k) out[k] = in[k];
  }
}

__global__ void local_of_another_thread(const float* in, float* out, int count, bool broken) {
  __shared__ const float* shared[threads];
  const int i = position();
  const float value = in[i % count];
  shared[threadIdx.x] = &value;
  __syncthreads();
  if (i < count) out[i] = *shared[broken ? threadIdx.x ^ 1 : threadIdx.x];
}

__global__ void endless(const float* in, float* out, int count, bool broken) {
  const volatile float* flag = in;
  while (broken && *flag >= 0.0f) {
  }
  if (position() < count) out[position()] = in[position()];
}

__global__ void copy_not_awaited(const float* in, float* out, int count, bool broken) {
  __shared__ __align__(16) float tile[threads * 4];
  const int i = position() * 4;
  const bool whole = i + 4 <= count;
  copy_async<16>(tile + threadIdx.x * 4, whole ? in + i : in, whole);
  copy_async_commit();
  if (!broken) copy_async_wait<0>();
  for (int k = 0; whole && k < 4; ++k) out[i + k] = tile[threadIdx.x * 4 + k];
  for (int k = i; !whole && k < count; ++k) out[k] = in[k];
}

using PlainKernel = void (*)(const float*, float*, int, bool);
#define PLANTED(kernel) {#kernel, kernel}
const std::map<std::string, PlainKernel> plain_kernels = {
    PLANTED(missing_barrier),
    PLANTED(missing_warp_barrier),
    PLANTED(missing_partial_barrier),
    PLANTED(missing_second_barrier),
    PLANTED(same_place),
    PLANTED(unwritten_shared),
    PLANTED(dynamic_shared_too_small),
    PLANTED(row_overflow),
    PLANTED(pointer_overflow),
    PLANTED(local_array),
    PLANTED(missing_tail_guard),
    PLANTED(before_the_start),
    PLANTED(barrier_in_branch),
    PLANTED(return_before_barrier),
    PLANTED(two_barriers),
    PLANTED(lane_is_missing),
    PLANTED(mask_without_caller),
    PLANTED(shuffle_from_outside),
    PLANTED(blocks_write_one_place),
    PLANTED(atomic_and_plain),
    PLANTED(misaligned),
    PLANTED(misaligned_store),
    PLANTED(local_of_another_thread),
    PLANTED(endless),
    PLANTED(copy_not_awaited),
};

void run_planted(const PlantedArgs& args, CudaContext& context) {
  const dim3 grid(static_cast<unsigned>((args.count + threads - 1) / threads));
  const dim3 block(threads);
  if (const auto found = plain_kernels.find(args.bug); found != plain_kernels.end()) {
    return launch(found->second, grid, block, threads * sizeof(float), context, args.in, args.out, args.count,
                  args.broken);
  }
  auto* scratch = static_cast<float*>(context.scratch(args.count * static_cast<int64_t>(sizeof(float))));
  if (args.bug == "unwritten_global") {
    return launch(unwritten_global, grid, block, 0, context, args.in, args.out, args.count, args.broken, scratch);
  }
  if (args.bug == "missing_fence") {
    auto* finished = static_cast<unsigned*>(context.scratch(sizeof(unsigned)));
    cuda_check(cudaMemsetAsync(finished, 0, sizeof(unsigned), context.stream()), "cudaMemsetAsync");
    return launch(missing_fence, grid, block, 0, context, args.in, args.out, args.count, args.broken, scratch,
                  finished);
  }
  check(args.bug == "host_pointer", "no planted bug is called ", args.bug);
  const float host = 1.0f;
  launch(host_pointer, grid, block, 0, context, args.in, args.out, args.count, args.broken, &host);
}

SSLFAST_CUDA_KERNEL(PlantedArgs, run_planted)

Tensor example_planted(std::string bug, bool broken, const Tensor& input) {
  Tensor out = torch::stable::empty_like(input);
  run(PlantedArgs{bug, broken, static_cast<const float*>(input.const_data_ptr()),
                  static_cast<float*>(out.mutable_data_ptr()), static_cast<int>(input.numel())},
      input);
  return out;
}

SSLFAST_OP(example_planted, "example_planted(str bug, bool broken, Tensor input) -> Tensor")

}  // namespace
}  // namespace sslfast
