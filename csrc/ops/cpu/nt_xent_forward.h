// The forward pass of nt_xent on the CPU: totals of tiles of similarities, merged in a fixed order.
#pragma once

#include "csrc/ops/cpu/nt_xent_blocks.h"
#include "csrc/ops/cpu/nt_xent_tile.h"
#include "csrc/ops/cpu/nt_xent_totals.h"
#include "csrc/ops/nt_xent.h"

namespace sslfast {
namespace {

// Totals over one block of queries and keys: of row i at i - rows.begin, of column j at j - columns.begin. Both have
// room for a tile more than the block.
template <class T>
void forward_block(const Operand<T>& queries, const Operand<T>& keys, const Exclusions& excluded, double temperature,
                   Range rows, Range columns, Classes classes, Classes key_classes, Totals<T> row_totals,
                   Totals<T> column_totals) {
  const bool constant = nt_xent_constant_shift(temperature);
  const T scale = static_cast<T>(1 / temperature);
  const T nothing = -static_cast<T>(INFINITY);
  const Scratch<T> room(keys.room());
  for (int64_t j = columns.begin; j < columns.end; j += tile_columns<T>) {
    const T* const key_panel = keys.panel(j, room.data());
    const Totals<T> panel = column_totals.at(j - columns.begin);
    for (int64_t i = rows.begin; i < rows.end; i += tile_rows) {
      T tile[tile_rows][tile_columns<T>];
      similarities(queries, i, rows.end, key_panel, tile);
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

// The totals that every pair of blocks leaves: of the rows of block b, from block `other` of what they are compared
// with, at(b, other). They are merged in the blocks' order.
template <class T>
class Partials {
 public:
  // `others` blocks are compared with; no memory is taken unless some total is `wanted`.
  Partials(int64_t count, int64_t others, T start, bool wanted, bool largest, bool largest_other)
      : count_(count),
        others_(others),
        // A block's rows are followed by room for the rows and columns that round it up to whole tiles.
        edge_(block_rows(count) + tile_columns<T> + tile_rows),
        start_(start),
        sums_(wanted ? size() : 0),
        largest_(wanted && largest ? size() : 0),
        largest_other_(wanted && largest_other ? size() : 0),
        all_{wanted ? sums_.data() : nullptr, wanted && largest ? largest_.data() : nullptr,
             wanted && largest_other ? largest_other_.data() : nullptr} {}

  Totals<T> at(int64_t block, int64_t other) const { return all_.at((block * others_ + other) * edge_); }

  Totals<T> cleared(int64_t block, int64_t other) const {
    const Totals<T> totals = at(block, other);
    for (int64_t i = 0; i < edge_ && totals.sums != nullptr; ++i) totals.sums[i] = {start_, 0};
    for (int64_t i = 0; i < edge_ && totals.largest != nullptr; ++i) totals.largest[i] = -static_cast<T>(INFINITY);
    for (int64_t i = 0; i < edge_ && totals.largest_other != nullptr; ++i) {
      totals.largest_other[i] = -static_cast<T>(INFINITY);
    }
    return totals;
  }

  void merge(T* lse, T* all_largest, T* all_largest_other) const {
    parallel_for(count_, 256, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        NtXentSum<T> total{start_, 0};
        T largest = -static_cast<T>(INFINITY);
        T largest_other = -static_cast<T>(INFINITY);
        for (int64_t b = 0; b < others_; ++b) {
          const Totals<T> part = at(i / block_rows(count_), b).at(i % block_rows(count_));
          total = nt_xent_merge(total, *part.sums);
          if (part.largest != nullptr && *part.largest > largest) largest = *part.largest;
          if (part.largest_other != nullptr && *part.largest_other > largest_other) largest_other = *part.largest_other;
        }
        lse[i] = nt_xent_value(total);
        if (all_largest != nullptr) all_largest[i] = largest;
        if (all_largest_other != nullptr) all_largest_other[i] = largest_other;
      }
    });
  }

 private:
  int64_t size() const { return block_count(count_) * others_ * edge_; }

  int64_t count_;
  int64_t others_;
  int64_t edge_;
  T start_;
  Scratch<NtXentSum<T>> sums_;
  Scratch<T> largest_;
  Scratch<T> largest_other_;
  Totals<T> all_;
};

// With `keys_lse` given keys have results too, from the same tiles: those of their similarities to the queries. Then
// column j is excluded for row i where i is for j.
template <class T>
void forward(const NtXentForwardArgs<T>& args, T* keys_lse = nullptr, T* keys_largest = nullptr) {
  const bool symmetric = args.keys == nullptr;
  const Panels panels = panels_for(block_count(args.rows));
  const Operand<T> queries(args.queries, args.rows, args.depth, /*wide=*/false, symmetric ? panels : Panels::none);
  const Operand<T> given(args.keys, symmetric ? 0 : args.columns, args.depth, /*wide=*/false,
                         symmetric ? Panels::none : panels);
  const Operand<T>& keys = symmetric ? queries : given;
  const Exclusions excluded{args.excluded, args.exclusions};
  const int64_t row_blocks = block_count(args.rows);
  const int64_t column_blocks = block_count(args.columns);
  const T start =
      nt_xent_constant_shift(args.temperature) ? static_cast<T>(1 / args.temperature) : nt_xent_no_maximum<T>();
  const Partials<T> of_queries(args.rows, column_blocks, start, true, args.largest != nullptr,
                               args.largest_other != nullptr);
  const Partials<T> of_keys(args.columns, row_blocks, start, keys_lse != nullptr, keys_largest != nullptr, false);
  const Classes classes{args.classes, args.rows};
  const Classes key_classes = symmetric ? classes : Classes{args.key_classes, args.columns};

  parallel_for(row_blocks * column_blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row_block = task / column_blocks;
      const int64_t column_block = task % column_blocks;
      // Of a symmetric pair the checkerboard picks one, so that threads get equal work.
      const bool mirrored = symmetric && row_block != column_block;
      if (mirrored && (row_block < column_block) == ((row_block + column_block) % 2 == 1)) continue;
      const Totals<T> row_totals = of_queries.cleared(row_block, column_block);
      Totals<T> column_totals{};
      if (mirrored) column_totals = of_queries.cleared(column_block, row_block);
      if (keys_lse != nullptr) column_totals = of_keys.cleared(column_block, row_block);
      forward_block(queries, keys, excluded, args.temperature, block(row_block, args.rows),
                    block(column_block, args.columns), classes, key_classes, row_totals, column_totals);
    }
  });
  of_queries.merge(args.lse, args.largest, args.largest_other);
  if (keys_lse != nullptr) of_keys.merge(keys_lse, keys_largest, nullptr);
}

}  // namespace
}  // namespace sslfast
