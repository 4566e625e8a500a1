// What the forward pass of nt_xent gathers from tiles of similarities: sums of exponentials, and largest similarities.
#pragma once

#include <cmath>
#include <cstdint>

#include "csrc/ops/common/nt_xent_math.h"
#include "csrc/ops/cpu/matrix_tile.h"

namespace sslfast {
namespace {

// What forward keeps of the rows or columns of a block; null members are not wanted.
template <class T>
struct Totals {
  NtXentSum<T>* sums;
  T* largest;
  T* largest_other;

  Totals at(int64_t i) const {
    return {sums == nullptr ? nullptr : sums + i, largest == nullptr ? nullptr : largest + i,
            largest_other == nullptr ? nullptr : largest_other + i};
  }
};

// Classes of the rows or columns from one on; a tile may reach past their end, where similarities are -inf.
struct Classes {
  const int32_t* values;
  int64_t count;

  int32_t at(int64_t i) const { return i < count ? values[i] : 0; }
};

// Raises the largest similarities of a tile's rows and columns; those that do not count are -inf.
template <class T>
void raise_largest(const T (&tile)[tile_rows][tile_columns<T>], T* rows, T* columns) {
  for (int r = 0; r < tile_rows && rows != nullptr; ++r) {
    T highest = rows[r];
#pragma omp simd reduction(max : highest)
    for (int c = 0; c < tile_columns<T>; ++c) highest = tile[r][c] > highest ? tile[r][c] : highest;
    rows[r] = highest;
  }
  for (int r = 0; r < tile_rows && columns != nullptr; ++r) {
#pragma omp simd
    for (int c = 0; c < tile_columns<T>; ++c) columns[c] = tile[r][c] > columns[c] ? tile[r][c] : columns[c];
  }
}

// The same of the pairs of different classes.
template <class T>
void raise_largest_other(const T (&tile)[tile_rows][tile_columns<T>], Classes classes, int64_t i, Classes key_classes,
                         int64_t j, T* rows, T* columns) {
  T others[tile_rows][tile_columns<T>];
  int32_t column_classes[tile_columns<T>];
  for (int c = 0; c < tile_columns<T>; ++c) column_classes[c] = key_classes.at(j + c);
  for (int r = 0; r < tile_rows; ++r) {
    const int32_t row_class = classes.at(i + r);
#pragma omp simd
    for (int c = 0; c < tile_columns<T>; ++c) {
      others[r][c] = column_classes[c] == row_class ? -static_cast<T>(INFINITY) : tile[r][c];
    }
  }
  raise_largest<T>(others, rows, columns);
}

// Adds exp(logit - shift) of one tile of similarities to the sums of its rows, and of its columns where `column_sums`
// are given. The constant shift is the scale: logits of similarities up to 1.
template <class T>
void add_shifted(T (&tile)[tile_rows][tile_columns<T>], T scale, NtXentSum<T>* row_sums, NtXentSum<T>* column_sums) {
  T columns[tile_columns<T>] = {};
  for (int r = 0; r < tile_rows; ++r) {
    T* const row = tile[r];
#pragma omp simd
    for (int c = 0; c < tile_columns<T>; ++c) row[c] = nt_xent_exp(row[c] * scale - scale);
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int c = 0; c < tile_columns<T>; ++c) total += row[c];
    row_sums[r].sum += total;
#pragma omp simd
    for (int c = 0; c < tile_columns<T>; ++c) columns[c] += row[c];
  }
  if (column_sums == nullptr) return;
  for (int c = 0; c < tile_columns<T>; ++c) column_sums[c].sum += columns[c];
}

// The same relative to running maxima, which grow as larger logits come by.
template <class T>
void raise(NtXentSum<T>& sum, T maximum) {
  if (!(maximum > sum.maximum)) return;
  sum.sum *= nt_xent_exp(sum.maximum - maximum);
  sum.maximum = maximum;
}

template <class T>
void add_running(T (&logits)[tile_rows][tile_columns<T>], NtXentSum<T>* row_sums, NtXentSum<T>* column_sums) {
  for (int r = 0; r < tile_rows; ++r) {
    T maximum = logits[r][0];
    for (int c = 1; c < tile_columns<T>; ++c) maximum = logits[r][c] > maximum ? logits[r][c] : maximum;
    raise(row_sums[r], maximum);
    const T shift = row_sums[r].maximum;
    T total = 0;
#pragma omp simd reduction(+ : total)
    for (int c = 0; c < tile_columns<T>; ++c) total += nt_xent_exp(logits[r][c] - shift);
    row_sums[r].sum += total;
  }
  if (column_sums == nullptr) return;
  for (int c = 0; c < tile_columns<T>; ++c) {
    T maximum = logits[0][c];
    for (int r = 1; r < tile_rows; ++r) maximum = logits[r][c] > maximum ? logits[r][c] : maximum;
    raise(column_sums[c], maximum);
    for (int r = 0; r < tile_rows; ++r) column_sums[c].sum += nt_xent_exp(logits[r][c] - column_sums[c].maximum);
  }
}

}  // namespace
}  // namespace sslfast
