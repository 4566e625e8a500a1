// What the tensor-core kernels of nt_xent share: operands, exclusions, and the product of one warp.
//
// Roofline, one H200 (bfloat16, sums in float32: 989 TFLOP/s; ex2: 16 a clock and multiprocessor, 3.7e12 a second). A
// pair (i, j) costs 2 d operations and one exponential forward, 4 d operations and one exponential backward. At d = 128
// that is 0.78 ns of products and 0.54 ns of exponentials for 1000 pairs, so neither may wait for the other: two blocks
// share a multiprocessor, and one multiplies while the other exponentiates. Where queries are their own keys, forward
// computes each pair once. Shared memory delivers 128 bytes a clock: for 32 products a warp's part of 64 x 64 reads 8
// fragments of 512 bytes, 32 clocks; the products take 64 on an A100 and 32 on an H200, where wgmma, which reads
// larger tiles, has room above this path: nt_xent_hopper.cuh.
#pragma once

#include <cstdint>

#include "csrc/ops/nt_xent.h"
#include "csrc/stable/cuda.h"
#include "csrc/stable/tensor_core.h"

namespace sslfast {
namespace {

constexpr int row_multiple = 128;  // rows of an operand are padded to it
constexpr int flag_tile = 64;
constexpr float float_scale = 2048.0f;
constexpr float log2_e = 1.44269504f;

// Type of a tensor's numbers on the device, and of what tensor cores multiply.
template <class T>
struct Device {
  using Number = float;
  using Operand = __half;
  static constexpr float scale = float_scale;
};
template <>
struct Device<Half> {
  using Number = __half;
  using Operand = __half;
  static constexpr float scale = 1;
};
template <>
struct Device<BFloat16> {
  using Number = __nv_bfloat16;
  using Operand = __nv_bfloat16;
  static constexpr float scale = 1;
};

// Queries or keys as tensor cores take them: 16-bit numbers, padded with zeros to whole tiles. float32 numbers x become
// two planes of float16, high + low = 2048 x, each with 11 significant bits: high * high + high * low + low * high has
// the accuracy of float32, as components of unit rows neither overflow nor lose bits that count. The first plane alone
// has the accuracy of TF32, whose numbers have 11 significant bits too.
template <class T>
struct Rows {
  const T* data;  // plane p at data + p * plane; (padded rows, depth)
  int64_t plane;
  int count;
  int padded;
  int depth;  // padded
};

// Pairs of a query and a key that do not count.
struct Exclusions {
  const int64_t* columns;  // (queries, count)
  int64_t count;
  const unsigned* flags;  // one bit for each 64 x 64 pairs: is one of them excluded? null: no
  int flag_columns;

  __device__ bool near(int query, int key) const {
    if (flags == nullptr) return false;
    const int64_t bit = static_cast<int64_t>(query / flag_tile) * flag_columns + key / flag_tile;
    return flags[bit / 32] >> (bit % 32) & 1u;
  }
};

// Writes the planes; a block a row.
template <class Number, class T>
__global__ void nt_xent_operand_kernel(const Number* numbers, int64_t count, int64_t depth, float scale, T* out,
                                       int64_t plane, int padded_depth, bool two_planes) {
  const int64_t row = blockIdx.x;
  for (int k = threadIdx.x; k < padded_depth; k += blockDim.x) {
    float value = 0;
    if (row < count && k < depth) value = static_cast<float>(numbers[row * depth + k]) * scale;
    const T high = static_cast<T>(value);
    out[row * padded_depth + k] = high;
    if (two_planes) out[plane + row * padded_depth + k] = static_cast<T>(value - static_cast<float>(high));
  }
}

__global__ void nt_xent_flags_kernel(const int64_t* excluded, int64_t entries, int64_t exclusions, int64_t columns,
                                     unsigned* flags, int flag_columns) {
  const int64_t entry = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (entry >= entries) return;
  const int64_t column = excluded[entry];
  if (column < 0 || column >= columns) return;
  const int64_t bit = entry / exclusions / flag_tile * flag_columns + column / flag_tile;
  atomicOr(flags + bit / 32, 1u << (bit % 32));
}

// Bit 4 n + 2 h + j of keep[m]: does the pair of row 16 m + 8 h + g and column 8 n + 2 t + j of the warp's part count?
// (g, t: see tensor_core.h.) Rows are queries or, not `by_row`, keys.
template <int m_tiles, int n_tiles>
__device__ void pairs_that_count(const Exclusions& excluded, bool by_row, int row_begin, int rows, int column_begin,
                                 int columns, uint32_t (&keep)[m_tiles]) {
  static_assert(n_tiles <= 8, "32 pairs a thread and 16 rows");
  const int lane = lane_anew();
  const int g = lane / 4;
  const int t = lane % 4;
  uint32_t inside = 0;
#pragma unroll 1  // short code: few parts come here
  for (int n = 0; n < n_tiles; ++n) {
    for (int j = 0; j < 2; ++j) {
      if (column_begin + 8 * n + 2 * t + j < columns) inside |= 5u << (4 * n + j);  // h = 0 and 1
    }
  }
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) {
    keep[m] = 0;
    for (int h = 0; h < 2; ++h) {
      const int row = row_begin + 16 * m + 8 * h + g;
      if (row >= rows) continue;
      keep[m] |= inside & (0x33333333u << 2 * h);
      for (int64_t e = 0; e < excluded.count && by_row && excluded.flags != nullptr; ++e) {
        const int64_t column = excluded.columns[row * excluded.count + e] - column_begin;
        if (column < 0 || column >= 8 * n_tiles || column % 8 / 2 != t) continue;
        keep[m] &= ~(1u << (static_cast<int>(column) / 8 * 4 + 2 * h + static_cast<int>(column) % 2));
      }
    }
  }
  if (by_row || excluded.flags == nullptr) return;
#pragma unroll 1
  for (int n = 0; n < n_tiles; ++n) {
    for (int j = 0; j < 2; ++j) {
      const int column = column_begin + 8 * n + 2 * t + j;
      for (int64_t e = 0; e < excluded.count && column < columns; ++e) {
        const int64_t row = excluded.columns[column * excluded.count + e] - row_begin;
        if (row < 0 || row >= 16 * m_tiles || row % 8 != g) continue;
#pragma unroll
        for (int m = 0; m < m_tiles; ++m) {
          if (row / 16 == m) keep[m] &= ~(1u << (4 * n + static_cast<int>(row) % 16 / 8 * 2 + j));
        }
      }
    }
  }
}

// A row of a tile in shared memory: 16 bytes more than its numbers, so that the eight rows which ldmatrix reads at a
// time lie in different banks.
constexpr int padded_width(int width) { return width + 8; }

// Begins to copy (rows, width) numbers to shared memory.
template <int rows, int width, int threads, class T>
__device__ void fetch_tile(T* shared, const T* global, int64_t depth) {
  constexpr int units = width / 8;
  constexpr int together = threads / units;  // rows
  const int row = threadIdx.x / units;
  const int unit = threadIdx.x % units;
  shared += row * padded_width(width) + unit * 8;
  global += row * depth + unit * 8;
#pragma unroll 1  // the addresses of an unrolled loop would take the registers that the sums need
  for (int first = 0; first < rows; first += together) {
    copy_async<16>(shared, global);
    shared += together * padded_width(width);
    global += together * depth;
  }
}

// sum += A B^T, for (16 m_tiles, width) numbers of A and (8 n_tiles, width) of B in shared memory.
template <int width, int m_tiles, int n_tiles, class T>
__device__ void multiply(const T* a, const T* b, float (&sum)[m_tiles][n_tiles][4]) {
  constexpr int stride = padded_width(width);
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int k = 0; k < width; k += 16) {
    uint32_t left[m_tiles][4];
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) load_matrices(left[m], a + (16 * m + lane % 16) * stride + k + lane / 16 * 8);
#pragma unroll
    for (int n = 0; n < n_tiles; n += 2) {
      uint32_t pair[4];
      load_matrices(pair, b + (8 * n + lane % 8 + lane / 16 * 8) * stride + k + lane / 8 % 2 * 8);
      const uint32_t right[2][2] = {{pair[0], pair[1]}, {pair[2], pair[3]}};
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        mma_m16n8k16<T>(sum[m][n], left[m], right[0]);
        mma_m16n8k16<T>(sum[m][n + 1], left[m], right[1]);
      }
    }
  }
}

