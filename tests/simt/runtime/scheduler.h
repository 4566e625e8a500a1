// The running thread, as the memory record and the collectives see it.
#pragma once

#include <setjmp.h>

#include <array>
#include <string>
#include <vector>

#include "../include/simt/runtime.h"
#include "memory.h"

namespace simt {

enum class State { ready, at_barrier, at_collective, finished };

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
  // For each lane of its warp: accesses before this time are visible to this thread.
  std::array<Time, warp_lanes> seen{};
  uint64_t accesses = 0;  // since it was last resumed
  std::vector<CopyAsync> copies;
  int groups = 0;

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

inline constexpr size_t stack_bytes = 128 * 1024;
bool in_fiber_stacks(uintptr_t address);

// `site` is a return address in the kernel library, or 0.
[[noreturn]] void fail_at(const std::string& what, uintptr_t site);
std::string source_line(uintptr_t site);
std::string thread_text(int linear);

}  // namespace simt
