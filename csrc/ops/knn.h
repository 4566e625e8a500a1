// knn: for every query the k keys of the largest dot product, without storing all of them. On the CPU; a GPU has
// torch's products and topk, composed in sslfast/ops/knn.py.
//
//   queries  (N, d)  float32, float64, float16 or bfloat16, contiguous, N and d of 1 or more
//   keys     (M, d)  same dtype, contiguous, M of 1 to 2^31 - 1
//   bias     (M,)    float64 for float64 queries, float32 otherwise; absent: 0
//   k        1 to M
//   -> similarities (N, k) queries . keys + bias, float64 for float64 and float32 otherwise, in descending order
//   -> positions    (N, k) int64 in [0, M)
//
// Equal similarities go by position, the first key first; NaN counts as larger than all numbers and -0 as 0. Sums are
// of the results' precision, in an order that depends on d alone: the bits depend neither on the number of threads nor
// on the other queries and keys. Memory beyond inputs and results is O(k) a query, and a few megabytes a thread.
#pragma once

#include <cstdint>

#include "csrc/stable/check.h"

namespace sslfast {

struct KnnArgs {
  const void* queries;
  const void* keys;
  const void* bias;  // null: 0
  void* similarities;
  int64_t* positions;
  ScalarType dtype;
  int64_t rows, columns, depth, k;
};

}  // namespace sslfast
