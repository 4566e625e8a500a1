// float32 to the 16-bit types and back, written so that gcc vectorises it (vcvtps2ph for float16 where the processor
// has it).
#pragma once

#include <cstdint>
#include <cstring>

namespace sslfast {
namespace {

using float16 = _Float16;
struct bfloat16 {
  uint16_t bits;
};

template <class T>
inline T convert(float value) {
  return static_cast<T>(value);
}

// Round to nearest, ties to even; a NaN stays a NaN.
template <>
inline bfloat16 convert<bfloat16>(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  return {static_cast<uint16_t>(value == value ? rounded : 0x7FC0u)};
}

// The type that values are summed up in.
inline float widen(float16 value) { return static_cast<float>(value); }
inline float widen(bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof(wide));
  return wide;
}
inline float widen(float value) { return value; }
inline double widen(double value) { return value; }

}  // namespace
}  // namespace sslfast
