#include "hopper.h"

#include <algorithm>
#include <map>

#include "scheduler.h"

namespace simt {
namespace {

// Orders what happens: clock[u] is the time before which accesses of thread or unit u are known.
using Clock = std::vector<Time>;

struct Barrier {
  int arrivals;
  int missing;
  int64_t bytes = 0;  // announced and not arrived; below 0 where copies are faster than their announcement
  uint64_t phase = 0;
  int unit;
  int maker;
  bool visible = false;  // to the copy engine
  Clock arriving;
  Clock completed;
};

struct Copy {
  void* shared;
  std::vector<unsigned char> bytes;
  void* barrier;
};

std::map<void*, Barrier> barriers;
std::vector<Copy> copies;

void learn(Clock& clock, const Clock& other) {
  clock.resize(std::max(clock.size(), other.size()), 0);
  for (size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
}

Barrier& barrier_at(void* address, uintptr_t site) {
  const auto found = barriers.find(address);
  if (found == barriers.end()) fail_at("it uses an mbarrier that has not been initialised", site);
  return found->second;
}

void complete_phase(Barrier& barrier) {
  if (barrier.missing > 0 || barrier.bytes != 0) return;
  barrier.completed = barrier.arriving;
  barrier.missing = barrier.arrivals;
  ++barrier.phase;
}

void deliver(size_t index) {
  const Copy copy = std::move(copies[index]);
  copies.erase(copies.begin() + static_cast<std::ptrdiff_t>(index));
  Barrier& barrier = barriers.at(copy.barrier);
  const int unit = threads_of_block() + barrier.unit;
  arrive_async(reinterpret_cast<uintptr_t>(copy.shared), copy.bytes.data(), copy.bytes.size());
  learn(barrier.arriving, Clock(unit + 1, 0));
  barrier.arriving[unit] = ++running.now;
  barrier.bytes -= static_cast<int64_t>(copy.bytes.size());
  complete_phase(barrier);
}

}  // namespace

void reset_async() {
  barriers.clear();
  copies.clear();
  reset_products();
}

bool uses_async() { return !barriers.empty(); }

void share_async_knowledge() {
  if (!uses_async()) return;
  const int begin = threads_of_block();
  Clock all(begin + async_units, 0);
  for (int i = 0; i < begin; ++i) {
    const Clock& seen = fiber_of(i).seen;
    for (int u = begin; u < begin + async_units; ++u) all[u] = std::max(all[u], seen[u]);
  }
  for (int i = 0; i < begin; ++i) learn(fiber_of(i).seen, all);
}

bool mbarrier_passed(Fiber& fiber) {
  Barrier& barrier = barriers.at(fiber.async.waits_for);
  if (static_cast<int>(barrier.phase % 2) == fiber.async.parity) return false;
  learn(fiber.seen, barrier.completed);
  return true;
}

std::string mbarrier_text(const Fiber& fiber) {
  const Barrier& barrier = barriers.at(fiber.async.waits_for);
  return "phase " + std::to_string(barrier.phase) + " of the mbarrier lacks " + std::to_string(barrier.missing) +
         " arrivals and " + std::to_string(barrier.bytes) + " bytes";
}

// Seed 0: copies arrive at once; 1: as late as possible, the latest first; others: at random.
bool deliver_copies(uint64_t seed, std::mt19937_64& generator) {
  if (seed == 1) return false;
  bool any = false;
  for (size_t index = copies.size(); index-- > 0;) {
    if (seed > 1 && generator() % 4 != 0) continue;
    deliver(seed == 0 ? 0 : index);
    any = true;
  }
  return any;
}

bool deliver_one_copy() {
  if (copies.empty()) return false;
  deliver(copies.size() - 1);
  return true;
}

void check_async_end() {
  current = &fiber_of(0);
  if (!copies.empty()) fail_at("the block ends while a bulk copy is under way", 0);
  for (const auto& [address, barrier] : barriers) {
    if (barrier.bytes != 0)
      fail_at("the block ends, and bytes of a bulk copy have not been announced or waited for", 0);
  }
  check_products_end();
}

uint32_t shared_address(const void* shared) {
  const auto address = reinterpret_cast<uintptr_t>(shared) - shared_window();
  if (address >= (1u << 18)) fail("the address is not one of dynamic shared memory");
  return static_cast<uint32_t>(address);
}

void mbarrier_init(void* barrier, int arrivals) {
  const auto site = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  if (reinterpret_cast<uintptr_t>(barrier) % 8 != 0) fail_at("an mbarrier begins at a multiple of 8 bytes", site);
  if (arrivals < 1) fail_at("an mbarrier waits for at least one arrival", site);
  if (barriers.count(barrier) != 0) fail_at("the mbarrier has been initialised before", site);
  access_memory(reinterpret_cast<uintptr_t>(barrier), 8, Access::write, site);
  const int unit = static_cast<int>(barriers.size());
  if (unit == most_mbarriers) fail_at("the bench knows at most 64 mbarriers a block", site);
  Barrier made{};
  made.arrivals = made.missing = arrivals;
  made.unit = unit;
  made.maker = current->linear;
  barriers.emplace(barrier, made);
}

void fence_async_proxy() {
  current->async.proxy_fence = ++running.now;
  for (auto& [address, barrier] : barriers) barrier.visible = barrier.visible || barrier.maker == current->linear;
}

void mbarrier_arrive(void* address, int bytes) {
  const auto site = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  Barrier& barrier = barrier_at(address, site);
  access_memory(reinterpret_cast<uintptr_t>(address), 8, Access::atomic, site);
  ++running.now;
  current->seen[current->linear] = running.now;
  learn(barrier.arriving, current->seen);
  barrier.bytes += bytes;
  if (--barrier.missing < 0) fail_at("the phase of the mbarrier has had all its arrivals", site);
  complete_phase(barrier);
}

void mbarrier_wait(void* address, int parity, Site site) {
  const auto caller = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  barrier_at(address, caller);
  if (parity != 0 && parity != 1) fail_at("the parity of a phase is 0 or 1", caller);
  access_memory(reinterpret_cast<uintptr_t>(address), 8, Access::atomic, caller);
  current->async.waits_for = address;
  current->async.parity = parity;
  if (!mbarrier_passed(*current)) wait_as(State::at_mbarrier, site);
}

void copy_bulk(void* shared, const void* global, int bytes, void* address) {
  const auto site = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  Barrier& barrier = barrier_at(address, site);
  if (!barrier.visible)
    fail_at("the copy engine does not see the mbarrier: no fence_async_proxy after its making", site);
  if (bytes <= 0 || bytes % 16 != 0) fail_at("a bulk copy has a multiple of 16 bytes", site);
  if (reinterpret_cast<uintptr_t>(shared) % 16 != 0 || reinterpret_cast<uintptr_t>(global) % 16 != 0) {
    fail_at("misaligned bulk copy: it begins at no multiple of 16 bytes", site);
  }
  access_memory(reinterpret_cast<uintptr_t>(address), 8, Access::atomic, site);
  access_memory(reinterpret_cast<uintptr_t>(global), static_cast<size_t>(bytes), Access::read, site);
  const auto* source = static_cast<const unsigned char*>(global);
  begin_async(reinterpret_cast<uintptr_t>(shared), static_cast<size_t>(bytes), threads_of_block() + barrier.unit, site);
  copies.push_back({shared, {source, source + bytes}, address});
}

}  // namespace simt
