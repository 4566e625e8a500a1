// Vector registers, aligned memory and weighted sums of rows: what the filters of the views are made of.
#pragma once

#include <cstdint>
#include <cstring>
#include <new>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "csrc/stable/recycle.h"

namespace sslfast {
namespace {

// One register of the instruction set. As arrays, sums over many taps would live in memory, not in registers.
#if defined(__AVX512F__)
constexpr int lanes = 16;
#elif defined(__AVX2__)
constexpr int lanes = 8;
#else
constexpr int lanes = 4;
#endif
typedef float Lanes __attribute__((vector_size(4 * lanes)));
typedef int32_t LaneIndices __attribute__((vector_size(4 * lanes)));

inline Lanes load_lanes(const float* source) {
  Lanes values;
  std::memcpy(&values, source, sizeof(values));
  return values;
}

inline LaneIndices load_lanes(const int32_t* source) {
  LaneIndices values;
  std::memcpy(&values, source, sizeof(values));
  return values;
}

// Bytes become floats.
inline Lanes load_lanes(const uint8_t* source) {
#if defined(__AVX512F__)
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(source))));
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(source))));
#else
  Lanes values;
  for (int i = 0; i < lanes; ++i) values[i] = static_cast<float>(source[i]);
  return values;
#endif
}

inline void store_lanes(float* target, Lanes values) { std::memcpy(target, &values, sizeof(values)); }

