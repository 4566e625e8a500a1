// nt_xent_forward on Hopper where queries are their own keys: each pair is computed once, and counts for its row and
// for its column. The rows are cut into sectors, at most one a multiprocessor, which stand in a circle. A block owns a
// sector and walks over its share of the sectors up to half the circle further on, tile by tile, for each 256 (deep
// rows: 128) of its rows. So two sectors meet once, and all blocks have equal work; in an even circle the sectors
// opposite each other meet twice, and each sums its own rows only, as it does of its pairs with itself.
//
// Totals of rows go to part[share][row]. The exponentials of a tile also stand for its columns: each warp sums them
// over its 16 rows and leaves 128 sums in one of two slots of shared memory; a warp of its own adds up a slot in the
// warps' order and writes part[shares + distance - 1][column]. No two blocks write the same number, so that the bits do
// not depend on their order.
//
// By the counts of nt_xent_hopper.cuh, for 32 pairs of a scheduler at d = 128: 8 clocks of products, 8 of exponentials,
// 3 instructions as before, and for the columns 2.25 more (half of an addition, 28 / 64 of a shuffle with two
// selections and an addition), shuffles 1.75 clocks: nothing takes longer than before, and there is half as much of it.
#pragma once

#include "csrc/ops/cuda/nt_xent_hopper.cuh"
#include "csrc/ops/cuda/nt_xent_totals.cuh"

#if defined(SSLFAST_SM90A)
namespace sslfast {
namespace {

constexpr int mirrored_stages = 5;
constexpr int sum_slots = 2;
// As forward_registers; the copying warp group needs more, as one of its warps adds up the columns.
constexpr int mirrored_registers(int consumers) { return consumers == 4 ? 112 : 232; }
constexpr int mirrored_feeder_registers(int consumers) { return consumers == 4 ? 32 : 40; }

template <class T>
struct MirroredTask {
  Tiles<T> rows;
  Exclusions excluded;
  Parts parts;
  int sector;  // rows
  int sectors;
  int share;  // distances of a block
  int shares;
  float factor;  // logit in base 2 = similarity as computed * factor
  float shift;
};

#if SSLFAST_HOPPER_CODE
// Of each warp the sums of the columns of one tile.
template <int consumers>
using ColumnSums = float[consumers * warpgroup / 32][tile_rows];

template <int consumers>
struct MirroredRing {
  Ring<mirrored_stages> tiles;
  Mbarrier rows_empty;
  Mbarrier sums_full[sum_slots];
  Mbarrier sums_empty[sum_slots];

  __device__ void open() {
    if (threadIdx.x == 0) {
      mbarrier_init(rows_empty, consumers * warpgroup / 32);
      for (int slot = 0; slot < sum_slots; ++slot) {
        mbarrier_init(sums_full[slot], consumers * warpgroup / 32);
        mbarrier_init(sums_empty[slot], 1);
      }
    }
    tiles.open(consumers);
  }
};

// What a block walks over, the same for the warps that copy, multiply and add up.
template <class T, int consumers>
struct HalfCircle {
  const MirroredTask<T>& task;
  int begin;  // first tile of 128 columns; the last one is followed by the first
  int count;
  int mirrored_begin;  // those that are mirrored, of `count`
  int mirrored_end;

  __device__ explicit HalfCircle(const MirroredTask<T>& given) : task(given) {
    const int own = static_cast<int>(blockIdx.x);
    const int first = static_cast<int>(blockIdx.y) * task.share;
    const int last = min(first + task.share, task.sectors / 2 + 1) - 1;
    begin = tiles_before(wrapped(own + first));
    const int end = tiles_before(wrapped(own + last) + 1);
    count = end > begin ? end - begin : end - begin + task.rows.padded / tile_rows;
    mirrored_begin = first == 0 ? tiles_before(own + 1) - begin : 0;
    mirrored_end = 2 * last == task.sectors ? count - (end - tiles_before(wrapped(own + last))) : count;
  }

  __device__ int wrapped(int sector) const { return sector < task.sectors ? sector : sector - task.sectors; }
  __device__ int tiles_before(int sector) const { return min(sector * task.sector, task.rows.padded) / tile_rows; }

