#include "../include/simt/products.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../include/simt/hopper.h"

namespace simt {
namespace {

int exponent_of(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  return static_cast<int>(bits >> 23 & 0xff) - 127;  // 128: infinite or NaN
}

float cut_off(double value) {
  const auto nearest = static_cast<float>(value);
  return std::fabs(nearest) > std::fabs(value) ? std::nextafter(nearest, 0.0f) : nearest;
}

// Of an A100: 8 products at a time, one bit more than float32's 24; of an H100: 16, and two bits.
struct Adder {
  int together, more_bits;
};

float add_together(float sum, const float* a, const float* b, int count, int more_bits) {
  int largest = sum == 0.0f ? -1000 : exponent_of(sum);
  bool finite = largest < 128;
  for (int k = 0; k < count; ++k) {
    const int left = exponent_of(a[k]), right = exponent_of(b[k]);
    finite = finite && left < 128 && right < 128;
    if (a[k] != 0.0f && b[k] != 0.0f) largest = std::max(largest, left + right);
  }
  double total = sum;
  if (!finite || largest == -1000) {
    for (int k = 0; k < count; ++k) total += double{a[k]} * b[k];
    return static_cast<float>(total);
  }
  const double unit = std::ldexp(1.0, largest - 23 - more_bits), units = std::ldexp(1.0, 23 + more_bits - largest);
  total = std::trunc(total * units);
  for (int k = 0; k < count; ++k) total += std::trunc(double{a[k]} * b[k] * units);
  return cut_off(total * unit);
}

}  // namespace

float multiply_add(float sum, const float* a, const float* b, int depth, bool tf32) {
  const Adder adder = is_hopper() ? Adder{16, 2} : Adder{8, 1};
  const int together = std::min(depth, tf32 ? adder.together / 2 : adder.together);
  for (int k = 0; k < depth; k += together) sum = add_together(sum, a + k, b + k, together, adder.more_bits);
  return sum;
}

}  // namespace simt
