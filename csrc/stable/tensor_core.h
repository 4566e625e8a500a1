// Tensor-core products, asynchronous copies and fast powers of two and reciprocals, products of bytes, one small
// function an instruction. On the device they are inline PTX; on the SIMT bench they follow the fragment layouts that
// the PTX ISA documents, so kernels never say which.
//
// Fragments of one warp (g = lane / 4, t = lane % 4; two 16-bit numbers a register, lower column in the lower half):
//
//   m16n8k16, 16 bit     A (16 x 16)  a[0] (g, 2t)      a[1] (g + 8, 2t)      a[2] (g, 2t + 8)  a[3] (g + 8, 2t + 8)
//                        B (16 x 8)   b[0] (2t, g)      b[1] (2t + 8, g)      a pair of B runs down its column
//   m16n8k8, 16 bit      A (16 x 8)   a[0] (g, 2t)      a[1] (g + 8, 2t)
//                        B (8 x 8)    b[0] (2t, g)
//   m16n8k8, TF32        A (16 x 8)   a[0] (g, t)       a[1] (g + 8, t)       a[2] (g, t + 4)   a[3] (g + 8, t + 4)
//                        B (8 x 8)    b[0] (t, g)       b[1] (t + 4, g)
//   all: sums, float32   C (16 x 8)   c[0] (g, 2t)      c[1] (g, 2t + 1)      c[2] (g + 8, 2t)  c[3] (g + 8, 2t + 1)
//
// All 32 lanes of a warp call them together.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <type_traits>

namespace sslfast {

#if defined(SSLFAST_SIMT)
namespace tensor_core_host {

struct Operands {
  uint32_t a[4];
  uint32_t b[2];
};

template <class T>
SIMT_UNCHECKED inline float half_of(uint32_t pair, int upper) {
  return static_cast<float>(T::from_bits(static_cast<uint16_t>(upper ? pair >> 16 : pair & 0xffffu)));
}

// The chip ignores the 13 low bits of a TF32 operand.
SIMT_UNCHECKED inline float tf32_value(uint32_t bits) { return __uint_as_float(bits & 0xffffe000u); }

// A(row, k) and B(k, column) of a warp's fragments: which lane and register hold them.
template <class T, int depth>
struct Fragments {
  SIMT_UNCHECKED static float a(const simt::Lanes<Operands>& lanes, int row, int k) {
    const int lane = row % 8 * 4 + k % 8 / 2;
    return half_of<T>(lanes.of[lane].a[row / 8 + k / 8 * 2], k % 2);
  }
  SIMT_UNCHECKED static float b(const simt::Lanes<Operands>& lanes, int k, int column) {
    return half_of<T>(lanes.of[column * 4 + k % 8 / 2].b[k / 8], k % 2);
  }
};

template <>
struct Fragments<float, 8> {
  SIMT_UNCHECKED static float a(const simt::Lanes<Operands>& lanes, int row, int k) {
    return tf32_value(lanes.of[row % 8 * 4 + k % 4].a[row / 8 + k / 4 * 2]);
  }
  SIMT_UNCHECKED static float b(const simt::Lanes<Operands>& lanes, int k, int column) {
    return tf32_value(lanes.of[column * 4 + k % 4].b[k / 4]);
  }
};

template <class T, int depth>
SIMT_UNCHECKED inline void product(float (&c)[4], const Operands& mine, simt::Site site) {
  const auto lanes = simt::exchange(simt::Collective::matrix_product, 0xffffffffu, mine, false, site);
  for (int i = 0; i < 4; ++i) {
    const int row = simt::lane() / 4 + i / 2 * 8;
    const int column = simt::lane() % 4 * 2 + i % 2;
    float a[depth], b[depth];
    for (int k = 0; k < depth; ++k) {
      a[k] = Fragments<T, depth>::a(lanes, row, k);
      b[k] = Fragments<T, depth>::b(lanes, k, column);
    }
    c[i] = simt::multiply_add(c[i], a, b, depth, std::is_same<T, float>::value);
  }
}

// Lane 8 m + r holds the address of row r of 8 x 8 matrix m.
template <int count, bool transposed>
SIMT_UNCHECKED inline void load(uint32_t (&r)[count], const void* row, simt::Site site) {
  const auto rows = simt::exchange(simt::Collective::matrix_load, 0xffffffffu, row, false, site);
  const int major = simt::lane() / 4, minor = simt::lane() % 4 * 2;
  for (int m = 0; m < count; ++m) {
    r[m] = 0;
    for (int i = 0; i < 2; ++i) {
      const int from = transposed ? minor + i : major;
      const int column = transposed ? major : minor + i;
      const auto* source = static_cast<const uint16_t*>(rows.of[m * 8 + from]);
      if (reinterpret_cast<uintptr_t>(source) % 16 != 0)
        simt::fail("ldmatrix: a row does not begin at a multiple of 16 bytes");
      simt::checked_access(source + column, 2, false);
      r[m] |= static_cast<uint32_t>(source[column]) << 16 * i;
    }
  }
}

}  // namespace tensor_core_host
#define SSLFAST_SITE , SIMT_SITE
#else
#define SSLFAST_SITE
__device__ inline uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}
#endif

