// Runs a grid block by block, and the threads of a block as fibers that switch where they wait for each other.
#include "scheduler.h"

#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>

namespace simt {

Fiber* current = nullptr;
Launch running;

namespace {

constexpr size_t guard_bytes = 4096;

struct Snapshot {
  std::array<unsigned char, operand_bytes * warp_lanes> operands;
  int readers = 0;
};

std::mutex bench_mutex;
std::vector<std::unique_ptr<Fiber>> pool;
char* stacks = nullptr;
jmp_buf scheduler_context;
int thread_count = 0;
std::string failure;
std::vector<Snapshot> snapshots;
uint64_t seed = 0;
std::mt19937_64 generator;

void (*thread_body)(const void*) = nullptr;
const void* thread_closure = nullptr;
std::vector<unsigned char> dynamic_memory;
void* dynamic_begin = nullptr;

[[noreturn]] void to_scheduler() { _longjmp(scheduler_context, 1); }

void wait_here() {
  current->accesses = 0;
  if (_setjmp(current->context) == 0) to_scheduler();
}

void fiber_main() {
  for (;;) {
    thread_body(thread_closure);
    current->state = State::finished;
    wait_here();
  }
}

void resume(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler_context) == 0) {
    if (fiber.started) _longjmp(fiber.context, 1);
    fiber.started = true;
    ucontext_t context;
    getcontext(&context);
    context.uc_stack.ss_sp = fiber.stack;
    context.uc_stack.ss_size = stack_bytes;
    context.uc_link = nullptr;
    makecontext(&context, fiber_main, 0);
    setcontext(&context);
  }
  current = nullptr;
}

void make_fibers(int count) {
  if (stacks == nullptr) {
    const size_t bytes = max_threads * (stack_bytes + guard_bytes);
    stacks = static_cast<char*>(
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks == MAP_FAILED) throw std::runtime_error("simt: no memory for the stacks of a block");
    for (int i = 0; i < max_threads; ++i) mprotect(stacks + i * (stack_bytes + guard_bytes), guard_bytes, PROT_NONE);
  }
  while (static_cast<int>(pool.size()) < count) {
    auto fiber = std::make_unique<Fiber>();
    fiber->stack = stacks + pool.size() * (stack_bytes + guard_bytes) + guard_bytes;
    pool.push_back(std::move(fiber));
  }
}

bool same(const Site& a, const Site& b) { return a.line == b.line && strcmp(a.file, b.file) == 0; }

Fiber* any_in(State state) {
  for (int i = 0; i < thread_count; ++i) {
    if (pool[i]->state == state) return pool[i].get();
  }
  return nullptr;
}

[[noreturn]] void explain_deadlock() {
  if (Fiber* at_mbarrier = any_in(State::at_mbarrier)) {
    current = at_mbarrier;
    fail_at("the wait at " + site_text(current->site) + " never ends: " + mbarrier_text(*current), 0);
  }
  Fiber* finished = any_in(State::finished);
  Fiber* at_barrier = any_in(State::at_barrier);
  Fiber* at_collective = any_in(State::at_collective);
  if (at_collective != nullptr) {
    current = at_collective;
    std::string what =
        "a warp collective at " + site_text(current->site) + " is not reached by all lanes of its mask: ";
    for (int lane = 0; lane < warp_lanes; ++lane) {
      const int other = current->warp() * warp_lanes + lane;
      if (!(current->mask >> lane & 1)) continue;
      if (other >= thread_count) fail_at(what + "the block has no lane " + std::to_string(lane), 0);
      const Fiber& fiber = *pool[other];
      if (fiber.state == State::finished) fail_at(what + "thread " + thread_text(other) + " has returned", 0);
      if (fiber.state == State::at_barrier) {
        fail_at(what + "thread " + thread_text(other) + " waits at the barrier at " + site_text(fiber.site), 0);
      }
      if (fiber.mask != current->mask || fiber.kind != current->kind || !same(fiber.site, current->site)) {
        fail_at(what + "thread " + thread_text(other) + " waits at " + site_text(fiber.site) +
                    (fiber.mask != current->mask ? " with another mask" : ""),
                0);
      }
    }
  }
  current = at_barrier;
  fail_at("the barrier at " + site_text(at_barrier->site) + " is not reached by all threads: thread " +
              thread_text(finished->linear) + " has returned",
          0);
}

void check_same_barrier() {
  const Fiber& first = *pool[0];
  for (int i = 1; i < thread_count; ++i) {
    const Site& site = pool[i]->site;
    if (same(site, first.site)) continue;
    current = pool[i].get();
    fail_at("the barrier at " + site_text(site) + " is not reached by all threads: thread " + thread_text(0) +
                " waits at " + site_text(first.site),
            0);
  }
}

