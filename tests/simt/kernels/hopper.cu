// Products of one warp group through csrc/stable/hopper.h, whose operands a thread of another warp brings through a
// ring of two stages: C (64 x N) = A (64 x K) B, N = 64 or 128, K a multiple of 64. Each of the bugs below can be
// planted.
#include "csrc/stable/hopper.h"

#include <algorithm>
#include <string>
#include <vector>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

enum Bug {
  none,
  full_not_awaited,
  empty_not_awaited,
  released_early,
  products_not_awaited,
  products_not_fenced,
  too_few_bytes,
  too_many_bytes,
  missing_arrival,
  wrong_parity,
  barrier_not_fenced,
  barrier_not_initialised,
  no_barrier_after_init,
  plain_write_not_fenced,
  sums_read_early,
  sums_written,
  operand_written,
  warp_is_missing,
  left_early,
  inside_of_pattern,
  stage_overflow,
};
const std::vector<std::string> bug_names{
    "none",
    "full_not_awaited",
    "empty_not_awaited",
    "released_early",
    "products_not_awaited",
    "products_not_fenced",
    "too_few_bytes",
    "too_many_bytes",
    "missing_arrival",
    "wrong_parity",
    "barrier_not_fenced",
    "barrier_not_initialised",
    "no_barrier_after_init",
    "plain_write_not_fenced",
    "sums_read_early",
    "sums_written",
    "operand_written",
    "warp_is_missing",
    "left_early",
    "inside_of_pattern",
    "stage_overflow",
};

struct WarpgroupArgs {
  std::string path;  // "shared": both operands; "registers": A in registers, B transposed
  Bug bug;
  ScalarType dtype;
  const void* a;
  const void* b;
  float* c;
  int columns;
  int depth;
};

constexpr int chunk = 64;
constexpr int row_bytes = 128;
constexpr int chunk_bytes = chunk * row_bytes;

// (rows, columns) to chunks of 64 columns, each of all rows, swizzled as wgmma reads them.
__global__ void swizzle_chunks(const uint16_t* in, uint16_t* out, int rows, int columns) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * columns; i += static_cast<int>(blockDim.x)) {
    const int row = i / columns, column = i % columns;
    const int unit = column % chunk / 8 ^ row % 8;
    out[(column / chunk * rows + row) * chunk + unit * 8 + column % 8] = in[i];
  }
}

template <int parts>
struct Stages {
  unsigned char a[2][chunk_bytes];
  unsigned char b[2][parts * chunk_bytes];
  Mbarrier full[2];
  Mbarrier empty[2];
};

