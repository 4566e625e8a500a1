// Memory that is used again: for results on a CPU, and for what their making takes.
//
// A fresh result of tens of megabytes comes from the kernel zeroed page by page, which costs a fifth of the views that
// it is to hold. So the memory of large results is kept when their storage dies, and the next result of the same size
// gets it. What has not been wanted for a while goes back to the system.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>

#include "csrc/stable/check.h"

namespace sslfast {

// Uninitialised memory of `bytes`, on huge pages where the system has them.
void* take_memory(int64_t bytes);

// Keeps memory of `take_memory` for later; `bytes` as it was asked for.
void return_memory(void* data, int64_t bytes);

// A new (B, C, H, W) tensor on the device of `like`.
inline Tensor new_images(int64_t count, int64_t channels, int64_t height, int64_t width, ScalarType dtype,
                         bool channels_last, const Tensor& like) {
#if !defined(SSLFAST_CUDA_LIBRARY) && !defined(SSLFAST_SIMT)
  constexpr int64_t large = int64_t{2} << 20;  // one huge page; what is smaller, malloc recycles itself
  const int64_t pixels = height * width;
  const int64_t bytes = count * channels * pixels * (dtype == ScalarType::Float ? 4 : 2);
  if (bytes >= large) {
    const int64_t planar[] = {channels * pixels, pixels, width, 1};
    const int64_t interleaved[] = {channels * pixels, 1, width * channels, channels};
    const int64_t sizes[] = {count, channels, height, width};
    return torch::stable::from_blob(take_memory(bytes), {sizes, 4}, {channels_last ? interleaved : planar, 4},
                                    like.device(), dtype, [bytes](void* data) { return_memory(data, bytes); });
  }
#endif
  return torch::stable::empty(
      {count, channels, height, width}, dtype, std::nullopt, like.device(), std::nullopt,
      channels_last ? torch::headeronly::MemoryFormat::ChannelsLast : torch::headeronly::MemoryFormat::Contiguous);
}

}  // namespace sslfast
