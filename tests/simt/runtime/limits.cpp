// The chip that the bench is.
#include <stdexcept>

#include "scheduler.h"

namespace simt {
namespace {

int hopper_multiprocessors = 0;  // 0: an sm_80 chip, of one

}  // namespace

extern "C" SIMT_EXPORT void simt_hopper(int multiprocessors) { hopper_multiprocessors = multiprocessors; }

bool is_hopper() { return hopper_multiprocessors > 0; }

int multiprocessors() { return is_hopper() ? hopper_multiprocessors : 1; }

void check_launch(const Index& grid, const Index& block, size_t shared_bytes) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads < 1 || threads > max_threads || block.z > 64) {
    throw std::runtime_error("simt: a block has 1 to 1024 threads, asked for " + std::to_string(threads));
  }
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    throw std::runtime_error("simt: a grid is at most 2147483647 x 65535 x 65535 blocks, asked for " +
                             std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z));
  }
  const size_t most = (is_hopper() ? 227 : 99) * 1024;  // an sm_90 chip; the least that later ones than sm_80 grant
  if (shared_bytes > most) {
    throw std::runtime_error("simt: a block has at most " + std::to_string(most) +
                             " bytes of shared memory, asked for " + std::to_string(shared_bytes));
  }
}

}  // namespace simt
