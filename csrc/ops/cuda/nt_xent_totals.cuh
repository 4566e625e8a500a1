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
  float* largest_other;
  int64_t stride;
};

// Classes of the queries and of the keys.
struct Classes {
  const int32_t* rows;
  const int32_t* columns;
};

// What a thread keeps of its rows: 16 m + 8 h + g of its warp's part; `by_class`: the largest of another class as well.
template <bool running, bool by_class, int m_tiles>
struct RowTotals {
  float sum[m_tiles][2];
  float maximum[running ? m_tiles : 1][2];
  float largest[m_tiles][2];
  float largest_other[by_class ? m_tiles : 1][2];

  __device__ void clear() {
#pragma unroll
    for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        sum[m][h] = 0;
        if (running) maximum[running ? m : 0][h] = nt_xent_no_maximum<float>();
        largest[m][h] = -INFINITY;
        if (by_class) largest_other[by_class ? m : 0][h] = -INFINITY;
      }
    }
  }
};

// Raises the rows' largest similarities by those of the columns whose class is not the row's.
template <int m_tiles, int n_tiles>
__device__ void raise_largest_other(const float (&value)[m_tiles][n_tiles][4], const Classes& classes, int row_begin,
                                    int rows, int column_begin, int columns, float (&largest)[m_tiles][2]) {
  const int g = threadIdx.x % 32 / 4;
  const int t = threadIdx.x % 4;
  int own[m_tiles][2];
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = row_begin + 16 * m + 8 * h + g;
      own[m][h] = row < rows ? classes.rows[row] : 0;
    }
  }
#pragma unroll
  for (int n = 0; n < n_tiles; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const int column = column_begin + 8 * n + 2 * t + j;
      const int other = column < columns ? classes.columns[column] : 0;
#pragma unroll
      for (int m = 0; m < m_tiles; ++m) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          if (other != own[m][h]) largest[m][h] = fmaxf(largest[m][h], value[m][n][2 * h + j]);
        }
      }
    }
  }
}

// Turns similarities into exponentials and adds them to the rows' totals.
template <bool running, bool by_class, int m_tiles, int n_tiles>
__device__ void add_tile(float (&value)[m_tiles][n_tiles][4], float factor, float shift, bool want_largest,
                         RowTotals<running, by_class, m_tiles>& totals) {
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
template <bool running, bool by_class, int m_tiles>
__device__ void merge_lanes(RowTotals<running, by_class, m_tiles>& totals) {
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
        if (by_class) {
          float& other = totals.largest_other[by_class ? m : 0][h];
          other = fmaxf(other, __shfl_xor_sync(0xffffffffu, other, distance));
        }
      }
    }
  }
}

// Halves the columns that a lane holds: it sends one half to the lane that differs in the bit `distance`, and adds what
// it gets to the other; the upper half stays with the lane that has the bit.
template <int half, int distance, int count>
__device__ void exchange(float (&held)[count]) {
  const bool upper = threadIdx.x & distance;
#pragma unroll
  for (int i = 0; i < half; ++i) {
    const float got = __shfl_xor_sync(0xffffffffu, upper ? held[i] : held[i + half], distance);
    held[i] = (upper ? held[i + half] : held[i]) + got;
  }
}

// Which of the pairs of a warp's part count (see pairs_that_count). Best called before the products: afterwards
// registers are scarce.
template <int m_tiles, int n_tiles>
__device__ void similarities_that_count(const Exclusions& excluded, int row_begin, int rows, int column_begin,
                                        int columns, uint32_t (&keep)[m_tiles]) {
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) keep[m] = 0xffffffffu;
  if (row_begin + 16 * m_tiles > rows || column_begin + 8 * n_tiles > columns ||
      excluded.near(row_begin, column_begin)) {
    pairs_that_count<m_tiles, n_tiles>(excluded, true, row_begin, rows, column_begin, columns, keep);
  }
}

// Pairs that do not count become -inf.
template <int m_tiles, int n_tiles>
__device__ void mask(const uint32_t (&keep)[m_tiles], float (&value)[m_tiles][n_tiles][4]) {
#pragma unroll
  for (int m = 0; m < m_tiles; ++m) {
    if (keep[m] == 0xffffffffu) continue;
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
                                     float* largest, float* largest_other) {
  const int row = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (row >= rows) return;
  float sum = 0;
  float maximum = running ? nt_xent_no_maximum<float>() : shift;
  float highest = -INFINITY;
  float highest_other = -INFINITY;
#pragma unroll 8  // loads that do not wait for each other
  for (int group = 0; group < groups; ++group) {
    const int64_t at = group * parts.stride + row;
    merge<running>(sum, maximum, parts.sum[at], running ? parts.maximum[at] : 0.0f);
    if (largest != nullptr) highest = fmaxf(highest, parts.largest[at]);
    if (largest_other != nullptr) highest_other = fmaxf(highest_other, parts.largest_other[at]);
  }
  // In double: both terms may be large and cancel. log 0 = -inf: no negatives.
  lse[row] = static_cast<float>(maximum * 0.69314718055994531 + ::log(static_cast<double>(sum)));
  if (largest != nullptr) largest[row] = highest * similarity_scale;
  if (largest_other != nullptr) largest_other[row] = highest_other * similarity_scale;
}

// --- host ------------------------------------------------------------------------------------------------------------

// Room for the totals of so many groups.
template <class In>
Parts parts_of(const NtXentForwardArgs<In>& args, bool running, int64_t groups, int64_t stride, CudaContext& context) {
  const auto room = [&](bool wanted) { return wanted ? scratch<float>(context, groups * stride) : nullptr; };
  return {room(true), room(running), room(args.largest != nullptr), room(args.classes != nullptr), stride};
}

template <class In>
Classes classes_of(const NtXentForwardArgs<In>& args) {
  return {args.classes, args.keys == nullptr ? args.classes : args.key_classes};
}

// The results, from the totals of so many groups.
template <bool running, class In>
void merge_parts(const NtXentForwardArgs<In>& args, const Parts& parts, int groups, float shift, CudaContext& context) {
  const float scale = 1 / (Device<In>::scale * Device<In>::scale);
  launch(nt_xent_merge_kernel<running>, blocks(args.rows, 256), 256, 0, context, parts, groups,
         static_cast<int>(args.rows), shift, scale, args.lse, args.largest, args.largest_other);
}

}  // namespace
}  // namespace sslfast