// The lanes of the mask have met: each knows from now on what any of them knew.
void order_warp(int first, unsigned mask) {
  const int begin = uses_async() ? 0 : first;
  const int end = uses_async() ? thread_count + async_units : std::min(first + warp_lanes, thread_count);
  static std::vector<Time> all;
  all.assign(end - begin, 0);
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const Time* const seen = pool[first + lane]->seen.data() + begin;
    for (size_t i = 0; i < all.size(); ++i) all[i] = std::max(all[i], seen[i]);
    all[first + lane - begin] = running.now;
  }
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if (mask >> lane & 1) std::copy(all.begin(), all.end(), pool[first + lane]->seen.begin() + begin);
  }
}

// All threads wait at the barrier: let them go on.
void pass_barrier() {
  check_same_barrier();
  int passed = 0;
  for (int i = 0; i < thread_count; ++i) passed += pool[i]->predicate != 0;
  running.last_barrier = ++running.now;
  for (int i = 0; i < thread_count; ++i) {
    pool[i]->state = State::ready;
    pool[i]->predicate = passed;
  }
  share_async_knowledge();
}

// Errors found by the scheduler end the block in the same way as errors found in a fiber.
void on_scheduler(void (*step)()) {
  if (_setjmp(scheduler_context) == 0) step();
  current = nullptr;
}

void set_up_block(const Index& index) {
  running.block_index = index;
  running.block_began = running.last_barrier = ++running.now;
  running.block_starts.push_back(running.now);
  running.block_order.push_back(index);
  running.fenced.push_back(false);
  running.did_global_atomic = false;
  poison_shared();
  for (int i = 0; i < thread_count; ++i) {
    Fiber& fiber = *pool[i];
    fiber.state = State::ready;
    fiber.linear = i;
    const unsigned u = static_cast<unsigned>(i);
    fiber.thread = {u % running.block.x, u / running.block.x % running.block.y, u / running.block.x / running.block.y};
    fiber.seen.assign(thread_count + async_units, 0);
    fiber.copies.clear();
    fiber.groups = 0;
    fiber.async = {};
  }
  reset_async();
}

// Seed 0 runs threads and blocks in order, 1 in reverse, the others in a new random order each time.
void set_order(std::vector<int>& order) {
  if (seed == 1) std::sort(order.begin(), order.end(), std::greater<>());
  if (seed > 1) std::shuffle(order.begin(), order.end(), generator);
}

void run_block(std::vector<int>& order) {
  for (int finished = 0; finished < thread_count;) {
    set_order(order);
    bool moved = deliver_copies(seed, generator);
    for (int i : order) {
      if (pool[i]->state == State::at_mbarrier && mbarrier_passed(*pool[i])) pool[i]->state = State::ready;
      if (pool[i]->state != State::ready) continue;
      moved = true;
      resume(*pool[i]);
      if (!failure.empty()) return;
    }
    finished = 0;
    int waiting = 0;
    for (int i = 0; i < thread_count; ++i) {
      finished += pool[i]->state == State::finished;
      waiting += pool[i]->state == State::at_barrier;
    }
    if (waiting == thread_count) {
      on_scheduler(pass_barrier);
    } else if (!moved && finished < thread_count && !deliver_one_copy()) {
      on_scheduler(explain_deadlock);
    }
    if (!failure.empty()) return;
  }
  on_scheduler(check_async_end);
}

void end_launch() {
  current = nullptr;
  end_shared();
  ++running.now;
}

}  // namespace

Fiber& fiber_of(int linear) { return *pool[linear]; }
int threads_of_block() { return thread_count; }
uintptr_t shared_window() { return reinterpret_cast<uintptr_t>(dynamic_begin) - 1024 - 16; }

void wait_as(State state, const Site& site) {
  current->state = state;
  current->site = site;
  wait_here();
}

std::string site_text(const Site& site) {
  std::string file = site.file;
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line);
}

Index thread_index() noexcept { return current->thread; }
Index block_index() noexcept { return running.block_index; }
Index block_shape() noexcept { return running.block; }
Index grid_shape() noexcept { return running.grid; }
int lane() noexcept { return current->lane(); }
void* dynamic_shared() { return dynamic_begin; }
void fence() { running.fenced.back() = true; }

bool in_fiber_stacks(uintptr_t address) {
  const auto begin = reinterpret_cast<uintptr_t>(stacks);
  return stacks != nullptr && address - begin < max_threads * (stack_bytes + guard_bytes);
}

