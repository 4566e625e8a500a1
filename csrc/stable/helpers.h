// Threads for long jobs beside other work; they sleep between jobs.
//
// torch's own pool (OpenMP) spins for milliseconds after every loop, in the hope of the next one. Where views are made
// while a decoder's threads want the same cores, that costs half as much again as the views do. Waking a thread takes
// some ten microseconds, little for a batch of images, and nobody waits for one that comes too late.
#pragma once

#include <atomic>
#include <cstdint>

namespace sslfast {
namespace {

// Work to be shared out: [0, count), `few` items at a time.
class Pieces {
 public:
  Pieces(int64_t count, int64_t few) : count_(count), few_(few) {}

  int64_t number() const { return (count_ + few_ - 1) / few_; }

  // Calls body(item) for the items of piece after piece, until other threads have taken the rest.
  template <class Body>
  void for_each(const Body& body) {
    for (int64_t begin; (begin = next_.fetch_add(few_)) < count_;) {
      for (int64_t item = begin; item < begin + few_ && item < count_; ++item) body(item);
    }
  }

 private:
  int64_t count_, few_;
  std::atomic<int64_t> next_{0};
};

}  // namespace

// Calls body(context) on this thread and, at the same time, on others: as many in all as torch uses, at most one for
// each of the `pieces` of the work, of which body takes one after the other until none is left. Returns when all that
// began have ended, and throws what the first of them threw.
void share_out(int64_t pieces, void (*body)(const void*), const void* context);

template <class Body>
inline void share_out(int64_t pieces, const Body& body) {
  share_out(pieces, [](const void* context) { (*static_cast<const Body*>(context))(); }, &body);
}

}  // namespace sslfast