// The lane of the calling thread in a block of one dimension, read anew: what is computed from it in rarely taken code
// is not kept in registers meanwhile.
__device__ inline int lane_anew() {
#if defined(SSLFAST_SIMT)
  return static_cast<int>(threadIdx.x) % 32;
#else
  int lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
#endif
}

template <class T>
inline constexpr bool is_half_type = std::is_same<T, __half>::value || std::is_same<T, __nv_bfloat16>::value;

// Two numbers in one register of a fragment; `low` is the lower column (A) or row (B).
template <class T>
__device__ inline uint32_t pack_pair(T low, T high) {
  static_assert(is_half_type<T>, "a register holds two __half or two __nv_bfloat16");
  static_assert(sizeof(T) == 2, "16-bit numbers");
  uint16_t bits[2];
  memcpy(bits, &low, 2);
  memcpy(bits + 1, &high, 2);
  return static_cast<uint32_t>(bits[1]) << 16 | bits[0];
}

// Two float32 rounded to nearest, as one register of a fragment.
template <class T>
__device__ inline uint32_t pack_floats(float low, float high) {
  static_assert(is_half_type<T>, "a register holds two __half or two __nv_bfloat16");
  uint32_t bits;
  if constexpr (std::is_same<T, __half>::value) {
    const __half2 pair = __floats2half2_rn(low, high);
    memcpy(&bits, &pair, 4);
  } else {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    memcpy(&bits, &pair, 4);
  }
  return bits;
}

// 2^x with a relative error of at most 2^-22; 0 below -126; 2^-inf = 0, NaN stays NaN.
__device__ inline float fast_exp2(float x) {
#if defined(SSLFAST_SIMT)
  return x < -126.0f ? 0.0f : std::exp2(x);
#else
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#endif
}

// 1 / x with a relative error of at most 2^-23, for normal x below 2^126.
__device__ inline float fast_reciprocal(float x) {
#if defined(SSLFAST_SIMT)
  return 1.0f / x;
#else
  float inverse;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(x));
  return inverse;
#endif
}

// sum + w0 b0 + w1 b1: two signed 16-bit weights in a register, and the two lower or the two higher bytes of another.
template <bool high>
__device__ inline uint32_t dot_pair(uint32_t weights, uint32_t bytes, uint32_t sum) {
#if defined(SSLFAST_SIMT)
  const uint32_t pair = high ? bytes >> 16 : bytes & 0xffffu;
  const int low_product = static_cast<int16_t>(weights & 0xffffu) * static_cast<int>(pair & 0xffu);
  const int high_product = static_cast<int16_t>(weights >> 16) * static_cast<int>(pair >> 8);
  return sum + static_cast<uint32_t>(low_product) + static_cast<uint32_t>(high_product);
#else
  uint32_t result;
  if constexpr (high) {
    asm("dp2a.hi.s32.u32 %0, %1, %2, %3;" : "=r"(result) : "r"(weights), "r"(bytes), "r"(sum));
  } else {
    asm("dp2a.lo.s32.u32 %0, %1, %2, %3;" : "=r"(result) : "r"(weights), "r"(bytes), "r"(sum));
  }
  return result;
#endif
}

