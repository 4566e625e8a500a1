// nt_xent_forward on tensor cores. A block owns the pairs of a group of rows and a group of columns, at most 64 groups
// each way, and walks over them in tiles of 128 x 128; each of its four warps owns 64 x 64 of a tile. The totals of a
// group of columns go to part[group][row], which a second kernel merges in the groups' order. Where queries are their
// own keys, a block above the diagonal also sums its columns, and no block below it does anything.
#include <algorithm>
#include <type_traits>

#include "csrc/ops/cuda/nt_xent_hopper_forward.cuh"
#include "csrc/ops/cuda/nt_xent_totals.cuh"
#include "csrc/ops/cuda/nt_xent_walk.cuh"

namespace sslfast {
namespace {

constexpr int most_groups = 64;

template <class T>
struct Task {
  Pairs<T> pairs;
  Exclusions excluded;
  Parts parts;
  Classes classes;
  bool symmetric;
  float factor;  // logit in base 2 = similarity as computed * factor
  float shift;
};

// Sums over the 64 rows of a warp's part: lane (g, t) gets those of columns 8 g' + 2 t + j, where g' is g with its bits
// in the order 4, 2, 1 of the exchanges below.
__device__ void column_sums(const PartValues& value, float (&sum)[2]) {
  float held[2 * part_n];
#pragma unroll
  for (int n = 0; n < part_n; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      float total = 0;
#pragma unroll
      for (int m = 0; m < part_m; ++m) total += value[m][n][j] + value[m][n][2 + j];
      held[2 * n + j] = total;
    }
  }
  exchange<8, 16>(held);
  exchange<4, 8>(held);
  exchange<2, 4>(held);
  sum[0] = held[0];
  sum[1] = held[1];
}

// Merges the totals of the lanes and of the two warps that share rows, and writes them.
template <bool running, bool by_class>
__device__ void write_rows(RowTotals<running, by_class, part_m>& totals, const Parts& parts, int64_t first) {
  __shared__ float others[by_class ? 4 : 3][tile];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  merge_lanes(totals);
  for (int turn = 1; turn >= 0; --turn) {
    if (warp % 2 == turn && lane % 4 == 0) {
#pragma unroll
      for (int m = 0; m < part_m; ++m) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const int row = warp / 2 * part + 16 * m + 8 * h + lane / 4;
          float& maximum = totals.maximum[running ? m : 0][h];
          const float other = totals.largest_other[by_class ? m : 0][h];
          if (turn == 1) {
            others[0][row] = totals.sum[m][h];
            others[1][row] = maximum;
            others[2][row] = totals.largest[m][h];
            if (by_class) others[by_class ? 3 : 0][row] = other;
            continue;
          }
          merge<running>(totals.sum[m][h], maximum, others[0][row], others[1][row]);
          parts.sum[first + row] = totals.sum[m][h];
          if (running) parts.maximum[first + row] = maximum;
          if (parts.largest != nullptr) parts.largest[first + row] = fmaxf(totals.largest[m][h], others[2][row]);
          if (by_class) parts.largest_other[first + row] = fmaxf(other, others[by_class ? 3 : 0][row]);
        }
      }
    }
    __syncthreads();  // the totals of the odd warps, and later that they have been read
  }
}

// Adds the columns' sums of one tile, of the two warps that share columns, to those of the row tiles before.
__device__ void write_columns(const PartValues& value, float* sums, bool first) {
  __shared__ float2 others[tile / 2];
  const int lane = threadIdx.x % 32;
  const int warp = threadIdx.x / 32;
  float sum[2];
  column_sums(value, sum);
  const int n = lane / 16 * 4 + lane / 8 % 2 * 2 + lane / 4 % 2;
  const int pair = warp % 2 * (part / 2) + 4 * n + lane % 4;
  if (warp / 2 == 1) others[pair] = make_float2(sum[0], sum[1]);
  __syncthreads();  // the sums of the lower warps; they are read before the barrier of the next step
  if (warp / 2 == 1) return;
  float2& target = reinterpret_cast<float2*>(sums)[pair];
  const float2 before = first ? make_float2(0, 0) : target;
  target = make_float2(before.x + (sum[0] + others[pair].x), before.y + (sum[1] + others[pair].y));
}

