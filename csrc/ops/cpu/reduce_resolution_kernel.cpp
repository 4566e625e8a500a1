// A plane a task. Rows of blocks are summed into columns, the columns into blocks; each row of the result is then a
// copy of the first one of its blocks.
#include "csrc/ops/reduce_resolution.h"

#include <algorithm>
#include <cstring>
#include <type_traits>
#include <vector>

#include "csrc/ops/cpu/convert.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

inline float widen(uint8_t value) { return value; }

template <class T>
using SumOf = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
inline T narrow(SumOf<T> value) {
  if constexpr (std::is_same_v<T, uint8_t>) {
    return static_cast<uint8_t>(static_cast<int32_t>(value + 0.5f));
  } else if constexpr (std::is_same_v<T, SumOf<T>>) {
    return value;
  } else {
    return convert<T>(value);
  }
}

template <class T>
void reduce_plane(const T* in, int height, int width, int factor, SumOf<T>* sums, T* out) {
  for (int top = 0; top < height; top += std::min(factor, height - top)) {
    const int rows = std::min(factor, height - top);
    std::fill_n(sums, width, SumOf<T>{0});
    for (int y = 0; y < rows; ++y, in += width) {
#pragma omp simd
      for (int x = 0; x < width; ++x) sums[x] += widen(in[x]);
    }
    for (int left = 0; left < width; left += std::min(factor, width - left)) {
      const int columns = std::min(factor, width - left);
      SumOf<T> sum = 0;
      for (int x = 0; x < columns; ++x) sum += sums[left + x];
      const SumOf<T> area = static_cast<SumOf<T>>(rows) * static_cast<SumOf<T>>(columns);
      std::fill_n(out + left, columns, narrow<T>(sum / area));
    }
    for (int y = 1; y < rows; ++y) std::memcpy(out + static_cast<int64_t>(y) * width, out, sizeof(T) * width);
    out += static_cast<int64_t>(rows) * width;
  }
}

template <class T>
void reduce(const ReduceResolutionArgs& args) {
  const int64_t plane = static_cast<int64_t>(args.height) * args.width;
  const T* const images = static_cast<const T*>(args.images);
  T* const out = static_cast<T*>(args.out);
  parallel_for(args.count * args.channels, std::max<int64_t>(1, 16384 / plane), [&](int64_t begin, int64_t end) {
    std::vector<SumOf<T>> sums(args.width);
    for (int64_t p = begin; p < end; ++p) {
      const int factor = args.factors[p / args.channels];
      if (factor <= 1) {
        std::memcpy(out + p * plane, images + p * plane, sizeof(T) * plane);
      } else {
        reduce_plane(images + p * plane, args.height, args.width, factor, sums.data(), out + p * plane);
      }
    }
  });
}

void kernel(const ReduceResolutionArgs& args) {
  switch (args.dtype) {
    case ScalarType::Byte: return reduce<uint8_t>(args);
    case ScalarType::Half: return reduce<float16>(args);
    case ScalarType::BFloat16: return reduce<bfloat16>(args);
    case ScalarType::Double: return reduce<double>(args);
    default: return reduce<float>(args);
  }
}

SSLFAST_CPU_KERNEL(ReduceResolutionArgs, kernel)

}  // namespace
}  // namespace sslfast
