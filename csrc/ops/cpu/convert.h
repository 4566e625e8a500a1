// float32 to the output types, written so that gcc vectorises it (vcvtps2ph for float16 where the processor has it).
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

}  // namespace
}  // namespace sslfast
