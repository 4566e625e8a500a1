#include "csrc/ops/lab_quantize.h"

#include <tuple>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

constexpr const char* op = "lab_quantize";

std::tuple<Tensor, Tensor> lab_quantize(const Tensor& images, int64_t height, int64_t width, bool rescaled) {
  const ScalarType dtype = images.scalar_type();
  check(dtype == ScalarType::Byte || dtype == ScalarType::Float, op, ": images must be uint8 or float32, got ",
        dtype_name(dtype), "; convert them with .float()");
  check_tensor(images, op, "images", dtype, {-1, 3, -1, -1});
  check_contiguous(images, op, "images");
  check(images.size(2) <= 32768 && images.size(3) <= 32768, op, ": images must be at most 32768 pixels each way, got ",
        shape_text(images));
  check(height >= 1 && width >= 1 && height <= images.size(2) && width <= images.size(3), op, ": size (", height, ", ",
        width, ") must be at least (1, 1) and at most the images' (", images.size(2), ", ", images.size(3), ")");
  Tensor lightness = torch::stable::new_empty(images, {images.size(0), height, width}, ScalarType::Long);
  Tensor color = torch::stable::new_empty(images, {images.size(0), height, width}, ScalarType::Long);
  LabQuantizeArgs args{};
  args.images = images.const_data_ptr();
  args.dtype = dtype;
  args.lightness = static_cast<int64_t*>(lightness.mutable_data_ptr());
  args.color = static_cast<int64_t*>(color.mutable_data_ptr());
  args.count = images.size(0);
  args.height = static_cast<int>(images.size(2));
  args.width = static_cast<int>(images.size(3));
  args.cell_rows = static_cast<int>(height);
  args.cell_columns = static_cast<int>(width);
  args.rescaled = rescaled;
  if (args.count > 0) run(args, images);
  return {lightness, color};
}

SSLFAST_OP(lab_quantize, "lab_quantize(Tensor images, int height, int width, bool rescaled) -> (Tensor, Tensor)")

}  // namespace
}  // namespace sslfast
