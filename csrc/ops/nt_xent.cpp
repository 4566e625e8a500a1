#include "csrc/ops/nt_xent.h"

#include <optional>
#include <tuple>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

void check_input(const char* op, const Tensor& queries, const std::optional<Tensor>& keys, const Tensor& excluded,
                 double temperature) {
  const ScalarType dtype = queries.scalar_type();
  check(dtype == ScalarType::Float || dtype == ScalarType::Double || dtype == ScalarType::Half ||
            dtype == ScalarType::BFloat16,
        op, ": queries must be float32, float64, float16 or bfloat16, got ", dtype_name(dtype),
        "; convert them with .float()");
  check_tensor(queries, op, "queries", dtype, {-1, -1});
  check(queries.size(0) > 0 && queries.size(1) > 0, op, ": queries are empty, shape ", shape_text(queries),
        "; give at least one row and one column");
  check_contiguous(queries, op, "queries");
  check_tensor(excluded, op, "excluded", ScalarType::Long, {queries.size(0), -1});
  check_contiguous(excluded, op, "excluded");
  check_same_device(excluded, queries, op, "excluded", "queries");
  if (keys.has_value()) {
    check_tensor(*keys, op, "keys", dtype, {-1, queries.size(1)});
    check(keys->size(0) > 0, op, ": keys are empty; give at least one key");
    check_contiguous(*keys, op, "keys");
    check_same_device(*keys, queries, op, "keys", "queries");
  }
  check(temperature > 0 && temperature < INFINITY, op, ": temperature must be a number above 0, got ", temperature);
}

ScalarType real_dtype(const Tensor& queries) {
  return queries.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// body(TypeTag<T>{}) for T of float64, float32, float16 or bfloat16.
template <class Body>
void dispatch(const Tensor& queries, const char* op, const Body& body) {
  if (queries.scalar_type() == ScalarType::Double) return body(TypeTag<double>{});
  dispatch_floating(queries.scalar_type(), op, body);
}

template <class T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
NtXentForwardArgs<T> forward_args(const Tensor& queries, const std::optional<Tensor>& keys, const Tensor& excluded,
                                  double temperature, bool tf32, const Tensor& lse, const Tensor& largest) {
  NtXentForwardArgs<T> args{};
  args.queries = read<T>(queries);
  args.keys = keys.has_value() ? read<T>(*keys) : nullptr;
  args.excluded = read<int64_t>(excluded);
  args.lse = static_cast<NtXentReal<T>*>(lse.mutable_data_ptr());
  args.largest = largest.size(0) > 0 ? static_cast<NtXentReal<T>*>(largest.mutable_data_ptr()) : nullptr;
  args.rows = queries.size(0);
  args.columns = keys.has_value() ? keys->size(0) : queries.size(0);
  args.depth = queries.size(1);
  args.exclusions = excluded.size(1);
  args.temperature = temperature;
  args.tf32 = tf32;
  return args;
}

std::tuple<Tensor, Tensor> nt_xent_forward(const Tensor& queries, std::optional<Tensor> keys, const Tensor& excluded,
                                           double temperature, bool largest, bool tf32) {
  check_input("nt_xent_forward", queries, keys, excluded, temperature);
  Tensor lse = torch::stable::new_empty(queries, {queries.size(0)}, real_dtype(queries));
  Tensor similarity = torch::stable::new_empty(queries, {largest ? queries.size(0) : 0}, real_dtype(queries));
  dispatch(queries, "nt_xent_forward", [&](auto tag) {
    run(forward_args<typename decltype(tag)::type>(queries, keys, excluded, temperature, tf32, lse, similarity),
        queries);
  });
  return {lse, similarity};
}

std::tuple<Tensor, Tensor, Tensor> nt_xent_classes_forward(const Tensor& queries, std::optional<Tensor> keys,
                                                           const Tensor& excluded, const Tensor& classes,
                                                           std::optional<Tensor> key_classes, double temperature,
                                                           bool tf32) {
  constexpr const char* op = "nt_xent_classes_forward";
  check_input(op, queries, keys, excluded, temperature);
  check_tensor(classes, op, "classes", ScalarType::Int, {queries.size(0)});
  check_contiguous(classes, op, "classes");
  check_same_device(classes, queries, op, "classes", "queries");
  check(keys.has_value() == key_classes.has_value(), op, ": give key_classes where keys are given, and only there");
  if (keys.has_value()) {
    check_tensor(*key_classes, op, "key_classes", ScalarType::Int, {keys->size(0)});
    check_contiguous(*key_classes, op, "key_classes");
    check_same_device(*key_classes, queries, op, "key_classes", "queries");
  }
  Tensor lse = torch::stable::new_empty(queries, {queries.size(0)}, real_dtype(queries));
  Tensor largest = torch::stable::new_empty(queries, {queries.size(0)}, real_dtype(queries));
  Tensor other = torch::stable::new_empty(queries, {queries.size(0)}, real_dtype(queries));
  dispatch(queries, op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    NtXentForwardArgs<T> args = forward_args<T>(queries, keys, excluded, temperature, tf32, lse, largest);
    args.classes = read<int32_t>(classes);
    args.key_classes = key_classes.has_value() ? read<int32_t>(*key_classes) : nullptr;
    args.largest_other = static_cast<NtXentReal<T>*>(other.mutable_data_ptr());
    run(args, queries);
  });
  return {lse, largest, other};
}

