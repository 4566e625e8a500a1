// Maths that the CPU and the CUDA kernels of nt_xent share.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "csrc/stable/host_device.h"

namespace sslfast {

// Unit vectors have similarities of at most 1 / temperature. Down to this temperature that bound serves as the shift of
// the log-sum-exp: the smallest term, exp(-2 / 0.03) = 1e-29, is still a normal float32. Below, the running maximum
// does.
SSLFAST_SHARED bool nt_xent_constant_shift(double temperature) { return temperature >= 0.03; }

// Starting value of a running maximum: finite, so that excluded logits (-inf) minus it are -inf and not NaN.
template <class T>
SSLFAST_SHARED T nt_xent_no_maximum() {
  return static_cast<T>(-1e30);
}

SSLFAST_SHARED double nt_xent_exp(double x) { return ::exp(x); }

// exp for x <= 0 within 2 units in the last place, without branches so that compilers vectorise it; 0 below -87, where
// float32 becomes subnormal; NaN stays NaN.
SSLFAST_SHARED float nt_xent_exp(float x) {
  const float clamped = x < -87.0f ? -87.0f : (x > 88.0f ? 88.0f : x);
  const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, kept in the low bits
  const float shifted = clamped * 1.44269504f + magic;
  const float whole = shifted - magic;
  const float rest = (clamped - whole * 0.693359375f) + whole * 2.12194440e-4f;  // log 2 in two parts
  float series = 1.98412698e-4f;                                                 // 1 / 7!
  series = series * rest + 1.38888889e-3f;
  series = series * rest + 8.33333333e-3f;
  series = series * rest + 4.16666667e-2f;
  series = series * rest + 1.66666667e-1f;
  series = series * rest + 0.5f;
  series = series * rest + 1.0f;
  series = series * rest + 1.0f;
  int32_t bits;
  memcpy(&bits, &shifted, sizeof(bits));
  bits = static_cast<int32_t>((static_cast<uint32_t>(bits) << 23) + 0x3f800000u);  // 2^whole
  float power;
  memcpy(&power, &bits, sizeof(power));
  return x < -87.0f ? 0.0f : series * power;
}

// A sum of exponentials, stored relative to its largest term: total = sum * exp(maximum).
template <class T>
struct NtXentSum {
  T maximum;
  T sum;
};

template <class T>
SSLFAST_SHARED NtXentSum<T> nt_xent_merge(NtXentSum<T> a, NtXentSum<T> b) {
  const T maximum = a.maximum > b.maximum ? a.maximum : b.maximum;
  return {maximum, a.sum * nt_xent_exp(a.maximum - maximum) + b.sum * nt_xent_exp(b.maximum - maximum)};
}

template <class T>
SSLFAST_SHARED T nt_xent_value(NtXentSum<T> total) {
  return total.maximum + ::log(total.sum);  // log 0 = -inf: no negatives
}

// The log-sum-exp that the backward pass subtracts from a row's logits: +inf makes every weight of a row 0 that has no
// negatives, where logit - lse would be +inf.
template <class T>
SSLFAST_SHARED T nt_xent_backward_shift(T lse) {
  return lse == -static_cast<T>(INFINITY) ? static_cast<T>(INFINITY) : lse;
}

}  // namespace sslfast
