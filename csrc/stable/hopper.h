// What Hopper (sm_90a) adds to tensor_core.h, one small function an instruction: barriers in shared memory (mbarrier),
// bulk copies by the copy engine (TMA), and products of a warp group (wgmma). On the device they are inline PTX; on the
// SIMT bench they follow the PTX ISA, so kernels never say which. Kernels that use them exist where the build has
// sm_90a among its targets (SSLFAST_SM90A); their bodies stand inside of `#if SSLFAST_HOPPER_CODE`, as every other
// target compiles them too.
//
// A warp group is four warps, the first a multiple of four. Its 128 threads call the wgmma functions together.
//
//   sums[p][0][n][i]   float32, of 64 rows and 64 columns for each p: thread 32 w + 4 g + t owns row 16 w + g (i < 2)
//   or
//                      16 w + g + 8, and column 64 p + 8 n + 2 t + i % 2. Each p looks like eight C fragments of warp
//                      w.
//   A in registers     the A fragment of m16n8k16 for rows 16 w to 16 w + 15 (tensor_core.h)
//   A, B in shared     rows of 64 numbers (128 bytes), 8 rows an atom of 1024 bytes; its eight units of 16 bytes are
//                      swizzled: unit u of row r lies at u ^ (r % 8). Atoms begin at multiples of 1024 bytes.
#pragma once

#include "csrc/stable/tensor_core.h"

#if defined(SSLFAST_SIMT)
#define SSLFAST_SM90A
#define SSLFAST_SITE , SIMT_SITE
#else
#define SSLFAST_SITE
#endif

#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define SSLFAST_HOPPER_CODE 1
#else
#define SSLFAST_HOPPER_CODE 0
#endif

namespace sslfast {

constexpr int warpgroup = 128;  // threads

// A barrier in shared memory. Its phases 0, 1, 2, … each complete after `arrivals` arrivals and all bytes that were
// announced to it.
struct alignas(8) Mbarrier {
  uint64_t state;
};

#if SSLFAST_HOPPER_CODE

#if defined(SSLFAST_SIMT)
inline uint32_t shared_address(const void* shared) { return simt::shared_address(shared); }
#endif

// All threads of a warp group give registers back, or wait until so many each are theirs: a block whose kernel is
// compiled for R registers and T threads has R * T, and at most 512 for the four warps that share a lane.
template <int registers>
__device__ inline void release_registers() {
  static_assert(registers >= 24 && registers <= 256 && registers % 8 == 0, "24 to 256 registers, in steps of 8");
#if !defined(SSLFAST_SIMT)
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}
template <int registers>
__device__ inline void claim_registers() {
  static_assert(registers >= 24 && registers <= 256 && registers % 8 == 0, "24 to 256 registers, in steps of 8");
#if !defined(SSLFAST_SIMT)
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}

// --- barriers in shared memory ---------------------------------------------------------------------------------------

// By one thread; then fence_async_proxy by that thread, and __syncthreads.
__device__ inline void mbarrier_init(Mbarrier& barrier, int arrivals) {
#if defined(SSLFAST_SIMT)
  simt::mbarrier_init(&barrier, arrivals);
#else
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)), "r"(arrivals) : "memory");
#endif
}

// What this thread has written to shared memory becomes visible to the copy engine and the tensor cores.
__device__ inline void fence_async_proxy() {
#if defined(SSLFAST_SIMT)
  simt::fence_async_proxy();
#else
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

__device__ inline void mbarrier_arrive(Mbarrier& barrier) {
#if defined(SSLFAST_SIMT)
  simt::mbarrier_arrive(&barrier, 0);
#else
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier)) : "memory");
#endif
}

// Arrives, and announces that copies of so many bytes belong to the current phase.
__device__ inline void mbarrier_arrive_expecting(Mbarrier& barrier, int bytes) {
#if defined(SSLFAST_SIMT)
  simt::mbarrier_arrive(&barrier, bytes);
#else
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)), "r"(bytes)
               : "memory");
#endif
}

