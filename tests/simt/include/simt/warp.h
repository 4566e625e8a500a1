// Barriers and warp collectives.
#pragma once

#include <cstdint>
#include <type_traits>

#include "runtime.h"

inline void __syncthreads(SIMT_SITE) { simt::barrier(0, site); }
inline int __syncthreads_count(int predicate, SIMT_SITE) { return simt::barrier(predicate, site); }
inline int __syncthreads_or(int predicate, SIMT_SITE) { return simt::barrier(predicate, site) != 0; }
inline int __syncthreads_and(int predicate, SIMT_SITE) { return simt::barrier(!predicate, site) == 0; }

SIMT_UNCHECKED inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_SITE) {
  simt::exchange(simt::Collective::sync, mask, char{0}, true, site);
}

inline void __threadfence() { simt::fence(); }
inline void __threadfence_block() {}

namespace simt {

// `source` is the lane to read; a lane that the mask does not name gives poison: NaN in every floating type.
template <class T>
SIMT_UNCHECKED inline T shuffle(unsigned mask, T value, int source, Site site) {
  static_assert(std::is_trivially_copyable_v<T>, "a shuffle moves plain values");
  return exchange(Collective::shuffle, mask, value, false, site).of[source];
}

SIMT_UNCHECKED inline void check_width(int width) {
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) fail("the width of a shuffle is a power of two up to 32");
}

}  // namespace simt

template <class T>
SIMT_UNCHECKED inline T __shfl_sync(unsigned mask, T value, int source, int width = 32, SIMT_SITE) {
  simt::check_width(width);
  const int first = simt::lane() & ~(width - 1);
  return simt::shuffle(mask, value, first + (source & (width - 1)), site);
}

template <class T>
SIMT_UNCHECKED inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
  simt::check_width(width);
  const int lane = simt::lane();
  const int source = lane - static_cast<int>(delta);
  return simt::shuffle(mask, value, source < (lane & ~(width - 1)) ? lane : source, site);
}

template <class T>
SIMT_UNCHECKED inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, SIMT_SITE) {
  simt::check_width(width);
  const int lane = simt::lane();
  const int source = lane + static_cast<int>(delta);
  return simt::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, site);
}

template <class T>
SIMT_UNCHECKED inline T __shfl_xor_sync(unsigned mask, T value, int flip, int width = 32, SIMT_SITE) {
  simt::check_width(width);
  const int lane = simt::lane();
  const int source = lane ^ flip;
  return simt::shuffle(mask, value, source > (lane | (width - 1)) ? lane : source, site);
}

SIMT_UNCHECKED inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_SITE) {
  const auto lanes = simt::exchange(simt::Collective::vote, mask, static_cast<int>(predicate != 0), false, site);
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= (mask >> lane & 1) && lanes.of[lane] ? 1u << lane : 0u;
  return votes;
}
SIMT_UNCHECKED inline int __any_sync(unsigned mask, int predicate, SIMT_SITE) {
  return __ballot_sync(mask, predicate, site) != 0;
}
SIMT_UNCHECKED inline int __all_sync(unsigned mask, int predicate, SIMT_SITE) {
  return __ballot_sync(mask, predicate, site) == mask;
}

namespace simt {

template <class T, class Combine>
SIMT_UNCHECKED inline T reduce(unsigned mask, T value, Site site, const Combine& combine) {
  static_assert(sizeof(T) == 4 && std::is_integral_v<T>, "__reduce_*_sync takes int or unsigned");
  const Lanes<T> lanes = exchange(Collective::reduce, mask, value, false, site);
  T result = value;
  bool first = true;
  for (int lane = 0; lane < 32; ++lane) {
    if (!(mask >> lane & 1)) continue;
    result = first ? lanes.of[lane] : combine(result, lanes.of[lane]);
    first = false;
  }
  return result;
}

}  // namespace simt

#define SIMT_REDUCE(name, expression)                                                                           \
  template <class T>                                                                                            \
  SIMT_UNCHECKED inline T __reduce_##name##_sync(unsigned mask, T value, SIMT_SITE) {                           \
    return simt::reduce(mask, value, site, [](T a, T b) SIMT_UNCHECKED { return static_cast<T>(expression); }); \
  }
SIMT_REDUCE(add, static_cast<unsigned>(a) + static_cast<unsigned>(b))
SIMT_REDUCE(min, a < b ? a : b)
SIMT_REDUCE(max, a > b ? a : b)
SIMT_REDUCE(and, a& b)
SIMT_REDUCE(or, a | b)
SIMT_REDUCE(xor, a ^ b)

template <class T>
SIMT_UNCHECKED inline unsigned __match_any_sync(unsigned mask, T value, SIMT_SITE) {
  const auto lanes = simt::exchange(simt::Collective::match, mask, value, false, site);
  unsigned same = 0;
  for (int lane = 0; lane < 32; ++lane) {
    if ((mask >> lane & 1) && memcmp(&lanes.of[lane], &value, sizeof(T)) == 0) same |= 1u << lane;
  }
  return same;
}

template <class T>
SIMT_UNCHECKED inline unsigned __match_all_sync(unsigned mask, T value, int* all, SIMT_SITE) {
  const unsigned same = __match_any_sync(mask, value, site);
  *all = same == mask;
  return *all ? mask : 0;
}
