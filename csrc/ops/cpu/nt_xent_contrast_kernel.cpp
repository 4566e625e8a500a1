// nt_xent_contrast and unit_rows on the CPU: the passes of nt_xent between those that normalise and those that undo it.
#include "csrc/ops/nt_xent_contrast.h"

#include <cmath>

#include "csrc/ops/cpu/nt_xent_backward.h"
#include "csrc/ops/cpu/nt_xent_forward.h"
#include "csrc/stable/isa.h"

namespace sslfast {
namespace {

constexpr int64_t least_numbers = 1 << 15;  // of a thread's share of rows; less is done sooner than divided

// body(i) for every row, on several threads where that pays.
template <class Body>
void each_row(int64_t count, int64_t depth, const Body& body) {
  parallel_for(count, least_numbers / depth + 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  });
}

template <class T>
T dot(const T* a, const T* b, int64_t depth) {
  T sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t k = 0; k < depth; ++k) sum += a[k] * b[k];
  return sum;
}

// --- rows of length 1 ------------------------------------------------------------------------------------------------

// Writes `row` scaled to length 1 and returns the factor. Dividing by the largest component first keeps the squares in
// range. A NaN is no largest component, but makes the length NaN.
template <class T, class Real>
Real normalise(const T* row, int64_t depth, Real* unit) {
  Real largest = 0;
#pragma omp simd reduction(max : largest)
  for (int64_t k = 0; k < depth; ++k) {
    const Real value = static_cast<Real>(row[k]);
    unit[k] = value;
    const Real size = value < 0 ? -value : value;
    largest = size > largest ? size : largest;
  }
  const Real scale = largest <= static_cast<Real>(1e-12) ? 0 : 1 / largest;
  Real squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t k = 0; k < depth; ++k) squares += unit[k] * scale * (unit[k] * scale);
  const Real length = std::sqrt(squares);  // 1 or more, or 0
  const Real factor = length < static_cast<Real>(0.5) ? 2 : 1 / length;
#pragma omp simd
  for (int64_t k = 0; k < depth; ++k) unit[k] = unit[k] * scale * factor;
  return scale * factor;
}

template <class T>
void unit_rows(const UnitRowsForwardArgs<T>& args) {
  each_row(args.count, args.depth, [&](int64_t i) {
    args.inverse[i] = normalise(args.rows + i * args.depth, args.depth, args.unit + i * args.depth);
  });
}

// out = (grad - unit (unit . grad)) * inverse; returns unit . grad.
template <class Real>
Real along_the_sphere(const Real* grad, const Real* unit, Real inverse, int64_t depth, Real* out) {
  const Real outward = dot(grad, unit, depth);
#pragma omp simd
  for (int64_t k = 0; k < depth; ++k) out[k] = (grad[k] - unit[k] * outward) * inverse;
  return outward;
}

template <class Real>
void unit_rows_backward(const UnitRowsBackwardArgs<Real>& args) {
  each_row(args.count, args.depth, [&](int64_t i) {
    const int64_t at = i * args.depth;
    along_the_sphere(args.grad + at, args.unit + at, args.inverse[i], args.depth, args.grad_rows + at);
  });
}

// --- contrast --------------------------------------------------------------------------------------------------------

// For views itself and its positive, for towers its positive, for others none.
class Excluded {
 public:
  Excluded(int64_t batch, bool views, bool others)
      : count_(views ? 2 : (others ? 0 : 1)), columns_((views ? 2 * batch : batch) * count_) {
    for (int64_t i = 0; i < (views ? 2 * batch : batch) && count_ > 0; ++i) {
      columns_.data()[i * count_] = i;
      if (views) columns_.data()[i * count_ + 1] = i < batch ? i + batch : i - batch;
    }
  }

  int64_t count() const { return count_; }
  const int64_t* columns() const { return columns_.data(); }

 private:
  int64_t count_;
  Scratch<int64_t> columns_;
};