// --- host ------------------------------------------------------------------------------------------------------------

template <class T>
T* scratch(CudaContext& context, int64_t count) {
  return static_cast<T*>(context.scratch(count * static_cast<int64_t>(sizeof(T))));
}

inline int64_t padded_to(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }

inline unsigned blocks(int64_t count, int64_t size) { return static_cast<unsigned>((count + size - 1) / size); }

// Depth is padded to whole chunks: 64, or a multiple of 128.
inline int padded_depth(int64_t depth) { return static_cast<int>(depth <= 64 ? 64 : padded_to(depth, 128)); }

// How many products of planes make one of the inputs' precision: 3 for float32, unless TF32 will do.
template <class In>
int plane_products(bool tf32) {
  return std::is_same<In, float>::value && !tf32 ? 3 : 1;
}

template <class In>
Rows<typename Device<In>::Operand> operand(const In* numbers, int64_t count, int64_t depth, bool tf32,
                                           CudaContext& context) {
  using T = typename Device<In>::Operand;
  using Number = typename Device<In>::Number;
  check(count < (int64_t{1} << 31) - row_multiple, "nt_xent: at most 2^31 - 129 rows, got ", count,
        "; split the batch or the queue");
  const bool two_planes = plane_products<In>(tf32) == 3;
  const int64_t padded = padded_to(count, row_multiple);
  const int width = padded_depth(depth);
  T* const data = scratch<T>(context, (two_planes ? 2 : 1) * padded * width);
  launch(nt_xent_operand_kernel<Number, T>, static_cast<unsigned>(padded), width < 256 ? width : 256, 0, context,
         reinterpret_cast<const Number*>(numbers), count, depth, Device<In>::scale, data, padded * width, width,
         two_planes);
  return {data, padded * width, static_cast<int>(count), static_cast<int>(padded), width};
}

inline Exclusions exclusions(const int64_t* excluded, int64_t rows, int64_t count, int64_t columns,
                             CudaContext& context) {
  if (count == 0) return {excluded, count, nullptr, 0};
  const int flag_columns = static_cast<int>(blocks(columns, flag_tile));
  const int64_t words = (blocks(rows, flag_tile) * static_cast<int64_t>(flag_columns) + 31) / 32;
  unsigned* const flags = scratch<unsigned>(context, words);
  cuda_check(cudaMemsetAsync(flags, 0, words * sizeof(unsigned), context.stream()), "cudaMemsetAsync");
  launch(nt_xent_flags_kernel, blocks(rows * count, 256), 256, 0, context, excluded, rows * count, count, columns,
         flags, flag_columns);
  return {excluded, count, flags, flag_columns};
}

}  // namespace
}  // namespace sslfast