  // use(first row, turn) for every turn of 64 rows a warp group.
  template <class Use>
  __device__ void each_turn(const Use& use) const {
    const int first = static_cast<int>(blockIdx.x) * task.sector;
    const int end = min(first + task.sector, task.rows.padded);
    int turn = 0;
    for (int row = first; row < end; row += consumers * group_rows) use(row, turn++);
  }

  // use(first column, mirrored) for every tile.
  template <class Use>
  __device__ void each_tile(const Use& use) const {
    int tile = begin;
    for (int i = 0; i < count; ++i) {
      use(tile * tile_rows, i >= mirrored_begin && i < mirrored_end);
      tile = tile + 1 < task.rows.padded / tile_rows ? tile + 1 : 0;
    }
  }
};

// Sums of a warp's 16 rows for 64 columns of a tile: those of columns 2 lane and 2 lane + 1.
__device__ inline float2 column_sums(const float (&value)[1][8][4]) {
  float held[16];
#pragma unroll
  for (int n = 0; n < 8; ++n) {
#pragma unroll
    for (int j = 0; j < 2; ++j) held[2 * n + j] = value[0][n][j] + value[0][n][2 + j];
  }
  exchange<8, 16>(held);
  exchange<4, 8>(held);
  exchange<2, 4>(held);
  return make_float2(held[0], held[1]);
}

// The warp that adds up the columns.
template <class T, int consumers>
__device__ void add_columns(const MirroredTask<T>& task, const ColumnSums<consumers>* sums,
                            MirroredRing<consumers>& ring) {
  const HalfCircle<T, consumers> walk{task};
  const int lane = threadIdx.x % 32;
  Slot<sum_slots> slot;
  walk.each_turn([&](int, int turn) {
    walk.each_tile([&](int column, bool mirrored) {
      if (!mirrored) return;
      mbarrier_wait(ring.sums_full[slot.stage], slot.parity);
      float4 total = make_float4(0, 0, 0, 0);
#pragma unroll 2  // few registers
      for (int warp = 0; warp < consumers * warpgroup / 32; ++warp) {
        const float4 part = *reinterpret_cast<const float4*>(&sums[slot.stage][warp][4 * lane]);
        total = make_float4(total.x + part.x, total.y + part.y, total.z + part.z, total.w + part.w);
      }
      __syncwarp();
      if (lane == 0) mbarrier_arrive(ring.sums_empty[slot.stage]);
      slot = slot.next();
      const int ahead = column / task.sector - static_cast<int>(blockIdx.x);
      const int distance = ahead > 0 ? ahead : ahead + task.sectors;
      float4* const target = reinterpret_cast<float4*>(
          task.parts.sum + (task.shares + distance - 1) * task.parts.stride + column + 4 * lane);
      const float4 before = turn > 0 ? *target : make_float4(0, 0, 0, 0);
      *target = make_float4(before.x + total.x, before.y + total.y, before.z + total.z, before.w + total.w);
    });
  });
}
#endif

// grid: sectors, shares of the distances
template <class T, int consumers>
__global__ void __launch_bounds__(hopper_threads(consumers), 1) nt_xent_hopper_mirrored_kernel(MirroredTask<T> task) {
#if SSLFAST_HOPPER_CODE
  SSLFAST_DYNAMIC_SHARED(unsigned char, shared);
  const int chunks = task.rows.chunks;
  unsigned char* const rows = aligned_shared(shared);
  unsigned char* const stages = rows + consumers / 2 * chunks * chunk_bytes;
  auto* const sums = reinterpret_cast<ColumnSums<consumers>*>(stages + mirrored_stages * chunk_bytes);
  auto& ring = *reinterpret_cast<MirroredRing<consumers>*>(sums + sum_slots);
  ring.open();
  const HalfCircle<T, consumers> walk{task};
  Slot<mirrored_stages> slot;

  if (threadIdx.x >= consumers * warpgroup) {
    release_registers<mirrored_feeder_registers(consumers)>();
    if (threadIdx.x == consumers * warpgroup) {
      walk.each_turn([&](int row, int turn) {
        mbarrier_wait(ring.rows_empty, turn % 2 ^ 1);
        feed_rows(task.rows, row, consumers / 2, rows, ring.tiles);
        walk.each_tile([&](int column, bool) { feed_tile(task.rows, column, stages, ring.tiles, slot); });
      });
    }
    if (threadIdx.x / 32 == consumers * warpgroup / 32 + 1) add_columns<T, consumers>(task, sums, ring);
    return;
  }

  claim_registers<mirrored_registers(consumers)>();
  const int lane = threadIdx.x % 32;
  const uint64_t own = own_rows(rows, chunks);
  const uint64_t staged = matrix_descriptor(shared_address(stages), atom_bytes, 0);
  Slot<sum_slots> sum_slot;
  walk.each_turn([&](int first_row, int turn) {
    const int row = first_row + static_cast<int>(threadIdx.x) / 32 * 16;  // first of the warp's 16
    RowTotals<false, false, 1> totals;
    totals.clear();
    mbarrier_wait(ring.tiles.rows, turn % 2);
    walk.each_tile([&](int column, bool mirrored) {
      uint32_t keep[2][1];
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        similarities_that_count<1, 8>(task.excluded, row, task.rows.count, column + 64 * p, task.rows.count, keep[p]);
      }
      WarpgroupSums<2> value;
      multiply_chunks<T>(own, staged, chunks, ring.tiles, slot, value);
      if (mirrored) mbarrier_wait(ring.sums_empty[sum_slot.stage], sum_slot.parity ^ 1);
#pragma unroll
      for (int p = 0; p < 2; ++p) {
        mask(keep[p], value[p]);
        add_tile(value[p], task.factor, task.shift, false, totals);
        if (mirrored) {
          float* const target = &sums[sum_slot.stage][threadIdx.x / 32][64 * p + 2 * lane];
          *reinterpret_cast<float2*>(target) = column_sums(value[p]);
        }
      }
      if (!mirrored) return;
      __syncwarp();
      if (lane == 0) mbarrier_arrive(ring.sums_full[sum_slot.stage]);
      sum_slot = sum_slot.next();
    });
    if (lane == 0) mbarrier_arrive(ring.rows_empty);
    merge_lanes(totals);
    if (lane % 4 == 0) {
      float* const target = task.parts.sum + blockIdx.y * task.parts.stride + row + lane / 4;
      target[0] = totals.sum[0][0];
      target[8] = totals.sum[0][1];
    }
  });
#endif
}

// --- host ------------------------------------------------------------------------------------------------------------

struct Circle {
  int sector;  // rows
  int sectors;
  Shares shares;  // of the distances
};

// `row_blocks` blocks of `rows` rows, in a circle of at most `places` sectors.
inline Circle circle_of(int row_blocks, int rows, int places) {
  const int turns = (row_blocks + places - 1) / places;
  const int sectors = (row_blocks + turns - 1) / turns;
  const int64_t distance_cost = static_cast<int64_t>(turns) * turns * rows / tile_rows;
  return {turns * rows, sectors, shares_of(sectors, sectors / 2 + 1, places, distance_cost)};
}

template <int consumers, class In, class T>
void hopper_mirrored(const NtXentForwardArgs<In>& args, const Tiles<T>& rows, const Exclusions& excluded,
                     const Circle& circle, float factor, float shift, CudaContext& context) {
  const int groups = circle.shares.count + (circle.sectors - 1) / 2;
  const Parts parts = parts_of(args, false, groups, rows.padded, context);
  const MirroredTask<T> task{
      rows, excluded, parts, circle.sector, circle.sectors, circle.shares.tiles, circle.shares.count, factor, shift};
  const int shared_bytes = atom_bytes + (consumers / 2 * rows.chunks + mirrored_stages) * chunk_bytes +
                           sum_slots * static_cast<int>(sizeof(float)) * consumers * warpgroup / 32 * tile_rows +
                           ring_bytes<mirrored_stages> + (1 + 2 * sum_slots) * static_cast<int>(sizeof(Mbarrier));
  launch(nt_xent_hopper_mirrored_kernel<T, consumers>, dim3(circle.sectors, circle.shares.count),
         hopper_threads(consumers), shared_bytes, context, task);
  merge_parts<false>(args, parts, groups, shift, context);
}

}  // namespace
}  // namespace sslfast
#endif