// Waits until the phase of this parity (0: phases 0, 2, …) has completed; a new barrier counts as having completed a
// phase of parity 1.
__device__ inline void mbarrier_wait(Mbarrier& barrier, int parity SSLFAST_SITE) {
#if defined(SSLFAST_SIMT)
  simt::mbarrier_wait(&barrier, parity, site);
#else
  uint32_t passed = 0;
  while (!passed) {
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}\n"
                 : "=r"(passed)
                 : "r"(shared_address(&barrier)), "r"(parity)
                 : "memory");
  }
#endif
}

// --- bulk copies -----------------------------------------------------------------------------------------------------

// By one thread: begins to copy `bytes` (a multiple of 16, both sides aligned to 16) to shared memory. They arrive with
// the current phase of the barrier.
__device__ inline void copy_bulk(void* shared, const void* global, int bytes, Mbarrier& barrier) {
#if defined(SSLFAST_SIMT)
  simt::copy_bulk(shared, global, bytes, &barrier);
#else
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(shared)),
               "l"(__cvta_generic_to_global(global)), "r"(bytes), "r"(shared_address(&barrier))
               : "memory");
#endif
}

// --- products of a warp group ----------------------------------------------------------------------------------------

// A matrix in shared memory for wgmma: `stride` bytes from 8 rows to the next 8. Where it is read transposed (as B
// whose columns run along the rows of 64 numbers), `leading` bytes from 64 columns to the next 64. 16 more numbers of
// depth: 32 bytes further along the rows; 16 rows further (transposed): 2 atoms.
__device__ constexpr uint64_t matrix_descriptor(uint32_t address, int stride, int leading) {
  return uint64_t{1} << 62 | static_cast<uint64_t>(stride >> 4) << 32 | static_cast<uint64_t>(leading >> 4) << 16 |
         (address & 0x3ffffu) >> 4;
}
// The same matrix, so many bytes further.
__device__ constexpr uint64_t advanced(uint64_t descriptor, int bytes) { return descriptor + (bytes >> 4); }

template <int parts>
using WarpgroupSums = float[parts][1][8][4];

#if !defined(SSLFAST_SIMT)
// Tells the compiler that a register is written here, so that nothing that depends on it moves before.
__device__ inline void touch(float& value) { asm volatile("" : "+f"(value)); }
__device__ inline void touch(uint32_t& value) { asm volatile("" : "+r"(value)); }
template <class T, int count>
__device__ inline void touch(T (&values)[count]) {
#pragma unroll
  for (int i = 0; i < count; ++i) touch(values[i]);
}
#endif

