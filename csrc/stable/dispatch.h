// Calls a generic lambda with the C++ type of a floating output.
#pragma once

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#include "csrc/stable/check.h"

namespace sslfast {

using Half = torch::headeronly::Half;
using BFloat16 = torch::headeronly::BFloat16;

template <class T>
struct TypeTag {
  using type = T;
};

// body(TypeTag<T>{}) for T of float32, float16 or bfloat16.
template <class Body>
inline void dispatch_floating(ScalarType dtype, const char* op, const Body& body) {
  switch (dtype) {
    case ScalarType::Float: return body(TypeTag<float>{});
    case ScalarType::Half: return body(TypeTag<Half>{});
    case ScalarType::BFloat16: return body(TypeTag<BFloat16>{});
    default: check(false, op, ": dtype must be float32, float16 or bfloat16, got ", dtype_name(dtype));
  }
}

}  // namespace sslfast
