#include "csrc/ops/nt_xent_contrast.h"

#include <optional>
#include <tuple>

#include "csrc/stable/op.h"
#include "csrc/stable/recycle.h"

#if !defined(SSLFAST_CUDA_LIBRARY)  // there are no CUDA kernels

namespace sslfast {
namespace {

void check_rows(const char* op, const char* name, const Tensor& rows) {
  const ScalarType dtype = rows.scalar_type();
  check(dtype == ScalarType::Float || dtype == ScalarType::Double || dtype == ScalarType::Half ||
            dtype == ScalarType::BFloat16,
        op, ": ", name, " must be float32, float64, float16 or bfloat16, got ", dtype_name(dtype),
        "; convert them with .float()");
  check_tensor(rows, op, name, dtype, {-1, -1});
  check(rows.numel() > 0, op, ": ", name, " are empty, shape ", shape_text(rows),
        "; give at least one row and one column");
  check_contiguous(rows, op, name);
}

void check_real(const char* op, const char* name, const Tensor& tensor, ScalarType dtype,
                std::initializer_list<int64_t> sizes) {
  check_tensor(tensor, op, name, dtype, sizes);
  check_contiguous(tensor, op, name);
}

ScalarType real_dtype(ScalarType dtype) { return dtype == ScalarType::Double ? dtype : ScalarType::Float; }

// body(TypeTag<T>{}) for T of float64 or float32.
template <class Body>
void dispatch_real(ScalarType dtype, const char* op, const Body& body) {
  if (dtype == ScalarType::Double) return body(TypeTag<double>{});
  check(dtype == ScalarType::Float, op, ": dtype must be float32 or float64, got ", dtype_name(dtype));
  body(TypeTag<float>{});
}

template <class T>
const T* read(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <class T>
const T* read_if(const std::optional<Tensor>& tensor) {
  return tensor.has_value() ? read<T>(*tensor) : nullptr;
}

template <class T>
T* write(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

// Normalises `rows` to those of `unit` from `first` on.
void normalise(const Tensor& rows, const Tensor& unit, const Tensor& inverse, int64_t first, const char* op) {
  const auto body = [&](auto tag) {
    using T = typename decltype(tag)::type;
    using Real = NtXentReal<T>;
    run(UnitRowsForwardArgs<T>{read<T>(rows), write<Real>(unit) + first * rows.size(1), write<Real>(inverse) + first,
                               rows.size(0), rows.size(1)},
        rows);
  };
  if (rows.scalar_type() == ScalarType::Double) return body(TypeTag<double>{});
  dispatch_floating(rows.scalar_type(), op, body);
}

// As torch makes it; a large one, such as a queue, of memory that is used again: the system's is cleared page by page,
// which takes longer than filling it.
Tensor new_rows(const Tensor& like, int64_t count, int64_t depth, ScalarType dtype) {
  constexpr int64_t large = int64_t{2} << 20;
  const int64_t bytes = count * depth * (dtype == ScalarType::Double ? 8 : 4);
  if (bytes < large) return torch::stable::new_empty(like, {count, depth}, dtype);
  const int64_t sizes[] = {count, depth};
  const int64_t strides[] = {depth, 1};
  return torch::stable::from_blob(take_memory(bytes), {sizes, 2}, {strides, 2}, like.device(), dtype,
                                  [bytes](void* data) { return_memory(data, bytes); });
}

std::tuple<Tensor, Tensor> unit_rows_forward(const Tensor& rows) {
  constexpr const char* op = "unit_rows_forward";
  check_rows(op, "rows", rows);
  const ScalarType real = real_dtype(rows.scalar_type());
  Tensor unit = new_rows(rows, rows.size(0), rows.size(1), real);
  Tensor inverse = torch::stable::new_empty(rows, {rows.size(0)}, real);
  normalise(rows, unit, inverse, 0, op);
  return {unit, inverse};
}

Tensor unit_rows_backward(const Tensor& grad, const Tensor& unit, const Tensor& inverse) {
  constexpr const char* op = "unit_rows_backward";
  check_real(op, "unit", unit, unit.scalar_type(), {-1, -1});
  check_real(op, "grad", grad, unit.scalar_type(), {unit.size(0), unit.size(1)});
  check_real(op, "inverse", inverse, unit.scalar_type(), {unit.size(0)});
  Tensor out = torch::stable::new_empty(unit, {unit.size(0), unit.size(1)});
  dispatch_real(unit.scalar_type(), op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    run(UnitRowsBackwardArgs<T>{read<T>(grad), read<T>(unit), read<T>(inverse), write<T>(out), unit.size(0),
                                unit.size(1)},
        unit);
  });
  return out;
}

// What forward and backward demand alike of what follows the rows.
void check_contrast(const char* op, const Tensor& unit, const std::optional<Tensor>& others, double temperature,
                    bool views, bool both_ways) {
  check(static_cast<int>(views) + static_cast<int>(both_ways) + static_cast<int>(others.has_value()) <= 1, op,
        ": views, both_ways and others exclude each other; give one of them, or none");
  check(temperature > 0 && temperature < INFINITY, op, ": temperature must be a number above 0, got ", temperature);
  if (!others.has_value()) return;
  check_real(op, "others", *others, unit.scalar_type(), {-1, unit.size(1)});
  check(others->size(0) > 0, op, ": others are empty; give at least one");
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> nt_xent_contrast_forward(const Tensor& first,
                                                                                    const Tensor& second,
                                                                                    std::optional<Tensor> others,
                                                                                    double temperature, bool views,
                                                                                    bool both_ways, bool largest) {
  constexpr const char* op = "nt_xent_contrast_forward";
  check_rows(op, "first", first);
  check_tensor(second, op, "second", first.scalar_type(), {first.size(0), first.size(1)});
  check_contiguous(second, op, "second");
  const int64_t batch = first.size(0);
  const int64_t count = views || both_ways ? 2 * batch : batch;
  const ScalarType real = real_dtype(first.scalar_type());
  Tensor unit = new_rows(first, 2 * batch, first.size(1), real);
  Tensor inverse = torch::stable::new_empty(first, {2 * batch}, real);
  check_contrast(op, unit, others, temperature, views, both_ways);
  Tensor loss = torch::stable::new_empty(first, {}, real);
  Tensor positives = torch::stable::new_empty(first, {count}, real);
  Tensor negatives = torch::stable::new_empty(first, {count}, real);
  Tensor most = torch::stable::new_empty(first, {largest ? count : 0}, real);
  normalise(first, unit, inverse, 0, op);
  normalise(second, unit, inverse, batch, op);
  dispatch_real(real, op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    run(NtXentContrastForwardArgs<T>{read<T>(unit), read_if<T>(others), write<T>(loss), write<T>(positives),
                                     write<T>(negatives), largest ? write<T>(most) : nullptr, batch, first.size(1),
                                     others.has_value() ? others->size(0) : 0, temperature, views, both_ways},
        first);
  });
  return {loss, positives, negatives, most, unit, inverse};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> nt_xent_contrast_backward(
    std::optional<Tensor> grad_loss, std::optional<Tensor> grad_positives, std::optional<Tensor> grad_negatives,
    const Tensor& unit, const Tensor& inverse, const Tensor& positives, const Tensor& negatives,
    std::optional<Tensor> others, double temperature, bool views, bool both_ways, bool second_gradient,
    bool others_gradient) {
  constexpr const char* op = "nt_xent_contrast_backward";
  const ScalarType real = unit.scalar_type();
  check_real(op, "unit", unit, real, {-1, -1});
  check(unit.size(0) > 0 && unit.size(0) % 2 == 0 && unit.size(1) > 0, op,
        ": unit must hold as many rows of one view as of the other, got ", shape_text(unit));
  check_contrast(op, unit, others, temperature, views, both_ways);
  check_real(op, "inverse", inverse, real, {unit.size(0)});
  const int64_t batch = unit.size(0) / 2;
  const int64_t count = views || both_ways ? 2 * batch : batch;
  check(grad_loss.has_value() != grad_positives.has_value() && grad_positives.has_value() == grad_negatives.has_value(),
        op, ": give grad_loss, or both grad_positives and grad_negatives");
  if (grad_loss.has_value()) check_real(op, "grad_loss", *grad_loss, real, {});
  if (grad_positives.has_value()) {
    check_real(op, "grad_positives", *grad_positives, real, {count});
    check_real(op, "grad_negatives", *grad_negatives, real, {count});
  }
  check_real(op, "positives", positives, real, {count});
  check_real(op, "negatives", negatives, real, {count});
  const bool both = second_gradient || views || both_ways;
  const int64_t other_rows = others.has_value() && others_gradient ? others->size(0) : 0;
  Tensor grad_first = torch::stable::new_empty(unit, {batch, unit.size(1)});
  Tensor grad_second = torch::stable::new_empty(unit, {both ? batch : 0, unit.size(1)});
  Tensor grad_others = torch::stable::new_empty(unit, {other_rows, unit.size(1)});
  Tensor scale = torch::stable::new_empty(unit, {1});
  dispatch_real(real, op, [&](auto tag) {
    using T = typename decltype(tag)::type;
    run(NtXentContrastBackwardArgs<T>{read_if<T>(grad_loss), read_if<T>(grad_positives), read_if<T>(grad_negatives),
                                      read<T>(unit), read<T>(inverse), read<T>(positives), read<T>(negatives),
                                      read_if<T>(others), write<T>(grad_first), both ? write<T>(grad_second) : nullptr,
                                      other_rows > 0 ? write<T>(grad_others) : nullptr, write<T>(scale), batch,
                                      unit.size(1), others.has_value() ? others->size(0) : 0, temperature, views,
                                      both_ways},
        unit);
  });
  return {grad_first, grad_second, grad_others, scale};
}

SSLFAST_OP(unit_rows_forward, "unit_rows_forward(Tensor rows) -> (Tensor, Tensor)")
SSLFAST_OP(unit_rows_backward, "unit_rows_backward(Tensor grad, Tensor unit, Tensor inverse) -> Tensor")
SSLFAST_OP(nt_xent_contrast_forward,
           "nt_xent_contrast_forward(Tensor first, Tensor second, Tensor? others, float temperature, bool views, "
           "bool both_ways, bool largest) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)")
SSLFAST_OP(nt_xent_contrast_backward,
           "nt_xent_contrast_backward(Tensor? grad_loss, Tensor? grad_positives, Tensor? grad_negatives, Tensor unit, "
           "Tensor inverse, Tensor positives, Tensor negatives, Tensor? others, float temperature, bool views, "
           "bool both_ways, bool second_gradient, bool others_gradient) -> (Tensor, Tensor, Tensor, Tensor)")

}  // namespace
}  // namespace sslfast

#endif