// a: swizzled, or plain rows for A in registers; b: (64 parts, K) or, for A in registers, (K, 64 parts), swizzled
template <class T, int parts, bool in_registers>
__global__ void __launch_bounds__(160) warpgroup_product(const T* a, const T* b, float* c, int depth, Bug bug) {
#if SSLFAST_HOPPER_CODE
  SSLFAST_DYNAMIC_SHARED(unsigned char, memory);
  auto& stages = *reinterpret_cast<Stages<parts>*>(memory + (1024 - shared_address(memory) % 1024) % 1024);
  const int thread = static_cast<int>(threadIdx.x);
  const int steps = depth / chunk;
  if (thread == 0) {
    for (int s = 0; s < 2; ++s) {
      mbarrier_init(stages.full[s], 1);
      if (bug != barrier_not_initialised) mbarrier_init(stages.empty[s], 4);
    }
    if (bug != barrier_not_fenced) fence_async_proxy();
  }
  if (bug != no_barrier_after_init) __syncthreads();

  if (thread >= warpgroup) {
    if (thread != warpgroup) return;
    const int bytes = (in_registers ? 0 : chunk_bytes) + parts * chunk_bytes;
    for (int step = 0; step < steps; ++step) {
      const int s = step % 2;
      if (bug != empty_not_awaited) mbarrier_wait(stages.empty[s], step / 2 % 2 ^ 1);
      mbarrier_arrive_expecting(stages.full[s], bug == too_few_bytes    ? bytes - 16
                                                : bug == too_many_bytes ? bytes + 16
                                                                        : bytes);
      if (!in_registers) copy_bulk(stages.a[s], a + step * chunk * chunk, chunk_bytes, stages.full[s]);
      const int over = bug == stage_overflow && s == 1 ? 8192 : 0;
      for (int p = 0; p < parts; ++p) {
        const T* const source =
            in_registers ? b + (p * depth + step * chunk) * chunk : b + (step * parts + p) * chunk * chunk;
        copy_bulk(stages.b[s] + p * chunk_bytes + over, source, chunk_bytes, stages.full[s]);
      }
    }
    if (bug == left_early) {
      mbarrier_wait(stages.empty[steps % 2], steps / 2 % 2 ^ 1);
      copy_bulk(stages.b[steps % 2], b, chunk_bytes, stages.full[steps % 2]);
    }
    return;
  }

  const int g = thread % 32 / 4, t = thread % 4, row = thread / 32 * 16 + g;
  WarpgroupSums<parts> sum = {};
  uint32_t left[4][4];
  for (int step = 0; step < steps; ++step) {
    const int s = step % 2;
    for (int k = 0; in_registers && k < 4; ++k) {
      for (int i = 0; i < 4; ++i) {
        const T* const at = a + (row + i % 2 * 8) * depth + step * chunk + 16 * k + i / 2 * 8 + 2 * t;
        left[k][i] = pack_pair(at[0], at[1]);
      }
    }
    if (bug != full_not_awaited) mbarrier_wait(stages.full[s], bug == wrong_parity ? step / 2 % 2 ^ 1 : step / 2 % 2);
    if (bug == plain_write_not_fenced && step == 0) {
      if (thread == 0) stages.b[s][0] = 0;
      __syncwarp();
    }
    if (bug != products_not_fenced) wgmma_fence(sum, left);
    for (int k = 0; k < 4; ++k) {
      if (bug == warp_is_missing && step == 1 && k == 3 && thread >= 96) break;
      if constexpr (in_registers) {
        wgmma_transposed<T>(sum, left[k], matrix_descriptor(shared_address(stages.b[s]) + 2048 * k, 1024, chunk_bytes));
      } else {
        const int start = 32 * k + (bug == inside_of_pattern ? 128 : 0);
        wgmma<T>(sum, matrix_descriptor(shared_address(stages.a[s]) + 32 * k, 1024, 0),
                 matrix_descriptor(shared_address(stages.b[s]) + start, 1024, 0), step > 0 || k > 0);
      }
    }
    wgmma_commit();
    if (bug == sums_written) sum[0][0][0][0] = 1;
    if (bug == operand_written) left[0][0] = 1;
    if (bug == released_early && thread % 32 == 0) mbarrier_arrive(stages.empty[s]);
    if (bug != products_not_awaited && bug != sums_read_early) wgmma_wait<0>(sum);
    if (bug == sums_read_early) {
      if (step == steps - 1 && t == 0) c[row * 64 * parts] = sum[0][0][0][0];
      wgmma_wait<0>(sum);
    }
    if (bug != released_early && thread % 32 == 0 && !(bug == missing_arrival && thread == 96)) {
      mbarrier_arrive(stages.empty[s]);
    }
  }
  for (int p = 0; p < parts; ++p) {
    for (int n = 0; n < 8; ++n) {
      for (int i = 0; i < 4; ++i) {
        if (bug == sums_read_early && p == 0 && n == 0 && i == 0 && t == 0) continue;
        c[(row + i / 2 * 8) * 64 * parts + 64 * p + 8 * n + 2 * t + i % 2] = sum[p][0][n][i];
      }
    }
  }
#endif
}

template <class T, int parts, bool in_registers>
void run_product(const WarpgroupArgs& args, CudaContext& context) {
  const auto swizzled = [&](const void* matrix, int rows, int columns) {
    auto* const out = static_cast<uint16_t*>(context.scratch(2 * rows * columns));
    launch(swizzle_chunks, dim3(1), dim3(256), 0, context, static_cast<const uint16_t*>(matrix), out, rows, columns);
    return reinterpret_cast<const T*>(out);
  };
  const T* const a = in_registers ? static_cast<const T*>(args.a) : swizzled(args.a, 64, args.depth);
  const T* const b =
      in_registers ? swizzled(args.b, args.depth, args.columns) : swizzled(args.b, args.columns, args.depth);
  launch(warpgroup_product<T, parts, in_registers>, dim3(1), dim3(160), 1024 + sizeof(Stages<parts>), context, a, b,
         args.c, args.depth, args.bug);
}

template <class T>
void run_half(const WarpgroupArgs& args, CudaContext& context) {
  if (args.path == "registers") {
    args.columns == 64 ? run_product<T, 1, true>(args, context) : run_product<T, 2, true>(args, context);
  } else {
    args.columns == 64 ? run_product<T, 1, false>(args, context) : run_product<T, 2, false>(args, context);
  }
}

void run_warpgroup(const WarpgroupArgs& args, CudaContext& context) {
  args.dtype == ScalarType::Half ? run_half<__half>(args, context) : run_half<__nv_bfloat16>(args, context);
}

SSLFAST_CUDA_KERNEL(WarpgroupArgs, run_warpgroup)

Tensor example_warpgroup(std::string path, std::string bug, const Tensor& a, const Tensor& b, int64_t columns) {
  const auto found = std::find(bug_names.begin(), bug_names.end(), bug);
  check(found != bug_names.end(), "no planted bug is called ", bug);
  Tensor c = torch::stable::new_empty(a, {64, columns}, ScalarType::Float);
  run(WarpgroupArgs{path, static_cast<Bug>(found - bug_names.begin()), a.scalar_type(), a.const_data_ptr(),
                    b.const_data_ptr(), static_cast<float*>(c.mutable_data_ptr()), static_cast<int>(columns),
                    static_cast<int>(a.size(1))},
      a);
  return c;
}

SSLFAST_OP(example_warpgroup, "example_warpgroup(str path, str bug, Tensor a, Tensor b, int columns) -> Tensor")

}  // namespace
}  // namespace sslfast
