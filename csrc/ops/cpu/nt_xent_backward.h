// The backward pass of nt_xent on the CPU: tiles of similarities are computed again, and multiplied while they lie in
// the second cache.
#pragma once

#include "csrc/ops/cpu/nt_xent_blocks.h"
#include "csrc/ops/cpu/nt_xent_tile.h"
#include "csrc/ops/nt_xent.h"

namespace sslfast {
namespace {

constexpr int64_t weight_rows = 96;  // rows of similarity weights that are held at a time, in the second cache

// Queries or keys. A side that owns losses weighs the similarity s of its row i by factor * grad * exp(s - shift).
template <class T>
struct Side {
  const Operand<T>& operand;
  const T* grad;  // null: owns no losses
  const T* shift;
};

// Adds one block's part of the gradient: to grad_rows (all rows of `rows`), and to grad_columns where given.
// The exclusions belong to the side that owns losses; where both do, they are symmetric.
template <class T>
void backward_block(const Side<T>& rows, const Side<T>& columns, const Exclusions& excluded, double temperature,
                    Range row_range, Range column_range, T* grad_rows, T* grad_columns) {
  constexpr int64_t width = tile_columns<T>;
  const T scale = static_cast<T>(1 / temperature);
  const int64_t depth = rows.operand.depth();
  alignas(64) T weights[weight_rows + tile_rows][width];
  const Scratch<T> room(columns.operand.room());
  for (int64_t j = column_range.begin; j < column_range.end; j += width) {
    const T* const panel = columns.operand.panel(j, room.data());
    const int64_t valid = smaller(width, column_range.end - j);
    T column_grad[width] = {};
    T column_shift[width] = {};
    for (int64_t c = 0; c < valid && columns.grad != nullptr; ++c) {
      column_grad[c] = columns.grad[j + c] * scale;
      column_shift[c] = columns.shift[j + c];
    }
    for (int64_t first = row_range.begin; first < row_range.end; first += weight_rows) {
      const int64_t height = smaller(weight_rows, row_range.end - first);
      for (int64_t i = 0; i < height; i += tile_rows) {
        T tile[tile_rows][width];
        similarities(rows.operand, first + i, row_range.end, panel, tile);
        for (int64_t r = 0; r < smaller(tile_rows, height - i); ++r) {
          const int64_t row = first + i + r;
          T* const weight = weights[i + r];
          for (int c = 0; c < width; ++c) weight[c] = 0;
          if (rows.grad != nullptr) {
            const T grad = rows.grad[row] * scale;
            const T shift = rows.shift[row];
#pragma omp simd
            for (int c = 0; c < width; ++c) weight[c] += grad * nt_xent_exp(tile[r][c] * scale - shift);
            excluded.each(row, j, j + width, [&](int64_t c) { weight[c] = 0; });
          }
          if (columns.grad != nullptr) {
#pragma omp simd
            for (int c = 0; c < width; ++c) {
              weight[c] += column_grad[c] * nt_xent_exp(tile[r][c] * scale - column_shift[c]);
            }
          }
        }
      }
      if (columns.grad != nullptr) {
        for (int64_t c = 0; c < valid; ++c) {
          excluded.each(j + c, first, first + height, [&](int64_t r) { weights[r][c] = 0; });
        }
      }
      add_product<T>(weights[0], width, 1, height, valid, columns.operand, j, grad_rows + first * depth);
      if (grad_columns != nullptr) {
        add_product<T>(weights[0], 1, width, valid, height, rows.operand, first, grad_columns + j * depth);
      }
    }
  }
}

template <class T>
void zero_rows(T* gradient, Range rows, int64_t depth) {
  for (int64_t i = rows.begin * depth; i < rows.end * depth; ++i) gradient[i] = 0;
}

// Gradient of one side: every block of its rows walks over all blocks of the other side.
template <class T>
void backward_side(const Side<T>& rows, int64_t row_count, const Side<T>& columns, int64_t column_count,
                   const Exclusions& excluded, double temperature, T* gradient) {
  parallel_for(block_count(row_count), 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      zero_rows(gradient, block(b, row_count), rows.operand.depth());
      for (int64_t other = 0; other < block_count(column_count); ++other) {
        backward_block<T>(rows, columns, excluded, temperature, block(b, row_count), block(other, column_count),
                          gradient, nullptr);
      }
    }
  });
}

