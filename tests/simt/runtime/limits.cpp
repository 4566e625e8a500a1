// The chip that the bench is.
#include <algorithm>
#include <map>
#include <stdexcept>

#include "scheduler.h"

namespace simt {
namespace {

int hopper_multiprocessors = 0;  // 0: an sm_80 chip, of one
int most_shared = 0;
std::map<const void*, int> granted;

constexpr int shared_unasked = 48 * 1024;

}  // namespace

extern "C" SIMT_EXPORT void simt_hopper(int multiprocessors) {
  hopper_multiprocessors = multiprocessors;
  granted.clear();
}

// Another limit than the chip's own; 0 brings that back.
extern "C" SIMT_EXPORT void simt_shared_limit(int bytes) {
  most_shared = bytes;
  granted.clear();
}

bool is_hopper() { return hopper_multiprocessors > 0; }

int multiprocessors() { return is_hopper() ? hopper_multiprocessors : 1; }

// Of an sm_90 chip; the least that later ones than sm_80 grant.
int shared_limit() { return most_shared > 0 ? most_shared : (is_hopper() ? 227 : 99) * 1024; }

int granted_shared(const void* kernel) {
  const auto found = granted.find(kernel);
  return found == granted.end() ? std::min(shared_unasked, shared_limit()) : found->second;
}

bool grant_shared(const void* kernel, int bytes) {
  if (bytes < 0 || bytes > shared_limit()) return false;
  granted[kernel] = bytes;
  return true;
}

void check_launch(const void* kernel, const Index& grid, const Index& block, size_t shared_bytes) {
  const size_t threads = size_t{block.x} * block.y * block.z;
  if (threads < 1 || threads > max_threads || block.z > 64) {
    throw std::runtime_error("simt: a block has 1 to 1024 threads, asked for " + std::to_string(threads));
  }
  if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    throw std::runtime_error("simt: a grid is at most 2147483647 x 65535 x 65535 blocks, asked for " +
                             std::to_string(grid.x) + " x " + std::to_string(grid.y) + " x " + std::to_string(grid.z));
  }
  check_shared(kernel, 0, shared_bytes);
}

void check_shared(const void* kernel, size_t static_bytes, size_t dynamic_bytes) {
  const std::string asked = std::to_string(dynamic_bytes) + " bytes of dynamic shared memory beside " +
                            std::to_string(static_bytes) + " of variables";
  const auto most = static_cast<size_t>(shared_limit());
  if (static_bytes + dynamic_bytes > most) {
    throw std::runtime_error("simt: a block has at most " + std::to_string(most) + " bytes of shared memory, not " +
                             asked);
  }
  const auto found = granted.find(kernel);
  if (found == granted.end() ? static_bytes + dynamic_bytes > shared_unasked
                             : dynamic_bytes > static_cast<size_t>(found->second)) {
    throw std::runtime_error("simt: " + asked + " are more than cudaFuncSetAttribute has granted");
  }
}

}  // namespace simt
