// Vector registers, aligned memory and weighted sums of rows: what the filters of the views are made of.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

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

constexpr int64_t cache_line_floats = 16;

inline int64_t whole_cache_lines(int64_t floats) {
  return (floats + cache_line_floats - 1) / cache_line_floats * cache_line_floats;
}

// Memory that starts on a cache line, grows when it must and is reused otherwise. Growing forgets what it held.
template <class T>
class Scratch {
 public:
  T* get(int64_t count) {
    if (count > count_) {
      data_.reset(static_cast<T*>(::operator new[](static_cast<size_t>(count) * sizeof(T), alignment)));
      count_ = count;
    }
    return data_.get();
  }
  T* data() { return data_.get(); }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Delete {
    void operator()(T* data) const { ::operator delete[](data, alignment); }
  };
  std::unique_ptr<T[], Delete> data_;
  int64_t count_ = 0;
};

// Weighted sums of `vectors` registers at a time, from column i on; returns where they end.
template <int vectors, class T>
int64_t sum_block(const T* const* rows, const float* weights, int taps, float* out, int64_t i, int64_t n) {
  for (; i + lanes * vectors <= n; i += lanes * vectors) {
    Lanes sum[vectors] = {};
    for (int k = 0; k < taps; ++k) {
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[v] += weights[k] * load_lanes(rows[k] + i + lanes * v);
    }
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) store_lanes(out + i + lanes * v, sum[v]);
  }
  return i;
}

// out[i] = sum of weight[k] * rows[k][i].
template <class T>
void weighted_sum(const T* const* rows, const float* weights, int taps, float* out, int64_t n) {
  // Seven sums hide the latency of each other, and 224 values are a multiple of seven registers.
  int64_t i = sum_block<7>(rows, weights, taps, out, 0, n);
  i = sum_block<3>(rows, weights, taps, out, i, n);
  for (i = sum_block<1>(rows, weights, taps, out, i, n); i < n; ++i) {
    float sum = 0.0f;
    for (int k = 0; k < taps; ++k) sum += weights[k] * static_cast<float>(rows[k][i]);
    out[i] = sum;
  }
}

}  // namespace
}  // namespace sslfast