// Gradient where queries are their own keys: each pair of blocks is computed once and added to the rows of both. Pairs
// meet as in a round-robin tournament, so that no two pairs of a round share a block.
template <class T>
void backward_symmetric(const Side<T>& side, int64_t count, const Exclusions& excluded, double temperature,
                        T* gradient) {
  const int64_t blocks = block_count(count);
  parallel_for(blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      zero_rows(gradient, block(b, count), side.operand.depth());
      backward_block<T>(side, side, excluded, temperature, block(b, count), block(b, count), gradient, nullptr);
    }
  });
  const int64_t circle = blocks % 2 == 0 ? blocks - 1 : blocks;  // the seat beyond the circle is empty for odd numbers
  for (int64_t round = 0; round < circle && blocks > 1; ++round) {
    parallel_for((circle + 1) / 2, 1, [&](int64_t begin, int64_t end) {
      for (int64_t k = begin; k < end; ++k) {
        const int64_t first = k == 0 ? circle : (round + k) % circle;
        const int64_t second = (round - k + circle) % circle;
        if (first >= blocks) continue;
        backward_block<T>(side, side, excluded, temperature, block(first, count), block(second, count), gradient,
                          gradient);
      }
    });
  }
}

// Gradients of both sides: each pair of blocks is computed once and added to the rows of both. In round r block b of
// the shorter side meets block b + r of the longer one, so that no two pairs of a round share a block.
template <class T>
void backward_both(const Side<T>& rows, int64_t row_count, const Side<T>& columns, int64_t column_count,
                   const Exclusions& excluded, double temperature, T* grad_rows, T* grad_columns) {
  const int64_t row_blocks = block_count(row_count);
  const int64_t column_blocks = block_count(column_count);
  const int64_t tasks = smaller(row_blocks, column_blocks);
  const int64_t rounds = row_blocks + column_blocks - tasks;
  zero_rows(grad_rows, {0, row_count}, rows.operand.depth());
  zero_rows(grad_columns, {0, column_count}, rows.operand.depth());
  for (int64_t round = 0; round < rounds; ++round) {
    parallel_for(tasks, 1, [&](int64_t begin, int64_t end) {
      for (int64_t b = begin; b < end; ++b) {
        const int64_t other = (b + round) % rounds;
        const Range row_range = block(row_blocks <= column_blocks ? b : other, row_count);
        const Range column_range = block(row_blocks <= column_blocks ? other : b, column_count);
        backward_block<T>(rows, columns, excluded, temperature, row_range, column_range, grad_rows, grad_columns);
      }
    });
  }
}

// Whether both gradients are to be taken in one walk: it computes half as many similarities, but has no more than the
// shorter side's blocks to divide among threads.
inline bool walks_once(int64_t rows, int64_t columns) {
  return 2 * smaller(block_count(rows), block_count(columns)) >= block_count(rows > columns ? rows : columns);
}

// With `keys_grad` and `keys_lse` keys own losses too, as in `forward`; that takes the gradient by keys.
template <class T>
void backward(const NtXentBackwardArgs<T>& args, const T* keys_grad = nullptr, const T* keys_lse = nullptr) {
  const Exclusions excluded{args.excluded, args.exclusions};
  const bool symmetric = args.keys == nullptr;
  const Scratch<T> shift(args.rows);
  for (int64_t i = 0; i < args.rows; ++i) shift.data()[i] = nt_xent_backward_shift(args.lse[i]);
  const bool by_keys = args.grad_keys != nullptr && !symmetric;
  const Operand<T> query_rows(args.queries, args.rows, args.depth, /*wide=*/true,
                              symmetric ? panels_for(block_count(args.rows))
                                        : (by_keys ? panels_for(block_count(args.columns)) : Panels::none));
  const Side<T> queries{query_rows, args.grad_lse, shift.data()};
  if (symmetric) return backward_symmetric(queries, args.rows, excluded, args.temperature, args.grad_queries);
  const Operand<T> key_rows(args.keys, args.columns, args.depth, /*wide=*/true, panels_for(block_count(args.rows)));
  const Scratch<T> keys_shift(keys_grad == nullptr ? 0 : args.columns);
  for (int64_t j = 0; j < args.columns && keys_grad != nullptr; ++j) {
    keys_shift.data()[j] = nt_xent_backward_shift(keys_lse[j]);
  }
  const Side<T> keys{key_rows, keys_grad, keys_shift.data()};
  if (args.grad_keys != nullptr && (keys_grad != nullptr || walks_once(args.rows, args.columns))) {
    return backward_both(queries, args.rows, keys, args.columns, excluded, args.temperature, args.grad_queries,
                         args.grad_keys);
  }
  backward_side(queries, args.rows, keys, args.columns, excluded, args.temperature, args.grad_queries);
  if (args.grad_keys == nullptr) return;
  backward_side(keys, args.columns, queries, args.rows, excluded, args.temperature, args.grad_keys);
}

}  // namespace
}  // namespace sslfast
