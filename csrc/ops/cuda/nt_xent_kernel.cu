// nt_xent in float64 on CUDA: a block owns 64 rows and walks over all columns, 64 at a time. Its 256 threads form a
// square of 16 x 16; thread (y, x) owns the similarities of rows y + 16 a and columns x + 16 b, a and b < 4, in
// registers. No atomics: every sum has one owner and a fixed order.
#include "csrc/ops/nt_xent.h"
#include "csrc/stable/cuda.h"

namespace sslfast {
namespace {

constexpr int tile = 64;
constexpr int square = 16;
constexpr int owned = tile / square;
constexpr int block_threads = square * square;
constexpr int padded = tile + 1;  // an odd stride: no two threads of a warp meet in one bank of shared memory

// Depth that is staged in shared memory at a time: 64 bytes of every row.
template <class T>
constexpr int depth_step = 64 / static_cast<int>(sizeof(T));

template <class T>
struct Stage {
  T rows[depth_step<T>][padded];
  T columns[depth_step<T>][padded];
};

// Queries or keys on the device. A side that owns losses weighs the similarity s of its row i by
// grad[i] / temperature * exp(s - lse[i]).
template <class T>
struct Side {
  const T* data;
  int64_t count;
  const T* grad;  // null: owns no losses
  const T* lse;
};

// value[a][b] = row . column, 0 past either end.
template <class T>
__device__ void similarities(const Side<T>& rows, int64_t row_begin, const Side<T>& columns, int64_t column_begin,
                             int64_t depth, Stage<T>& stage, T (&value)[owned][owned]) {
  const int x = threadIdx.x % square;
  const int y = threadIdx.x / square;
#pragma unroll
  for (int a = 0; a < owned; ++a) {
#pragma unroll
    for (int b = 0; b < owned; ++b) value[a][b] = 0;
  }
  for (int64_t first = 0; first < depth; first += depth_step<T>) {
    __syncthreads();  // the stage is still read from the last step
    for (int e = threadIdx.x; e < tile * depth_step<T>; e += block_threads) {
      const int i = e / depth_step<T>;
      const int k = e % depth_step<T>;
      const bool inside = first + k < depth;
      stage.rows[k][i] = inside && row_begin + i < rows.count ? rows.data[(row_begin + i) * depth + first + k] : T(0);
      stage.columns[k][i] =
          inside && column_begin + i < columns.count ? columns.data[(column_begin + i) * depth + first + k] : T(0);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < depth_step<T>; ++k) {
      T left[owned];
      T right[owned];
#pragma unroll
      for (int a = 0; a < owned; ++a) left[a] = stage.rows[k][y + square * a];
#pragma unroll
      for (int b = 0; b < owned; ++b) right[b] = stage.columns[k][x + square * b];
#pragma unroll
      for (int a = 0; a < owned; ++a) {
#pragma unroll
        for (int b = 0; b < owned; ++b) value[a][b] += left[a] * right[b];
      }
    }
  }
}

__device__ bool is_excluded(const int64_t* excluded, int64_t exclusions, int64_t query, int64_t key) {
  for (int64_t e = 0; e < exclusions; ++e) {
    if (excluded[query * exclusions + e] == key) return true;
  }
  return false;
}

template <class T>
__global__ void __launch_bounds__(block_threads)
    nt_xent_forward_kernel(NtXentForwardArgs<T> args, bool constant_shift) {
  __shared__ Stage<T> stage;
  const int x = threadIdx.x % square;
  const int y = threadIdx.x / square;
  const int64_t row_begin = static_cast<int64_t>(blockIdx.x) * tile;
  const Side<T> queries{args.queries, args.rows, nullptr, nullptr};
  const Side<T> keys{args.keys == nullptr ? args.queries : args.keys, args.columns, nullptr, nullptr};
  const T scale = static_cast<T>(1 / args.temperature);

  NtXentSum<T> sums[owned];
#pragma unroll
  for (int a = 0; a < owned; ++a) sums[a] = {constant_shift ? scale : nt_xent_no_maximum<T>(), T(0)};
  T largest[owned];
  T largest_other[owned];
  int32_t classes[owned];
  const int32_t* const key_classes = args.keys == nullptr ? args.classes : args.key_classes;
#pragma unroll
  for (int a = 0; a < owned; ++a) {
    const int64_t row = row_begin + y + square * a;
    largest[a] = largest_other[a] = -static_cast<T>(INFINITY);
    classes[a] = args.classes != nullptr && row < args.rows ? args.classes[row] : 0;
  }
  for (int64_t column_begin = 0; column_begin < args.columns; column_begin += tile) {
    T value[owned][owned];
    similarities(queries, row_begin, keys, column_begin, args.depth, stage, value);
#pragma unroll
    for (int a = 0; a < owned; ++a) {
      const int64_t row = row_begin + y + square * a;
      if (row >= args.rows) continue;
#pragma unroll
      for (int b = 0; b < owned; ++b) {
        const int64_t column = column_begin + x + square * b;
        if (column >= args.columns || is_excluded(args.excluded, args.exclusions, row, column)) continue;
        if (value[a][b] > largest[a]) largest[a] = value[a][b];
        if (args.classes != nullptr && key_classes[column] != classes[a] && value[a][b] > largest_other[a]) {
          largest_other[a] = value[a][b];
        }
        const T logit = value[a][b] * scale;
        if (!constant_shift && logit > sums[a].maximum) {
          sums[a].sum *= nt_xent_exp(sums[a].maximum - logit);
          sums[a].maximum = logit;
        }
        sums[a].sum += nt_xent_exp(logit - sums[a].maximum);
      }
    }
  }

#pragma unroll
  for (int a = 0; a < owned; ++a) {
    for (int distance = square / 2; distance > 0; distance /= 2) {
      const NtXentSum<T> other{__shfl_xor_sync(0xffffffffu, sums[a].maximum, distance),
                               __shfl_xor_sync(0xffffffffu, sums[a].sum, distance)};
      sums[a] = nt_xent_merge(sums[a], other);
      const T other_largest = __shfl_xor_sync(0xffffffffu, largest[a], distance);
      if (other_largest > largest[a]) largest[a] = other_largest;
      const T other_of_other = __shfl_xor_sync(0xffffffffu, largest_other[a], distance);
      if (other_of_other > largest_other[a]) largest_other[a] = other_of_other;
    }
    const int64_t row = row_begin + y + square * a;
    if (x == 0 && row < args.rows) {
      args.lse[row] = nt_xent_value(sums[a]);
      if (args.largest != nullptr) args.largest[row] = largest[a];
      if (args.largest_other != nullptr) args.largest_other[row] = largest_other[a];
    }
  }
}

// Gradient of the rows: weights of a tile in shared memory, times the columns' data.
template <class T>
__global__ void __launch_bounds__(block_threads)
    nt_xent_backward_kernel(Side<T> rows, Side<T> columns, const int64_t* excluded, int64_t exclusions, int64_t depth,
                            T scale, T* gradient) {
  __shared__ Stage<T> stage;
  __shared__ T weights[tile][padded];
  const int x = threadIdx.x % square;
  const int y = threadIdx.x / square;
  const int64_t row_begin = static_cast<int64_t>(blockIdx.x) * tile;

  for (int64_t column_begin = 0; column_begin < columns.count; column_begin += tile) {
    T value[owned][owned];
    similarities(rows, row_begin, columns, column_begin, depth, stage, value);
#pragma unroll
    for (int a = 0; a < owned; ++a) {
      const int64_t row = row_begin + y + square * a;
#pragma unroll
      for (int b = 0; b < owned; ++b) {
        const int64_t column = column_begin + x + square * b;
        T weight = 0;
        if (row < rows.count && column < columns.count) {
          const bool by_row = rows.grad != nullptr;  // where both own losses, the exclusions are symmetric
          if (!is_excluded(excluded, exclusions, by_row ? row : column, by_row ? column : row)) {
            const T logit = value[a][b] * scale;
            if (rows.grad != nullptr) {
              weight += rows.grad[row] * scale * nt_xent_exp(logit - nt_xent_backward_shift(rows.lse[row]));
            }
            if (columns.grad != nullptr) {
              weight += columns.grad[column] * scale * nt_xent_exp(logit - nt_xent_backward_shift(columns.lse[column]));
            }
          }
        }
        weights[y + square * a][x + square * b] = weight;
      }
    }
    __syncthreads();
    const int valid = static_cast<int>(columns.count - column_begin < tile ? columns.count - column_begin : tile);
    for (int64_t first = 0; first < depth; first += tile) {
      T sum[owned][owned] = {};
      for (int k = 0; k < valid; ++k) {
        T right[owned];
#pragma unroll
        for (int b = 0; b < owned; ++b) {
          const int64_t position = first + x + square * b;
          right[b] = position < depth ? columns.data[(column_begin + k) * depth + position] : T(0);
        }
#pragma unroll
        for (int a = 0; a < owned; ++a) {
          const T left = weights[y + square * a][k];
#pragma unroll
          for (int b = 0; b < owned; ++b) sum[a][b] += left * right[b];
        }
      }
#pragma unroll
      for (int a = 0; a < owned; ++a) {
        const int64_t row = row_begin + y + square * a;
#pragma unroll
        for (int b = 0; b < owned; ++b) {
          const int64_t position = first + x + square * b;
          if (row >= rows.count || position >= depth) continue;
          T& target = gradient[row * depth + position];
          target = column_begin == 0 ? sum[a][b] : target + sum[a][b];
        }
      }
    }
  }
}

unsigned tiles(int64_t count) { return static_cast<unsigned>((count + tile - 1) / tile); }

template <class T>
void forward(const NtXentForwardArgs<T>& args, CudaContext& context) {
  launch(nt_xent_forward_kernel<T>, tiles(args.rows), block_threads, 0, context, args,
         nt_xent_constant_shift(args.temperature));
}

template <class T>
void backward(const NtXentBackwardArgs<T>& args, CudaContext& context) {
  const bool symmetric = args.keys == nullptr;
  const T scale = static_cast<T>(1 / args.temperature);
  const Side<T> queries{args.queries, args.rows, args.grad_lse, args.lse};
  const Side<T> keys = symmetric ? queries : Side<T>{args.keys, args.columns, nullptr, nullptr};
  launch(nt_xent_backward_kernel<T>, tiles(args.rows), block_threads, 0, context, queries, keys, args.excluded,
         args.exclusions, args.depth, scale, args.grad_queries);
  if (args.grad_keys == nullptr) return;
  launch(nt_xent_backward_kernel<T>, tiles(args.columns), block_threads, 0, context, keys, queries, args.excluded,
         args.exclusions, args.depth, scale, args.grad_keys);
}

void forward_double(const NtXentForwardArgs<double>& args, CudaContext& context) { forward(args, context); }
void backward_double(const NtXentBackwardArgs<double>& args, CudaContext& context) { backward(args, context); }

SSLFAST_CUDA_KERNEL(NtXentForwardArgs<double>, forward_double)
SSLFAST_CUDA_KERNEL(NtXentBackwardArgs<double>, backward_double)

}  // namespace
}  // namespace sslfast
