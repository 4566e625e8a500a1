// Similarities of nt_xent in tiles of 128 x 128: a block of four warps, each with 64 x 64 of a tile, walks over a group
// of row tiles and a group of column tiles. Depth comes in chunks of 64; the next chunk is on its way while one is
// multiplied, from tile to tile without a pause.
#pragma once

#include "csrc/ops/cuda/nt_xent_tensor_core.cuh"

namespace sslfast {
namespace {

constexpr int tile = 128;
constexpr int part = 64;  // of a warp
constexpr int chunk = 64;
constexpr int block_threads = 128;
constexpr int part_m = part / 16;
constexpr int part_n = part / 8;

using PartValues = float[part_m][part_n][4];

template <class T>
struct WalkBuffers {
  T rows[2][tile][padded_width(chunk)];
  T columns[2][tile][padded_width(chunk)];
};

// All pairs of two operands; block (row group) * column_groups + (column group) owns those of two groups.
template <class T>
struct Pairs {
  Rows<T> rows;
  Rows<T> columns;
  int products;    // of planes: 1 or 3
  int group_rows;  // tiles of a group
  int group_columns;
  int row_groups;
  int column_groups;
};

// Where a block is: row tile, column tile, step; a step multiplies one chunk of one pair of planes.
struct Position {
  int row;
  int column;
  int step;
};

template <class T>
struct Walk {
  const Pairs<T>& pairs;
  int first_row;
  int rows;
  int first_column;
  int columns;
  int chunks;
  int steps;

  __device__ explicit Walk(const Pairs<T>& given) : pairs(given) {
    first_row = row_group() * pairs.group_rows;
    first_column = column_group() * pairs.group_columns;
    rows = min(pairs.group_rows, pairs.rows.padded / tile - first_row);
    columns = min(pairs.group_columns, pairs.columns.padded / tile - first_column);
    chunks = pairs.rows.depth / chunk;
    steps = chunks * pairs.products;
  }

  __device__ int row_group() const { return static_cast<int>(blockIdx.x) / pairs.column_groups; }
  __device__ int column_group() const { return static_cast<int>(blockIdx.x) % pairs.column_groups; }

  __device__ bool advance(Position& at) const {
    if (++at.step < steps) return true;
    at.step = 0;
    if (++at.column < columns) return true;
    at.column = 0;
    return ++at.row < rows;
  }

  // Where all steps of a row tile fit into the two buffers, its rows are fetched once.
  __device__ int row_buffer(const Position& at, int stage) const { return steps == 1 ? at.row % 2 : stage; }

  // Products of planes: low high, high low, high high. Tensor cores cut off what does not fit into a sum: the small
  // products come first, while it is small.
  __device__ void fetch(const Position& at, int stage, WalkBuffers<T>& buffers) const {
    const int product = pairs.products - 1 - at.step / chunks;
    const int64_t begin = static_cast<int64_t>(at.step % chunks) * chunk;
    if (steps > 2 || at.column == 0) {
      const int64_t row = static_cast<int64_t>(first_row + at.row) * tile;
      fetch_tile<tile, chunk, block_threads>(
          &buffers.rows[row_buffer(at, stage)][0][0],
          pairs.rows.data + (product == 2 ? pairs.rows.plane : 0) + row * pairs.rows.depth + begin, pairs.rows.depth);
    }
    const int64_t column = static_cast<int64_t>(first_column + at.column) * tile;
    fetch_tile<tile, chunk, block_threads>(
        &buffers.columns[stage][0][0],
        pairs.columns.data + (product == 1 ? pairs.columns.plane : 0) + column * pairs.columns.depth + begin,
        pairs.columns.depth);
    copy_async_commit();
  }

  // use(at, value) for every tile, where value are the products of the warp's part of it. All threads reach every use.
  template <class Use>
  __device__ void each(WalkBuffers<T>& buffers, const Use& use) const {
    const int warp = threadIdx.x / 32;
    PartValues value;
    Position next{0, 0, 0};
    fetch(next, 0, buffers);
    bool more = true;
    for (int stage = 0; more; stage = 1 - stage) {
      const Position at = next;
      copy_async_wait<0>();
      __syncthreads();  // this stage has arrived, and nobody reads the other one any more
      more = advance(next);
      if (more) fetch(next, 1 - stage, buffers);
      if (at.step == 0) {
#pragma unroll
        for (int m = 0; m < part_m; ++m) {
#pragma unroll
          for (int n = 0; n < part_n; ++n) {
#pragma unroll
            for (int i = 0; i < 4; ++i) value[m][n][i] = 0;
          }
        }
      }
      multiply<chunk>(&buffers.rows[row_buffer(at, stage)][warp / 2 * part][0],
                      &buffers.columns[stage][warp % 2 * part][0], value);
      if (at.step == steps - 1) use(at, value);
    }
  }
};

// First row and column of the warp's part of a tile.
__device__ int part_row(int row_tile) { return row_tile * tile + static_cast<int>(threadIdx.x) / 64 * part; }
__device__ int part_column(int column_tile) {
  return column_tile * tile + static_cast<int>(threadIdx.x) / 32 % 2 * part;
}

// Groups of at most `row_tiles` by `column_tiles` tiles.
template <class T>
Pairs<T> all_pairs(const Rows<T>& rows, const Rows<T>& columns, int products, int row_tiles, int column_tiles) {
  return {rows,
          columns,
          products,
          row_tiles,
          column_tiles,
          static_cast<int>(blocks(rows.padded, row_tiles * tile)),
          static_cast<int>(blocks(columns.padded, column_tiles * tile))};
}

}  // namespace
}  // namespace sslfast
