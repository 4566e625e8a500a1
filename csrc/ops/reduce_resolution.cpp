#include "csrc/ops/reduce_resolution.h"

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

constexpr const char* op = "reduce_resolution";

bool supported(ScalarType dtype) {
  return dtype == ScalarType::Byte || dtype == ScalarType::Half || dtype == ScalarType::BFloat16 ||
         dtype == ScalarType::Float || dtype == ScalarType::Double;
}

Tensor reduce_resolution(const Tensor& images, const Tensor& factors) {
  const ScalarType dtype = images.scalar_type();
  check(supported(dtype), op, ": images must be uint8, float16, bfloat16, float32 or float64, got ", dtype_name(dtype),
        "; convert them with .float()");
  check_tensor(images, op, "images", dtype, {-1, -1, -1, -1});
  check_contiguous(images, op, "images");
  check_tensor(factors, op, "factors", ScalarType::Int, {images.size(0)});
  check_contiguous(factors, op, "factors");
  check_same_device(factors, images, op, "factors", "images");
  check(images.size(2) < int64_t{1} << 30 && images.size(3) <= 8192, op,
        ": images must be at most 8192 pixels wide and fewer than 2^30 high, got ", shape_text(images));
  Tensor out = torch::stable::new_empty(images, images.sizes());
  const ReduceResolutionArgs args{images.const_data_ptr(),
                                  static_cast<const int32_t*>(factors.const_data_ptr()),
                                  out.mutable_data_ptr(),
                                  dtype,
                                  images.size(0),
                                  images.size(1),
                                  static_cast<int>(images.size(2)),
                                  static_cast<int>(images.size(3))};
  if (images.numel() > 0) run(args, images);
  return out;
}

SSLFAST_OP(reduce_resolution, "reduce_resolution(Tensor images, Tensor factors) -> Tensor")

}  // namespace
}  // namespace sslfast
