// nt_xent_backward on tensor cores. With s a similarity and w = exp(s - lse) * grad / temperature of the sides that own
// losses, the gradient of row i is the sum over columns j of w(i, j) * column j. A block owns 64 or 128 rows and a
// slice of their depth, whose sums stay in registers; it walks over its share of the columns. Each tile of similarities
// is computed again, turned into weights in registers, and these registers are the left operand of the second product.
// Shares of the columns go to shares[share][row], which a last kernel adds in order.
#include <algorithm>
#include <type_traits>

#include "csrc/ops/cuda/nt_xent_deep.cuh"
#include "csrc/ops/cuda/nt_xent_hopper_backward.cuh"

namespace sslfast {
namespace {

constexpr int warps = block_threads / 32;
constexpr int most_shares = 16;

// Sizes for one or three products of planes; either way shared memory is at most 70 KB, for two blocks on each
// multiprocessor.
template <int products, bool running>
struct Shape {
  static constexpr int planes = products == 3 ? 2 : 1;
  static constexpr int m_tiles = products == 3 ? 1 : 2;
  static constexpr int rows = warps * 16 * m_tiles;
  static constexpr int columns = products == 3 || running ? 32 : 64;  // registers set the limit
};

template <class T, int products, int width, bool running>
struct Buffers {
  T rows[Shape<products, running>::planes][Shape<products, running>::rows][padded_width(width)];
  T columns[2][Shape<products, running>::planes][Shape<products, running>::columns][padded_width(width)];
};

template <class T>
struct Task {
  Rows<T> rows;
  Rows<T> columns;
  Weights weights;
  int share;      // column tiles of a block
  float* shares;  // (shares, padded rows, depth)
};

template <class T, int products, int width, bool running>
__device__ void fetch(const Task<T>& task, int row_begin, int column_begin, int first, bool with_rows, int stage,
                      Buffers<T, products, width, running>& buffers) {
  using S = Shape<products, running>;
#pragma unroll
  for (int p = 0; p < S::planes; ++p) {
    const Rows<T>& rows = task.rows;
    const Rows<T>& columns = task.columns;
    if (with_rows) {
      fetch_tile<S::rows, width, block_threads>(
          &buffers.rows[p][0][0], rows.data + p * rows.plane + static_cast<int64_t>(row_begin) * rows.depth + first,
          rows.depth);
    }
    fetch_tile<S::columns, width, block_threads>(
        &buffers.columns[stage][p][0][0],
        columns.data + p * columns.plane + static_cast<int64_t>(column_begin) * columns.depth + first, columns.depth);
  }
  copy_async_commit();
}

// sum += weights * columns, both split. Tensor cores cut off what does not fit into a sum, which over many columns
// would cost float32 its accuracy: each tile is summed from zero, then added with rounding.
template <int width, int n_tiles, class T>
__device__ void add_split_product(const uint32_t (&high)[n_tiles / 2][1][4], const uint32_t (&low)[n_tiles / 2][1][4],
                                  const T* columns, const T* columns_low, float (&sum)[1][width / 8][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < width / 8; n += 2) {
    float tile[2][4] = {};
#pragma unroll
    for (int slab = 0; slab < n_tiles / 2; ++slab) {
      const int at = (16 * slab + lane % 16) * padded_width(width) + 8 * n + lane / 16 * 8;
      uint32_t pair[4];
      load_matrices<true>(pair, columns + at);
      uint32_t pair_low[4];
      load_matrices<true>(pair_low, columns_low + at);
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const uint32_t right[2] = {pair[2 * k], pair[2 * k + 1]};
        const uint32_t right_low[2] = {pair_low[2 * k], pair_low[2 * k + 1]};
        mma_m16n8k16<T>(tile[k], low[slab][0], right);
        mma_m16n8k16<T>(tile[k], high[slab][0], right_low);
        mma_m16n8k16<T>(tile[k], high[slab][0], right);
      }
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) sum[0][n + i / 4][i % 4] += tile[i / 4][i % 4];
  }
}

// grid: row tiles, shares of the columns, slices of the depth
template <class T, int products, int width, bool running>
__global__ void __launch_bounds__(block_threads, 2) nt_xent_backward_tensor_kernel(Task<T> task) {
  using S = Shape<products, running>;
  constexpr int n_tiles = S::columns / 8;
  using Shared = Buffers<T, products, width, running>;
  SSLFAST_DYNAMIC_SHARED(Shared, shared);
  Shared& buffers = *shared;
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int slice = blockIdx.z;
  const int chunks = task.rows.depth / width;
  const int row_begin = static_cast<int>(blockIdx.x) * S::rows;
  const int warp_row = warp * 16 * S::m_tiles;
  const int first_tile = static_cast<int>(blockIdx.y) * task.share;
  const int tiles = min(task.share, task.columns.padded / S::columns - first_tile);

  float gradient[S::m_tiles][width / 8][4];
#pragma unroll
  for (int m = 0; m < S::m_tiles; ++m) {
#pragma unroll
    for (int n = 0; n < width / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) gradient[m][n][i] = 0;
    }
  }
  // One chunk: the rows stay, and the next columns are on their way while these are used.
  if (chunks == 1) fetch(task, row_begin, first_tile * S::columns, 0, true, 0, buffers);
  for (int tile = 0; tile < tiles; ++tile) {
    const int column_begin = (first_tile + tile) * S::columns;
    const int stage = tile % 2;
    uint32_t keep[S::m_tiles];
    weights_that_count<S::m_tiles, n_tiles>(task.weights, row_begin + warp_row, column_begin, keep);
    float value[S::m_tiles][n_tiles][4];
#pragma unroll
    for (int m = 0; m < S::m_tiles; ++m) {
#pragma unroll
      for (int n = 0; n < n_tiles; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) value[m][n][i] = 0;
      }
    }
    for (int step = 0; step < chunks; ++step) {
      if (chunks > 1) {
        __syncthreads();  // nobody reads the buffers any more
        // The slice of this block comes last: the second product finds it in shared memory.
        fetch(task, row_begin, column_begin, (slice + 1 + step) % chunks * width, true, stage, buffers);
      }
      copy_async_wait<0>();
      __syncthreads();  // the buffers have arrived, and nobody reads the other stage any more
      if (chunks == 1 && tile + 1 < tiles) {
        fetch(task, row_begin, column_begin + S::columns, 0, false, 1 - stage, buffers);
      }
      const auto& columns = buffers.columns[stage];
      if constexpr (products == 3) {  // the small products first: see Walk::fetch
        multiply<width>(&buffers.rows[1][warp_row][0], &columns[0][0][0], value);
        multiply<width>(&buffers.rows[0][warp_row][0], &columns[1][0][0], value);
      }
      multiply<width>(&buffers.rows[0][warp_row][0], &columns[0][0][0], value);
    }
    weigh<running>(task.weights, row_begin + warp_row, column_begin, keep, value);
    uint32_t left[n_tiles / 2][S::m_tiles][4];
    pack_weights<T>(value, false, left);
    if constexpr (products == 3) {
      uint32_t low[n_tiles / 2][1][4];
      pack_weights<T>(value, true, low);
      add_split_product<width, n_tiles>(left, low, &buffers.columns[stage][0][0][0], &buffers.columns[stage][1][0][0],
                                        gradient);
    } else {
      add_product(left, &buffers.columns[stage][0][0][0], padded_width(width), gradient);
    }
  }

  const int64_t row = static_cast<int64_t>(blockIdx.y) * task.rows.padded + row_begin + warp_row + lane / 4;
  float* const target = task.shares + row * task.rows.depth + slice * width + lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < S::m_tiles; ++m) {
#pragma unroll
    for (int n = 0; n < width / 8; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *reinterpret_cast<float2*>(target + (16 * m + 8 * h) * task.rows.depth + 8 * n) =
            make_float2(gradient[m][n][2 * h], gradient[m][n][2 * h + 1]);
      }
    }
  }
}

