// Hopper's asynchronous units: barriers in shared memory, the copy engine, and the tensor cores of warp groups. For the
// record of memory they are threads of their own, so that what they do is ordered only by waiting for them.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "memory.h"

namespace simt {

struct Fiber;

// Units behind the threads of the block: one a barrier (the copies that it counts), then one a warp (its products).
inline constexpr int most_mbarriers = 64;
inline constexpr int most_warps = 32;
inline constexpr int async_units = most_mbarriers + most_warps;

// Sums under way: the registers hold poison, the value comes with the wait.
struct PendingSums {
  float* sums;
  std::vector<float> value;
  int group;  // of its latest product
};
struct PendingOperand {
  const uint32_t* registers;
  uint32_t copy[4];
  int group;
};

// Of one thread.
struct AsyncState {
  Time proxy_fence = 0;
  void* waits_for = nullptr;  // an mbarrier
  int parity = 0;
  bool fenced = false;  // wgmma.fence since the last wait
  std::vector<PendingSums> sums;
  std::vector<PendingOperand> operands;
  std::vector<Time> commits;  // of its groups
  uint64_t products = 0;
};

void reset_async();
bool uses_async();
void share_async_knowledge();  // after __syncthreads
bool mbarrier_passed(Fiber& fiber);
std::string mbarrier_text(const Fiber& fiber);
bool deliver_copies(uint64_t seed, std::mt19937_64& generator);
bool deliver_one_copy();
void check_async_end();
void reset_products();
void check_products_end();

}  // namespace simt