// Lane i becomes entry index[i], 0 … 2 * lanes - 1, of the two registers one after the other.
inline Lanes pick_lanes(Lanes low, Lanes high, LaneIndices index) {
#if defined(__AVX512F__)
  return _mm512_permutex2var_ps(low, reinterpret_cast<__m512i>(index), high);
#elif defined(__AVX2__)
  const __m256i i = reinterpret_cast<__m256i>(index);
  const __m256 from_low = _mm256_permutevar8x32_ps(low, i), from_high = _mm256_permutevar8x32_ps(high, i);
  return _mm256_blendv_ps(from_low, from_high, _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
#else
  Lanes picked;
  for (int i = 0; i < lanes; ++i) picked[i] = index[i] < lanes ? low[index[i]] : high[index[i] - lanes];
  return picked;
#endif
}

// The same out of several registers one after the other, at most `most_picked`.
#if defined(__AVX512F__)
constexpr int most_picked = 4;
#else
constexpr int most_picked = 2;  // to pick out of more would take longer than sums pixel by pixel
#endif

template <int registers>
Lanes pick_lanes(const Lanes (&from)[registers], LaneIndices index) {
  static_assert(2 <= registers && registers <= 4);
#if defined(__AVX512F__)
  if constexpr (registers > 2) {
    const __m512i i = reinterpret_cast<__m512i>(index);
    const __mmask16 beyond = _mm512_cmpge_epi32_mask(i, _mm512_set1_epi32(2 * lanes));
    const Lanes low = pick_lanes(from[0], from[1], index);
    if constexpr (registers == 3) return _mm512_mask_permutexvar_ps(low, beyond, i, from[2]);
    return _mm512_mask_mov_ps(low, beyond, pick_lanes(from[2], from[registers - 1], index));
  }
#endif
  return pick_lanes(from[0], from[1], index);
}

constexpr int64_t cache_line_floats = 16;

inline int64_t whole_cache_lines(int64_t floats) {
  return (floats + cache_line_floats - 1) / cache_line_floats * cache_line_floats;
}

// Memory that starts on a cache line, grows when it must and is reused otherwise. Growing forgets what it held. Much
// memory outlives the work, so that its pages need not be made anew for every batch.
template <class T>
class Scratch {
 public:
  Scratch() = default;
  Scratch(Scratch&& other) noexcept { swap(other); }
  Scratch& operator=(Scratch&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Scratch() { release(); }

  T* data() { return data_; }

  T* get(int64_t count) {
    if (count > count_) {
      release();
      count_ = 0;
      const int64_t bytes = count * static_cast<int64_t>(sizeof(T));
      data_ =
          static_cast<T*>(bytes < much ? ::operator new[](static_cast<size_t>(bytes), alignment) : take_memory(bytes));
      count_ = count;
    }
    return data_;
  }

 private:
  static constexpr std::align_val_t alignment{64};
  static constexpr int64_t much = 256 << 10;

  void swap(Scratch& other) {
    std::swap(data_, other.data_);
    std::swap(count_, other.count_);
  }

  void release() {
    const int64_t bytes = count_ * static_cast<int64_t>(sizeof(T));
    if (bytes < much) {
      ::operator delete[](data_, alignment);
    } else {
      return_memory(data_, bytes);
    }
    data_ = nullptr;
  }

  T* data_ = nullptr;
  int64_t count_ = 0;
};

// Weighted sums of `vectors` registers at a time, from column i on.
template <int vectors, class T>
void sum_vectors(const T* const* rows, const float* weights, int taps, int64_t i, Lanes (&sum)[vectors]) {
#pragma GCC unroll 16
  for (int v = 0; v < vectors; ++v) sum[v] = Lanes{};
  for (int k = 0; k < taps; ++k) {
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[v] += weights[k] * load_lanes(rows[k] + i + lanes * v);
  }
}

// The same to the end of the row, as far as whole vectors go; returns where they end.
template <int vectors, class T>
int64_t sum_block(const T* const* rows, const float* weights, int taps, float* out, int64_t i, int64_t n) {
  for (; i + lanes * vectors <= n; i += lanes * vectors) {
    Lanes sum[vectors];
    sum_vectors<vectors>(rows, weights, taps, i, sum);
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) store_lanes(out + i + lanes * v, sum[v]);
  }
  return i;
}

// out[i] = sum of weight[k] * rows[k][i].
template <class T>
void weighted_sum(const T* const* rows, const float* weights, int taps, float* out, int64_t n) {
  // Many sums hide the latency of each other, and 224 values are a multiple of seven registers.
  int64_t i = sum_block<14>(rows, weights, taps, out, 0, n);
  i = sum_block<7>(rows, weights, taps, out, i, n);
  i = sum_block<3>(rows, weights, taps, out, i, n);
  for (i = sum_block<1>(rows, weights, taps, out, i, n); i < n; ++i) {
    float sum = 0.0f;
    for (int k = 0; k < taps; ++k) sum += weights[k] * static_cast<float>(rows[k][i]);
    out[i] = sum;
  }
}

// Three registers of interleaved pixels to one of each channel: where lane i of channel c is among the first two
// registers, and where it is in what these gave and the third.
struct SplitLanes {
  LaneIndices first[3], second[3];
};

inline SplitLanes split_lanes() {
  SplitLanes split;
  for (int c = 0; c < 3; ++c) {
    for (int i = 0; i < lanes; ++i) {
      const int place = 3 * i + c;
      split.first[c][i] = place < 2 * lanes ? place : 0;
      split.second[c][i] = place < 2 * lanes ? i : place - lanes;
    }
  }
  return split;
}

// The weighted sums of rows of interleaved pixels, from pixel x on: `blocks` registers for each channel.
template <int blocks>
void sum_pixels(const uint8_t* const* rows, const float* weights, int taps, const SplitLanes& split, float* out,
                int64_t stride, int64_t x) {
  Lanes sum[3 * blocks];
  sum_vectors<3 * blocks>(rows, weights, taps, 3 * x, sum);
#pragma GCC unroll 16
  for (int block = 0; block < blocks; ++block) {
    const Lanes* in = sum + 3 * block;
    for (int c = 0; c < 3; ++c) {
      const Lanes low = pick_lanes(in[0], in[1], split.first[c]);
      store_lanes(out + c * stride + x + lanes * block, pick_lanes(low, in[2], split.second[c]));
    }
  }
}

// out[c * stride + x] = sum of weight[k] * rows[k][3 * x + c].
inline void weighted_sum_split(const uint8_t* const* rows, const float* weights, int taps, float* out, int64_t stride,
                               int64_t pixels) {
  int64_t x = 0;
  if (pixels >= lanes) {
    const SplitLanes split = split_lanes();
    for (; x + 3 * lanes <= pixels; x += 3 * lanes) sum_pixels<3>(rows, weights, taps, split, out, stride, x);
    for (; x + lanes <= pixels; x += lanes) sum_pixels<1>(rows, weights, taps, split, out, stride, x);
    if (x < pixels) sum_pixels<1>(rows, weights, taps, split, out, stride, pixels - lanes);
    return;
  }
  for (; x < pixels; ++x) {
    for (int c = 0; c < 3; ++c) {
      float sum = 0.0f;
      for (int k = 0; k < taps; ++k) sum += weights[k] * static_cast<float>(rows[k][3 * x + c]);
      out[c * stride + x] = sum;
    }
  }
}

}  // namespace
}  // namespace sslfast
