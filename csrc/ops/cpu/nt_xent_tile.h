// Operands and products of nt_xent, tile by tile.
#pragma once

#include <cstdint>

#include "csrc/ops/cpu/knn_transpose.h"
#include "csrc/ops/cpu/matrix_tile.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

// How an operand's panels are to be had: not at all, all at once, or each when a walk over blocks comes to it. The last
// takes next to no memory; where each panel is wanted a few times only, that is sooner than fetching fresh memory.
enum class Panels { none, stored, made };

inline Panels panels_for(int64_t blocks_that_read_them) {
  return blocks_that_read_them <= 2 ? Panels::made : Panels::stored;
}

// A (count, depth) matrix in the two forms that the products read.
//   row(i)      row-major; in `wide` form padded with zeros to whole tiles of columns
//   panel(j)    tile_columns rows from row j on, transposed: element (k, c) at k * tile_columns + c, zeros past the end
template <class T>
class Operand {
 public:
  Operand(const T* data, int64_t count, int64_t depth, bool wide, Panels panels)
      : data_(data),
        count_(count),
        depth_(depth),
        stride_(wide ? round_up(depth, tile_columns<T>) : depth),
        stored_(panels == Panels::stored),
        padded_(stride_ == depth ? 0 : count * stride_),
        panels_(stored_ ? round_up(count, tile_columns<T>) * depth : 0),
        rows_(stride_ == depth ? data : padded_.data()) {
    constexpr int64_t width = tile_columns<T>;
    if (!stored_ && stride_ == depth) return;
    parallel_for(round_up(count, width) / width, 4, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p) {
        if (stored_) make_panel(p * width, panels_.data() + p * width * depth);
        if (stride_ == depth) continue;
        for (int64_t i = p * width; i < smaller((p + 1) * width, count); ++i) {
          T* row = padded_.data() + i * stride_;
          for (int64_t k = 0; k < stride_; ++k) row[k] = k < depth ? data[i * depth + k] : T(0);
        }
      }
    });
  }

  int64_t depth() const { return depth_; }
  int64_t stride() const { return stride_; }
  const T* row(int64_t i) const { return rows_ + i * stride_; }

  // Numbers of `room` that panel() needs.
  int64_t room() const { return stored_ ? 0 : tile_columns<T> * depth_; }

  const T* panel(int64_t j, T* room) const {
    if (stored_) return panels_.data() + j * depth_;
    make_panel(j, room);
    return room;
  }

 private:
  void make_panel(int64_t j, T* out) const {
    transpose(data_ + j * depth_, depth_, smaller(tile_columns<T>, count_ - j), depth_, out);
  }

  const T* data_;
  int64_t count_;
  int64_t depth_;
  int64_t stride_;
  bool stored_;
  Scratch<T> padded_;
  Scratch<T> panels_;
  const T* rows_;
};

// Similarities of the rows from `i` on (the last row repeated beyond `row_end`) with a panel.
template <class T>
inline void similarities(const Operand<T>& rows, int64_t i, int64_t row_end, const T* panel,
                         T (&out)[tile_rows][tile_columns<T>]) {
  const T* left[tile_rows];
  for (int r = 0; r < tile_rows; ++r) left[r] = rows.row(smaller(i + r, row_end - 1));
  multiply_tile<T>(left, 1, panel, tile_columns<T>, rows.depth(), out);
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
