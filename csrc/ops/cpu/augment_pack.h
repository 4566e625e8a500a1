// Registers of floats to a result of any dtype: rounded to nearest, ties to even, and past the caches where asked.
#pragma once

#include "csrc/ops/cpu/augment_lanes.h"
#include "csrc/ops/cpu/convert.h"

namespace sslfast {
namespace {

// `lanes` values of a result.
template <class T>
struct Packed {
  typedef T type __attribute__((vector_size(sizeof(T) * lanes)));
};
typedef Packed<uint16_t>::type PackedBits;

template <class T>
struct PackLanes;

template <>
struct PackLanes<float> {
  static Lanes pack(Lanes values) { return values; }
};

template <>
struct PackLanes<float16> {
  static PackedBits pack(Lanes values) {
#if defined(__AVX512F__)
    return reinterpret_cast<PackedBits>(_mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__AVX2__)
    return reinterpret_cast<PackedBits>(_mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
#else
    PackedBits packed;
    for (int i = 0; i < lanes; ++i) {
      const float16 value = convert<float16>(values[i]);
      uint16_t bits;
      std::memcpy(&bits, &value, sizeof(bits));
      packed[i] = bits;
    }
    return packed;
#endif
  }
};

template <>
struct PackLanes<bfloat16> {
  static PackedBits pack(Lanes values) {
    typedef uint32_t Bits __attribute__((vector_size(4 * lanes)));
    const Bits bits = reinterpret_cast<Bits>(values);
    const Bits rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    return __builtin_convertvector(values == values ? rounded : Bits{} + 0x7FC0u, PackedBits);
  }
};

template <class T>
inline void store_lanes(T* target, Lanes values) {
  const auto packed = PackLanes<T>::pack(values);
  std::memcpy(target, &packed, sizeof(packed));
}

// Writes to memory without reading it into the caches first, as results do that are larger than the caches. `target` is
// a multiple of what a register takes. Other threads see it after `end_of_stream`.
template <class T>
inline void stream_lanes(T* target, Lanes values) {
  const auto packed = PackLanes<T>::pack(values);
#if defined(__x86_64__)
  if constexpr (sizeof(packed) == 8) {
    _mm_stream_si64(reinterpret_cast<long long*>(target), reinterpret_cast<long long>(packed));
  } else if constexpr (sizeof(packed) == 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(target), reinterpret_cast<__m128i>(packed));
  }
#if defined(__AVX2__)
  if constexpr (sizeof(packed) == 32) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(target), reinterpret_cast<__m256i>(packed));
  }
#endif
#if defined(__AVX512F__)
  if constexpr (sizeof(packed) == 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(target), reinterpret_cast<__m512i>(packed));
  }
#endif
#else
  std::memcpy(target, &packed, sizeof(packed));
#endif
}

inline void end_of_stream() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace
}  // namespace sslfast