// What the rows of `args.unit` are contrasted with.
template <class T, class Args>
struct Negatives {
  explicit Negatives(const Args& args)
      : keys(args.views ? nullptr : (args.others != nullptr ? args.others : args.unit + args.batch * args.depth)),
        rows(args.views ? 2 * args.batch : args.batch),
        columns(args.others != nullptr ? args.other_count : rows) {}

  const T* keys;  // null: each other
  int64_t rows;
  int64_t columns;
};

// Mean of log(1 + exp(negatives - positives / temperature)), which is exact where it is almost 0.
template <class T>
T cross_entropy(const T* positives, const T* negatives, int64_t count, double temperature) {
  const T scale = static_cast<T>(1 / temperature);
  double sum = 0;
  for (int64_t i = 0; i < count; ++i) {
    const T difference = negatives[i] - positives[i] * scale;
    sum += difference > 50 ? difference : std::log1p(std::exp(difference));
  }
  return static_cast<T>(sum / static_cast<double>(count));
}

// Its gradient by positives and negatives, times `grad`.
template <class T>
void cross_entropy_backward(T grad, const T* positives, const T* negatives, int64_t count, double temperature,
                            T* grad_positives, T* grad_negatives) {
  const T scale = static_cast<T>(1 / temperature);
  for (int64_t i = 0; i < count; ++i) {
    const T share = 1 / (1 + std::exp(positives[i] * scale - negatives[i]));
    grad_negatives[i] = grad / static_cast<T>(count) * share;
    grad_positives[i] = -scale * grad_negatives[i];
  }
}

template <class T>
void contrast(const NtXentContrastForwardArgs<T>& args) {
  const int64_t batch = args.batch;
  each_row(batch, args.depth, [&](int64_t i) {
    const T similarity = dot(args.unit + i * args.depth, args.unit + (batch + i) * args.depth, args.depth);
    args.positives[i] = similarity;
    if (args.views || args.both_ways) args.positives[batch + i] = similarity;
  });
  const Excluded excluded(batch, args.views, args.others != nullptr);
  const Negatives<T, NtXentContrastForwardArgs<T>> against(args);
  NtXentForwardArgs<T> pass{};
  pass.queries = args.unit;
  pass.keys = against.keys;
  pass.excluded = excluded.columns();
  pass.lse = args.negatives;
  pass.largest = args.largest;
  pass.rows = against.rows;
  pass.columns = against.columns;
  pass.depth = args.depth;
  pass.exclusions = excluded.count();
  pass.temperature = args.temperature;
  forward(pass, args.both_ways ? args.negatives + batch : nullptr,
          args.both_ways && args.largest != nullptr ? args.largest + batch : nullptr);
  const int64_t count = args.views || args.both_ways ? 2 * batch : batch;
  *args.loss = cross_entropy(args.positives, args.negatives, count, args.temperature);
}

