// The running thread, as the memory record and the collectives see it.
#pragma once

#include <setjmp.h>

#include <array>
#include <string>
#include <vector>

#include "../include/simt/hopper.h"
#include "../include/simt/runtime.h"
#include "hopper.h"
#include "memory.h"

namespace simt {

enum class State { ready, at_barrier, at_collective, at_mbarrier, finished };

struct CopyAsync {
  void* shared;
  std::vector<unsigned char> bytes;
  int group;
};

struct Fiber {
  jmp_buf context;
  char* stack = nullptr;
  bool started = false;
  State state = State::ready;
  Index thread{};
  int linear = 0;
  // Where it waits.
  Site site{};
  Collective kind{};
  unsigned mask = 0;
  size_t operand_size = 0;
  bool orders_memory = false;
  std::array<unsigned char, operand_bytes> operand;
  int predicate = 0;
  int snapshot = -1;
  // For each thread of the block: accesses before this time are visible to this thread. Without asynchronous units (see
  // hopper.h) only the entries of its own warp are kept. Those units count as threads behind the block's own.
  std::vector<Time> seen;
  uint64_t accesses = 0;  // since it was last resumed
  std::vector<CopyAsync> copies;
  int groups = 0;
  AsyncState async;

  int warp() const { return linear / warp_lanes; }
  int lane() const { return linear % warp_lanes; }
};

struct Launch {
  const void* kernel = nullptr;
  Index grid{}, block{}, block_index{};
  Time now = 1;  // never goes back, so that records of earlier launches stay older
  Time launch_began = 1;
  Time block_began = 1;
  Time last_barrier = 1;
  std::vector<Time> block_starts;  // in the order in which the blocks ran
  std::vector<Index> block_order;
  std::vector<bool> fenced;        // the block has called __threadfence
  bool did_global_atomic = false;  // the running block
};

extern Fiber* current;
extern Launch running;

Fiber& fiber_of(int linear);
int threads_of_block();

// Suspends the running thread; for a barrier in shared memory the scheduler asks `mbarrier_passed` when to go on.
void wait_as(State state, const Site& site);
std::string site_text(const Site& site);
// The window of addresses that the block's shared memory has; dynamic memory begins at an odd multiple of 16.
uintptr_t shared_window();

// What the chip refuses to launch is an error.
inline constexpr int max_threads = 1024;
void check_launch(const void* kernel, const Index& grid, const Index& block, size_t shared_bytes);
void check_shared(const void* kernel, size_t static_bytes, size_t dynamic_bytes);

inline constexpr size_t stack_bytes = 128 * 1024;
bool in_fiber_stacks(uintptr_t address);

// `site` is a return address in the kernel library, or 0.
[[noreturn]] void fail_at(const std::string& what, uintptr_t site);
std::string source_line(uintptr_t site);
std::string thread_text(int linear);

}  // namespace simt
