// One instruction of csrc/stable/tensor_core.h or hopper.h each, on registers and memory as they stand: these kernels
// know no layout. test_fragments.py says, from outside sources, what lies where.
#include <cstring>
#include <string>
#include <vector>

#include "csrc/stable/hopper.h"
#include "csrc/stable/op.h"

namespace sslfast {
namespace {

// --- products of a warp ----------------------------------------------------------------------------------------------

struct FragmentsArgs {
  std::string name;
  const uint32_t* a;  // (32 lanes, registers)
  const uint32_t* b;
  const float* c;
  float* out;
};

template <class T, int step>
__global__ void multiply_fragments(const uint32_t* a, const uint32_t* b, const float* c, float* out) {
  constexpr bool tf32 = std::is_same<T, float>::value;
  constexpr int registers = tf32 ? 4 : step / 4;
  uint32_t left[registers], right[registers / 2];
  float sum[4];
  for (int r = 0; r < registers; ++r) left[r] = a[threadIdx.x * registers + r];
  for (int r = 0; r < registers / 2; ++r) right[r] = b[threadIdx.x * (registers / 2) + r];
  for (int i = 0; i < 4; ++i) sum[i] = c[threadIdx.x * 4 + i];
  if constexpr (tf32) {
    mma_m16n8k8_tf32(sum, left, right);
  } else if constexpr (step == 16) {
    mma_m16n8k16<T>(sum, left, right);
  } else {
    mma_m16n8k8<T>(sum, left, right);
  }
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = sum[i];
}

void run_fragments(const FragmentsArgs& args, CudaContext& context) {
  const auto begin = [&](auto kernel) { launch(kernel, 1, 32, 0, context, args.a, args.b, args.c, args.out); };
  if (args.name == "f16_k16") return begin(multiply_fragments<__half, 16>);
  if (args.name == "f16_k8") return begin(multiply_fragments<__half, 8>);
  if (args.name == "bf16_k16") return begin(multiply_fragments<__nv_bfloat16, 16>);
  if (args.name == "bf16_k8") return begin(multiply_fragments<__nv_bfloat16, 8>);
  check(args.name == "tf32_k8", "no product is called ", args.name);
  begin(multiply_fragments<float, 8>);
}

SSLFAST_CUDA_KERNEL(FragmentsArgs, run_fragments)

Tensor example_fragments(std::string name, const Tensor& a, const Tensor& b, const Tensor& c) {
  Tensor out = torch::stable::new_empty(c, {32, 4});
  run(FragmentsArgs{name, static_cast<const uint32_t*>(a.const_data_ptr()),
                    static_cast<const uint32_t*>(b.const_data_ptr()), static_cast<const float*>(c.const_data_ptr()),
                    static_cast<float*>(out.mutable_data_ptr())},
      c);
  return out;
}

SSLFAST_OP(example_fragments, "example_fragments(str name, Tensor a, Tensor b, Tensor c) -> Tensor")

// --- ldmatrix --------------------------------------------------------------------------------------------------------

struct MatricesArgs {
  const uint4* rows;  // of 8 numbers, that lane i points at
  uint32_t* out;      // (32 lanes, count)
  int count;
  bool transposed;
};

template <int count, bool transposed>
__global__ void load_rows(const uint4* rows, uint32_t* out) {
  __shared__ uint4 shared[32];
  shared[threadIdx.x] = rows[threadIdx.x];
  __syncwarp();
  uint32_t registers[count];
  load_matrices<transposed>(registers, &shared[threadIdx.x]);
  for (int r = 0; r < count; ++r) out[threadIdx.x * count + r] = registers[r];
}

void run_matrices(const MatricesArgs& args, CudaContext& context) {
  const auto begin = [&](auto plain, auto transposed) {
    launch(args.transposed ? transposed : plain, 1, 32, 0, context, args.rows, args.out);
  };
  if (args.count == 1) return begin(load_rows<1, false>, load_rows<1, true>);
  if (args.count == 2) return begin(load_rows<2, false>, load_rows<2, true>);
  begin(load_rows<4, false>, load_rows<4, true>);
}

SSLFAST_CUDA_KERNEL(MatricesArgs, run_matrices)

Tensor example_matrices(const Tensor& rows, int64_t count, bool transposed) {
  Tensor out = torch::stable::new_empty(rows, {32, count}, ScalarType::Int);
  run(MatricesArgs{static_cast<const uint4*>(rows.const_data_ptr()), static_cast<uint32_t*>(out.mutable_data_ptr()),
                   static_cast<int>(count), transposed},
      rows);
  return out;
}

SSLFAST_OP(example_matrices, "example_matrices(Tensor rows, int count, bool transposed) -> Tensor")

// --- instructions on single registers --------------------------------------------------------------------------------

struct WordsArgs {
  std::string name;
  const uint32_t* in;  // (count, 3)
  uint32_t* out;
  int count;
};

template <class Instruction>
__global__ void apply(const uint32_t* in, uint32_t* out, int count, Instruction instruction) {
  const int i = static_cast<int>(threadIdx.x);
  if (i < count) out[i] = instruction(in[3 * i], in[3 * i + 1], in[3 * i + 2]);
}

struct DotLow {
  __device__ uint32_t operator()(uint32_t x, uint32_t y, uint32_t z) const { return dot_pair<false>(x, y, z); }
};
struct DotHigh {
  __device__ uint32_t operator()(uint32_t x, uint32_t y, uint32_t z) const { return dot_pair<true>(x, y, z); }
};
struct ToTf32 {
  __device__ uint32_t operator()(uint32_t x, uint32_t, uint32_t) const { return to_tf32(__uint_as_float(x)); }
};
template <class T>
struct Pack {
  __device__ uint32_t operator()(uint32_t x, uint32_t y, uint32_t) const {
    return pack_floats<T>(__uint_as_float(x), __uint_as_float(y));
  }
};
struct Power {
  __device__ uint32_t operator()(uint32_t x, uint32_t, uint32_t) const {
    return __float_as_uint(fast_exp2(__uint_as_float(x)));
  }
};
struct Reciprocal {
  __device__ uint32_t operator()(uint32_t x, uint32_t, uint32_t) const {
    return __float_as_uint(fast_reciprocal(__uint_as_float(x)));
  }
};
struct Permutation {
  __device__ uint32_t operator()(uint32_t x, uint32_t y, uint32_t z) const { return __byte_perm(x, y, z); }
};
struct Funnel {
  __device__ uint32_t operator()(uint32_t x, uint32_t y, uint32_t z) const { return __funnelshift_r(x, y, z); }
};

void run_words(const WordsArgs& args, CudaContext& context) {
  const auto begin = [&](auto instruction) {
    launch(apply<decltype(instruction)>, 1, 256, 0, context, args.in, args.out, args.count, instruction);
  };
  if (args.name == "dp2a.lo") return begin(DotLow{});
  if (args.name == "dp2a.hi") return begin(DotHigh{});
  if (args.name == "cvt.rna.tf32") return begin(ToTf32{});
  if (args.name == "pack f16") return begin(Pack<__half>{});
  if (args.name == "pack bf16") return begin(Pack<__nv_bfloat16>{});
  if (args.name == "ex2") return begin(Power{});
  if (args.name == "rcp") return begin(Reciprocal{});
  if (args.name == "prmt") return begin(Permutation{});
  check(args.name == "shf.r", "no instruction is called ", args.name);
  begin(Funnel{});
}

SSLFAST_CUDA_KERNEL(WordsArgs, run_words)

Tensor example_words(std::string name, const Tensor& words) {
  Tensor out = torch::stable::new_empty(words, {words.size(0)});
  run(WordsArgs{name, static_cast<const uint32_t*>(words.const_data_ptr()),
                static_cast<uint32_t*>(out.mutable_data_ptr()), static_cast<int>(words.size(0))},
      words);
  return out;
}

SSLFAST_OP(example_words, "example_words(str name, Tensor words) -> Tensor")

// --- products of a warp group ----------------------------------------------------------------------------------------

#if SSLFAST_HOPPER_CODE
// What CuTe's make_gmma_desc gives for atoms of 128 bytes at shared address 0x12400 whose groups of 8 rows are 1024
// bytes apart, and, column-major, with 64 columns 8192 bytes apart; but for the leading offset of the first, which is
// not read (there it is 1).
static_assert(matrix_descriptor(0x12400, 1024, 0) == 0x4000004000001240);
static_assert(matrix_descriptor(0x12400, 1024, 8192) == 0x4000004002001240);
static_assert(advanced(matrix_descriptor(0x12400, 1024, 0), 96) == 0x4000004000001246);
#endif

// Where a matrix begins in its image, and its two distances, in bytes.
struct Matrix {
  int begin, stride, leading;
};

struct GroupArgs {
  std::string path;  // "shared", "transposed": A and B in memory, B by rows or by columns; "registers": A in registers
  ScalarType dtype;
  const void* a;  // an image of shared memory, or (128 threads, 4 registers)
  const void* b;
  const float* c;  // (128 threads, registers)
  float* out;
  int a_bytes, b_bytes, columns;
  Matrix a_matrix, b_matrix;
};

template <class T, int parts, bool in_registers, bool transposed>
__global__ void __launch_bounds__(128) multiply_group(const uint32_t* a, const uint32_t* b, const float* c, float* out,
                                                      int a_bytes, int b_bytes, Matrix a_at, Matrix b_at) {
#if SSLFAST_HOPPER_CODE
  SSLFAST_DYNAMIC_SHARED(unsigned char, memory);
  unsigned char* const images = memory + (1024 - shared_address(memory) % 1024) % 1024;
  const int b_begin = (a_bytes + 1023) / 1024 * 1024;
  auto& arrived = *reinterpret_cast<Mbarrier*>(images + b_begin + b_bytes);
  if (threadIdx.x == 0) {
    mbarrier_init(arrived, 1);
    fence_async_proxy();
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    mbarrier_arrive_expecting(arrived, (in_registers ? 0 : a_bytes) + b_bytes);
    if (!in_registers) copy_bulk(images, a, a_bytes, arrived);
    copy_bulk(images + b_begin, b, b_bytes, arrived);
  }
  WarpgroupSums<parts> sum;
  uint32_t left[4] = {};
  for (int r = 0; in_registers && r < 4; ++r) left[r] = a[threadIdx.x * 4 + r];
#pragma unroll
  for (int r = 0; r < 32 * parts; ++r) sum[r / 32][0][r / 4 % 8][r % 4] = c[threadIdx.x * 32 * parts + r];
  mbarrier_wait(arrived, 0);
  const uint64_t right = matrix_descriptor(shared_address(images) + b_begin + b_at.begin, b_at.stride, b_at.leading);
  wgmma_fence(sum, left);
  if constexpr (in_registers) {
    wgmma_transposed<T>(sum, left, right);
  } else {
    wgmma<T, transposed>(sum, matrix_descriptor(shared_address(images) + a_at.begin, a_at.stride, a_at.leading), right,
                         true);
  }
  wgmma_commit();
  wgmma_wait<0>(sum);
#pragma unroll
  for (int r = 0; r < 32 * parts; ++r) out[threadIdx.x * 32 * parts + r] = sum[r / 32][0][r / 4 % 8][r % 4];
#endif
}

template <class T, int parts>
void run_parts(const GroupArgs& args, CudaContext& context) {
  const auto begin = [&](auto kernel) {
    const int bytes = 1024 + (args.a_bytes + 1023) / 1024 * 1024 + args.b_bytes + static_cast<int>(sizeof(Mbarrier));
    launch(kernel, 1, 128, bytes, context, static_cast<const uint32_t*>(args.a), static_cast<const uint32_t*>(args.b),
           args.c, args.out, args.a_bytes, args.b_bytes, args.a_matrix, args.b_matrix);
  };
  if (args.path == "shared") return begin(multiply_group<T, parts, false, false>);
  if (args.path == "transposed") return begin(multiply_group<T, parts, false, true>);
  begin(multiply_group<T, parts, true, true>);
}

template <class T>
void run_columns(const GroupArgs& args, CudaContext& context) {
  args.columns == 64 ? run_parts<T, 1>(args, context) : run_parts<T, 2>(args, context);
}

void run_group(const GroupArgs& args, CudaContext& context) {
  args.dtype == ScalarType::Half ? run_columns<__half>(args, context) : run_columns<__nv_bfloat16>(args, context);
}

SSLFAST_CUDA_KERNEL(GroupArgs, run_group)

Tensor example_group(std::string path, const Tensor& a, const Tensor& b, const Tensor& c,
                     std::vector<int64_t> matrices) {
  Tensor out = torch::stable::new_empty(c, {c.size(0), c.size(1)});
  const auto at = [&](int i) { return static_cast<int>(matrices[i]); };
  run(GroupArgs{path, b.scalar_type(), a.const_data_ptr(), b.const_data_ptr(),
                static_cast<const float*>(c.const_data_ptr()), static_cast<float*>(out.mutable_data_ptr()),
                path == "registers" ? 0 : static_cast<int>(a.numel()) * 2, static_cast<int>(b.numel()) * 2,
                static_cast<int>(c.size(1)) * 2, Matrix{at(0), at(1), at(2)}, Matrix{at(3), at(4), at(5)}},
      c);
  return out;
}

SSLFAST_OP(example_group, "example_group(str path, Tensor a, Tensor b, Tensor c, int[] matrices) -> Tensor")

}  // namespace
}  // namespace sslfast
