// nt_xent_backward for deep rows in 16 bits. The sums of a row do not fit into registers, and computing its
// similarities for each slice of its depth would cost more than writing the weights: for a band of rows, weights go to
// memory once, in 16 bits, and a plain product with the columns follows. The band has at most twice as many rows as the
// depth, so that its weights take no more memory than the columns in float32.
#pragma once

#include <algorithm>

#include "csrc/ops/cuda/nt_xent_walk.cuh"
#include "csrc/ops/cuda/nt_xent_weights.cuh"

namespace sslfast {
namespace {

// Weights of a band of rows, which begins at row `band`, to out (rows, columns), both padded.
template <class T, bool running>
__global__ void __launch_bounds__(block_threads, 2)
    nt_xent_band_kernel(Pairs<T> pairs, Weights weights, int band, T* out) {
  SSLFAST_DYNAMIC_SHARED(WalkBuffers<T>, buffers);
  const Walk<T> walk(pairs);
  const int g = threadIdx.x % 32 / 4;
  const int t = threadIdx.x % 4;
  walk.each(*buffers, [&](const Position& at, PartValues& value) {
    const int row = part_row(walk.first_row + at.row);
    const int column = part_column(walk.first_column + at.column);
    uint32_t keep[part_m];
    weights_that_count<part_m, part_n>(weights, band + row, column, keep);
    weigh<running>(weights, band + row, column, keep, value);
#pragma unroll
    for (int m = 0; m < part_m; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        T* const target = out + static_cast<int64_t>(row + 16 * m + 8 * h + g) * pairs.columns.padded + column + 2 * t;
#pragma unroll
        for (int n = 0; n < part_n; ++n) {
          *reinterpret_cast<uint32_t*>(target + 8 * n) = pack_floats<T>(value[m][n][2 * h], value[m][n][2 * h + 1]);
        }
      }
    }
  });
}

template <class T>
struct ProductBuffers {
  T weights[2][tile][padded_width(chunk)];
  T columns[2][chunk][padded_width(tile)];
};

// shares[share][row] = sum over a share of the columns of weight * column. grid: row tiles, depth tiles, shares
template <class T>
__global__ void __launch_bounds__(block_threads, 2)
    nt_xent_product_kernel(const T* weights, Rows<T> columns, int share_chunks, float* shares) {
  SSLFAST_DYNAMIC_SHARED(ProductBuffers<T>, buffers);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.x) * tile;
  const int depth = static_cast<int>(blockIdx.y) * tile;
  const int first = static_cast<int>(blockIdx.z) * share_chunks;
  const int last = min(first + share_chunks, columns.padded / chunk);
  const auto fetch = [&](int step, int stage) {
    const int64_t column = static_cast<int64_t>(step) * chunk;
    fetch_tile<tile, chunk, block_threads>(&buffers->weights[stage][0][0], weights + row * columns.padded + column,
                                           columns.padded);
    fetch_tile<chunk, tile, block_threads>(&buffers->columns[stage][0][0],
                                           columns.data + column * columns.depth + depth, columns.depth);
    copy_async_commit();
  };
  PartValues sum = {};
  fetch(first, 0);
  for (int step = first; step < last; ++step) {
    const int stage = (step - first) % 2;
    copy_async_wait<0>();
    __syncthreads();  // this stage has arrived, and nobody reads the other one any more
    if (step + 1 < last) fetch(step + 1, 1 - stage);
#pragma unroll
    for (int k = 0; k < chunk; k += 16) {
      uint32_t left[1][part_m][4];
#pragma unroll
      for (int m = 0; m < part_m; ++m) {
        load_matrices(left[0][m], &buffers->weights[stage][warp / 2 * part + 16 * m + lane % 16][k + lane / 16 * 8]);
      }
      add_product(left, &buffers->columns[stage][k][warp % 2 * part], padded_width(tile), sum);
    }
  }
  const int64_t band = static_cast<int64_t>(gridDim.x) * tile;
  float* const target = shares + (blockIdx.z * band + row + warp / 2 * part + lane / 4) * columns.depth + depth +
                        warp % 2 * part + lane % 4 * 2;
#pragma unroll
  for (int m = 0; m < part_m; ++m) {
#pragma unroll
    for (int n = 0; n < part_n; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        *reinterpret_cast<float2*>(target + (16 * m + 8 * h) * columns.depth + 8 * n) =
            make_float2(sum[m][n][2 * h], sum[m][n][2 * h + 1]);
      }
    }
  }
}

// Gradient of the rows, multiplied by `unscale` and divided by the weights' scale.
template <bool running, class T, class Number>
void deep_gradient(const Rows<T>& rows, const Rows<T>& columns, const Weights& weights, int64_t depth, float unscale,
                   const float* scale, Number* gradient, CudaContext& context) {
  constexpr int column_tiles = 8;  // of a block of the band kernel: long enough to hide its beginning and its end
  const int band = std::min<int>(rows.padded, 2 * rows.depth);
  const int chunks = columns.padded / chunk;
  const int tiles = band / tile * (rows.depth / tile);
  const int wanted = std::min<int>(chunks, (2 * context.multiprocessors() + tiles - 1) / tiles);
  const int share_chunks = (chunks + wanted - 1) / wanted;
  const int count = (chunks + share_chunks - 1) / share_chunks;
  T* const weight = scratch<T>(context, static_cast<int64_t>(band) * columns.padded);
  float* const shares = scratch<float>(context, static_cast<int64_t>(count) * band * rows.depth);
  for (int begin = 0; begin < rows.padded; begin += band) {
    Rows<T> part_of_rows = rows;
    part_of_rows.data += static_cast<int64_t>(begin) * rows.depth;
    part_of_rows.padded = std::min(band, rows.padded - begin);
    const Pairs<T> pairs = all_pairs(part_of_rows, columns, 1, 1, column_tiles);
    launch(nt_xent_band_kernel<T, running>, pairs.row_groups * pairs.column_groups, block_threads,
           sizeof(WalkBuffers<T>), context, pairs, weights, begin, weight);
    launch(nt_xent_product_kernel<T>, dim3(part_of_rows.padded / tile, rows.depth / tile, count), block_threads,
           sizeof(ProductBuffers<T>), context, weight, columns, share_chunks, shares);
    launch(nt_xent_gradient_kernel<Number>, std::min(part_of_rows.padded, rows.count - begin), 256, 0, context, shares,
           count, static_cast<int64_t>(part_of_rows.padded) * rows.depth, rows.depth, depth, unscale, scale,
           gradient + begin * depth);
  }
}

}  // namespace
}  // namespace sslfast
