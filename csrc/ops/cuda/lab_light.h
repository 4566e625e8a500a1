// Linear light of a channel: floats compute it, bytes look it up in a table that the block fills first.
#pragma once

#include <cuda_runtime.h>

#include <type_traits>

#include "csrc/ops/common/lab_math.h"

namespace sslfast {
namespace {

constexpr int lab_table_size = 256;

template <class T>
__device__ inline void fill_light(float* table) {
  if constexpr (std::is_same_v<T, uint8_t>) {
    for (int i = threadIdx.x; i < lab_table_size; i += blockDim.x) {
      table[i] = lab_linear(lab_unit(static_cast<uint8_t>(i)));
    }
  }
}

__device__ inline float light(const float* table, uint8_t value) { return table[value]; }
__device__ inline float light(const float*, float value) { return lab_linear(lab_unit(value)); }

}  // namespace
}  // namespace sslfast
