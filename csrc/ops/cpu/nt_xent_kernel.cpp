// nt_xent on the CPU. Similarities are computed tile by tile in registers and used while they lie in the first cache.
// Work is cut into blocks of rows and columns whose size depends on the counts alone, and every sum is taken in a fixed
// order, so results do not depend on the number of threads.
#include "csrc/ops/nt_xent.h"

#include "csrc/ops/cpu/nt_xent_tile.h"
#include "csrc/ops/cpu/nt_xent_totals.h"
#include "csrc/stable/isa.h"

namespace sslfast {
namespace {

// Rows of a block: a multiple of every tile size, and at most 64 blocks, which bounds the partial sums by 64 a row.
int64_t block_rows(int64_t count) {
  if (count <= 2048) return 64;
  return 192 * ((count + 192 * 64 - 1) / (192 * 64));
}

int64_t block_count(int64_t count) { return (count + block_rows(count) - 1) / block_rows(count); }

struct Range {
  int64_t begin;
  int64_t end;
};

Range block(int64_t index, int64_t count) {
  return {index * block_rows(count), smaller((index + 1) * block_rows(count), count)};
}

// Columns that are no negatives of a query.
struct Exclusions {
  const int64_t* columns;
  int64_t count;

  // Calls mark(column - begin) for every excluded column of query `row` in [begin, end).
  template <class Mark>
  void each(int64_t row, int64_t begin, int64_t end, const Mark& mark) const {
    for (int64_t e = 0; e < count; ++e) {
      const int64_t column = columns[row * count + e];
      if (column >= begin && column < end) mark(column - begin);
    }
  }
};

// --- forward ---------------------------------------------------------------------------------------------------------

// Totals over one block of queries and keys: of row i at i - rows.begin, of column j at j - columns.begin. Both have
// room for a tile more than the block.
template <class T>
void forward_block(const Operand<T>& queries, const Operand<T>& keys, const Exclusions& excluded, double temperature,
                   Range rows, Range columns, Classes classes, Classes key_classes, Totals<T> row_totals,
                   Totals<T> column_totals) {
  const bool constant = nt_xent_constant_shift(temperature);
  const T scale = static_cast<T>(1 / temperature);
  const T nothing = -static_cast<T>(INFINITY);
  for (int64_t j = columns.begin; j < columns.end; j += tile_columns<T>) {
    const Totals<T> panel = column_totals.at(j - columns.begin);
    for (int64_t i = rows.begin; i < rows.end; i += tile_rows) {
      T tile[tile_rows][tile_columns<T>];
      similarities(queries, i, rows.end, keys, j, tile);
      for (int r = 0; r < tile_rows; ++r) {
        const int64_t valid = i + r < rows.end ? columns.end - j : 0;
        for (int c = 0; c < tile_columns<T>; ++c) tile[r][c] = c < valid ? tile[r][c] : nothing;
        if (valid > 0) excluded.each(i + r, j, j + tile_columns<T>, [&](int64_t c) { tile[r][c] = nothing; });
      }
      const Totals<T> band = row_totals.at(i - rows.begin);
      if (band.largest != nullptr) raise_largest<T>(tile, band.largest, panel.largest);
      if (band.largest_other != nullptr) {
        raise_largest_other<T>(tile, classes, i, key_classes, j, band.largest_other, panel.largest_other);
      }
      if (constant) {
        add_shifted<T>(tile, scale, band.sums, panel.sums);
        continue;
      }
      for (int r = 0; r < tile_rows; ++r) {
        for (int c = 0; c < tile_columns<T>; ++c) tile[r][c] *= scale;
      }
      add_running<T>(tile, band.sums, panel.sums);
    }
  }
}

// Every pair of blocks leaves its totals in partial[other block][row]; they are merged in the blocks' order.
template <class T>
void forward(const NtXentForwardArgs<T>& args) {
  const bool symmetric = args.keys == nullptr;
  const Operand<T> queries(args.queries, args.rows, args.depth, /*wide=*/false, /*panels=*/symmetric);
  const Operand<T> given(args.keys, symmetric ? 0 : args.columns, args.depth, /*wide=*/false, /*panels=*/true);
  const Operand<T>& keys = symmetric ? queries : given;
  const Exclusions excluded{args.excluded, args.exclusions};
  const int64_t row_blocks = block_count(args.rows);
  const int64_t column_blocks = block_count(args.columns);
  const T start =
      nt_xent_constant_shift(args.temperature) ? static_cast<T>(1 / args.temperature) : nt_xent_no_maximum<T>();
  // A block's rows are followed by room for the rows and columns that round it up to whole tiles.
  const int64_t edge = block_rows(args.rows) + tile_columns<T> + tile_rows;
  const Scratch<NtXentSum<T>> partial(row_blocks * column_blocks * edge);
  const Scratch<T> partial_largest(args.largest == nullptr ? 0 : row_blocks * column_blocks * edge);
  const Scratch<T> partial_other(args.largest_other == nullptr ? 0 : row_blocks * column_blocks * edge);
  const Totals<T> all{partial.data(), args.largest == nullptr ? nullptr : partial_largest.data(),
                      args.largest_other == nullptr ? nullptr : partial_other.data()};
  const Classes classes{args.classes, args.rows};
  const Classes key_classes = symmetric ? classes : Classes{args.key_classes, args.columns};
  const auto totals = [&](int64_t row_block, int64_t column_block) {
    return all.at((row_block * column_blocks + column_block) * edge);
  };
  const auto clear = [&](Totals<T> cleared) {
    for (int64_t i = 0; i < edge && cleared.sums != nullptr; ++i) cleared.sums[i] = {start, 0};
    for (int64_t i = 0; i < edge && cleared.largest != nullptr; ++i) {
      cleared.largest[i] = -static_cast<T>(INFINITY);
    }
    for (int64_t i = 0; i < edge && cleared.largest_other != nullptr; ++i) {
      cleared.largest_other[i] = -static_cast<T>(INFINITY);
    }
  };

  parallel_for(row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row_block = task / column_blocks;
      const int64_t column_block = task % column_blocks;
      // Of a symmetric pair the checkerboard picks one, so that threads get equal work.
      const bool mirrored = symmetric && row_block != column_block;
      if (mirrored && (row_block < column_block) == ((row_block + column_block) % 2 == 1)) continue;
      const Totals<T> row_totals = totals(row_block, column_block);
      const Totals<T> column_totals = mirrored ? totals(column_block, row_block) : Totals<T>{};
      clear(row_totals);
      clear(column_totals);
      forward_block(queries, keys, excluded, args.temperature, block(row_block, args.rows),
                    block(column_block, args.columns), classes, key_classes, row_totals, column_totals);
    }
  });