template <class T, bool running, bool by_class>
__global__ void __launch_bounds__(block_threads, 2) nt_xent_forward_tensor_kernel(Task<T> task) {
  SSLFAST_DYNAMIC_SHARED(WalkBuffers<T>, buffers);
  const Walk<T> walk(task.pairs);
  if (task.symmetric && walk.first_column < walk.first_row) return;
  RowTotals<running, by_class, part_m> totals;
  walk.each(*buffers, [&](const Position& at, PartValues& value) {
    const int row_tile = walk.first_row + at.row;
    const int column_tile = walk.first_column + at.column;
    const int row = part_row(row_tile);
    const int column = part_column(column_tile);
    const int rows = task.pairs.rows.count;
    const int columns = task.pairs.columns.count;
    uint32_t keep[part_m];
    similarities_that_count<part_m, part_n>(task.excluded, row, rows, column, columns, keep);
    mask(keep, value);
    if (at.column == 0) totals.clear();
    if constexpr (by_class) {
      raise_largest_other(value, task.classes, row, rows, column, columns, totals.largest_other);
    }
    add_tile(value, task.factor, task.shift, task.parts.largest != nullptr, totals);
    if constexpr (!running && !by_class) {
      if (task.symmetric && walk.first_column > walk.first_row) {
        float* const sums = task.parts.sum + walk.row_group() * task.parts.stride;
        write_columns(value, sums + static_cast<int64_t>(column_tile) * tile, at.row == 0);
      }
    }
    if (at.column == walk.columns - 1) {
      const int64_t first = walk.column_group() * task.parts.stride + static_cast<int64_t>(row_tile) * tile;
      write_rows(totals, task.parts, first);
    }
  });
}

template <class In>
void forward(const NtXentForwardArgs<In>& args, CudaContext& context) {
#if defined(SSLFAST_SM90A)
  if (hopper_takes(args, context)) return hopper_forward(args, context);
#endif
  using T = typename Device<In>::Operand;
  const bool constant = nt_xent_constant_shift(args.temperature);
  const Rows<T> queries = operand(args.queries, args.rows, args.depth, args.tf32, context);
  const Rows<T> keys =
      args.keys == nullptr ? queries : operand(args.keys, args.columns, args.depth, args.tf32, context);
  Task<T> task{};
  const int groups = std::min(most_groups, 2 * context.multiprocessors());
  task.pairs = all_pairs(queries, keys, plane_products<In>(args.tf32), blocks(queries.padded, tile * groups),
                         blocks(keys.padded, tile * groups));
  task.excluded = exclusions(args.excluded, args.rows, args.exclusions, args.columns, context);
  // Maxima of columns are not kept.
  task.symmetric = args.keys == nullptr && constant && args.largest == nullptr;
  task.factor = static_cast<float>(log2_e / args.temperature) / (Device<In>::scale * Device<In>::scale);
  task.shift = constant ? static_cast<float>(log2_e / args.temperature) : 0.0f;
  task.parts = parts_of(args, !constant, task.pairs.column_groups, queries.padded, context);
  task.classes = classes_of(args);
  const auto begin = [&](auto kernel) {
    launch(kernel, task.pairs.row_groups * task.pairs.column_groups, block_threads, sizeof(WalkBuffers<T>), context,
           task);
  };
  if (constant) {
    args.classes == nullptr ? begin(nt_xent_forward_tensor_kernel<T, false, false>)
                            : begin(nt_xent_forward_tensor_kernel<T, false, true>);
    merge_parts<false>(args, task.parts, task.pairs.column_groups, task.shift, context);
  } else {
    args.classes == nullptr ? begin(nt_xent_forward_tensor_kernel<T, true, false>)
                            : begin(nt_xent_forward_tensor_kernel<T, true, true>);
    merge_parts<true>(args, task.parts, task.pairs.column_groups, task.shift, context);
  }
}

void forward_float(const NtXentForwardArgs<float>& args, CudaContext& context) { forward(args, context); }
void forward_half(const NtXentForwardArgs<Half>& args, CudaContext& context) { forward(args, context); }
void forward_bfloat16(const NtXentForwardArgs<BFloat16>& args, CudaContext& context) { forward(args, context); }

SSLFAST_CUDA_KERNEL(NtXentForwardArgs<float>, forward_float)
SSLFAST_CUDA_KERNEL(NtXentForwardArgs<Half>, forward_half)
SSLFAST_CUDA_KERNEL(NtXentForwardArgs<BFloat16>, forward_bfloat16)

}  // namespace
}  // namespace sslfast