template <class T>
void contrast_backward(const NtXentContrastBackwardArgs<T>& args) {
  const int64_t batch = args.batch;
  const int64_t depth = args.depth;
  const int64_t count = args.views || args.both_ways ? 2 * batch : batch;
  const Scratch<T> grads(args.grad_loss == nullptr ? 0 : 2 * count);
  if (args.grad_loss != nullptr) {
    cross_entropy_backward(*args.grad_loss, args.positives, args.negatives, count, args.temperature, grads.data(),
                           grads.data() + count);
  }
  const T* const grad_positives = args.grad_loss != nullptr ? grads.data() : args.grad_positives;
  const T* const grad_negatives = args.grad_loss != nullptr ? grads.data() + count : args.grad_negatives;
  const Excluded excluded(batch, args.views, args.others != nullptr);
  const Negatives<T, NtXentContrastBackwardArgs<T>> against(args);
  const Scratch<T> grad_unit(2 * batch * depth);  // by the rows of length 1
  T* const grad_second = grad_unit.data() + batch * depth;
  NtXentBackwardArgs<T> pass{};
  pass.grad_lse = grad_negatives;
  pass.queries = args.unit;
  pass.keys = against.keys;
  pass.excluded = excluded.columns();
  pass.lse = args.negatives;
  pass.grad_queries = grad_unit.data();
  pass.rows = against.rows;
  pass.columns = against.columns;
  pass.depth = depth;
  pass.exclusions = excluded.count();
  pass.temperature = args.temperature;
  if (!args.views)
    pass.grad_keys = args.others != nullptr ? args.grad_others : (args.grad_second ? grad_second : nullptr);
  backward(pass, args.both_ways ? grad_negatives + batch : nullptr, args.both_ways ? args.negatives + batch : nullptr);

  const Scratch<T> outward(2 * batch);
  each_row(batch, depth, [&](int64_t i) {
    const T grad = grad_positives[i] + (count > batch ? grad_positives[batch + i] : 0);
    const T* const unit = args.unit + i * depth;
    const T* const other = args.unit + (batch + i) * depth;
    T* const by_unit = grad_unit.data() + i * depth;
    T* const by_other = grad_second + i * depth;
#pragma omp simd
    for (int64_t k = 0; k < depth; ++k) by_unit[k] += grad * other[k];
    outward.data()[i] = along_the_sphere(by_unit, unit, args.inverse[i], depth, args.grad_first + i * depth);
    if (args.grad_second == nullptr) return;
    const bool untouched = args.others != nullptr;
#pragma omp simd
    for (int64_t k = 0; k < depth; ++k) by_other[k] = (untouched ? 0 : by_other[k]) + grad * unit[k];
    outward.data()[batch + i] =
        along_the_sphere(by_other, other, args.inverse[batch + i], depth, args.grad_second + i * depth);
  });
  // A factor of all similarities is one of all rows of one side. Views are both sides: each has the factor's root.
  double sum = 0;
  for (int64_t i = 0; i < (args.views ? 2 * batch : batch); ++i) sum += outward.data()[i];
  *args.scale = static_cast<T>(args.views ? sum / 2 : sum);
}

void unit_rows_float(const UnitRowsForwardArgs<float>& args) { unit_rows(args); }
void unit_rows_double(const UnitRowsForwardArgs<double>& args) { unit_rows(args); }
void unit_rows_half(const UnitRowsForwardArgs<Half>& args) { unit_rows(args); }
void unit_rows_bfloat16(const UnitRowsForwardArgs<BFloat16>& args) { unit_rows(args); }
void unit_rows_backward_float(const UnitRowsBackwardArgs<float>& args) { unit_rows_backward(args); }
void unit_rows_backward_double(const UnitRowsBackwardArgs<double>& args) { unit_rows_backward(args); }
void contrast_float(const NtXentContrastForwardArgs<float>& args) { contrast(args); }
void contrast_double(const NtXentContrastForwardArgs<double>& args) { contrast(args); }
void contrast_backward_float(const NtXentContrastBackwardArgs<float>& args) { contrast_backward(args); }
void contrast_backward_double(const NtXentContrastBackwardArgs<double>& args) { contrast_backward(args); }

SSLFAST_CPU_KERNEL(UnitRowsForwardArgs<float>, unit_rows_float)
SSLFAST_CPU_KERNEL(UnitRowsForwardArgs<double>, unit_rows_double)
SSLFAST_CPU_KERNEL(UnitRowsForwardArgs<Half>, unit_rows_half)
SSLFAST_CPU_KERNEL(UnitRowsForwardArgs<BFloat16>, unit_rows_bfloat16)
SSLFAST_CPU_KERNEL(UnitRowsBackwardArgs<float>, unit_rows_backward_float)
SSLFAST_CPU_KERNEL(UnitRowsBackwardArgs<double>, unit_rows_backward_double)
SSLFAST_CPU_KERNEL(NtXentContrastForwardArgs<float>, contrast_float)
SSLFAST_CPU_KERNEL(NtXentContrastForwardArgs<double>, contrast_double)
SSLFAST_CPU_KERNEL(NtXentContrastBackwardArgs<float>, contrast_backward_float)
SSLFAST_CPU_KERNEL(NtXentContrastBackwardArgs<double>, contrast_backward_double)

}  // namespace
}  // namespace sslfast
