// Puts torch's CPU tensors where the bench watches them: known to the byte, with unowned memory on both sides.
#include <c10/core/CPUAllocator.h>

#include <algorithm>
#include <cstdlib>
#include <new>

#include "../include/simt/runtime.h"
#include "memory.h"

namespace simt {
namespace {

constexpr size_t alignment = 64;

void free_guarded(void* payload) {
  if (payload == nullptr) return;
  remove_global(payload);
  void* memory = nullptr;  // what aligned_alloc returned is kept just before the payload
  memcpy(&memory, static_cast<char*>(payload) - sizeof(memory), sizeof(memory));
  std::free(memory);
}

class GuardedAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &free_guarded, cpu};
    // Wide enough for a row or a plane too many to land in it.
    const size_t guard =
        (std::max<size_t>(4096, std::min<size_t>(bytes, size_t{1} << 20)) + alignment - 1) / alignment * alignment;
    char* memory =
        static_cast<char*>(std::aligned_alloc(alignment, (bytes + 2 * guard + alignment - 1) / alignment * alignment));
    if (memory == nullptr) throw std::bad_alloc();
    char* payload = memory + guard;
    memcpy(payload - sizeof(memory), &memory, sizeof(memory));
    fill_poison(payload, bytes);
    add_global(payload, bytes);
    return {payload, payload, &free_guarded, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &free_guarded; }
  void copy_data(void* to, const void* from, size_t bytes) const override { memcpy(to, from, bytes); }
};

GuardedAllocator guarded;
c10::Allocator* plain = nullptr;

}  // namespace

// From now on, tensors are (not) guarded.
extern "C" SIMT_EXPORT void simt_guard(bool on) {
  if (plain == nullptr) plain = c10::GetCPUAllocator();
  c10::SetCPUAllocator(on ? static_cast<c10::Allocator*>(&guarded) : plain);
}

}  // namespace simt
