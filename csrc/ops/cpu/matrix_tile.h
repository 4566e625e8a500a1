// Small matrix products on registers, for every instruction set: gcc's vector types keep the sums of a tile in
// registers. Everything is local to the including file, because that file is compiled once per instruction set.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "csrc/stable/error.h"

namespace sslfast {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int tile_vectors = 4;  // 6 x 4 sums, 4 of b and 1 of a: 29 of 32 registers
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int tile_vectors = 2;  // 6 x 2 sums, 2 of b and 1 of a: 15 of 16 registers
#else
constexpr int vector_bytes = 16;
constexpr int tile_vectors = 2;
#endif

constexpr int tile_rows = 6;
template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));
template <class T>
constexpr int tile_columns = tile_vectors * lanes<T>;

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(vector_bytes)));
  typedef T unaligned __attribute__((vector_size(vector_bytes), aligned(alignof(T)), may_alias));
};

inline int64_t round_up(int64_t count, int64_t step) { return (count + step - 1) / step * step; }
inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Uninitialised memory of the kernel's own.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t count)
      : data_(static_cast<T*>(std::aligned_alloc(64, round_up(count * static_cast<int64_t>(sizeof(T)) + 1, 64)))) {
    check(data_ != nullptr, "sslfast: out of memory; use a smaller batch");
  }
  ~Scratch() { std::free(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  T* data() const { return data_; }

 private:
  T* data_;
};

// out[i][c] = sum over k < depth of a[i][k * a_step] * b[k * b_step + c], for the rows and columns of one tile; with
// `go_on` added to what stands there. Not inlined: the sums of a tile leave no registers for anything else.
template <class T>
[[gnu::noinline]] void multiply_tile(const T* const (&a)[tile_rows], int64_t a_step, const T* b, int64_t b_step,
                                     int64_t depth, T (&out)[tile_rows][tile_columns<T>], bool go_on = false) {
  using Vector = typename VectorOf<T>::type;
  using Unaligned = typename VectorOf<T>::unaligned;
  Vector sum[tile_rows][tile_vectors] = {};
  if (go_on) {
#pragma GCC unroll 6
    for (int i = 0; i < tile_rows; ++i) {
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) sum[i][v] = *reinterpret_cast<const Unaligned*>(&out[i][v * lanes<T>]);
    }
  }
  for (int64_t k = 0; k < depth; ++k) {
    Vector right[tile_vectors];
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) {
      right[v] = *reinterpret_cast<const Unaligned*>(b + k * b_step + v * lanes<T>);
    }
#pragma GCC unroll 6
    for (int i = 0; i < tile_rows; ++i) {
      const T left = a[i][k * a_step];
#pragma GCC unroll 4
      for (int v = 0; v < tile_vectors; ++v) sum[i][v] += left * right[v];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < tile_rows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < tile_vectors; ++v) *reinterpret_cast<Unaligned*>(&out[i][v * lanes<T>]) = sum[i][v];
  }
}

}  // namespace
}  // namespace sslfast
