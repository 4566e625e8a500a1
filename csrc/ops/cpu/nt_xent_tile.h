// Small matrix products on registers, for every instruction set: gcc's vector types keep the sums of a tile in
// registers. Everything is local to the including file, because that file is compiled once per instruction set.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "csrc/stable/check.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int tile_vectors = 4;  // 6 x 4 sums, 4 of b and 1 of a: 29 of 32 registers
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int tile_vectors = 2;  // 6 x 2 sums, 2 of b and 1 of a: 15 of 16 registers
#else
constexpr int vector_bytes = 16;
constexpr int tile_vectors = 2;
#endif

constexpr int tile_rows = 6;
template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int tile_columns = tile_vectors * lanes<T>;

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
  typedef T unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
};

inline int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Uninitialised memory of the kernel's own.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(std::aligned_alloc(64, round_up(count * static_cast<int64_t>(sizeof(T)) + 1, 64)))) {
    check(data_ != nullptr, "nt_xent: out of memory; use a smaller batch");
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

// out[i][c] = sum over k < depth of a[i][k * a_step] * b[k * b_step + c], for the rows and columns of one tile.
// Not inlined: the sums of a tile leave no registers for anything else.
template <class T>
[[gnu::noinline]] void multiply_tile(const T* const (&a)[tile_rows], int64_t a_step, const T* b, int64_t b_step,
                                     int64_t depth, T (&out)[tile_rows][tile_columns<T>]) {
  using Vector = typename VectorOf<T>::type;
  using Unaligned = typename VectorOf<T>::unaligned;
  Vector sum[tile_rows][tile_vectors] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Vector right[tile_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) {
      right[v] = *reinterpret_cast<const Unaligned*>(b + k * b_step + v * lanes<T>);
    }
#pragma GCC unroll 6
    for (int i = 0; i < tile_rows; ++i) {
      const T left = a[i][k * a_step];
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) sum[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < tile_rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) *reinterpret_cast<Unaligned*>(&out[i][v * lanes<T>]) = sum[i][v];
  }
}

// A (count, depth) matrix in the two forms that the products read.
//   row(i)      row-major; in `wide` form padded with zeros to whole tiles of columns
//   panel(j)    with `panels`: tile_columns rows from row j on, transposed: element (k, c) at k * tile_columns + c,
//               zeros past the end
template <class T>
class Operand {
 public:
  Operand(const T* data, int64_t count, int64_t depth, bool wide, bool panels)
      : depth_(depth),
        stride_(wide ? round_up(depth, tile_columns<T>) : depth),
        padded_(stride_ == depth ? 0 : count * stride_),
        panels_(panels ? round_up(count, tile_columns<T>) * depth : 0),
        rows_(stride_ == depth ? data : padded_.data()) {
    constexpr int64_t width = tile_columns<T>;
    parallel_for(round_up(count, width) / width, 4, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        T* panel = panels_.data() + p * width * depth;
        const int64_t valid = smaller(width, count - p * width);
        for (int64_t c = 0; c < width && panels; ++c) {
          const T* row = data + (p * width + c) * depth;
          for (int64_t k = 0; k < depth; ++k) panel[k * width + c] = c < valid ? row[k] : T(0);
        }
        if (stride_ == depth) continue;
        for (int64_t i = p * width; i < p * width + valid; ++i) {
          T* row = padded_.data() + i * stride_;
          for (int64_t k = 0; k < stride_; ++k) row[k] = k < depth ? data[i * depth + k] : T(0);
        }
      }
    });
  }

  int64_t depth() const { return depth_; }
  int64_t stride() const { return stride_; }
  const T* row(int64_t i) const { return rows_ + i * stride_; }
  const T* panel(int64_t j) const { return panels_.data() + j * depth_; }

 private:
  int64_t depth_;
  int64_t stride_;
  Scratch<T> padded_;
  Scratch<T> panels_;
  const T* rows_;
};

// Similarities of the rows from `i` on (the last row repeated beyond `row_end`) with the panel that begins at row `j`.
template <class T>
inline void similarities(const Operand<T>& rows, int64_t i, int64_t row_end, const Operand<T>& columns, int64_t j,
                         T (&out)[tile_rows][tile_columns<T>]) {
  const T* left[tile_rows];
  for (int r = 0; r < tile_rows; ++r) left[r] = rows.row(smaller(i + r, row_end - 1));
  multiply_tile<T>(left, 1, columns.panel(j), tile_columns<T>, rows.depth(), out);
}

// gradient (height, depth) += weights * right, where weight (i, k) lies at weights[i * row_step + k * inner_step] and
// right are `inner` rows of a wide operand.
template <class T>
inline void add_product(const T* weights, int64_t row_step, int64_t inner_step, int64_t height, int64_t inner,
                        const Operand<T>& right, int64_t right_row, T* gradient) {
  const int64_t depth = right.depth();
  for (int64_t column = 0; column < depth; column += tile_columns<T>) {
    const int64_t width = smaller(tile_columns<T>, depth - column);
    for (int64_t i = 0; i < height; i += tile_rows) {
      const int64_t count = smaller(tile_rows, height - i);
      const T* left[tile_rows];
      for (int r = 0; r < tile_rows; ++r) left[r] = weights + smaller(i + r, height - 1) * row_step;
      T out[tile_rows][tile_columns<T>];
      multiply_tile<T>(left, inner_step, right.row(right_row) + column, right.stride(), inner, out);
      for (int64_t r = 0; r < count; ++r) {
        T* target = gradient + (i + r) * depth + column;
        for (int64_t c = 0; c < width; ++c) target[c] += out[r][c];
      }
    }
  }
}

}  // namespace
}  // namespace sslfast
