// Sums of exponentials as the forward kernels of nt_xent stream them: what a thread keeps of its rows, and the parts
// that blocks leave to a last kernel.
#pragma once

#include "csrc/ops/cuda/nt_xent_tensor_core.cuh"

namespace sslfast {
namespace {

// Totals in parts (groups, padded rows), relative to 2^maximum; null: constant shift, not wanted.
struct Parts {
  float* sum;
  float* maximum;
  float* largest;
  int64_t stride;
};

// What a thread keeps of its rows: 16 m + 8 h + g of its warp's part.
template <bool running, int m_tiles>
struct RowTotals {
  float sum[m_tiles][2];
  float maximum[running ? m_tiles : 1][2];
  float largest[m_tiles][2];

  __device__ void clear() {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        sum[m][h] = 0;
        if (running) maximum[running ? m : 0][h] = nt_xent_no_maximum<float>();
        largest[m][h] = -INFINITY;
      }
    }
  }
};

// Turns similarities into exponentials and adds them to the rows' totals.
template <bool running, int m_tiles, int n_tiles>
__device__ void add_tile(float (&value)[m_tiles][n_tiles][4], float factor, float shift, bool want_largest,
                         RowTotals<running, m_tiles>& totals) {
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float highest = -INFINITY;
      if (running || want_largest) {
#pragma unroll
        for (int n = 0; n < n_tiles; ++n) highest = fmaxf(highest, fmaxf(value[m][n][2 * h], value[m][n][2 * h + 1]));
        totals.largest[m][h] = fmaxf(totals.largest[m][h], highest);
      }
      float row_shift = shift;
      if (running) {
        float& maximum = totals.maximum[running ? m : 0][h];
        const float raised = fmaxf(maximum, highest * factor);
        totals.sum[m][h] *= fast_exp2(maximum - raised);
        row_shift = maximum = raised;
      }
      float sum = 0;
#pragma unroll
      for (int n = 0; n < n_tiles; ++n) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          float& one = value[m][n][2 * h + j];
          one = fast_exp2(one * factor - row_shift);
          sum += one;
        }
      }
      totals.sum[m][h] += sum;
    }
  }
}

template <bool running>
__device__ void merge(float& sum, float& maximum, float other_sum, float other_maximum) {
  if (!running) {
    sum += other_sum;
    return;
  }
  const float raised = fmaxf(maximum, other_maximum);
  sum = sum * fast_exp2(maximum - raised) + other_sum * fast_exp2(other_maximum - raised);
  maximum = raised;
}

// Merges the totals of the four lanes that share rows.
template <bool running, int m_tiles>
__device__ void merge_lanes(RowTotals<running, m_tiles>& totals) {
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      float& maximum = totals.maximum[running ? m : 0][h];
      for (int distance = 1; distance <= 2; distance *= 2) {
        const float sum = __shfl_xor_sync(0xffffffffu, totals.sum[m][h], distance);
        merge<running>(totals.sum[m][h], maximum, sum, __shfl_xor_sync(0xffffffffu, maximum, distance));
        totals.largest[m][h] =
            fmaxf(totals.largest[m][h], __shfl_xor_sync(0xffffffffu, totals.largest[m][h], distance));
      }
    }
  }
}

// Does one of the pairs of a warp's part not count?
template <int m_tiles, int n_tiles>
__device__ bool is_partial(const Exclusions& excluded, int row_begin, int rows, int column_begin, int columns) {
  return row_begin + 16 * m_tiles > rows || column_begin + 8 * n_tiles > columns ||
         excluded.near(row_begin, column_begin);
}

// Pairs that do not count become -inf.
template <int m_tiles, int n_tiles>
__device__ void mask(const Exclusions& excluded, int row_begin, int rows, int column_begin, int columns,
                     float (&value)[m_tiles][n_tiles][4]) {
  uint32_t keep[m_tiles];
  pairs_that_count<m_tiles, n_tiles>(excluded, true, row_begin, rows, column_begin, columns, keep);
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
    for (int n = 0; n < n_tiles; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (!(keep[m] >> (4 * n + i) & 1u)) value[m][n][i] = -INFINITY;
      }
    }
  }
}

template <bool running>
__global__ void nt_xent_merge_kernel(Parts parts, int groups, int rows, float shift, float similarity_scale, float* lse,
                                     float* largest) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= rows) return;
  float sum = 0;
  float maximum = running ? nt_xent_no_maximum<float>() : shift;
  float highest = -INFINITY;
  for (int group = 0; group < groups; ++group) {
    const int64_t at = group * parts.stride + row;
    merge<running>(sum, maximum, parts.sum[at], running ? parts.maximum[at] : 0.0f);
    if (largest != nullptr) highest = fmaxf(highest, parts.largest[at]);
  }
  // In double: both terms may be large and cancel. log 0 = -inf: no negatives.
  lse[row] = static_cast<float>(maximum * 0.69314718055994531 + ::log(static_cast<double>(sum)));
  if (largest != nullptr) largest[row] = highest * similarity_scale;
}

}  // namespace
}  // namespace sslfast
