// What the Hopper kernels of nt_xent share: operands in tiles, and the ring of tiles that come from memory.
//
// They take what one product of planes can do: float16, bfloat16, and float32 where TF32 will do. Everything else, and
// rows that are too deep, stays with the portable kernels. Off unless the environment variable SSLFAST_NT_XENT_HOPPER
// is 1 when the first loss is computed: no chip has measured them yet.
//
// Roofline, one H200 multiprocessor and clock: 4096 operations of products, 16 exponentials, 128 other instructions of
// a thread, 128 bytes of shared memory, some 24 bytes from the second-level cache. A pair (i, j) at depth d = 128 costs
// forward 0.0625 clocks of products, as many of exponentials and 0.03 of other instructions; backward twice the
// products. So nothing may wait for anything else: one thread of a block only copies, and several warp groups, each
// with 64 rows of its own, multiply and exponentiate. Forward four of them share the tensor cores: one's products run
// under the others' exponentials. Backward registers hold the gradients of two; there the second product of a tile runs
// under the exponentials of the next. wgmma reads 4 KiB of keys and 2 KiB of queries for 64 x 128 x 16 products (64
// clocks), 48 clocks of shared memory. A tile of 128 keys, 32 KiB at d = 128, serves 256 queries forward (4096 clocks
// of products, 8 bytes a clock from the cache) and 128 rows backward (4096, 8 bytes).
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "csrc/ops/cuda/nt_xent_tensor_core.cuh"
#include "csrc/stable/hopper.h"

#if defined(SSLFAST_SM90A)
namespace sslfast {
namespace {

constexpr int tile_rows = 128;
constexpr int chunk_width = 64;  // numbers
constexpr int chunk_row_bytes = 128;
constexpr int chunk_numbers = tile_rows * chunk_width;
constexpr int chunk_bytes = tile_rows * chunk_row_bytes;
constexpr int atom_bytes = 1024;  // 8 rows of a chunk
constexpr int group_rows = 64;    // of a warp group
constexpr int feeder_registers = 24;
constexpr int hopper_depth = 512;  // at most: a block's own rows stay in shared memory

// Threads of a block: warp groups that multiply, and one that copies.
constexpr int hopper_threads(int consumers) { return (consumers + 1) * warpgroup; }

// An operand as wgmma reads it (hopper.h): tiles of 128 rows, of each the chunks of 64 numbers one after the other, so
// that a tile is one contiguous copy. Padded with zeros.
template <class T>
struct Tiles {
  const T* data;
  int count;
  int padded;
  int chunks;

  __device__ const T* chunk(int row, int chunk) const {
    return data + (static_cast<int64_t>(row / tile_rows) * chunks + chunk) * chunk_numbers +
           row % tile_rows * chunk_width;
  }
};

// A block a row.
template <class Number, class T>
__global__ void nt_xent_tiles_kernel(const Number* numbers, int64_t count, int64_t depth, float scale, T* out,
                                     int chunks) {
  const int64_t row = blockIdx.x;
  const int in_tile = static_cast<int>(row % tile_rows);
  T* const target = out + row / tile_rows * chunks * chunk_numbers + in_tile * chunk_width;
  for (int k = threadIdx.x; k < chunks * chunk_width; k += blockDim.x) {
    const int unit = k % chunk_width / 8 ^ in_tile % 8;
    const float value = row < count && k < depth ? static_cast<float>(numbers[row * depth + k]) * scale : 0.0f;
    target[k / chunk_width * chunk_numbers + unit * 8 + k % 8] = static_cast<T>(value);
  }
}

#if SSLFAST_HOPPER_CODE
// Stages in shared memory: one thread fills them, all warps of the consumers empty them.
template <int stages>
struct Ring {
  Mbarrier rows;  // of the block's own rows, which stay
  Mbarrier full[stages];
  Mbarrier empty[stages];

  // All threads of the block.
  __device__ void open(int consumers) {
    if (threadIdx.x == 0) {
      mbarrier_init(rows, 1);
      for (int stage = 0; stage < stages; ++stage) {
        mbarrier_init(full[stage], 1);
        mbarrier_init(empty[stage], consumers * warpgroup / 32);
      }
      fence_async_proxy();
    }
    __syncthreads();
  }

  // The warp's products of this stage have ended.
  __device__ void release(int stage) {
    if (threadIdx.x % 32 == 0) mbarrier_arrive(empty[stage]);
  }
};

// Goes round the ring; the parity is that of the stage's phase.
template <int stages>
struct Slot {
  int stage = 0;
  int parity = 0;