template <class T, int products, int width, bool running>
void launch_backward(Task<T>& task, int shares, CudaContext& context) {
  launch(nt_xent_backward_tensor_kernel<T, products, width, running>,
         dim3(task.rows.padded / Shape<products, running>::rows, shares, task.rows.depth / width), block_threads,
         sizeof(Buffers<T, products, width, running>), context, task);
}

// Gradient of one side's rows.
template <bool running, class In>
void backward_side(const Rows<typename Device<In>::Operand>& rows, const Rows<typename Device<In>::Operand>& columns,
                   const Weights& weights, const NtXentBackwardArgs<In>& args, const float* scale, In* gradient,
                   CudaContext& context) {
  using T = typename Device<In>::Operand;
  using Number = typename Device<In>::Number;
  const bool split = plane_products<In>(args.tf32) == 3;
  const float unscale = static_cast<float>(1 / (args.temperature * Device<In>::scale));
  Number* const target = reinterpret_cast<Number*>(gradient);
  if (!split && rows.depth > 128) {
    return deep_gradient<running>(rows, columns, weights, args.depth, unscale, scale, target, context);
  }
  const int width = std::min(rows.depth, 128);
  const int column_tiles = columns.padded / (split ? Shape<3, running>::columns : Shape<1, running>::columns);
  // As many shares as fill the machine twice.
  const int tiles = rows.padded / (split ? Shape<3, running>::rows : Shape<1, running>::rows) * (rows.depth / width);
  const int wanted = std::min({most_shares, column_tiles, (2 * context.multiprocessors() + tiles - 1) / tiles});
  Task<T> task{rows, columns, weights, (column_tiles + wanted - 1) / wanted, nullptr};
  const int shares = (column_tiles + task.share - 1) / task.share;
  const int64_t stride = static_cast<int64_t>(rows.padded) * rows.depth;
  task.shares = scratch<float>(context, shares * stride);
  if (!split) {
    width == 64 ? launch_backward<T, 1, 64, running>(task, shares, context)
                : launch_backward<T, 1, 128, running>(task, shares, context);
  } else if constexpr (std::is_same<In, float>::value) {
    width == 64 ? launch_backward<T, 3, 64, running>(task, shares, context)
                : launch_backward<T, 3, 128, running>(task, shares, context);
  }
  launch(nt_xent_gradient_kernel<Number>, rows.count, std::min(rows.depth, 256), 0, context, task.shares, shares,
         stride, rows.depth, args.depth, unscale, scale, target);
}

