// Large results on huge pages. A fresh result of tens of megabytes comes from the kernel in pages of 4 KiB, and
// faulting them in costs more than filling them; a hint is enough to get 2 MiB at a time.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sslfast {
namespace {

constexpr int64_t huge_page_bytes = int64_t{2} << 20;

// Asks for huge pages in [data, data + bytes). It is a hint: where they cannot be had, nothing changes.
inline void prefer_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t mask = huge_page_bytes - 1;
  const uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + mask) & ~mask;
  const uintptr_t end = (reinterpret_cast<uintptr_t>(data) + static_cast<uintptr_t>(bytes)) & ~mask;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace
}  // namespace sslfast
