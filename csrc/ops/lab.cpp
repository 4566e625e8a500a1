#include "csrc/ops/lab.h"

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

Tensor rgb_to_lab(const Tensor& images) {
  constexpr const char* op = "rgb_to_lab";
  const ScalarType dtype = images.scalar_type();
  check(dtype == ScalarType::Byte || dtype == ScalarType::Float, op, ": images must be uint8 or float32, got ",
        dtype_name(dtype), "; convert them with .float()");
  check_tensor(images, op, "images", dtype, {-1, 3, -1, -1});
  check_contiguous(images, op, "images");
  Tensor lab = torch::stable::new_empty(images, images.sizes(), ScalarType::Float);
  const RgbToLabArgs args{images.const_data_ptr(), dtype, static_cast<float*>(lab.mutable_data_ptr()), images.size(0),
                          images.size(2) * images.size(3)};
  if (images.numel() > 0) run(args, images);
  return lab;
}

Tensor lab_to_rgb(const Tensor& lab, ScalarType dtype) {
  constexpr const char* op = "lab_to_rgb";
  check(dtype == ScalarType::Byte || dtype == ScalarType::Float, op,
        ": dtype must be torch.float32 or torch.uint8, got ", dtype_name(dtype));
  check_tensor(lab, op, "lab", ScalarType::Float, {-1, 3, -1, -1});
  check_contiguous(lab, op, "lab");
  Tensor images = torch::stable::new_empty(lab, lab.sizes(), dtype);
  const LabToRgbArgs args{static_cast<const float*>(lab.const_data_ptr()), images.mutable_data_ptr(), dtype,
                          lab.size(0), lab.size(2) * lab.size(3)};
  if (lab.numel() > 0) run(args, lab);
  return images;
}

SSLFAST_OP(rgb_to_lab, "rgb_to_lab(Tensor images) -> Tensor")
SSLFAST_OP(lab_to_rgb, "lab_to_rgb(Tensor lab, ScalarType dtype) -> Tensor")

}  // namespace
}  // namespace sslfast
