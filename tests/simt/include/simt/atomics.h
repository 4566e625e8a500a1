// Atomic instructions. Threads switch only where they wait, so plain arithmetic is atomic; the bench records the
// access.
#pragma once

#include <cstdint>
#include <type_traits>

#include "runtime.h"

namespace simt {

template <class T>
using Same = std::type_identity_t<T>;

template <class T, class Update>
SIMT_UNCHECKED inline T atomic_update(T* address, const Update& update) {
  atomic_access(address, sizeof(T));
  const T old = *address;
  *address = update(old);
  return old;
}

}  // namespace simt

#define SIMT_ATOMIC(name, expression)                                                                      \
  template <class T>                                                                                       \
  SIMT_UNCHECKED inline T name(T* address, simt::Same<T> value) {                                          \
    return simt::atomic_update(address, [=](T old) SIMT_UNCHECKED { return static_cast<T>(expression); }); \
  }                                                                                                        \
  template <class T>                                                                                       \
  SIMT_UNCHECKED inline T name##_block(T* address, simt::Same<T> value) {                                  \
    return name(address, value);                                                                           \
  }
SIMT_ATOMIC(atomicAdd, old + value)
SIMT_ATOMIC(atomicSub, old - value)
SIMT_ATOMIC(atomicMin, value < old ? value : old)
SIMT_ATOMIC(atomicMax, value > old ? value : old)
SIMT_ATOMIC(atomicAnd, old& value)
SIMT_ATOMIC(atomicOr, old | value)
SIMT_ATOMIC(atomicXor, old ^ value)
SIMT_ATOMIC(atomicExch, value)
SIMT_ATOMIC(atomicInc, old >= value ? 0 : old + 1)
SIMT_ATOMIC(atomicDec, old == 0 || old > value ? value : old - 1)

template <class T>
SIMT_UNCHECKED inline T atomicCAS(T* address, simt::Same<T> expected, simt::Same<T> value) {
  return simt::atomic_update(address, [=](T old) SIMT_UNCHECKED { return old == expected ? value : old; });
}
