#include "memory.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>

#include "module.h"
#include "scheduler.h"

namespace simt {
namespace {

std::mutex regions_mutex;  // torch allocates from several threads; kernels run in one
std::map<uintptr_t, Region> global_regions;
Region dynamic_shared_region;
Module* module = nullptr;
Region* last_found = nullptr;

// For each unit of 16 bytes of dynamic shared memory: when a product of each warp has read it last.
constexpr size_t async_unit_bytes = 16;
std::vector<std::array<Time, most_warps>> async_reads;

std::string bytes_text(size_t bytes) { return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }

const char* verb(Access access) {
  return access == Access::read ? "reads" : access == Access::write ? "writes" : "updates atomically";
}

std::string description(const Region& region) {
  const std::string size = bytes_text(region.bytes);
  if (region.space == Space::global) return "global memory of " + size;
  return region.name.empty() ? "dynamic shared memory of " + size : "shared " + region.name + " of " + size;
}

const char* space_name(const Region& region) { return region.space == Space::shared ? "shared" : "global"; }

// "3 bytes past the end of an allocation of 512 bytes", for the nearest region.
std::string where(uintptr_t address) {
  const Region* nearest = nullptr;
  size_t distance = SIZE_MAX;
  bool past = false;
  const auto consider = [&](const Region& region) {
    const uintptr_t end = region.begin + region.bytes;
    const size_t gap = address < region.begin ? region.begin - address : address >= end ? address - end : 0;
    if (gap >= distance) return;
    distance = gap, nearest = &region, past = address >= end;
  };
  for (const auto& [begin, region] : global_regions) consider(region);
  for (const Region& region : module->shared) consider(region);
  if (dynamic_shared_region.bytes > 0) consider(dynamic_shared_region);
  if (nearest == nullptr || distance > (size_t{1} << 24)) {
    return "which is no tensor, scratch or shared memory; was host memory handed to the kernel?";
  }
  if (distance == 0 && !past) {  // begins inside, ends outside
    return "across the end of " + description(*nearest);
  }
  return bytes_text(distance) + (past ? " past the end" : " before the start") + " of " + description(*nearest);
}

Region* find_region(uintptr_t address) {
  if (last_found != nullptr && last_found->holds(address)) return last_found;
  if (dynamic_shared_region.holds(address)) return last_found = &dynamic_shared_region;
  auto& shared = module->shared;
  const auto after = std::upper_bound(shared.begin(), shared.end(), address,
                                      [](uintptr_t value, const Region& region) { return value < region.begin; });
  if (after != shared.begin() && std::prev(after)->holds(address)) {
    std::prev(after)->used = true;
    return last_found = &*std::prev(after);
  }
  const auto next = global_regions.upper_bound(address);
  if (next == global_regions.begin()) return nullptr;
  Region& region = std::prev(next)->second;
  return region.holds(address) ? last_found = &region : nullptr;
}

size_t block_of(Time time) {
  const auto& starts = running.block_starts;
  return static_cast<size_t>(std::upper_bound(starts.begin(), starts.end(), time) - starts.begin()) - 1;
}

std::string index_text(const Index& index) {
  return "(" + std::to_string(index.x) + ", " + std::to_string(index.y) + ", " + std::to_string(index.z) + ")";
}

// An earlier access of this launch by another block. Blocks have no order, unless the writer has called __threadfence
// and the running block has read a flag or a counter with an atomic.
void check_other_block(Time time, const Cell& cell, Access access, bool was_write, uintptr_t site) {
  const size_t block = block_of(time);
  if (running.fenced[block] && running.did_global_atomic) return;
  fail_at(std::string("race on global memory: it ") + verb(access) + " what block " +
              index_text(running.block_order[block]) + " has " +
              (was_write ? "written at " + source_line(cell.write_site) : "read") +
              " in the same launch; blocks have no order",
          site);
}

[[noreturn]] void race(const Region& region, const Cell& cell, Access access, bool was_write, uintptr_t site) {
  if (was_write && cell.writer >= threads_of_block()) {
    fail_at(std::string("race on shared memory: it ") + verb(access) + " what a bulk copy begun at " +
                source_line(cell.write_site) + " writes, and has not waited for its barrier",
            site);
  }
  fail_at(std::string("race on ") + space_name(region) + " memory: it " + verb(access) + " what thread " +
              thread_text(was_write ? cell.writer : cell.reader) +
              (was_write ? " has written at " + source_line(cell.write_site) : " has read") +
              ", with no barrier in between",
          site);
}

// Has the running thread waited for thread `other` since `time`?
bool sees(int other, Time time) {
  if (other >= threads_of_block()) return current->seen[other] > time;  // an asynchronous unit: no barrier waits for it
  return time < running.last_barrier || other == current->linear || current->seen[other] > time;
}

bool sees_readers(const Cell& cell) {
  if (cell.read < running.last_barrier) return true;
  if (cell.reader_warp == any_warp) return false;
  for (int lane = 0; lane < warp_lanes; ++lane) {
    const int reader = cell.reader_warp * warp_lanes + lane;
    if (!(cell.reader_lanes >> lane & 1) || reader == current->linear) continue;
    if (current->seen[reader] <= cell.read) return false;
  }
  return true;
}

// The running thread overwrites what products have read: has it waited for them?
void check_async_readers(const Region& region, size_t byte, uintptr_t site) {
  if (async_reads.empty() || &region != &dynamic_shared_region) return;
  const auto& times = async_reads[byte / async_unit_bytes];
  for (int warp = 0; warp < most_warps; ++warp) {
    const int unit = threads_of_block() + most_mbarriers + warp;
    if (times[warp] == 0 || current->seen[unit] > times[warp]) continue;
    fail_at("race on shared memory: it writes what a product of warp " + std::to_string(warp) +
                " reads, and has not waited for its end",
            site);
  }
}

void check_race(const Region& region, const Cell& cell, Access access, uintptr_t site) {
  const bool atomic = access == Access::atomic;
  if (cell.written >= running.launch_began && !(atomic && cell.atomic_write)) {
    if (cell.written < running.block_began) {
      if (region.space == Space::global) check_other_block(cell.written, cell, access, true, site);
    } else if (!sees(cell.writer, cell.written)) {
      race(region, cell, access, true, site);
    }
  }
  if (access != Access::read && cell.read >= running.launch_began && !(atomic && cell.atomic_read)) {
    if (cell.read < running.block_began) {
      if (region.space == Space::global) check_other_block(cell.read, cell, access, false, site);
    } else if (!sees_readers(cell)) {
      race(region, cell, access, false, site);
    }
  }
}

void record(Cell& cell, Access access, uintptr_t site) {
  const auto thread = static_cast<uint16_t>(current->linear);
  if (access != Access::read) {
    cell.written = running.now;
    cell.writer = thread;
    cell.atomic_write = access == Access::atomic;
    cell.write_site = site;
    if (access == Access::write) return;
  }
  const auto warp = static_cast<uint16_t>(current->warp());
  const uint32_t lane = 1u << current->lane();
  if (cell.read < running.last_barrier) {
    cell.reader_lanes = lane, cell.reader_warp = warp, cell.atomic_read = access == Access::atomic;
  } else {
    cell.reader_lanes |= lane;
    if (cell.reader_warp != warp) cell.reader_warp = any_warp;
    cell.atomic_read &= access == Access::atomic;
  }
  // Remember a reader other than the last writer, so that a message about read-modify-write names two threads.
  if (cell.reader_lanes == lane || thread != cell.writer) cell.reader = thread;
  cell.read = running.now;
}

bool in_module(uintptr_t address, size_t bytes, Access access) {
  for (const Segment& segment : module->segments) {
    if (address >= segment.begin && address + bytes <= segment.end) return access == Access::read || segment.writable;
  }
  return false;
}

}  // namespace

void fill_poison(void* memory, size_t bytes) {
  static const std::vector<uint16_t> pattern(2048, poison);
  const size_t step = pattern.size() * sizeof(uint16_t);
  for (size_t done = 0; done < bytes; done += step) {
    memcpy(static_cast<char*>(memory) + done, pattern.data(), std::min(step, bytes - done));
  }
}

void add_global(void* memory, size_t bytes) {
  const std::lock_guard lock(regions_mutex);
  Region& region = global_regions[reinterpret_cast<uintptr_t>(memory)];
  region = Region{reinterpret_cast<uintptr_t>(memory), bytes};
  region.defined.assign(bytes, 0);
}

void remove_global(void* memory) {
  const std::lock_guard lock(regions_mutex);
  last_found = nullptr;
  global_regions.erase(reinterpret_cast<uintptr_t>(memory));
}

void define_all_global() {
  const std::lock_guard lock(regions_mutex);
  for (auto& [begin, region] : global_regions) region.all_defined = true;
}

void define_what_the_host_wrote() {
  const std::lock_guard lock(regions_mutex);
  for (auto& [begin, region] : global_regions) {
    if (region.all_defined) continue;
    const auto* bytes = reinterpret_cast<const unsigned char*>(begin);
    for (size_t i = 0; i < region.bytes; i += 2) {
      uint16_t value = poison;
      memcpy(&value, bytes + i, std::min<size_t>(2, region.bytes - i));
      if (value == poison) continue;
      region.defined[i] = 1;
      if (i + 1 < region.bytes) region.defined[i + 1] = 1;
    }
  }
}

void begin_shared(const void* kernel, void* dynamic_memory, size_t dynamic_bytes) {
  module = &module_of(kernel);
  for (Region& region : module->shared) region.used = false;
  dynamic_shared_region = Region{reinterpret_cast<uintptr_t>(dynamic_memory), dynamic_bytes, Space::shared};
  last_found = nullptr;
}

void poison_shared() {
  for (const Region& region : module->shared) fill_poison(reinterpret_cast<void*>(region.begin), region.bytes);
  fill_poison(reinterpret_cast<void*>(dynamic_shared_region.begin), dynamic_shared_region.bytes);
  async_reads.clear();
}

size_t used_shared_variables() {
  size_t bytes = 0;
  for (const Region& region : module->shared) bytes += region.used ? region.bytes : 0;
  return bytes;
}

void end_shared() {
  dynamic_shared_region = Region{};
  last_found = nullptr;
}

void access_memory(uintptr_t address, size_t bytes, Access access, uintptr_t site) {
  const auto stack = reinterpret_cast<uintptr_t>(current->stack);
  if (address - stack < stack_bytes) return;
  if (++current->accesses > (uint64_t{1} << 25)) {
    fail_at("it does not end: 33 million memory accesses without a barrier", site);
  }
  Region* region = find_region(address);
  if (region == nullptr) {
    if (in_module(address, bytes, access)) return;
    const std::string what = std::string("it ") + verb(access) + " " + bytes_text(bytes) + " out of bounds, ";
    if (in_fiber_stacks(address)) fail_at(what + "in another thread's local memory", site);
    fail_at(what + where(address), site);
  }
  const size_t first = address - region->begin;
  if (first + bytes > region->bytes) {
    fail_at(std::string("it ") + verb(access) + " " + bytes_text(bytes) + " out of bounds, " + where(address), site);
  }
  if (region->cells.empty()) region->cells.resize(region->bytes);
  for (size_t i = first; i < first + bytes; ++i) {
    Cell& cell = region->cells[i];
    if (access != Access::write) {
      if (region->space == Space::shared && cell.written < running.block_began) {
        fail_at("it " + std::string(verb(access)) + " shared memory that no thread of the block has written", site);
      }
      if (region->space == Space::global && !region->all_defined && !region->defined[i]) {
        fail_at("it " + std::string(verb(access)) + " global memory that nothing has written", site);
      }
    }
    check_race(*region, cell, access, site);
    if (access != Access::read) check_async_readers(*region, i, site);
    record(cell, access, site);
    if (access != Access::read && region->space == Space::global && !region->all_defined) region->defined[i] = 1;
  }
  if (access == Access::atomic && region->space == Space::global) running.did_global_atomic = true;
}

namespace {

Region& dynamic_region(uintptr_t address, size_t bytes, uintptr_t site) {
  Region& region = dynamic_shared_region;
  if (!region.holds(address) || address + bytes > region.begin + region.bytes) {
    fail_at("an asynchronous unit touches " + bytes_text(bytes) + " out of bounds, " + where(address), site);
  }
  if (region.cells.empty()) region.cells.resize(region.bytes);
  return region;
}

}  // namespace

void begin_async(uintptr_t address, size_t bytes, int unit, uintptr_t site) {
  Region& region = dynamic_region(address, bytes, site);
  ++running.now;
  for (size_t i = address - region.begin; i < address - region.begin + bytes; ++i) {
    Cell& cell = region.cells[i];
    check_race(region, cell, Access::write, site);
    check_async_readers(region, i, site);
    cell.written = running.now, cell.writer = static_cast<uint16_t>(unit);
    cell.atomic_write = false, cell.write_site = site;
  }
  fill_poison(reinterpret_cast<void*>(address), bytes);
}

void arrive_async(uintptr_t address, const unsigned char* bytes, size_t count) {
  ++running.now;
  for (size_t i = 0; i < count; ++i)
    dynamic_shared_region.cells[address - dynamic_shared_region.begin + i].written = running.now;
  memcpy(reinterpret_cast<void*>(address), bytes, count);
}

void read_async(uintptr_t address, size_t bytes, int unit) {
  Region& region = dynamic_region(address, bytes, 0);
  if (async_reads.empty()) async_reads.resize(region.bytes / async_unit_bytes + 1);
  for (size_t i = address - region.begin; i < address - region.begin + bytes; ++i) {
    const Cell& cell = region.cells[i];
    if (cell.written < running.block_began) fail_at("a product reads shared memory that nothing has written", 0);
    if (!sees(cell.writer, cell.written)) race(region, cell, Access::read, true, 0);
    if (cell.writer < threads_of_block() && fiber_of(cell.writer).async.proxy_fence <= cell.written) {
      fail_at("a product reads what thread " + thread_text(cell.writer) +
                  " has written without a fence_async_proxy afterwards",
              0);
    }
    async_reads[i / async_unit_bytes][unit - threads_of_block() - most_mbarriers] = running.now;
  }
}

}  // namespace simt
