// nt_xent: for every query the log-sum-exp of its similarities to its negatives, and the largest of them on request,
// without storing the similarities.
//
//   queries      (N, d)     float32, float64, float16 or bfloat16, rows of length at most 1
//   keys         (M, d)     same dtype; absent: the queries are their own keys, a pair may be computed once, and
//                           `excluded` must be symmetric (column j is excluded for row i where i is for row j)
//   excluded     (N, E)     int64 columns that are no negatives of the row (itself, its positive); a number outside
//                           [0, M) excludes nothing
//   temperature  above 0
//   tf32         products of float32 may round their factors to the 11 significant bits of TF32, where that is faster
//
// Sums are float64 for float64 and float32 otherwise, and so are grad_lse and all results but the gradients, which have
// the inputs' dtype.
//
//   nt_xent_forward  -> lse (N,): lse[i] = log sum over j not in excluded[i] of exp(queries[i] . keys[j] /
//                       temperature), -inf where no column is left
//                    -> largest (N,): largest[i] = max over the same j of queries[i] . keys[j], NaN passed over, -inf
//                       where no column is left; (0,) unless `largest` is asked for
//   nt_xent_classes_forward takes int32 classes of the queries (N,) and of the keys (M,), absent where the keys are,
//   and
//                       returns lse, largest, and
//                    -> largest_other (N,): as largest, of the columns whose class is not that of the row
//   nt_xent_backward -> gradient of sum(grad_lse * lse) by queries (N, d), and by keys (M, d); the second is (0, d)
//                       without keys or without `keys_gradient`
//
// Memory beyond inputs and outputs is O((N + M) d). The bits depend neither on the number of threads nor on the run.
// Longer rows are no crash, but may overflow to inf or NaN.
#pragma once

#include <cstdint>
#include <type_traits>

#include "csrc/ops/common/nt_xent_math.h"
#include "csrc/stable/dispatch.h"

namespace sslfast {

// Type of the sums over numbers of type T.
template <class T>
using NtXentReal = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
struct NtXentForwardArgs {
  const T* queries;
  const T* keys;  // null: the queries themselves
  const int64_t* excluded;
  NtXentReal<T>* lse;
  NtXentReal<T>* largest;  // null: not wanted
  int64_t rows;
  int64_t columns;
  int64_t depth;
  int64_t exclusions;
  double temperature;
  bool tf32;
  const int32_t* classes = nullptr;      // null: largest_other is not wanted
  const int32_t* key_classes = nullptr;  // null: the keys are the queries
  NtXentReal<T>* largest_other = nullptr;
};

template <class T>
struct NtXentBackwardArgs {
  const NtXentReal<T>* grad_lse;
  const T* queries;
  const T* keys;  // null: the queries themselves
  const int64_t* excluded;
  const NtXentReal<T>* lse;
  T* grad_queries;
  T* grad_keys;  // null: not wanted
  int64_t rows;
  int64_t columns;
  int64_t depth;
  int64_t exclusions;
  double temperature;
  bool tf32;
};

}  // namespace sslfast
