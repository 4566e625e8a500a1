// Large results on huge pages. A fresh result of tens of megabytes comes from the kernel in pages of 4 KiB, and
// faulting them in costs more than filling them; a hint is enough to get 2 MiB at a time.
#pragma once

#include <cstdint>

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace sslfast {
namespace {

constexpr int64_t huge_page_bytes = int64_t{2} << 20;

// Asks for huge pages under [data, data + bytes). It is a hint: where they cannot be had, nothing changes.
inline void prefer_huge_pages(void* data, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  if (bytes < huge_page_bytes) return;
  // Whole small pages from the one that holds the first byte: a fresh block is mapped from a multiple of 2 MiB on, with
  // the allocator's header before the data.
  const uintptr_t page = static_cast<uintptr_t>(getpagesize());
  const uintptr_t begin = reinterpret_cast<uintptr_t>(data) / page * page;
  madvise(reinterpret_cast<void*>(begin), reinterpret_cast<uintptr_t>(data) + bytes - begin, MADV_HUGEPAGE);
#else
  (void)data;
  (void)bytes;
#endif
}

}  // namespace
}  // namespace sslfast