  parallel_for(args.rows, 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row_block = i / block_rows(args.rows);
      const int64_t place = i % block_rows(args.rows);
      NtXentSum<T> total{start, 0};
      T largest = -static_cast<T>(INFINITY);
      T largest_other = -static_cast<T>(INFINITY);
      for (int64_t b = 0; b < column_blocks; ++b) {
        const Totals<T> part = totals(row_block, b).at(place);
        total = nt_xent_merge(total, *part.sums);
        if (part.largest != nullptr && *part.largest > largest) largest = *part.largest;
        if (part.largest_other != nullptr && *part.largest_other > largest_other) largest_other = *part.largest_other;
      }
      args.lse[i] = nt_xent_value(total);
      if (args.largest != nullptr) args.largest[i] = largest;
      if (args.largest_other != nullptr) args.largest_other[i] = largest_other;
    }
  });
}

// --- backward --------------------------------------------------------------------------------------------------------

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
  for (int64_t j = column_range.begin; j < column_range.end; j += width) {
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
        similarities(rows.operand, first + i, row_range.end, columns.operand, j, tile);
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

template <class T>
void backward(const NtXentBackwardArgs<T>& args) {
  const Exclusions excluded{args.excluded, args.exclusions};
  const bool symmetric = args.keys == nullptr;
  const Scratch<T> shift(args.rows);
  for (int64_t i = 0; i < args.rows; ++i) shift.data()[i] = nt_xent_backward_shift(args.lse[i]);
  const Operand<T> query_rows(args.queries, args.rows, args.depth, /*wide=*/true,
                              /*panels=*/symmetric || args.grad_keys != nullptr);
  const Side<T> queries{query_rows, args.grad_lse, shift.data()};
  if (symmetric) return backward_symmetric(queries, args.rows, excluded, args.temperature, args.grad_queries);
  const Operand<T> key_rows(args.keys, args.columns, args.depth, /*wide=*/true, /*panels=*/true);
  const Side<T> keys{key_rows, nullptr, nullptr};
  backward_side(queries, args.rows, keys, args.columns, excluded, args.temperature, args.grad_queries);
  if (args.grad_keys == nullptr) return;
  backward_side(keys, args.columns, queries, args.rows, excluded, args.temperature, args.grad_keys);
}

// float16 and bfloat16 are widened to float32, which costs little beside the products.
template <class From, class To>
void convert(const From* from, int64_t count, To* to) {
  parallel_for(count, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = static_cast<To>(from[i]);
  });
}

