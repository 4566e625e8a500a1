// The calls that the compiler puts at every load and store of a kernel (-fsanitize=thread,bounds-strict,alignment); the
// bench answers them in place of the sanitizers' own libraries. Outside of a kernel they do nothing.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "scheduler.h"

namespace simt {
namespace {

void touch(const void* address, size_t bytes, Access access, void* site) {
  if (current == nullptr || bytes == 0) return;
  access_memory(reinterpret_cast<uintptr_t>(address), bytes, access, reinterpret_cast<uintptr_t>(site));
}

[[noreturn]] void fail_misaligned(size_t bytes, void* site) {
  fail_at("misaligned access: " + std::to_string(bytes) + " bytes at an address that is not a multiple of " +
              std::to_string(bytes),
          reinterpret_cast<uintptr_t>(site));
}

void touch_aligned(const void* address, size_t bytes, Access access, void* site) {
  if (current == nullptr) return;
  const auto where = reinterpret_cast<uintptr_t>(address);
  if (where % bytes != 0) fail_misaligned(bytes, site);
  access_memory(where, bytes, access, reinterpret_cast<uintptr_t>(site));
}

}  // namespace

// "file.cu:12", or the name of the function that begins there.
std::string source_line(uintptr_t site) {
  Dl_info info{};
  if (site == 0 || dladdr(reinterpret_cast<void*>(site), &info) == 0) return "an unknown place";
  const bool is_kernel = reinterpret_cast<uintptr_t>(running.kernel) == site;
  const uintptr_t offset = site - reinterpret_cast<uintptr_t>(info.dli_fbase) - (is_kernel ? 0 : 1);
  char command[4096];
  std::snprintf(command, sizeof(command), "addr2line -C -f -e '%s' 0x%zx 2>/dev/null", info.dli_fname,
                static_cast<size_t>(offset));
  std::string lines[2];
  if (FILE* pipe = popen(command, "r")) {
    for (std::string& line : lines) {
      char text[2048] = "";
      if (fgets(text, sizeof(text), pipe) != nullptr) line = text;
      while (!line.empty() && (line.back() == '\n' || line.back() == ' ')) line.pop_back();
    }
    pclose(pipe);
  }
  if (is_kernel) {
    std::string name = lines[0];
    const std::string anonymous = "(anonymous namespace)::";
    for (size_t at; (at = name.find(anonymous)) != std::string::npos;) name.erase(at, anonymous.size());
    name = name.substr(0, name.find('('));
    return name.empty() ? "of unknown name" : name;
  }
  const std::string place = lines[1].substr(lines[1].rfind('/') + 1);
  return place.substr(0, place.find(" ("));
}

void atomic_access(void* address, size_t bytes) {
  touch_aligned(address, bytes, Access::atomic, __builtin_return_address(0));
}

void checked_access(const void* address, size_t bytes, bool write) {
  touch_aligned(address, bytes, write ? Access::write : Access::read, __builtin_return_address(0));
}

void copy_async(void* shared, const void* global, size_t bytes, bool valid) {
  CopyAsync copy{shared, std::vector<unsigned char>(bytes, 0), current->groups};
  if (valid) {
    touch_aligned(global, bytes, Access::read, __builtin_return_address(0));
    memcpy(copy.bytes.data(), global, bytes);
  }
  current->copies.push_back(std::move(copy));
}

void copy_async_commit() { ++current->groups; }

void copy_async_wait(int pending_groups) {
  std::vector<CopyAsync> pending;
  for (CopyAsync& copy : current->copies) {
    if (pending_groups >= 0 && copy.group >= current->groups - pending_groups) {
      pending.push_back(std::move(copy));
      continue;
    }
    touch_aligned(copy.shared, copy.bytes.size(), Access::write, __builtin_return_address(0));
    memcpy(copy.shared, copy.bytes.data(), copy.bytes.size());
  }
  current->copies = std::move(pending);
}

}  // namespace simt

using simt::Access;

#define SIMT_SITE_HERE __builtin_return_address(0)
#define SIMT_LOAD_STORE(bytes)                                                                                    \
  SIMT_EXPORT void __tsan_read##bytes(void* a) { simt::touch_aligned(a, bytes, Access::read, SIMT_SITE_HERE); }   \
  SIMT_EXPORT void __tsan_write##bytes(void* a) { simt::touch_aligned(a, bytes, Access::write, SIMT_SITE_HERE); } \
  SIMT_EXPORT void __tsan_unaligned_read##bytes(void* a) { simt::touch(a, bytes, Access::read, SIMT_SITE_HERE); } \
  SIMT_EXPORT void __tsan_unaligned_write##bytes(void* a) { simt::touch(a, bytes, Access::write, SIMT_SITE_HERE); }

// C++ atomics in host code (reference counts) and, should a kernel use them, in kernels.
#define SIMT_ATOMIC_UPDATE(bits, operation, builtin)                                                    \
  SIMT_EXPORT int##bits##_t __tsan_atomic##bits##_##operation(volatile void* a, int##bits##_t v, int) { \
    simt::touch_aligned(const_cast<void*>(a), bits / 8, Access::atomic, SIMT_SITE_HERE);                \
    return builtin(static_cast<volatile int##bits##_t*>(a), v, __ATOMIC_SEQ_CST);                       \
  }
