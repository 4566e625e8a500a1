// nt_xent_contrast: what contrastive losses of two views ask of raw embeddings, in one op: normalisation, the
// similarities of positives and the log-sum-exp over negatives, forward and backward. For the CPU, where small batches
// spend more time between ops than in them.
//
//   first, second  (B, d)  float32, float64, float16 or bfloat16, of any length; u and v are their rows of length 1, 0
//                          for a row without a component above 1e-12
//   others         (M, d)  absent, or the negatives of all rows of u, of length at most 1, of the results' dtype
//   views          the negatives of each of the 2B rows of u and v are all others but its positive; else those of a row
//                  of u are the rows of v but its positive, or `others`
//   both_ways      then the rows of v are contrasted with those of u too; without `others`
//   temperature    above 0
//
// Results are float64 for float64 and float32 otherwise. With N = 2B for `views` and `both_ways`, first those of u, and
// N = B otherwise:
//
//   nt_xent_contrast_forward  -> loss (): mean of log(1 + exp(negatives - positives / temperature))
//                             -> positives (N,): u_i . v_i
//                             -> negatives (N,): log-sum-exp of the similarities to the negatives over the temperature,
//                                -inf without negatives
//                             -> largest (N,): the largest similarity to a negative; (0,) unless asked for
//                             -> unit (2B, d): u, then v
//                             -> inverse (2B,): 1 / length of the rows of first and second, 0 for a row taken for 0
//   nt_xent_contrast_backward -> gradients of sum(grad_positives * positives) + sum(grad_negatives * negatives) by
//   first
//                                and by second (B, d), by others (M, d), the last two (0, d) where not asked for, in
//                                the results' dtype, and
//                             -> scale (1,): by a common factor, 1 here, of all similarities
//
//   unit_rows_forward(rows)   -> unit and inverse, as above, of rows (N, d)
//   unit_rows_backward(grad, unit, inverse) -> gradient by the rows
//
// The bits depend neither on the number of threads nor on the run.
#pragma once

#include "csrc/ops/nt_xent.h"

namespace sslfast {

// T: type of the rows, and of their gradient.
template <class T>
struct UnitRowsForwardArgs {
  const T* rows;
  NtXentReal<T>* unit;
  NtXentReal<T>* inverse;
  int64_t count;
  int64_t depth;
};

template <class Real>
struct UnitRowsBackwardArgs {
  const Real* grad;
  const Real* unit;
  const Real* inverse;
  Real* grad_rows;
  int64_t count;
  int64_t depth;
};

template <class Real>
struct NtXentContrastForwardArgs {
  const Real* unit;
  const Real* others;  // null: the negatives are those of the batch
  Real* loss;
  Real* positives;
  Real* negatives;
  Real* largest;  // null: not wanted
  int64_t batch;
  int64_t depth;
  int64_t other_count;
  double temperature;
  bool views;
  bool both_ways;
};

template <class Real>
struct NtXentContrastBackwardArgs {
  const Real* grad_loss;       // null: the next two are given
  const Real* grad_positives;  // null: the one before is given
  const Real* grad_negatives;  // as the one before
  const Real* unit;
  const Real* inverse;
  const Real* positives;
  const Real* negatives;
  const Real* others;  // null: the negatives are those of the batch
  Real* grad_first;
  Real* grad_second;  // null: not wanted
  Real* grad_others;  // null: not wanted
  Real* scale;
  int64_t batch;
  int64_t depth;
  int64_t other_count;
  double temperature;
  bool views;
  bool both_ways;
};

}  // namespace sslfast
