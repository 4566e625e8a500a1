// What the CUDA headers of the bench ask of its runtime. Kernels never include this file themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

// Bench functions are not instrumented: what they touch is either the caller's own stack or checked explicitly.
#define SIMT_UNCHECKED __attribute__((no_sanitize("thread", "undefined")))
#define SIMT_EXPORT __attribute__((visibility("default")))

namespace simt {

struct Index {
  unsigned x, y, z;
};

// The line of the kernel's source that called a collective: the default argument is evaluated in the caller.
struct Site {
  const char* file;
  int line;
};
#define SIMT_SITE ::simt::Site site = {__builtin_FILE(), __builtin_LINE()}

enum class Collective : int { sync, shuffle, vote, reduce, match, matrix_product, matrix_load, warpgroup };

inline constexpr int warp_lanes = 32;
inline constexpr size_t operand_bytes = 64;  // the largest value that a lane can hand to a collective

// Position of the running thread; blocks of the running launch.
SIMT_EXPORT Index thread_index() noexcept __attribute__((const));
SIMT_EXPORT Index block_index() noexcept __attribute__((const));
SIMT_EXPORT Index block_shape() noexcept __attribute__((const));
SIMT_EXPORT Index grid_shape() noexcept __attribute__((const));
SIMT_EXPORT int lane() noexcept __attribute__((const));

// The block's dynamic shared memory.
SIMT_EXPORT void* dynamic_shared();

// Waits for all threads of the block; returns how many of them passed a predicate that is not 0.
SIMT_EXPORT int barrier(int predicate, Site site);

// Waits for all lanes in `mask`, then copies every lane's operand to operands[lane * bytes]. `orders_memory`: the
// collective also makes the lanes' earlier reads and writes visible to each other, as __syncwarp does.
SIMT_EXPORT void rendezvous(Collective kind, unsigned mask, const void* operand, size_t bytes, void* operands,
                            bool orders_memory, Site site);

// Memory: an access by an atomic instruction, a plain access made by a bench function, a __threadfence.
SIMT_EXPORT void atomic_access(void* address, size_t bytes);
SIMT_EXPORT void checked_access(const void* address, size_t bytes, bool write);
SIMT_EXPORT void fence();

// cp.async: the bytes arrive when the thread waits for the group they were committed in.
SIMT_EXPORT void copy_async(void* shared, const void* global, size_t bytes, bool valid);
SIMT_EXPORT void copy_async_commit();
SIMT_EXPORT void copy_async_wait(int pending_groups);

// Ends the launch with an error that names kernel, block and thread.
[[noreturn]] SIMT_EXPORT void fail(const char* what);

// Shared memory that a block may have at most, static and dynamic together; what of it a kernel may have as dynamic
// memory.
SIMT_EXPORT int shared_limit();
SIMT_EXPORT int granted_shared(const void* kernel);
SIMT_EXPORT bool grant_shared(const void* kernel, int bytes);

SIMT_EXPORT void run_grid(const void* kernel, Index grid, Index block, size_t shared_bytes,
                          void (*thread_body)(const void*), const void* closure);

// Every lane's operand, after all lanes of the mask have arrived.
template <class T>
struct Lanes {
  T of[warp_lanes];
};

template <class T>
SIMT_UNCHECKED inline Lanes<T> exchange(Collective kind, unsigned mask, const T& operand, bool orders_memory,
                                        Site site) {
  static_assert(sizeof(T) <= operand_bytes, "an operand of a warp collective is at most 64 bytes");
  Lanes<T> lanes;
  rendezvous(kind, mask, &operand, sizeof(T), &lanes, orders_memory, site);
  return lanes;
}

}  // namespace simt
