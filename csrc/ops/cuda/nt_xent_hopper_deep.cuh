// nt_xent_backward on Hopper for deep rows, whose gradient does not fit into registers: as on the portable path, for a
// band of rows the weights go to memory once, in 16 bits, and a plain product with the columns follows. They are
// written as tiles, so that the second kernel copies them like an operand. A block of it owns 128 rows and 256 of their
// depth: for each 64 columns 48 KiB, 1024 clocks of products.
#pragma once

#include "csrc/ops/cuda/nt_xent_hopper.cuh"
#include "csrc/ops/cuda/nt_xent_weights.cuh"

#if defined(SSLFAST_SM90A)
namespace sslfast {
namespace {

constexpr int deep_consumers = 2;
constexpr int deep_registers = 240;
constexpr int band_stages = 6;
constexpr int product_stages = 4;
constexpr int product_width = 256;
constexpr int product_columns = 64;
constexpr int product_part_bytes = product_columns * chunk_row_bytes;  // 64 columns, 64 of their depth
constexpr int product_stage_bytes = chunk_bytes + product_width / chunk_width * product_part_bytes;

template <class T>
struct HopperBand {
  Tiles<T> rows;
  Tiles<T> columns;
  Weights weights;
  int begin;  // first row of the band
  int share;  // tiles of columns of a block
  T* out;     // weights, (rows, columns) in tiles
};

// grid: row tiles of the band, shares of the columns
template <class T, bool running>
__global__ void __launch_bounds__(hopper_threads(deep_consumers), 1) nt_xent_hopper_band_kernel(HopperBand<T> band) {
#if SSLFAST_HOPPER_CODE
  SSLFAST_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char* const rows = aligned_shared(shared);
  unsigned char* const stages = rows + band.rows.chunks * chunk_bytes;
  auto& ring = *reinterpret_cast<Ring<band_stages>*>(stages + band_stages * chunk_bytes);
  ring.open(deep_consumers);
  const int row_begin = static_cast<int>(blockIdx.x) * tile_rows;
  const int first = static_cast<int>(blockIdx.y) * band.share;
  const int last = min(first + band.share, band.columns.padded / tile_rows);
  if (threadIdx.x >= deep_consumers * warpgroup) {
    release_registers<feeder_registers>();
    if (threadIdx.x == deep_consumers * warpgroup) {
      feed_chunks(band.rows, row_begin, 1, band.columns, first, last, rows, stages, ring);
    }
    return;
  }

  claim_registers<deep_registers>();
  const int group = threadIdx.x / warpgroup;
  const int in_tile = static_cast<int>(threadIdx.x) / 32 * 16;  // first of the warp's 16 rows
  const int row = band.begin + row_begin + in_tile;
  const int g = threadIdx.x % 32 / 4;
  const int t = threadIdx.x % 4;
  const uint64_t own = matrix_descriptor(shared_address(rows) + group * (chunk_bytes / 2), atom_bytes, 0);
  const uint64_t staged = matrix_descriptor(shared_address(stages), atom_bytes, 0);
  Slot<band_stages> slot;
  mbarrier_wait(ring.rows, 0);
  for (int tile = first; tile < last; ++tile) {
    uint32_t keep[2][1];
#pragma unroll
    for (int p = 0; p < 2; ++p) weights_that_count<1, 8>(band.weights, row, tile * tile_rows + 64 * p, keep[p]);
    WarpgroupSums<2> value;
    multiply_chunks<T>(own, staged, band.rows.chunks, ring, slot, value);
    T* const target =
        band.out + (static_cast<int64_t>(blockIdx.x) * (band.columns.padded / chunk_width) + 2 * tile) * chunk_numbers +
        (in_tile + g) * chunk_width + 2 * t;
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      weigh<running>(band.weights, row, tile * tile_rows + 64 * p, keep[p], value[p]);
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float (&pair)[4] = value[p][0][n];
          *reinterpret_cast<uint32_t*>(target + p * chunk_numbers + 8 * h * chunk_width + (n ^ g) * 8) =
              pack_floats<T>(pair[2 * h], pair[2 * h + 1]);
        }
      }
    }
  }
#endif
}

