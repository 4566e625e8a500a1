#include "csrc/stable/recycle.h"

#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#if defined(__unix__)
#include <pthread.h>
#endif
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sslfast {
namespace {

constexpr int64_t huge_page_bytes = int64_t{2} << 20;
constexpr int64_t most_kept_bytes = int64_t{512} << 20;
constexpr int64_t patience = 64;  // so many takings later, memory that none of them wanted is given up

struct Block {
  void* data;
  int64_t bytes;
  int64_t since;  // number of the last taking when it was returned
};

class Shelf {
 public:
  void* take(int64_t bytes) {
    std::vector<Block> given_up;
    void* found = nullptr;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      ++takings_;
      // From the end: what was returned last is the likeliest to be in a cache.
      for (size_t i = blocks_.size(); i-- > 0 && found == nullptr;) {
        if (blocks_[i].bytes == bytes) found = remove(i).data;
      }
      while (!blocks_.empty() && blocks_.front().since + patience < takings_) given_up.push_back(remove(0));
    }
    for (const Block& block : given_up) std::free(block.data);
    return found;
  }

  void put(void* data, int64_t bytes) {
    std::vector<Block> given_up;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      blocks_.push_back({data, bytes, takings_});
      kept_bytes_ += bytes;
      while (kept_bytes_ > most_kept_bytes) given_up.push_back(remove(0));
    }
    for (const Block& block : given_up) std::free(block.data);
  }

 private:
  Block remove(size_t place) {
    const Block block = blocks_[place];
    blocks_.erase(blocks_.begin() + static_cast<std::ptrdiff_t>(place));
    kept_bytes_ -= block.bytes;
    return block;
  }

  std::mutex mutex_;
  std::vector<Block> blocks_;  // the longest kept first
  int64_t kept_bytes_ = 0, takings_ = 0;
};

// Never destroyed: results may outlive it. In a forked process its lock might be held by a thread that is not there.
Shelf* shelf = [] {
#if defined(__unix__)
  pthread_atfork(nullptr, nullptr, [] { shelf = new Shelf; });
#endif
  return new Shelf;
}();

int64_t whole_huge_pages(int64_t bytes) { return (bytes + huge_page_bytes - 1) / huge_page_bytes * huge_page_bytes; }

}  // namespace

void* take_memory(int64_t bytes) {
  bytes = whole_huge_pages(bytes);
  if (void* kept = shelf->take(bytes)) return kept;
  void* fresh = std::aligned_alloc(huge_page_bytes, static_cast<size_t>(bytes));
  if (fresh == nullptr) throw std::bad_alloc();
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  madvise(fresh, static_cast<size_t>(bytes), MADV_HUGEPAGE);  // a hint: without huge pages nothing else changes
#endif
  return fresh;
}

void return_memory(void* data, int64_t bytes) { shelf->put(data, whole_huge_pages(bytes)); }

}  // namespace sslfast
