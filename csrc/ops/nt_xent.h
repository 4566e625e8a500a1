// nt_xent: for every query the log-sum-exp of its similarities to its negatives, and the largest of them on request,
// without storing the similarities.
//
//   queries      (N, d)     float32 or float64, rows of length at most 1
//   keys         (M, d)     same dtype; absent: the queries are their own keys, each pair is computed once, and
//                           `excluded` must be symmetric (column j is excluded for row i where i is for row j)
//   excluded     (N, E)     int64 columns that are no negatives of the row (itself, its positive); a number outside
//                           [0, M) excludes nothing
//   temperature  above 0
//
//   nt_xent_forward  -> lse (N,): lse[i] = log sum over j not in excluded[i] of exp(queries[i] . keys[j] /
//                       temperature), -inf where no column is left
//                    -> largest (N,): largest[i] = max over the same j of queries[i] . keys[j], NaN passed over, -inf
//                       where no column is left; (0,) unless `largest` is asked for
//   nt_xent_backward -> gradient of sum(grad_lse * lse) by queries (N, d), and by keys (M, d); the second is (0, d)
//                       without keys or without `keys_gradient`
//
// Memory beyond inputs and outputs is O((N + M) d). The bits depend neither on the number of threads nor on the run.
// Longer rows are no crash, but may overflow to inf or NaN.
#pragma once

#include <cstdint>

#include "csrc/ops/common/nt_xent_math.h"

namespace sslfast {

template <class T>
struct NtXentForwardArgs {
  const T* queries;
  const T* keys;  // null: the queries themselves
  const int64_t* excluded;
  T* lse;
  T* largest;  // null: not wanted
  int64_t rows;
  int64_t columns;
  int64_t depth;
  int64_t exclusions;
  double temperature;
};

template <class T>
struct NtXentBackwardArgs {
  const T* grad_lse;
  const T* queries;
  const T* keys;  // null: the queries themselves
  const int64_t* excluded;
  const T* lse;
  T* grad_queries;
  T* grad_keys;  // null: not wanted
  int64_t rows;
  int64_t columns;
  int64_t depth;
  int64_t exclusions;
  double temperature;
};

}  // namespace sslfast
