// How the work of nt_xent is cut up. The size of the blocks of rows and columns depends on the counts alone, so that
// results do not depend on the number of threads.
#pragma once

#include <cstdint>

#include "csrc/ops/cpu/matrix_tile.h"

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

}  // namespace
}  // namespace sslfast