  __device__ Slot next() const { return stage + 1 < stages ? Slot{stage + 1, parity} : Slot{0, parity ^ 1}; }
};

// Copies a tile of 128 columns, chunk by chunk.
template <class T, int stages>
__device__ void feed_tile(const Tiles<T>& columns, int column, unsigned char* stage_memory, Ring<stages>& ring,
                          Slot<stages>& slot) {
  for (int chunk = 0; chunk < columns.chunks; ++chunk) {
    mbarrier_wait(ring.empty[slot.stage], slot.parity ^ 1);
    mbarrier_arrive_expecting(ring.full[slot.stage], chunk_bytes);
    copy_bulk(stage_memory + slot.stage * chunk_bytes, columns.chunk(column, chunk), chunk_bytes,
              ring.full[slot.stage]);
    slot = slot.next();
  }
}

// Copies the block's own rows.
template <class T, int stages>
__device__ void feed_rows(const Tiles<T>& rows, int row_begin, int tiles, unsigned char* memory, Ring<stages>& ring) {
  const int bytes = tiles * rows.chunks * chunk_bytes;
  mbarrier_arrive_expecting(ring.rows, bytes);
  copy_bulk(memory, rows.chunk(row_begin, 0), bytes, ring.rows);
}

// The one thread that copies: the block's own rows, then the tiles of 128 columns from `first` to `last`.
template <class T, int stages>
__device__ void feed_chunks(const Tiles<T>& rows, int row_begin, int own_tiles, const Tiles<T>& columns, int first,
                            int last, unsigned char* own_memory, unsigned char* stage_memory, Ring<stages>& ring) {
  feed_rows(rows, row_begin, own_tiles, own_memory, ring);
  Slot<stages> slot;
  for (int tile = first; tile < last; ++tile) feed_tile(columns, tile * tile_rows, stage_memory, ring, slot);
}

// The 64 rows of a warp group, in tiles of 128.
__device__ inline uint64_t own_rows(const unsigned char* rows, int chunks) {
  const int group = threadIdx.x / warpgroup;
  return matrix_descriptor(shared_address(rows) + group / 2 * chunks * chunk_bytes + group % 2 * (chunk_bytes / 2),
                           atom_bytes, 0);
}

// Similarities of a warp group's rows and the next tile of columns.
template <class T, int stages>
__device__ void multiply_chunks(uint64_t own, uint64_t staged, int chunks, Ring<stages>& ring, Slot<stages>& slot,
                                WarpgroupSums<2>& value) {
  const auto begin_chunk = [&](int chunk, auto adds) {
    mbarrier_wait(ring.full[slot.stage], slot.parity);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < chunk_row_bytes; k += 32) {
      wgmma<T>(value, advanced(own, chunk * chunk_bytes + k), advanced(staged, slot.stage * chunk_bytes + k),
               adds.value || k > 0);
    }
    wgmma_commit();
  };
  wgmma_fence(value);
  // Known not to add, so that the registers of the sums are free until then.
  begin_chunk(0, std::false_type{});
  int previous = slot.stage;
  slot = slot.next();
  for (int chunk = 1; chunk < chunks; ++chunk) {
    begin_chunk(chunk, std::true_type{});
    wgmma_wait<1>();
    ring.release(previous);
    previous = slot.stage;
    slot = slot.next();
  }
  wgmma_wait<0>(value);
  ring.release(previous);
}

// Dynamic shared memory from the first multiple of an atom.
__device__ inline unsigned char* aligned_shared(unsigned char* shared) {
  return shared + (atom_bytes - shared_address(shared) % atom_bytes) % atom_bytes;
}
#endif

// --- host ------------------------------------------------------------------------------------------------------------

template <int stages>
constexpr int ring_bytes = (1 + 2 * stages) * static_cast<int>(sizeof(Mbarrier));

inline bool hopper_wanted() {
#if defined(SSLFAST_SIMT)
  return true;  // the bench chooses its chip
#else
  static const bool wanted = [] {
    const char* const text = std::getenv("SSLFAST_NT_XENT_HOPPER");
    return text != nullptr && std::strcmp(text, "1") == 0;
  }();
  return wanted;
#endif
}

template <class Args>
bool hopper_takes(const Args& args, const CudaContext& context) {
  using In = std::remove_const_t<std::remove_pointer_t<decltype(args.queries)>>;
  return hopper_wanted() && args.depth <= hopper_depth && plane_products<In>(args.tf32) == 1 &&
         context.capability() == 90;
}

// Rows are padded to a multiple of `rows`.
template <class In>
Tiles<typename Device<In>::Operand> tiles(const In* numbers, int64_t count, int64_t depth, int chunks, int rows,
                                          CudaContext& context) {
  using T = typename Device<In>::Operand;
  using Number = typename Device<In>::Number;
  check(count < (int64_t{1} << 31) - 256, "nt_xent: at most 2^31 - 257 rows, got ", count,
        "; split the batch or the queue");
  const int64_t padded = padded_to(count, rows);
  T* const data = scratch<T>(context, padded * chunks * chunk_width);
  launch(nt_xent_tiles_kernel<Number, T>, static_cast<unsigned>(padded), std::min(chunks * chunk_width, 256), 0,
         context, reinterpret_cast<const Number*>(numbers), count, depth, Device<In>::scale, data, chunks);
  return {data, static_cast<int>(count), static_cast<int>(padded), chunks};
}

// Into how many shares the columns are split, so that the last round of blocks is not nearly empty. A block costs as
// much as two tiles more than its own; `tile_cost` of them are one of `column_tiles`.
struct Shares {
  int count;
  int tiles;  // of a share
  int64_t cost;
};
inline Shares shares_of(int row_tiles, int column_tiles, int places, int64_t tile_cost = 1) {
  constexpr int64_t block_cost = 2;
  const int most = std::max(1, std::min({16, column_tiles, 4 * places / row_tiles}));
  Shares best{};
  for (int count = 1; count <= most; ++count) {
    const int tiles = (column_tiles + count - 1) / count;
    const int real = (column_tiles + tiles - 1) / tiles;
    const int64_t rounds = (static_cast<int64_t>(row_tiles) * real + places - 1) / places;
    const int64_t cost = rounds * (tiles * tile_cost + block_cost);
    if (count == 1 || cost < best.cost) best = {real, tiles, cost};
  }
  return best;
}

}  // namespace
}  // namespace sslfast
#endif