// Before the first products after a wait; with the registers (sums and A) that other instructions have read or written.
template <class... Registers>
__device__ inline void wgmma_fence(Registers&... registers) {
#if defined(SSLFAST_SIMT)
  (static_cast<void>(registers), ...);
  simt::wgmma_fence();
#else
  (touch(registers), ...);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

// Closes a group of products.
__device__ inline void wgmma_commit() {
#if defined(SSLFAST_SIMT)
  simt::wgmma_commit();
#else
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Waits until at most `pending` of the latest groups are under way; these registers may be used afterwards.
template <int pending, class... Registers>
__device__ inline void wgmma_wait(Registers&... registers) {
#if defined(SSLFAST_SIMT)
  (static_cast<void>(registers), ...);
  simt::wgmma_wait(pending);
#else
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
  (touch(registers), ...);
#endif
}

#if !defined(SSLFAST_SIMT)
#define SSLFAST_FOUR(p, n) "+f"(c[p][0][n][0]), "+f"(c[p][0][n][1]), "+f"(c[p][0][n][2]), "+f"(c[p][0][n][3])
#define SSLFAST_PART(p)                                                                               \
  SSLFAST_FOUR(p, 0), SSLFAST_FOUR(p, 1), SSLFAST_FOUR(p, 2), SSLFAST_FOUR(p, 3), SSLFAST_FOUR(p, 4), \
      SSLFAST_FOUR(p, 5), SSLFAST_FOUR(p, 6), SSLFAST_FOUR(p, 7)
#define SSLFAST_NAMES_32                                                                                               \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30," \
  "%31"
#define SSLFAST_NAMES_64                                                                              \
  SSLFAST_NAMES_32                                                                                    \
  ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55," \
  "%56,%57,%58,%59,%60,%61,%62,%63"
#define SSLFAST_WGMMA(shape, names, a, b, add, transpositions, sums, ...)                                         \
  asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, " add ", 0;\nwgmma.mma_async.sync.aligned." shape " {" names \
               "}, " a ", " b ", add, 1, 1, " transpositions ";\n}\n"                                             \
               : sums                                                                                             \
               : __VA_ARGS__                                                                                      \
               : "memory")
#define SSLFAST_PARTS_2 SSLFAST_PART(0), SSLFAST_PART(1)
#endif

// Begins c = A B, or c += A B where `add`, A (64 x 16) and B (16 x 64 parts) in shared memory.
template <class T, bool transposed_b = false, int parts>
__device__ inline void wgmma(WarpgroupSums<parts>& c, uint64_t a, uint64_t b, bool add SSLFAST_SITE) {
  static_assert(is_half_type<T> && (parts == 1 || parts == 2), "wgmma multiplies __half or __nv_bfloat16");
#if defined(SSLFAST_SIMT)
  simt::wgmma({&c[0][0][0][0], 64 * parts, add, nullptr, a, b, transposed_b, simt::widen<T>}, site);
#else
#define SSLFAST_A_IN_SHARED(type)                                                                                    \
  if constexpr (parts == 1) {                                                                                        \
    SSLFAST_WGMMA("m64n64k16.f32." type "." type, SSLFAST_NAMES_32, "%32", "%33", "%34", "0, %35", SSLFAST_PART(0),  \
                  "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(transposed_b)));                  \
  } else {                                                                                                           \
    SSLFAST_WGMMA("m64n128k16.f32." type "." type, SSLFAST_NAMES_64, "%64", "%65", "%66", "0, %67", SSLFAST_PARTS_2, \
                  "l"(a), "l"(b), "r"(static_cast<int>(add)), "n"(static_cast<int>(transposed_b)));                  \
  }
  if constexpr (std::is_same<T, __half>::value) {
    SSLFAST_A_IN_SHARED("f16")
  } else {
    SSLFAST_A_IN_SHARED("bf16")
  }
#undef SSLFAST_A_IN_SHARED
#endif
}

// Begins c += A B, A in registers and B in shared memory, transposed.
template <class T, int parts>
__device__ inline void wgmma_transposed(WarpgroupSums<parts>& c, const uint32_t (&a)[4], uint64_t b SSLFAST_SITE) {
  static_assert(is_half_type<T> && (parts == 1 || parts == 2), "wgmma multiplies __half or __nv_bfloat16");
#if defined(SSLFAST_SIMT)
  simt::wgmma({&c[0][0][0][0], 64 * parts, true, a, 0, b, true, simt::widen<T>}, site);
#else
#define SSLFAST_A_IN_REGISTERS(type)                                                                         \
  if constexpr (parts == 1) {                                                                                \
    SSLFAST_WGMMA("m64n64k16.f32." type "." type, SSLFAST_NAMES_32, "{%32,%33,%34,%35}", "%36", "%37", "1",  \
                  SSLFAST_PART(0), "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));              \
  } else {                                                                                                   \
    SSLFAST_WGMMA("m64n128k16.f32." type "." type, SSLFAST_NAMES_64, "{%64,%65,%66,%67}", "%68", "%69", "1", \
                  SSLFAST_PARTS_2, "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));              \
  }
  if constexpr (std::is_same<T, __half>::value) {
    SSLFAST_A_IN_REGISTERS("f16")
  } else {
    SSLFAST_A_IN_REGISTERS("bf16")
  }
#undef SSLFAST_A_IN_REGISTERS
#endif
}

#if !defined(SSLFAST_SIMT)
#undef SSLFAST_FOUR
#undef SSLFAST_PART
#undef SSLFAST_PARTS_2
#undef SSLFAST_NAMES_32
#undef SSLFAST_NAMES_64
#undef SSLFAST_WGMMA
#endif
#endif

}  // namespace sslfast

#undef SSLFAST_SITE
