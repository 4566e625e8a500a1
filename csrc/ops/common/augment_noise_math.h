// The random numbers of noise on views, shared by the CPU and the CUDA kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "csrc/ops/common/philox.h"
#include "csrc/stable/host_device.h"

namespace sslfast {

// By turns instead of radians: the argument reduction of plain sinf takes local memory on a GPU.
SSLFAST_SHARED float sine_of_turns(float turns) {
#if defined(__CUDA_ARCH__)
  return sinpif(2.0f * turns);
#else
  return sinf(6.283185307179586f * turns);
#endif
}
SSLFAST_SHARED float cosine_of_turns(float turns) {
#if defined(__CUDA_ARCH__)
  return cospif(2.0f * turns);
#else
  return cosf(6.283185307179586f * turns);
#endif
}

enum NoiseStream : uint32_t { noise_gaussian = 0, noise_salt_pepper = 1, noise_masking = 2 };

SSLFAST_SHARED uint32_t noise_word(int64_t key, NoiseStream stream, uint32_t element) {
  return philox(static_cast<uint64_t>(key), element >> 2, stream, 0, 0).at(element & 3);
}

// Uniform in [0, 1) with 24 bits.
SSLFAST_SHARED float uniform_of(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }

// The logarithm of a uniform number in (0, 1], and sine and cosine of an angle in turns in [0, 1), as noise needs them.
#if defined(__CUDA_ARCH__)
SSLFAST_SHARED float noise_log(float u) { return logf(u); }
SSLFAST_SHARED void noise_sine_cosine(float turns, float& sine, float& cosine) {
  sine = sine_of_turns(turns);
  cosine = cosine_of_turns(turns);
}
#else
// By series to float32's accuracy, branch-free: compilers do not vectorise the library's functions.
// u = 2^k m with m in [2/3, 4/3): log u = k log 2 + 2 artanh s, s = (m - 1) / (m + 1).
SSLFAST_SHARED float noise_log(float u) {
  int32_t bits;
  std::memcpy(&bits, &u, sizeof(bits));
  const int32_t exponent = (bits - 0x3F2AAAAB) >> 23;
  bits -= exponent * (1 << 23);
  float m;
  std::memcpy(&m, &bits, sizeof(m));
  const float s = (m - 1.0f) / (m + 1.0f), square = s * s;
  const float series = 1.0f + square * (1.0f / 3 + square * (1.0f / 5 + square * (1.0f / 7 + square * (1.0f / 9))));
  return static_cast<float>(exponent) * 0.693147181f + 2.0f * s * series;
}

// An angle is a multiple of a quarter turn and a rest of at most an eighth, x radians.
SSLFAST_SHARED void noise_sine_cosine(float turns, float& sine, float& cosine) {
  const int quarter = static_cast<int>(4.0f * turns + 0.5f);
  const float x = 6.283185307f * (turns - 0.25f * static_cast<float>(quarter)), square = x * x;
  const float s = x * (1 + square * (-1.0f / 6 + square * (1.0f / 120 + square * (-1.0f / 5040 + square / 362880))));
  const float c = 1 + square * (-0.5f + square * (1.0f / 24 + square * (-1.0f / 720 + square / 40320)));
  const bool odd = (quarter & 1) != 0;
  const float first = odd ? s : c, second = odd ? c : s;
  cosine = ((quarter + 1) & 2) != 0 ? -first : first;
  sine = (quarter & 2) != 0 ? -second : second;
}
#endif

// Two standard normal numbers of two random words: Box-Muller.
SSLFAST_SHARED void normal_pair(uint32_t a, uint32_t b, float& first, float& second) {
  const float radius = sqrtf(-2.0f * noise_log(uniform_of(a) + 0x1p-24f));
  float sine, cosine;
  noise_sine_cosine(uniform_of(b), sine, cosine);
  first = radius * cosine;
  second = radius * sine;
}

// Standard normal number of element (channel * pixels + pixel).
SSLFAST_SHARED float normal_noise(int64_t key, uint32_t element) {
  const Philox words = philox(static_cast<uint64_t>(key), element >> 2, noise_gaussian, 0, 0);
  float first, second;
  normal_pair(words.at(element & 2), words.at((element & 2) + 1), first, second);
  return (element & 1) != 0 ? second : first;
}

SSLFAST_SHARED float salt_and_pepper(float value, float fraction, float u) {
  return u < fraction ? (u < 0.5f * fraction ? 0.0f : 1.0f) : value;
}

}  // namespace sslfast