#define SIMT_ATOMICS(bits)                                                                                             \
  SIMT_EXPORT int##bits##_t __tsan_atomic##bits##_load(const volatile void* a, int) {                                  \
    simt::touch_aligned(const_cast<const void*>(a), bits / 8, Access::atomic, SIMT_SITE_HERE);                         \
    return __atomic_load_n(static_cast<const volatile int##bits##_t*>(a), __ATOMIC_SEQ_CST);                           \
  }                                                                                                                    \
  SIMT_EXPORT void __tsan_atomic##bits##_store(volatile void* a, int##bits##_t v, int) {                               \
    simt::touch_aligned(const_cast<void*>(a), bits / 8, Access::atomic, SIMT_SITE_HERE);                               \
    __atomic_store_n(static_cast<volatile int##bits##_t*>(a), v, __ATOMIC_SEQ_CST);                                    \
  }                                                                                                                    \
  SIMT_EXPORT bool __tsan_atomic##bits##_compare_exchange_strong(volatile void* a, void* expected, int##bits##_t v,    \
                                                                 int, int) {                                           \
    simt::touch_aligned(const_cast<void*>(a), bits / 8, Access::atomic, SIMT_SITE_HERE);                               \
    return __atomic_compare_exchange_n(static_cast<volatile int##bits##_t*>(a), static_cast<int##bits##_t*>(expected), \
                                       v, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);                                  \
  }                                                                                                                    \
  SIMT_ATOMIC_UPDATE(bits, exchange, __atomic_exchange_n)                                                              \
  SIMT_ATOMIC_UPDATE(bits, fetch_add, __atomic_fetch_add)                                                              \
  SIMT_ATOMIC_UPDATE(bits, fetch_sub, __atomic_fetch_sub)                                                              \
  SIMT_ATOMIC_UPDATE(bits, fetch_and, __atomic_fetch_and)                                                              \
  SIMT_ATOMIC_UPDATE(bits, fetch_or, __atomic_fetch_or)                                                                \
  SIMT_ATOMIC_UPDATE(bits, fetch_xor, __atomic_fetch_xor)

extern "C" {

SIMT_EXPORT void __tsan_init() {}
SIMT_EXPORT void __tsan_func_entry(void*) {}
SIMT_EXPORT void __tsan_func_exit() {}
SIMT_EXPORT void __tsan_vptr_update(void*, void*) {}
SIMT_EXPORT void __tsan_atomic_thread_fence(int) { __atomic_thread_fence(__ATOMIC_SEQ_CST); }

SIMT_LOAD_STORE(2)
SIMT_LOAD_STORE(4)
SIMT_LOAD_STORE(8)
SIMT_LOAD_STORE(16)
SIMT_EXPORT void __tsan_read1(void* a) { simt::touch(a, 1, Access::read, SIMT_SITE_HERE); }
SIMT_EXPORT void __tsan_write1(void* a) { simt::touch(a, 1, Access::write, SIMT_SITE_HERE); }
SIMT_EXPORT void __tsan_read_range(void* a, size_t n) { simt::touch(a, n, Access::read, SIMT_SITE_HERE); }
SIMT_EXPORT void __tsan_write_range(void* a, size_t n) { simt::touch(a, n, Access::write, SIMT_SITE_HERE); }

SIMT_ATOMICS(8)
SIMT_ATOMICS(16)
SIMT_ATOMICS(32)
SIMT_ATOMICS(64)

// Calls of the C library that a kernel makes; the kernel library is linked with --wrap for them.
SIMT_EXPORT void* __wrap_memcpy(void* to, const void* from, size_t n) {
  simt::touch(from, n, Access::read, SIMT_SITE_HERE);
  simt::touch(to, n, Access::write, SIMT_SITE_HERE);
  return memcpy(to, from, n);
}
SIMT_EXPORT void* __wrap_memset(void* to, int value, size_t n) {
  simt::touch(to, n, Access::write, SIMT_SITE_HERE);
  return memset(to, value, n);
}

// What a pointer of the sanitizer's report points to.
struct MisalignedUse {
  const char* file;
  uint32_t line, column;
  const void* type;
  unsigned char log_alignment;
};

// A pointer whose address its type forbids is followed. The compiler may split a vector into loads and stores of its
// parts, which alone would pass.
SIMT_EXPORT void __ubsan_handle_type_mismatch_v1(const MisalignedUse* use, uintptr_t address) {
  const size_t alignment = size_t{1} << use->log_alignment;
  if (simt::current != nullptr && address % alignment != 0) simt::fail_misaligned(alignment, SIMT_SITE_HERE);
}

// An index outside of an array whose extents the compiler knows: local arrays, and rows inside of a larger array.
SIMT_EXPORT void __ubsan_handle_out_of_bounds(void*, void* index) {
  if (simt::current == nullptr) return;
  simt::fail_at("index " + std::to_string(static_cast<int64_t>(reinterpret_cast<intptr_t>(index))) +
                    " is out of bounds of its array",
                reinterpret_cast<uintptr_t>(SIMT_SITE_HERE));
}

}  // extern "C"
