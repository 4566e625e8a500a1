// The bench's record of memory: which bytes a kernel may touch, which are written, and who touched them last.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace simt {

// Time advances with every barrier, __syncwarp and start of a block, so a time names one interval of one block.
using Time = uint32_t;

// Who touched one byte last. A write that is newer than the last barrier, by another thread that has not been waited
// for, makes the next access a race; so do reads before a write.
struct Cell {
  Time written = 0, read = 0;
  uint16_t writer = 0;       // thread of the block
  uint8_t atomic_write = 0;  // atomics do not race with each other
  uint8_t atomic_read = 0;
  uint32_t reader_lanes = 0;  // of one warp; all warps where reader_warp is any_warp
  uint16_t reader_warp = 0;
  uint16_t reader = 0;       // one of the readers, for the message
  uintptr_t write_site = 0;  // return address in the kernel
};
inline constexpr uint16_t any_warp = 0xffff;

enum class Space { global, shared };
enum class Access { read, write, atomic };

struct Region {
  uintptr_t begin = 0;
  size_t bytes = 0;
  Space space = Space::global;
  std::string name{};  // of a static shared variable
  bool all_defined = false;
  bool used = false;               // a shared variable: in this launch
  std::vector<uint8_t> defined{};  // per byte, global memory only: shared memory is defined by a write of this block
  std::vector<Cell> cells{};       // made at the first access

  bool holds(uintptr_t address) const { return address - begin < bytes; }
};

// Unwritten memory reads as NaN in float64, float32, float16 and bfloat16.
inline constexpr uint16_t poison = 0xfff9;
void fill_poison(void* memory, size_t bytes);

// Global memory that kernels may touch; tensors come from the guarded allocator.
void add_global(void* memory, size_t bytes);
void remove_global(void* memory);
void define_all_global();
// Host code writes without being watched: what is no longer poison has been written.
void define_what_the_host_wrote();

// Shared memory of the running kernel: `__shared__` variables of its library and the block's dynamic memory.
void begin_shared(const void* kernel, void* dynamic_memory, size_t dynamic_bytes);
void poison_shared();
size_t used_shared_variables();  // bytes of those that the launch has touched: what the kernel declares
void end_shared();

void access_memory(uintptr_t address, size_t bytes, Access access, uintptr_t site);

// Asynchronous units (see hopper.h): a copy into shared memory begins, its bytes arrive; a product of a warp reads.
void begin_async(uintptr_t address, size_t bytes, int unit, uintptr_t site);
void arrive_async(uintptr_t address, const unsigned char* bytes, size_t count);
void read_async(uintptr_t address, size_t bytes, int unit);

}  // namespace simt
