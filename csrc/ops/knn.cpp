#include "csrc/ops/knn.h"

#include <optional>
#include <tuple>

#include "csrc/stable/op.h"

#if !defined(SSLFAST_CUDA_LIBRARY)  // there is no CUDA kernel

namespace sslfast {
namespace {

constexpr const char* op = "knn";

bool supported(ScalarType dtype) {
  return dtype == ScalarType::Float || dtype == ScalarType::Double || dtype == ScalarType::Half ||
         dtype == ScalarType::BFloat16;
}

std::tuple<Tensor, Tensor> knn(const Tensor& queries, const Tensor& keys, std::optional<Tensor> bias, int64_t k) {
  const ScalarType dtype = queries.scalar_type();
  check(supported(dtype), op, ": queries must be float32, float64, float16 or bfloat16, got ", dtype_name(dtype),
        "; convert them with .float()");
  check_tensor(queries, op, "queries", dtype, {-1, -1});
  check(queries.numel() > 0, op, ": queries are empty, shape ", shape_text(queries),
        "; give at least one row and one column");
  check_contiguous(queries, op, "queries");
  check_tensor(keys, op, "keys", dtype, {-1, queries.size(1)});
  check(keys.size(0) <= INT32_MAX, op, ": at most 2^31 - 1 keys can be searched, got ", keys.size(0));
  check_contiguous(keys, op, "keys");
  check_same_device(keys, queries, op, "keys", "queries");
  check(1 <= k && k <= keys.size(0), op, ": k is ", k, " and there are ", keys.size(0), " keys; give k from 1 to that");
  const ScalarType real = dtype == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
  if (bias.has_value()) {
    check_tensor(*bias, op, "bias", real, {keys.size(0)});
    check_contiguous(*bias, op, "bias");
    check_same_device(*bias, queries, op, "bias", "queries");
  }
  Tensor similarities = torch::stable::new_empty(queries, {queries.size(0), k}, real);
  Tensor positions = torch::stable::new_empty(queries, {queries.size(0), k}, ScalarType::Long);
  const KnnArgs args{queries.const_data_ptr(),
                     keys.const_data_ptr(),
                     bias.has_value() ? bias->const_data_ptr() : nullptr,
                     similarities.mutable_data_ptr(),
                     static_cast<int64_t*>(positions.mutable_data_ptr()),
                     dtype,
                     queries.size(0),
                     keys.size(0),
                     queries.size(1),
                     k};
  run(args, queries);
  return {similarities, positions};
}

SSLFAST_OP(knn, "knn(Tensor queries, Tensor keys, Tensor? bias, int k) -> (Tensor, Tensor)")

}  // namespace
}  // namespace sslfast

#endif
