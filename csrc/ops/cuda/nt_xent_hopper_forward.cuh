// nt_xent_forward on Hopper. A block owns 128 queries, which stay in shared memory, and walks over its share of the
// keys in tiles of 128; each of its two warp groups multiplies 64 queries with a tile, 64 numbers of depth at a time,
// and exponentiates the products in registers. Totals go to part[share][row]; the portable path's last kernel merges
// them. Where queries are their own keys, nt_xent_hopper_mirrored.cuh computes each pair once.
#pragma once

#include "csrc/ops/cuda/nt_xent_hopper.cuh"
#include "csrc/ops/cuda/nt_xent_hopper_mirrored.cuh"
#include "csrc/ops/cuda/nt_xent_totals.cuh"

#if defined(SSLFAST_SM90A)
namespace sslfast {
namespace {

constexpr int forward_stages = 6;  // of one chunk of a tile of keys

// Of the compiler's 96 (five warp groups) and 168 (three) for each thread, with what the one that copies gives back.
constexpr int forward_registers(int consumers) { return consumers == 4 ? 112 : 240; }

template <class T>
struct HopperTask {
  Tiles<T> queries;
  Tiles<T> keys;
  Exclusions excluded;
  Parts parts;
  Classes classes;
  int share;     // tiles of keys of a block
  float factor;  // logit in base 2 = similarity as computed * factor
  float shift;
};

// grid: tiles of queries, shares of the keys
template <class T, bool running, bool by_class, int consumers>
__global__ void __launch_bounds__(hopper_threads(consumers), 1) nt_xent_hopper_forward_kernel(HopperTask<T> task) {
#if SSLFAST_HOPPER_CODE
  SSLFAST_DYNAMIC_SHARED(unsigned char, shared);
  unsigned char* const rows = aligned_shared(shared);
  unsigned char* const stages = rows + consumers / 2 * task.queries.chunks * chunk_bytes;
  auto& ring = *reinterpret_cast<Ring<forward_stages>*>(stages + forward_stages * chunk_bytes);
  ring.open(consumers);
  const int row_begin = static_cast<int>(blockIdx.x) * consumers * group_rows;
  const int first = static_cast<int>(blockIdx.y) * task.share;
  const int last = min(first + task.share, (task.keys.count + tile_rows - 1) / tile_rows);
  const int chunks = task.keys.chunks;
  Slot<forward_stages> slot;

  if (threadIdx.x >= consumers * warpgroup) {
    release_registers<feeder_registers>();
    if (threadIdx.x != consumers * warpgroup) return;
    feed_chunks(task.queries, row_begin, consumers / 2, task.keys, first, last, rows, stages, ring);
    return;
  }

  claim_registers<forward_registers(consumers)>();
  const int row = row_begin + static_cast<int>(threadIdx.x) / 32 * 16;  // first of the warp's 16
  const uint64_t own = own_rows(rows, chunks);
  const uint64_t staged = matrix_descriptor(shared_address(stages), atom_bytes, 0);
  RowTotals<running, by_class, 1> totals;
  totals.clear();
  mbarrier_wait(ring.rows, 0);
  for (int tile = first; tile < last; ++tile) {
    const int column = tile * tile_rows;
    uint32_t keep[2][1];
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      similarities_that_count<1, 8>(task.excluded, row, task.queries.count, column + 64 * p, task.keys.count, keep[p]);
    }
    WarpgroupSums<2> value;
    multiply_chunks<T>(own, staged, chunks, ring, slot, value);
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      mask(keep[p], value[p]);
      if constexpr (by_class) {
        raise_largest_other(value[p], task.classes, row, task.queries.count, column + 64 * p, task.keys.count,
                            totals.largest_other);
      }
      add_tile(value[p], task.factor, task.shift, task.parts.largest != nullptr, totals);
    }
  }

  merge_lanes(totals);
  if (threadIdx.x % 4 != 0) return;
  const int64_t target = blockIdx.y * task.parts.stride + row + threadIdx.x % 32 / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    task.parts.sum[target + 8 * h] = totals.sum[0][h];
    if (running) task.parts.maximum[target + 8 * h] = totals.maximum[0][h];
    if (task.parts.largest != nullptr) task.parts.largest[target + 8 * h] = totals.largest[0][h];
    if (by_class) task.parts.largest_other[target + 8 * h] = totals.largest_other[0][h];
  }
#endif
}

template <class In, bool running, bool by_class, int consumers>
void hopper_forward(const NtXentForwardArgs<In>& args, CudaContext& context) {
  using T = typename Device<In>::Operand;
  constexpr int rows = consumers * group_rows;
  const int chunks = static_cast<int>(blocks(args.depth, chunk_width));
  HopperTask<T> task{};
  task.queries = tiles(args.queries, args.rows, args.depth, chunks, rows, context);
  task.excluded = exclusions(args.excluded, args.rows, args.exclusions, args.columns, context);
  task.factor = static_cast<float>(log2_e / args.temperature) / (Device<In>::scale * Device<In>::scale);
  task.shift = running ? 0.0f : static_cast<float>(log2_e / args.temperature);
  const int row_blocks = task.queries.padded / rows;
  const int column_tiles = static_cast<int>(blocks(args.columns, tile_rows));
  const Shares shares = shares_of(row_blocks, column_tiles, context.multiprocessors());
  if constexpr (!running && !by_class) {
    const Circle circle = circle_of(row_blocks, rows, context.multiprocessors());
    if (args.keys == nullptr && args.largest == nullptr && circle.shares.cost < shares.cost) {
      return hopper_mirrored<consumers>(args, task.queries, task.excluded, circle, task.factor, task.shift, context);
    }
  }
  task.keys =
      args.keys == nullptr ? task.queries : tiles(args.keys, args.columns, args.depth, chunks, tile_rows, context);
  task.share = shares.tiles;
  task.parts = parts_of(args, running, shares.count, task.queries.padded, context);
  task.classes = classes_of(args);
  const int shared_bytes =
      atom_bytes + (consumers / 2 * chunks + forward_stages) * chunk_bytes + ring_bytes<forward_stages>;
  launch(nt_xent_hopper_forward_kernel<T, running, by_class, consumers>, dim3(row_blocks, shares.count),
         hopper_threads(consumers), shared_bytes, context, task);
  merge_parts<running>(args, task.parts, shares.count, task.shift, context);
}

// Four warp groups, or two where the rows are too deep for the memory of 256, or the classes take more registers.
template <class In, bool running>
void hopper_forward(const NtXentForwardArgs<In>& args, CudaContext& context) {
  if (args.classes != nullptr) {
    hopper_forward<In, running, true, 2>(args, context);
  } else if (args.depth > 256) {
    hopper_forward<In, running, false, 2>(args, context);
  } else {
    hopper_forward<In, running, false, 4>(args, context);
  }
}

template <class In>
void hopper_forward(const NtXentForwardArgs<In>& args, CudaContext& context) {
  nt_xent_constant_shift(args.temperature) ? hopper_forward<In, false>(args, context)
                                           : hopper_forward<In, true>(args, context);
}

}  // namespace
}  // namespace sslfast
#endif
