// Argument checks: an exception with the cause and the cure, never a crash.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <initializer_list>
#include <sstream>
#include <string>

#include "csrc/stable/error.h"

namespace sslfast {

using Tensor = torch::stable::Tensor;
using ScalarType = torch::headeronly::ScalarType;

inline const char* dtype_name(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Byte: return "uint8";
    case ScalarType::Int: return "int32";
    case ScalarType::Long: return "int64";
    case ScalarType::Half: return "float16";
    case ScalarType::BFloat16: return "bfloat16";
    case ScalarType::Float: return "float32";
    case ScalarType::Double: return "float64";
    default: return "another dtype";
  }
}

inline std::string shape_text(const Tensor& tensor) {
  std::ostringstream text;
  text << '(';
  for (int64_t i = 0; i < tensor.dim(); ++i) text << (i ? ", " : "") << tensor.size(i);
  text << (tensor.dim() == 1 ? ",)" : ")");
  return text.str();
}

// `size` -1 accepts any extent.
inline void check_tensor(const Tensor& tensor, const char* op, const char* name, ScalarType dtype,
                         std::initializer_list<int64_t> sizes) {
  check(tensor.scalar_type() == dtype, op, ": ", name, " must be ", dtype_name(dtype), ", got ",
        dtype_name(tensor.scalar_type()), "; convert it with .to(torch.", dtype_name(dtype), ")");
  bool fits = tensor.dim() == static_cast<int64_t>(sizes.size());
  if (fits) {
    int64_t axis = 0;
    for (int64_t size : sizes) fits = fits && (size < 0 || tensor.size(axis) == size), ++axis;
  }
  if (fits) return;
  std::ostringstream want;
  for (int64_t size : sizes) (want << (want.tellp() > 0 ? ", " : "")) << (size < 0 ? "any" : std::to_string(size));
  check(false, op, ": ", name, " must have shape (", want.str(), "), got ", shape_text(tensor));
}

inline void check_contiguous(const Tensor& tensor, const char* op, const char* name) {
  check(tensor.is_contiguous(), op, ": ", name, " must be contiguous; call .contiguous() on it");
}

inline void check_same_device(const Tensor& tensor, const Tensor& other, const char* op, const char* name,
                              const char* other_name) {
  check(tensor.device() == other.device(), op, ": ", name, " and ", other_name,
        " are on different devices; move both to one with .to(device)");
}

}  // namespace sslfast