// shares[share][row] = sum over a share of the columns of weight * column. grid: row tiles, slices of the depth, shares
template <class T>
__global__ void __launch_bounds__(hopper_threads(deep_consumers), 1)
    nt_xent_hopper_product_kernel(Tiles<T> weights, Tiles<T> columns, int share, float* shares) {
#if SSLFAST_HOPPER_CODE
  SSLFAST_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char* const stages = aligned_shared(shared);
  auto& ring = *reinterpret_cast<Ring<product_stages>*>(stages + product_stages * product_stage_bytes);
  ring.open(deep_consumers);
  const int row_begin = static_cast<int>(blockIdx.x) * tile_rows;
  const int depth = columns.chunks * chunk_width;
  const int slice = static_cast<int>(blockIdx.y) * (product_width / chunk_width);  // its first chunk
  const int first = static_cast<int>(blockIdx.z) * share;
  const int last = min(first + share, weights.chunks);
  Slot<product_stages> slot;
  if (threadIdx.x >= deep_consumers * warpgroup) {
    release_registers<feeder_registers>();
    if (threadIdx.x != deep_consumers * warpgroup) return;
    for (int step = first; step < last; ++step) {
      unsigned char* const stage = stages + slot.stage * product_stage_bytes;
      mbarrier_wait(ring.empty[slot.stage], slot.parity ^ 1);
      mbarrier_arrive_expecting(ring.full[slot.stage], product_stage_bytes);
      copy_bulk(stage, weights.chunk(row_begin, step), chunk_bytes, ring.full[slot.stage]);
      for (int part = 0; part < product_width / chunk_width; ++part) {
        copy_bulk(stage + chunk_bytes + part * product_part_bytes, columns.chunk(step * product_columns, slice + part),
                  product_part_bytes, ring.full[slot.stage]);
      }
      slot = slot.next();
    }
    return;
  }

  claim_registers<deep_registers>();
  const int group = threadIdx.x / warpgroup;
  const uint64_t left = matrix_descriptor(shared_address(stages) + group * (chunk_bytes / 2), atom_bytes, 0);
  const uint64_t right = matrix_descriptor(shared_address(stages) + chunk_bytes, atom_bytes, product_part_bytes);
  WarpgroupSums<2> sum[2] = {};
  wgmma_fence(sum);
  int previous = 0;
  for (int step = first; step < last; ++step) {
    mbarrier_wait(ring.full[slot.stage], slot.parity);
    wgmma_fence();
    const int stage = slot.stage * product_stage_bytes;
#pragma unroll
    for (int k = 0; k < product_columns / 16; ++k) {
#pragma unroll
      for (int s = 0; s < 2; ++s) {
        wgmma<T, true>(sum[s], advanced(left, stage + 32 * k),
                       advanced(right, stage + 2 * k * atom_bytes + 2 * s * product_part_bytes), true);
      }
    }
    wgmma_commit();
    if (step > first) {
      wgmma_wait<1>();
      ring.release(previous);
    }
    previous = slot.stage;
    slot = slot.next();
  }
  wgmma_wait<0>(sum);

  const int lane = threadIdx.x % 32;
  const int64_t row = static_cast<int64_t>(blockIdx.z) * weights.padded + row_begin + threadIdx.x / 32 * 16 + lane / 4;
  float* const target = shares + row * depth + slice * chunk_width + lane % 4 * 2;
#pragma unroll
  for (int p = 0; p < 4; ++p) {
#pragma unroll
    for (int n = 0; n < 8; ++n) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float (&pair)[4] = sum[p / 2][p % 2][0][n];
        *reinterpret_cast<float2*>(target + static_cast<int64_t>(8 * h) * depth + 64 * p + 8 * n) =
            make_float2(pair[2 * h], pair[2 * h + 1]);
      }
    }
  }
#endif
}

// Gradient of one side's rows. The weights of a band take at most twice the memory of the columns in float32.
template <bool running, class T, class In>
void hopper_deep_gradient(const Tiles<T>& rows, const Tiles<T>& columns, const Weights& weights,
                          const NtXentBackwardArgs<In>& args, const float* scale, In* gradient, CudaContext& context) {
  using Number = typename Device<In>::Number;
  const int depth = rows.chunks * chunk_width;
  const int column_chunks = columns.padded / chunk_width;
  const int most_rows = std::min(rows.padded, 4 * depth);
  const int multiprocessors = context.multiprocessors();
  T* const weight = scratch<T>(context, static_cast<int64_t>(most_rows) * columns.padded);
  const int slices = depth / product_width;
  const Shares shares = shares_of(most_rows / tile_rows * slices, column_chunks, multiprocessors);
  float* const sums = scratch<float>(context, static_cast<int64_t>(shares.count) * most_rows * depth);
  const float unscale = static_cast<float>(1 / (args.temperature * Device<In>::scale));
  for (int begin = 0; begin < rows.padded; begin += most_rows) {
    HopperBand<T> band{rows, columns, weights, begin, 0, weight};
    band.rows.data += static_cast<int64_t>(begin) * depth;
    band.rows.padded = std::min(most_rows, rows.padded - begin);
    const int row_tiles = band.rows.padded / tile_rows;
    const Shares walks = shares_of(row_tiles, columns.padded / tile_rows, multiprocessors);
    band.share = walks.tiles;
    launch(nt_xent_hopper_band_kernel<T, running>, dim3(row_tiles, walks.count), hopper_threads(deep_consumers),
           atom_bytes + (rows.chunks + band_stages) * chunk_bytes + ring_bytes<band_stages>, context, band);
    const Tiles<T> left{weight, band.rows.padded, band.rows.padded, column_chunks};
    launch(nt_xent_hopper_product_kernel<T>, dim3(row_tiles, slices, shares.count), hopper_threads(deep_consumers),
           atom_bytes + product_stages * product_stage_bytes + ring_bytes<product_stages>, context, left, columns,
           shares.tiles, sums);
    launch(nt_xent_gradient_kernel<Number>, std::min(band.rows.padded, rows.count - begin), 256, 0, context, sums,
           shares.count, static_cast<int64_t>(band.rows.padded) * depth, depth, args.depth, unscale, scale,
           reinterpret_cast<Number*>(gradient) + begin * args.depth);
  }
}

}  // namespace
}  // namespace sslfast
#endif
