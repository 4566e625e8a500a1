// Qualifiers, the position of a thread, and the launch.
#pragma once

#include "runtime.h"
#include "vector_types.h"

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __grid_constant__
// One copy a thread of the host, in one block of memory whose place the bench knows; dynamic shared memory comes from
// SSLFAST_DYNAMIC_SHARED. "constinit": shared variables have no constructors, so none may be called for them.
// Each begins at a multiple of 64 KiB, more than a block has, so that what lies past its end belongs to no variable.
#define __shared__ __attribute__((aligned(65536))) static constinit thread_local

#define threadIdx (::simt::thread_index())
#define blockIdx (::simt::block_index())
#define blockDim (::simt::block_shape())
#define gridDim (::simt::grid_shape())
inline constexpr int warpSize = 32;

struct SimtStream;
using cudaStream_t = SimtStream*;

namespace simt {

// Touched at every launch, so that the thread-local block of this library exists.
inline thread_local volatile char shared_anchor;

template <class... Parameters>
inline void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t,
                   Parameters... arguments) {
  shared_anchor = 1;
  auto thread = [&]() SIMT_UNCHECKED { kernel(arguments...); };
  using Thread = decltype(thread);
  run_grid(
      reinterpret_cast<const void*>(kernel), {grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes,
      +[](const void* closure) SIMT_UNCHECKED { (*static_cast<const Thread*>(closure))(); }, &thread);
}

}  // namespace simt