std::string thread_text(int linear) {
  const Index& index = pool[linear]->thread;
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

void fail_at(const std::string& what, uintptr_t site) {
  const Index& block = running.block_index;
  failure = "simt: kernel " + source_line(reinterpret_cast<uintptr_t>(running.kernel)) + ", block (" +
            std::to_string(block.x) + ", " + std::to_string(block.y) + ", " + std::to_string(block.z) + "), thread " +
            thread_text(current->linear) + (site != 0 ? ", at " + source_line(site) : "") + ": " + what;
  to_scheduler();
}

void fail(const char* what) { fail_at(what, reinterpret_cast<uintptr_t>(__builtin_return_address(0))); }

int barrier(int predicate, Site site) {
  current->predicate = predicate;
  wait_as(State::at_barrier, site);
  return current->predicate;
}

void rendezvous(Collective kind, unsigned mask, const void* operand, size_t bytes, void* operands, bool orders_memory,
                Site site) {
  Fiber& self = *current;
  if (!(mask >> self.lane() & 1)) {
    fail_at("the mask of the warp collective at " + site_text(site) + " does not name the calling lane", 0);
  }
  self.kind = kind;
  self.mask = mask;
  self.site = site;
  self.operand_size = bytes;
  self.orders_memory = orders_memory;
  if (bytes > 0) memcpy(self.operand.data(), operand, bytes);
  self.state = State::at_collective;

  const int first = self.warp() * warp_lanes;
  bool complete = true;
  for (int lane = 0; lane < warp_lanes && complete; ++lane) {
    if (!(mask >> lane & 1)) continue;
    const int other = first + lane;
    complete = other < thread_count && pool[other]->state == State::at_collective && pool[other]->mask == mask &&
               pool[other]->kind == kind && same(pool[other]->site, site);
  }
  if (!complete) {
    wait_here();
  } else {
    const auto unused = std::find_if(snapshots.begin(), snapshots.end(), [](const Snapshot& s) { return !s.readers; });
    const int index = static_cast<int>(unused - snapshots.begin());
    if (unused == snapshots.end()) snapshots.emplace_back();
    Snapshot& snapshot = snapshots[index];
    if (orders_memory) ++running.now;
    for (int lane = 0; lane < warp_lanes; ++lane) {
      if (!(mask >> lane & 1)) continue;
      Fiber& fiber = *pool[first + lane];
      memcpy(snapshot.operands.data() + lane * bytes, fiber.operand.data(), bytes);
      fiber.state = State::ready;
      fiber.snapshot = index;
      ++snapshot.readers;
    }
    if (orders_memory) order_warp(first, mask);
  }
  Snapshot& snapshot = snapshots[self.snapshot];
  // Lanes outside of the mask stay poison, so that reading them shows.
  fill_poison(operands, bytes * warp_lanes);
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if (mask >> lane & 1) {
      memcpy(static_cast<char*>(operands) + lane * bytes, snapshot.operands.data() + lane * bytes, bytes);
    }
  }
  --snapshot.readers;
}

void run_grid(const void* kernel, Index grid, Index block, size_t shared_bytes, void (*body)(const void*),
              const void* closure) {
  const std::lock_guard lock(bench_mutex);
  check_launch(kernel, grid, block, shared_bytes);
  thread_count = static_cast<int>(block.x * block.y * block.z);
  make_fibers(thread_count);
  thread_body = body;
  thread_closure = closure;
  define_what_the_host_wrote();

  // 16 bytes of alignment and not more, as CUDA promises; the slack around the region belongs to nothing.
  constexpr size_t slack = 4096;
  dynamic_memory.assign(shared_bytes + 3 * slack, 0);
  const auto memory = reinterpret_cast<uintptr_t>(dynamic_memory.data());
  dynamic_begin = reinterpret_cast<void*>(((memory + slack + 1023) & ~uintptr_t{1023}) + 16);
  begin_shared(kernel, dynamic_begin, shared_bytes);

  running.kernel = kernel;
  running.grid = grid;
  running.block = block;
  running.launch_began = ++running.now;
  running.block_starts.clear();
  running.block_order.clear();
  running.fenced.clear();
  failure.clear();
  snapshots.clear();
  generator.seed(seed);

  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  std::vector<int> block_order(blocks), thread_order(thread_count);
  std::iota(block_order.begin(), block_order.end(), 0);
  std::iota(thread_order.begin(), thread_order.end(), 0);
  set_order(block_order);
  for (int b : block_order) {
    const unsigned u = static_cast<unsigned>(b);
    set_up_block({u % grid.x, u / grid.x % grid.y, u / grid.x / grid.y});
    run_block(thread_order);
    if (failure.empty()) continue;
    pool.clear();  // its fibers stand in the middle of the kernel
    end_launch();
    throw std::runtime_error(failure);
  }
  const size_t static_bytes = used_shared_variables();
  end_launch();
  check_shared(kernel, static_bytes, shared_bytes);
}

extern "C" SIMT_EXPORT void simt_set_seed(uint64_t value) { seed = value; }
extern "C" SIMT_EXPORT void simt_define_all() { define_all_global(); }

}  // namespace simt
