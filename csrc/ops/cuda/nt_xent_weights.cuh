// What nt_xent_backward multiplies the rows of a side by: w = exp(s - lse) * grad for each side that owns losses, s the
// logit of a pair, lse and grad of the side's row. Weights are scaled so that the largest gradient is near 2^13: then
// float16 holds them, and those below 2^-38 of the largest are lost.
#pragma once

#include "csrc/ops/cuda/nt_xent_tensor_core.cuh"

namespace sslfast {
namespace {

// A side that owns losses: w = weight * 2^(logit - shift).
struct Losses {
  const float* weight;  // (padded rows,); null: owns none
  const float* shift;   // (padded rows,); null: the constant one
};

struct Weights {
  Losses row;
  Losses column;
  Exclusions excluded;
  bool by_row;  // rows are the queries
  int rows;
  int columns;
  float factor;  // logit in base 2 = similarity as computed * factor
  float shift;
};

// scale = 2^13 / (largest gradient, rounded down to a power of two)
__global__ void nt_xent_scale_kernel(const float* grad, int64_t count, float* scale) {
  __shared__ float partial[32];
  float largest = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) largest = fmaxf(largest, fabsf(grad[i]));
  for (int distance = 16; distance > 0; distance /= 2) {
    largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, distance));
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = largest;
  __syncthreads();
  if (threadIdx.x > 0) return;
  for (unsigned w = 1; w < blockDim.x / 32; ++w) largest = fmaxf(largest, partial[w]);
  const int exponent = static_cast<int>(__float_as_uint(largest) >> 23) - 127;  // -127: zero or subnormal
  *scale = __uint_as_float(static_cast<unsigned>(min(max(13 - exponent, -100), 100) + 127) << 23);
}

// Weights and shifts of the rows; 0 past the end, so that padding counts for nothing.
__global__ void nt_xent_weights_kernel(const float* grad, const float* lse, int count, int padded, float constant,
                                       const float* scale, float* weight, float* shift) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= padded) return;
  const float own = row < count ? nt_xent_backward_shift(lse[row]) * log2_e : 0.0f;
  const float scaled = row < count ? grad[row] * *scale : 0.0f;
  weight[row] = shift == nullptr ? scaled * exp2f(constant - own) : scaled;
  if (shift != nullptr) shift[row] = own;
}

// Two neighbours of a column of numbers, 0 where there is none.
__device__ float2 pair_at(const float* numbers, int first) {
  return numbers == nullptr ? make_float2(0, 0) : *reinterpret_cast<const float2*>(numbers + first);
}

// Which of a warp's pairs count (see pairs_that_count). To be called before the products: afterwards registers are
// scarce.
template <int m_tiles, int n_tiles>
__device__ void weights_that_count(const Weights& weights, int row_begin, int column_begin, uint32_t (&keep)[m_tiles]) {
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) keep[m] = 0xffffffffu;
  const int query = weights.by_row ? row_begin : column_begin;
  const int key = weights.by_row ? column_begin : row_begin;
  if (row_begin + 16 * m_tiles > weights.rows || column_begin + 8 * n_tiles > weights.columns ||
      weights.excluded.near(query, key)) {
    pairs_that_count<m_tiles, n_tiles>(weights.excluded, weights.by_row, row_begin, weights.rows, column_begin,
                                       weights.columns, keep);
  }
}

// Similarities of a warp's 16 m_tiles rows and 8 n_tiles columns become weights.
// Under a constant shift (not `running`) one exponential serves both sides.
template <bool running, int m_tiles, int n_tiles>
__device__ void weigh(const Weights& weights, int row_begin, int column_begin, const uint32_t (&keep)[m_tiles],
                      float (&value)[m_tiles][n_tiles][4]) {
  const int g = threadIdx.x % 32 / 4;
  const int t = threadIdx.x % 4;
  float own[m_tiles][2];
  float own_shift[running ? m_tiles : 1][2];
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = row_begin + 16 * m + 8 * h + g;
      own[m][h] = weights.row.weight == nullptr ? 0.0f : weights.row.weight[row];
      // A side without losses: 2^-inf = 0.
      if (running) own_shift[running ? m : 0][h] = weights.row.shift == nullptr ? INFINITY : weights.row.shift[row];
    }
  }
#pragma unroll
  for (int n = 0; n < n_tiles; ++n) {
    const int column = column_begin + 8 * n + 2 * t;
    const float2 others = pair_at(weights.column.weight, column);
    const float2 other_shifts = pair_at(running ? weights.column.shift : nullptr, column);
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float other = i % 2 == 0 ? others.x : others.y;
        const float logit = value[m][n][i] * weights.factor;
        float weight;
        if (running) {
          weight = own[m][i / 2] * fast_exp2(logit - own_shift[running ? m : 0][i / 2]);
          if (weights.column.weight != nullptr) {
            weight += other * fast_exp2(logit - (i % 2 == 0 ? other_shifts.x : other_shifts.y));
          }
        } else {
          weight = fast_exp2(logit - weights.shift) * (own[m][i / 2] + other);
        }
        value[m][n][i] = keep[m] >> (4 * n + i) & 1u ? weight : 0.0f;
      }
    }
  }
}

// The weights as left operands, one for each 16 columns: register i of m is the pair (h, columns) of the C fragments
// 2 slab and 2 slab + 1. With `rest`, what rounding to 16 bits has left.
template <class T, int m_tiles, int n_tiles>
__device__ void pack_weights(const float (&value)[m_tiles][n_tiles][4], bool rest,
                             uint32_t (&left)[n_tiles / 2][m_tiles][4]) {
#pragma unroll
  for (int slab = 0; slab < n_tiles / 2; ++slab) {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float low = value[m][2 * slab + i / 2][i % 2 * 2];
        float high = value[m][2 * slab + i / 2][i % 2 * 2 + 1];
        if (rest) {
          low -= static_cast<float>(static_cast<T>(low));
          high -= static_cast<float>(static_cast<T>(high));
        }
        left[slab][m][i] = pack_floats<T>(low, high);
      }
    }
  }
}

// sum += left * right: `left` are A fragments, one for each 16 rows of `right` (shared memory, rows of `stride`).
template <int slabs, int m_tiles, int n_tiles, class T>
__device__ void add_product(const uint32_t (&left)[slabs][m_tiles][4], const T* right, int stride,
                            float (&sum)[m_tiles][n_tiles][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int n = 0; n < n_tiles; n += 2) {
#pragma unroll
    for (int slab = 0; slab < slabs; ++slab) {
      uint32_t pair[4];
      load_matrices<true>(pair, right + (16 * slab + lane % 16) * stride + 8 * n + lane / 16 * 8);
      const uint32_t halves[2][2] = {{pair[0], pair[1]}, {pair[2], pair[3]}};
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
        mma_m16n8k16<T>(sum[m][n], left[slab][m], halves[0]);
        mma_m16n8k16<T>(sum[m][n + 1], left[slab][m], halves[1]);
      }
    }
  }
}

// A block a row: adds the shares in order, and takes scale and padding away.
template <class Number>
__global__ void nt_xent_gradient_kernel(const float* shares, int count, int64_t share, int padded_depth, int64_t depth,
                                        float factor, const float* scale, Number* gradient) {
  const int64_t row = blockIdx.x;
  const float unscale = factor / *scale;
  for (int64_t k = threadIdx.x; k < depth; k += blockDim.x) {
    float sum = 0;
    for (int s = 0; s < count; ++s) sum += shares[s * share + row * padded_depth + k];
    gradient[row * depth + k] = static_cast<Number>(sum * unscale);
  }
}

}  // namespace
}  // namespace sslfast
