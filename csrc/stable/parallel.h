// Parallel loops on torch's own thread pool.
#pragma once

#include <torch/csrc/stable/ops.h>

namespace sslfast {

// Calls body(begin, end) on ranges that together cover [0, count), each of at least `grain` items.
template <class Body>
inline void parallel_for(int64_t count, int64_t grain, const Body& body) {
  if (count > 0) torch::stable::parallel_for(0, count, grain, body);
}

// Threads that parallel_for divides its ranges among.
inline int64_t thread_count() { return torch::stable::get_num_threads(); }

}  // namespace sslfast
