// Rows turned into columns in registers.
#pragma once

#include <cstdint>
#include <utility>

#include "csrc/ops/cpu/matrix_tile.h"

namespace sslfast {
namespace {

// Of 2 `step` rows and columns swaps those quarters that lie across: element j of `upper` and j + step of `lower`.
template <int step, class Vector, size_t... j>
inline void swap_quarters(Vector& upper, Vector& lower, std::index_sequence<j...>) {
  constexpr int count = sizeof...(j);
  const Vector first = __builtin_shufflevector(upper, lower, ((j & step) ? j - step + count : j)...);
  lower = __builtin_shufflevector(upper, lower, ((j & step) ? j + count : j + step)...);
  upper = first;
}

template <int step, class Vector, int count>
inline void transpose_square(Vector (&rows)[count]) {
  if constexpr (step < count) {
#pragma GCC unroll 16
    for (int i = 0; i < count; ++i) {
      if ((i & step) == 0) swap_quarters<step>(rows[i], rows[i + step], std::make_index_sequence<count>());
    }
    transpose_square<2 * step>(rows);
  }
}

// out[k * tile_columns + c] = rows[c * stride + k] for c < count and k < length; zeros for the other c.
template <class R>
void transpose(const R* rows, int64_t stride, int64_t count, int64_t length, R* out) {
  using Vector = typename VectorOf<R>::type;
  using Unaligned = typename VectorOf<R>::unaligned;
  constexpr int64_t width = tile_columns<R>;
  constexpr int size = lanes<R>;
  for (int64_t c = 0; c < width; c += size) {
    int64_t k = 0;
    for (; c + size <= count && k + size <= length; k += size) {
      Vector square[size];
#pragma GCC unroll 16
      for (int i = 0; i < size; ++i) square[i] = *reinterpret_cast<const Unaligned*>(rows + (c + i) * stride + k);
      transpose_square<1>(square);
#pragma GCC unroll 16
      for (int i = 0; i < size; ++i) *reinterpret_cast<Unaligned*>(out + (k + i) * width + c) = square[i];
    }
    for (; k < length; ++k) {
      for (int64_t i = c; i < c + size; ++i) out[k * width + i] = i < count ? rows[i * stride + k] : R(0);
    }
  }
}

}  // namespace
}  // namespace sslfast
