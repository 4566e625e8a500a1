// Planes are cut into pieces of at most 8192 pixels, which are spread over the threads.
#include "csrc/ops/lab.h"

#include <algorithm>

#include "csrc/ops/cpu/lab_block.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

constexpr int64_t piece = 8192;

// Calls body(offset, n) for blocks of n <= lab_block pixels, which begin `offset` values into the first channel.
template <class Body>
void for_each_block(int64_t count, int64_t plane, const Body& body) {
  const int64_t pieces = (plane + piece - 1) / piece;
  const int64_t grain = std::max<int64_t>(1, piece / plane);
  parallel_for(count * pieces, grain, [&](int64_t begin, int64_t end) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t image = task / pieces;
      const int64_t first = task % pieces * piece;
      const int64_t last = std::min(first + piece, plane);
      for (int64_t p = first; p < last; p += lab_block) {
        body(3 * image * plane + p, static_cast<int>(std::min<int64_t>(lab_block, last - p)));
      }
    }
  });
}

template <class T>
void rgb_to_lab(const RgbToLabArgs& args) {
  const T* images = static_cast<const T*>(args.images);
  for_each_block(args.count, args.plane, [&](int64_t offset, int n) {
    rgb_to_lab_block(images + offset, args.plane, n, args.lab + offset, args.plane);
  });
}

void rgb_to_lab_kernel(const RgbToLabArgs& args) {
  if (args.dtype == ScalarType::Byte) return rgb_to_lab<uint8_t>(args);
  rgb_to_lab<float>(args);
}

inline void store_block(const float* __restrict in, int n, float* __restrict out) {
  for (int i = 0; i < n; ++i) out[i] = in[i];
}
inline void store_block(const float* __restrict in, int n, uint8_t* __restrict out) {
#pragma omp simd
  for (int i = 0; i < n; ++i) out[i] = lab_byte(in[i]);
}

template <class T>
void lab_to_rgb_block(const float* lab, int64_t plane, int n, T* out) {
  float rgb[3][lab_block];
  const float* __restrict l = lab;
  const float* __restrict a = lab + plane;
  const float* __restrict b = lab + 2 * plane;
#pragma omp simd
  for (int i = 0; i < n; ++i) {
    float red, green, blue;
    lab_to_srgb(l[i], a[i], b[i], red, green, blue);
    rgb[0][i] = red;
    rgb[1][i] = green;
    rgb[2][i] = blue;
  }
  for (int c = 0; c < 3; ++c) store_block(rgb[c], n, out + c * plane);
}

template <class T>
void lab_to_rgb(const LabToRgbArgs& args) {
  T* images = static_cast<T*>(args.images);
  for_each_block(args.count, args.plane,
                 [&](int64_t offset, int n) { lab_to_rgb_block(args.lab + offset, args.plane, n, images + offset); });
}

void lab_to_rgb_kernel(const LabToRgbArgs& args) {
  if (args.dtype == ScalarType::Byte) return lab_to_rgb<uint8_t>(args);
  lab_to_rgb<float>(args);
}

SSLFAST_CPU_KERNEL(RgbToLabArgs, rgb_to_lab_kernel)
SSLFAST_CPU_KERNEL(LabToRgbArgs, lab_to_rgb_kernel)

}  // namespace
}  // namespace sslfast