// float32 rounded to TF32 (nearest, ties away from zero), as an operand of mma_m16n8k8_tf32.
__device__ inline uint32_t to_tf32(float value) {
#if defined(SSLFAST_SIMT)
  const uint32_t bits = __float_as_uint(value);
  return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & 0xffffe000u;
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
  return bits;
#endif
}

// c += A B, 16 x 16 by 16 x 8, T = __half or __nv_bfloat16.
template <class T>
__device__ inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] SSLFAST_SITE) {
  static_assert(is_half_type<T>, "mma_m16n8k16 multiplies __half or __nv_bfloat16");
#if defined(SSLFAST_SIMT)
  tensor_core_host::product<T, 16>(c, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, site);
#else
  if constexpr (std::is_same<T, __half>::value) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  } else {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
  }
#endif
}

// c += A B, 16 x 8 by 8 x 8, T = __half or __nv_bfloat16.
template <class T>
__device__ inline void mma_m16n8k8(float (&c)[4], const uint32_t (&a)[2], const uint32_t (&b)[1] SSLFAST_SITE) {
  static_assert(is_half_type<T>, "mma_m16n8k8 multiplies __half or __nv_bfloat16");
#if defined(SSLFAST_SIMT)
  tensor_core_host::product<T, 8>(c, {{a[0], a[1], 0, 0}, {b[0], 0}}, site);
#else
  if constexpr (std::is_same<T, __half>::value) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  } else {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
  }
#endif
}

// c += A B, 16 x 8 by 8 x 8, operands from to_tf32.
__device__ inline void mma_m16n8k8_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2] SSLFAST_SITE) {
#if defined(SSLFAST_SIMT)
  tensor_core_host::product<float, 8>(c, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, site);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ldmatrix: `count` (1, 2 or 4) 8 x 8 matrices of 16-bit numbers from shared memory. Lane 8 m + r gives the address of
// row r of matrix m, at a multiple of 16 bytes; r[m] becomes the pair (lane / 4, lane % 4 * 2) of matrix m, or of its
// transpose. Lanes that no matrix needs may give any address of shared memory.
template <bool transposed = false, int count>
__device__ inline void load_matrices(uint32_t (&r)[count], const void* row SSLFAST_SITE) {
  static_assert(count == 1 || count == 2 || count == 4, "ldmatrix loads 1, 2 or 4 matrices");
#if defined(SSLFAST_SIMT)
  tensor_core_host::load<count, transposed>(r, row, site);
#else
  const uint32_t address = shared_address(row);
  if constexpr (count == 1 && !transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (count == 1) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x1.trans.shared.b16 {%0}, [%1];" : "=r"(r[0]) : "r"(address) : "memory");
  } else if constexpr (count == 2 && !transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (count == 2) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
                 : "=r"(r[0]), "=r"(r[1])
                 : "r"(address)
                 : "memory");
  } else if constexpr (!transposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  }
#endif
}

// cp.async: copies `bytes` (4, 8 or 16, both sides aligned to them) from global to shared memory without waiting; where
// `valid` is false it writes zeros and reads nothing. The data is there for this thread after copy_async_wait, and for
// the others after a barrier that follows.
template <int bytes>
__device__ inline void copy_async(void* shared, const void* global, bool valid = true) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16, "cp.async copies 4, 8 or 16 bytes");
#if defined(SSLFAST_SIMT)
  simt::copy_async(shared, global, bytes, valid);
#else
  const int filled = valid ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "r"(filled)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(shared)),
                 "l"(__cvta_generic_to_global(global)), "n"(bytes), "r"(filled)
                 : "memory");
  }
#endif
}

// Closes a group of the copies that this thread has begun.
__device__ inline void copy_async_commit() {
#if defined(SSLFAST_SIMT)
  simt::copy_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most `pending` of this thread's latest groups are still under way.
template <int pending>
__device__ inline void copy_async_wait() {
#if defined(SSLFAST_SIMT)
  simt::copy_async_wait(pending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

}  // namespace sslfast

#undef SSLFAST_SITE