// gradient(rows, columns, weights, scale, where to) for each side whose gradient is wanted.
template <bool running, class In, class Operand, class Gradient>
void both_sides(const Operand& queries, const Operand& keys, const NtXentBackwardArgs<In>& args, CudaContext& context,
                const Gradient& gradient) {
  const bool symmetric = args.keys == nullptr;
  const Exclusions excluded = exclusions(args.excluded, args.rows, args.exclusions, args.columns, context);
  const float factor = static_cast<float>(log2_e / args.temperature);
  const float constant_shift = running ? 0.0f : factor;
  const float similarity_scale = 1 / (Device<In>::scale * Device<In>::scale);
  float* const scale = scratch<float>(context, 1);
  float* const weight = scratch<float>(context, queries.padded);
  float* const shift = !running ? nullptr : scratch<float>(context, queries.padded);
  launch(nt_xent_scale_kernel, 1, 1024, 0, context, args.grad_lse, args.rows, scale);
  launch(nt_xent_weights_kernel, blocks(queries.padded, 256), 256, 0, context, args.grad_lse, args.lse, queries.count,
         queries.padded, constant_shift, scale, weight, shift);

  const Losses losses{weight, shift};
  const Losses none{nullptr, nullptr};
  const Weights by_query{losses,     symmetric ? losses : none, excluded,      true, queries.count,
                         keys.count, factor * similarity_scale, constant_shift};
  gradient(queries, keys, by_query, scale, args.grad_queries);
  if (args.grad_keys == nullptr) return;
  const Weights by_key{none,          losses, excluded, false, keys.count, queries.count, factor * similarity_scale,
                       constant_shift};
  gradient(keys, queries, by_key, scale, args.grad_keys);
}

template <bool running, class In>
void backward(const NtXentBackwardArgs<In>& args, CudaContext& context) {
  using T = typename Device<In>::Operand;
  const bool symmetric = args.keys == nullptr;
#if defined(SSLFAST_SM90A)
  if (hopper_takes(args, context)) {
    const int chunks = hopper_backward_chunks(args.depth);
    const Tiles<T> queries = tiles(args.queries, args.rows, args.depth, chunks, tile_rows, context);
    const Tiles<T> keys = symmetric ? queries : tiles(args.keys, args.columns, args.depth, chunks, tile_rows, context);
    return both_sides<running>(
        queries, keys, args, context,
        [&](const Tiles<T>& rows, const Tiles<T>& columns, const Weights& weights, const float* scale, In* gradient) {
          hopper_gradient<running>(rows, columns, weights, args, scale, gradient, context);
        });
  }
#endif
  const Rows<T> queries = operand(args.queries, args.rows, args.depth, args.tf32, context);
  const Rows<T> keys = symmetric ? queries : operand(args.keys, args.columns, args.depth, args.tf32, context);
  both_sides<running>(
      queries, keys, args, context,
      [&](const Rows<T>& rows, const Rows<T>& columns, const Weights& weights, const float* scale, In* gradient) {
        backward_side<running>(rows, columns, weights, args, scale, gradient, context);
      });
}

template <class In>
void backward(const NtXentBackwardArgs<In>& args, CudaContext& context) {
  nt_xent_constant_shift(args.temperature) ? backward<false>(args, context) : backward<true>(args, context);
}

void backward_float(const NtXentBackwardArgs<float>& args, CudaContext& context) { backward(args, context); }
void backward_half(const NtXentBackwardArgs<Half>& args, CudaContext& context) { backward(args, context); }
void backward_bfloat16(const NtXentBackwardArgs<BFloat16>& args, CudaContext& context) { backward(args, context); }

SSLFAST_CUDA_KERNEL(NtXentBackwardArgs<float>, backward_float)
SSLFAST_CUDA_KERNEL(NtXentBackwardArgs<Half>, backward_half)
SSLFAST_CUDA_KERNEL(NtXentBackwardArgs<BFloat16>, backward_bfloat16)

}  // namespace
}  // namespace sslfast
