// nt_xent_backward on Hopper. A block owns 128 rows and their gradient, 64 rows and registers for it in each warp
// group, and walks over its share of the columns. While a warp group turns the similarities of one tile into weights,
// its tensor cores multiply the weights of the tile before (in registers, 16 bits) with that tile's columns, which they
// read a second time from the same shared memory, transposed. Shares go to shares[share][row], as on the portable path.
#pragma once

#include "csrc/ops/cuda/nt_xent_hopper.cuh"
#include "csrc/ops/cuda/nt_xent_hopper_deep.cuh"
#include "csrc/ops/cuda/nt_xent_weights.cuh"

#if defined(SSLFAST_SM90A)
namespace sslfast {
namespace {

constexpr int backward_consumers = 2;    // of 64 rows: 128, a tile
constexpr int backward_registers = 240;  // of 168 for each of 384 threads
constexpr int backward_stages = 4;

// Registers set the tile: of 240 a thread, a gradient of 128 takes 64, similarities of 128 columns 64, their
// weights 32.
template <int width, bool running>
struct HopperShape {
  static constexpr int columns = width > 128 || running ? 64 : 128;
  static constexpr int parts = columns / 64;
  static constexpr int chunks = width / chunk_width;
  static constexpr int column_chunk_bytes = columns * chunk_row_bytes;
  static constexpr int stage_bytes = chunks * column_chunk_bytes;
  static constexpr int sum_parts = width == 64 ? 1 : 2;  // of one product of the gradient
  static constexpr int sums = width / (64 * sum_parts);
};

template <class T>
struct HopperSide {
  Tiles<T> rows;
  Tiles<T> columns;
  Weights weights;
  int share;      // column tiles of a block
  float* shares;  // (shares, padded rows, width)
};

#if SSLFAST_HOPPER_CODE
// The one thread that copies.
template <class T, class Shape>
__device__ void feed(const HopperSide<T>& side, int row_begin, int first, int last, unsigned char* rows,
                     unsigned char* stages, Ring<backward_stages>& ring) {
  mbarrier_arrive_expecting(ring.rows, Shape::chunks * chunk_bytes);
  copy_bulk(rows, side.rows.chunk(row_begin, 0), Shape::chunks * chunk_bytes, ring.rows);
  Slot<backward_stages> slot;
  for (int tile = first; tile < last; ++tile) {
    mbarrier_wait(ring.empty[slot.stage], slot.parity ^ 1);
    mbarrier_arrive_expecting(ring.full[slot.stage], Shape::stage_bytes);
    for (int chunk = 0; chunk < Shape::chunks; ++chunk) {
      copy_bulk(stages + slot.stage * Shape::stage_bytes + chunk * Shape::column_chunk_bytes,
                side.columns.chunk(tile * Shape::columns, chunk), Shape::column_chunk_bytes, ring.full[slot.stage]);
    }
    slot = slot.next();
  }
}
#endif

// grid: row tiles, shares of the columns
template <class T, int width, bool running>
__global__ void __launch_bounds__(hopper_threads(backward_consumers), 1)
    nt_xent_hopper_backward_kernel(HopperSide<T> side) {
#if SSLFAST_HOPPER_CODE
  using Shape = HopperShape<width, running>;
  SSLFAST_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char* const rows = aligned_shared(shared);
  unsigned char* const stages = rows + Shape::chunks * chunk_bytes;
  auto& ring = *reinterpret_cast<Ring<backward_stages>*>(stages + backward_stages * Shape::stage_bytes);
  ring.open(backward_consumers);
  const int row_begin = static_cast<int>(blockIdx.x) * tile_rows;
  const int first = static_cast<int>(blockIdx.y) * side.share;
  const int last = min(first + side.share, side.columns.padded / Shape::columns);
  if (threadIdx.x >= backward_consumers * warpgroup) {
    release_registers<feeder_registers>();
    if (threadIdx.x == backward_consumers * warpgroup) feed<T, Shape>(side, row_begin, first, last, rows, stages, ring);
    return;
  }

  claim_registers<backward_registers>();
  const int group = threadIdx.x / warpgroup;
  const int row = row_begin + static_cast<int>(threadIdx.x) / 32 * 16;  // first of the warp's 16
  const uint64_t own = matrix_descriptor(shared_address(rows) + group * (chunk_bytes / 2), atom_bytes, 0);
  const uint64_t staged = matrix_descriptor(shared_address(stages), atom_bytes, Shape::column_chunk_bytes);
  WarpgroupSums<Shape::sum_parts> gradient[Shape::sums] = {};
  WarpgroupSums<Shape::parts> value;
  uint32_t left[Shape::parts][4][1][4];
  uint32_t keep[Shape::parts][1];

  const auto begin_similarities = [&](const Slot<backward_stages>& slot) {
    mbarrier_wait(ring.full[slot.stage], slot.parity);
    wgmma_fence(value);
#pragma unroll
    for (int chunk = 0; chunk < Shape::chunks; ++chunk) {
#pragma unroll
      for (int k = 0; k < chunk_row_bytes; k += 32) {
        wgmma<T>(value, advanced(own, chunk * chunk_bytes + k),
                 advanced(staged, slot.stage * Shape::stage_bytes + chunk * Shape::column_chunk_bytes + k),
                 chunk > 0 || k > 0);
      }
    }
    wgmma_commit();
  };
  const auto begin_gradient = [&](const Slot<backward_stages>& slot) {
    wgmma_fence(left);
#pragma unroll
    for (int p = 0; p < Shape::parts; ++p) {
#pragma unroll
      for (int slab = 0; slab < 4; ++slab) {
#pragma unroll
        for (int s = 0; s < Shape::sums; ++s) {
          wgmma_transposed<T>(gradient[s], left[p][slab][0],
                              advanced(staged, slot.stage * Shape::stage_bytes + (4 * p + slab) * 2 * atom_bytes +
                                                   s * Shape::sum_parts * Shape::column_chunk_bytes));
        }
      }
    }
    wgmma_commit();
  };
  const auto count = [&](int tile) {
#pragma unroll
    for (int p = 0; p < Shape::parts; ++p) {
      weights_that_count<1, 8>(side.weights, row, tile * Shape::columns + 64 * p, keep[p]);
    }
  };
  const auto weigh_tile = [&](int tile) {
#pragma unroll
    for (int p = 0; p < Shape::parts; ++p) {
      weigh<running>(side.weights, row, tile * Shape::columns + 64 * p, keep[p], value[p]);
    }
  };
  const auto pack = [&] {
#pragma unroll
    for (int p = 0; p < Shape::parts; ++p) pack_weights<T>(value[p], false, left[p]);
  };

  Slot<backward_stages> slot;
  count(first);
  mbarrier_wait(ring.rows, 0);
  wgmma_fence(gradient);
  begin_similarities(slot);
  wgmma_wait<0>(value);
  weigh_tile(first);
  pack();
  for (int tile = first + 1; tile < last; ++tile) {
    const Slot<backward_stages> next = slot.next();
    count(tile);
    begin_similarities(next);
    begin_gradient(slot);
    wgmma_wait<1>(value);
    weigh_tile(tile);
    wgmma_wait<0>();
    ring.release(slot.stage);
    pack();
    slot = next;
  }
  begin_gradient(slot);
  wgmma_wait<0>(gradient);

  const int lane = threadIdx.x % 32;
  const int64_t target_row = static_cast<int64_t>(blockIdx.y) * side.rows.padded + row + lane / 4;
  float* const target = side.shares + target_row * width + lane % 4 * 2;
#pragma unroll
  for (int s = 0; s < Shape::sums; ++s) {
#pragma unroll
    for (int p = 0; p < Shape::sum_parts; ++p) {
#pragma unroll
      for (int n = 0; n < 8; ++n) {
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          const float (&pair)[4] = gradient[s][p][0][n];
          *reinterpret_cast<float2*>(target + 8 * h * width + (s * Shape::sum_parts + p) * 64 + 8 * n) =
              make_float2(pair[2 * h], pair[2 * h + 1]);
        }
      }
    }
  }
#endif
}

template <class T, int width, bool running>
int launch_hopper_backward(HopperSide<T>& side, CudaContext& context) {
  using Shape = HopperShape<width, running>;
  const int row_tiles = side.rows.padded / tile_rows;
  const Shares shares = shares_of(row_tiles, side.columns.padded / Shape::columns, context.multiprocessors());
  side.share = shares.tiles;
  side.shares = scratch<float>(context, static_cast<int64_t>(shares.count) * side.rows.padded * width);
  const int shared_bytes =
      atom_bytes + Shape::chunks * chunk_bytes + backward_stages * Shape::stage_bytes + ring_bytes<backward_stages>;
  launch(nt_xent_hopper_backward_kernel<T, width, running>, dim3(row_tiles, shares.count),
         hopper_threads(backward_consumers), shared_bytes, context, side);
  return shares.count;
}

// Depths of 64, 128 and 256; above, of whole products.
inline int hopper_backward_chunks(int64_t depth) {
  return depth <= 64 ? 1 : depth <= 128 ? 2 : static_cast<int>(padded_to(depth, product_width)) / chunk_width;
}

// Gradient of one side's rows.
template <bool running, class T, class In>
void hopper_gradient(const Tiles<T>& rows, const Tiles<T>& columns, const Weights& weights,
                     const NtXentBackwardArgs<In>& args, const float* scale, In* gradient, CudaContext& context) {
  using Number = typename Device<In>::Number;
  HopperSide<T> side{rows, columns, weights, 0, nullptr};
  const int width = rows.chunks * chunk_width;
  if (width > product_width) {
    return hopper_deep_gradient<running>(rows, columns, weights, args, scale, gradient, context);
  }
  const int shares = width == 64    ? launch_hopper_backward<T, 64, running>(side, context)
                     : width == 128 ? launch_hopper_backward<T, 128, running>(side, context)
                                    : launch_hopper_backward<T, 256, running>(side, context);
  const float unscale = static_cast<float>(1 / (args.temperature * Device<In>::scale));
  launch(nt_xent_gradient_kernel<Number>, rows.count, std::min(width, 256), 0, context, side.shares, shares,
         static_cast<int64_t>(rows.padded) * width, width, args.depth, unscale, scale,
         reinterpret_cast<Number*>(gradient));
}

}  // namespace
}  // namespace sslfast
#endif
