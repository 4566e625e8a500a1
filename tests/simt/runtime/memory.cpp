#include "memory.h"

#include <elf.h>
#include <link.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <mutex>
#include <string>

#include "scheduler.h"

namespace simt {
namespace {

std::mutex regions_mutex;  // torch allocates from several threads; kernels run in one
std::map<uintptr_t, Region> global_regions;
Region* shared_regions[2] = {};
Region* last_found = nullptr;

// The library that holds the running kernel: its constants and variables, and its thread-local block, which is where
// `__shared__` puts the static shared memory.
struct Segment {
  uintptr_t begin, end;
  bool writable;
};
struct Module {
  uintptr_t kernel = 0;
  std::vector<Segment> segments;
  void* thread_local_block = nullptr;
  size_t thread_local_bytes = 0;
} module;

std::string hex_free(size_t bytes) { return std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes"); }

const char* verb(Access access) {
  return access == Access::read ? "reads" : access == Access::write ? "writes" : "updates atomically";
}

const char* name(Space space) { return space == Space::shared ? "shared" : "global"; }

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
  for (const Region* region : shared_regions) {
    if (region != nullptr && region->bytes > 0) consider(*region);
  }
  if (nearest == nullptr || distance > (size_t{1} << 24)) {
    return "which is no tensor, scratch or shared memory; was host memory handed to the kernel?";
  }
  if (distance == 0 && !past) {  // begins inside, ends outside
    return "across the end of " + std::string(name(nearest->space)) + " memory of " + hex_free(nearest->bytes);
  }
  return hex_free(distance) + (past ? " past the end" : " before the start") + " of " + name(nearest->space) +
         " memory of " + hex_free(nearest->bytes);
}

Region* find_region(uintptr_t address) {
  const auto holds = [&](const Region* region) {
    return region != nullptr && address - region->begin < region->bytes;
  };
  if (holds(last_found)) return last_found;
  for (Region* region : shared_regions) {
    if (holds(region)) return last_found = region;
  }
  auto next = global_regions.upper_bound(address);
  if (next == global_regions.begin()) return nullptr;
  Region* region = &std::prev(next)->second;
  return holds(region) ? last_found = region : nullptr;
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
  fail_at(std::string("race on ") + name(region.space) + " memory: it " + verb(access) + " what thread " +
              thread_text(was_write ? cell.writer : cell.reader) +
              (was_write ? " has written at " + source_line(cell.write_site) : " has read") +
              ", with no barrier in between",
          site);
}

// Has the running thread waited for thread `other` since `time`?
bool sees(int other, Time time) {
  if (time < running.last_barrier || other == current->linear) return true;
  return other / warp_lanes == current->warp() && current->seen[other % warp_lanes] > time;
}

bool sees_readers(const Cell& cell) {
  if (cell.read < running.last_barrier) return true;
  if (cell.reader_warp != current->warp()) return false;
  for (int lane = 0; lane < warp_lanes; ++lane) {
    if ((cell.reader_lanes >> lane & 1) && lane != current->lane() && current->seen[lane] <= cell.read) return false;
  }
  return true;
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
  for (const Segment& segment : module.segments) {
    if (address >= segment.begin && address + bytes <= segment.end) return access == Access::read || segment.writable;
  }
  return false;
}

}  // namespace

void fill_poison(void* memory, size_t bytes) {
  auto* out = static_cast<unsigned char*>(memory);
  for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<unsigned char>(i & 1 ? poison >> 8 : poison & 0xff);
}

void add_global(void* memory, size_t bytes) {
  const std::lock_guard lock(regions_mutex);
  Region& region = global_regions[reinterpret_cast<uintptr_t>(memory)];
  region = Region{reinterpret_cast<uintptr_t>(memory), bytes, Space::global, false, {}, {}};
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

void set_shared(Region* static_region, Region* dynamic_region) {
  last_found = nullptr;
  shared_regions[0] = static_region;
  shared_regions[1] = dynamic_region;
}

void find_module(const void* kernel) {
  module = Module{};
  module.kernel = reinterpret_cast<uintptr_t>(kernel);
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        bool holds_kernel = false;
        std::vector<Segment> segments;
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD) continue;
          const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
          segments.push_back({begin, begin + header.p_memsz, (header.p_flags & PF_W) != 0});
          holds_kernel = holds_kernel || (module.kernel >= begin && module.kernel < begin + header.p_memsz);
        }
        if (!holds_kernel) return 0;
        module.segments = std::move(segments);
        for (int i = 0; i < info->dlpi_phnum; ++i) {
          if (info->dlpi_phdr[i].p_type != PT_TLS) continue;
          module.thread_local_block = info->dlpi_tls_data;
          module.thread_local_bytes = info->dlpi_phdr[i].p_memsz;
        }
        return 1;
      },
      nullptr);
}

void* static_shared_begin() { return module.thread_local_block; }
size_t static_shared_bytes() { return module.thread_local_block != nullptr ? module.thread_local_bytes : 0; }

void access_memory(uintptr_t address, size_t bytes, Access access, uintptr_t site) {
  const auto stack = reinterpret_cast<uintptr_t>(current->stack);
  if (address - stack < stack_bytes) return;
  if (++current->accesses > (uint64_t{1} << 25)) {
    fail_at("it does not end: 33 million memory accesses without a barrier", site);
  }
  Region* region = find_region(address);
  if (region == nullptr) {
    if (in_module(address, bytes, access)) return;
    const std::string what = std::string("it ") + verb(access) + " " + hex_free(bytes) + " out of bounds, ";
    if (in_fiber_stacks(address)) fail_at(what + "in another thread's local memory", site);
    fail_at(what + where(address), site);
  }
  const size_t first = address - region->begin;
  if (first + bytes > region->bytes) {
    fail_at(std::string("it ") + verb(access) + " " + hex_free(bytes) + " out of bounds, " + where(address), site);
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
    record(cell, access, site);
    if (access != Access::read && region->space == Space::global && !region->all_defined) region->defined[i] = 1;
  }
  if (access == Access::atomic && region->space == Space::global) running.did_global_atomic = true;
}

}  // namespace simt