template <class T>
void forward_widened(const NtXentForwardArgs<T>& args) {
  const Scratch<float> queries(args.rows * args.depth);
  const Scratch<float> keys(args.keys == nullptr ? 0 : args.columns * args.depth);
  convert(args.queries, args.rows * args.depth, queries.data());
  if (args.keys != nullptr) convert(args.keys, args.columns * args.depth, keys.data());
  forward<float>({queries.data(), args.keys == nullptr ? nullptr : keys.data(), args.excluded, args.lse, args.largest,
                  args.rows, args.columns, args.depth, args.exclusions, args.temperature, args.tf32, args.classes,
                  args.key_classes, args.largest_other});
}

template <class T>
void backward_widened(const NtXentBackwardArgs<T>& args) {
  const int64_t query_numbers = args.rows * args.depth;
  const int64_t key_numbers = args.keys == nullptr ? 0 : args.columns * args.depth;
  const Scratch<float> queries(query_numbers);
  const Scratch<float> keys(key_numbers);
  const Scratch<float> grad_queries(query_numbers);
  const Scratch<float> grad_keys(args.grad_keys == nullptr ? 0 : key_numbers);
  convert(args.queries, query_numbers, queries.data());
  if (args.keys != nullptr) convert(args.keys, key_numbers, keys.data());
  backward<float>({args.grad_lse, queries.data(), args.keys == nullptr ? nullptr : keys.data(), args.excluded, args.lse,
                   grad_queries.data(), args.grad_keys == nullptr ? nullptr : grad_keys.data(), args.rows, args.columns,
                   args.depth, args.exclusions, args.temperature, args.tf32});
  convert(grad_queries.data(), query_numbers, args.grad_queries);
  if (args.grad_keys != nullptr) convert(grad_keys.data(), key_numbers, args.grad_keys);
}

void forward_float(const NtXentForwardArgs<float>& args) { forward(args); }
void forward_double(const NtXentForwardArgs<double>& args) { forward(args); }
void backward_float(const NtXentBackwardArgs<float>& args) { backward(args); }
void backward_double(const NtXentBackwardArgs<double>& args) { backward(args); }

void forward_half(const NtXentForwardArgs<Half>& args) { forward_widened(args); }
void forward_bfloat16(const NtXentForwardArgs<BFloat16>& args) { forward_widened(args); }
void backward_half(const NtXentBackwardArgs<Half>& args) { backward_widened(args); }
void backward_bfloat16(const NtXentBackwardArgs<BFloat16>& args) { backward_widened(args); }

SSLFAST_CPU_KERNEL(NtXentForwardArgs<Half>, forward_half)
SSLFAST_CPU_KERNEL(NtXentForwardArgs<BFloat16>, forward_bfloat16)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<Half>, backward_half)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<BFloat16>, backward_bfloat16)
SSLFAST_CPU_KERNEL(NtXentForwardArgs<float>, forward_float)
SSLFAST_CPU_KERNEL(NtXentForwardArgs<double>, forward_double)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<float>, backward_float)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<double>, backward_double)

}  // namespace
}  // namespace sslfast
