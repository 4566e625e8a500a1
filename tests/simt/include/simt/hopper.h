// What csrc/stable/hopper.h asks of the bench: barriers in shared memory, the copy engine, products of a warp group.
#pragma once

#include <cstdint>

#include "runtime.h"

namespace simt {

// Is the bench an sm_90 chip, or an sm_80 one?
SIMT_EXPORT bool is_hopper();
SIMT_EXPORT int multiprocessors();

// Address in the window of shared memory, as descriptors name it.
SIMT_EXPORT uint32_t shared_address(const void* shared);

SIMT_EXPORT void mbarrier_init(void* barrier, int arrivals);
// `bytes`: announced for the current phase; 0 is a plain arrival.
SIMT_EXPORT void mbarrier_arrive(void* barrier, int bytes);
SIMT_EXPORT void mbarrier_wait(void* barrier, int parity, Site site);
SIMT_EXPORT void fence_async_proxy();

// The bytes arrive at any time between this call and the end of the barrier's current phase; until a thread has waited
// for that, they are poison and touching them is an error.
SIMT_EXPORT void copy_bulk(void* shared, const void* global, int bytes, void* barrier);

// One m64nNk16: sums += A B. A lies in registers (`a`, four a thread) or in shared memory. Until the wait the sums are
// poison.
struct WarpgroupProduct {
  float* sums;  // columns / 2 of this thread
  int columns;
  bool add;
  const uint32_t* a;  // null: a_matrix
  uint64_t a_matrix;
  uint64_t b_matrix;
  bool b_transposed;
  float (*widen)(uint16_t bits);
};
SIMT_EXPORT void wgmma(const WarpgroupProduct& product, Site site);
SIMT_EXPORT void wgmma_fence(SIMT_SITE);
SIMT_EXPORT void wgmma_commit(SIMT_SITE);
SIMT_EXPORT void wgmma_wait(int pending, SIMT_SITE);

template <class T>
inline float widen(uint16_t bits) {
  return static_cast<float>(T::from_bits(bits));
}

}  // namespace simt