template <class T>
void backward(const Tensor& grad_lse, const Tensor& queries, const std::optional<Tensor>& keys, const Tensor& excluded,
              const Tensor& lse, double temperature, bool tf32, const Tensor& grad_queries, const Tensor& grad_keys) {
  NtXentBackwardArgs<T> args{};
  args.grad_lse = read<NtXentReal<T>>(grad_lse);
  args.queries = read<T>(queries);
  args.keys = keys.has_value() ? read<T>(*keys) : nullptr;
  args.excluded = read<int64_t>(excluded);
  args.lse = read<NtXentReal<T>>(lse);
  args.grad_queries = static_cast<T*>(grad_queries.mutable_data_ptr());
  args.grad_keys = grad_keys.size(0) > 0 ? static_cast<T*>(grad_keys.mutable_data_ptr()) : nullptr;
  args.rows = queries.size(0);
  args.columns = keys.has_value() ? keys->size(0) : queries.size(0);
  args.depth = queries.size(1);
  args.exclusions = excluded.size(1);
  args.temperature = temperature;
  args.tf32 = tf32;
  run(args, queries);
}

std::tuple<Tensor, Tensor> nt_xent_backward(const Tensor& grad_lse, const Tensor& queries, std::optional<Tensor> keys,
                                            const Tensor& excluded, const Tensor& lse, double temperature,
                                            bool keys_gradient, bool tf32) {
  constexpr const char* op = "nt_xent_backward";
  check_input(op, queries, keys, excluded, temperature);
  for (const auto& [tensor, name] : {std::tuple(&grad_lse, "grad_lse"), std::tuple(&lse, "lse")}) {
    check_tensor(*tensor, op, name, real_dtype(queries), {queries.size(0)});
    check_contiguous(*tensor, op, name);
    check_same_device(*tensor, queries, op, name, "queries");
  }
  const int64_t key_rows = keys.has_value() && keys_gradient ? keys->size(0) : 0;
  Tensor grad_queries = torch::stable::new_empty(queries, {queries.size(0), queries.size(1)});
  Tensor grad_keys = torch::stable::new_empty(queries, {key_rows, queries.size(1)});
  dispatch(queries, op, [&](auto tag) {
    backward<typename decltype(tag)::type>(grad_lse, queries, keys, excluded, lse, temperature, tf32, grad_queries,
                                           grad_keys);
  });
  return {grad_queries, grad_keys};
}

SSLFAST_OP(nt_xent_forward,
           "nt_xent_forward(Tensor queries, Tensor? keys, Tensor excluded, float temperature, bool largest, "
           "bool tf32) -> (Tensor, Tensor)")
SSLFAST_OP(nt_xent_classes_forward,
           "nt_xent_classes_forward(Tensor queries, Tensor? keys, Tensor excluded, Tensor classes, "
           "Tensor? key_classes, float temperature, bool tf32) -> (Tensor, Tensor, Tensor)")
SSLFAST_OP(nt_xent_backward,
           "nt_xent_backward(Tensor grad_lse, Tensor queries, Tensor? keys, Tensor excluded, Tensor lse, "
           "float temperature, bool keys_gradient, bool tf32) -> (Tensor, Tensor)")

}  // namespace
}  // namespace sslfast
