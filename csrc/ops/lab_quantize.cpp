#include "csrc/ops/lab_quantize.h"

#include <tuple>

#include "csrc/ops/common/lab_gamut.h"
#include "csrc/stable/op.h"

namespace sslfast {
namespace {

LabCells make_cells(const char* op, const Tensor& images, int64_t height, int64_t width, bool rgb) {
  const ScalarType dtype = images.scalar_type();
  check(dtype == ScalarType::Byte || dtype == ScalarType::Float, op, ": images must be uint8 or float32, got ",
        dtype_name(dtype), "; convert them with .float()");
  check_tensor(images, op, "images", dtype, {-1, 3, -1, -1});
  check_contiguous(images, op, "images");
  check(images.size(2) <= 32768 && images.size(3) <= 32768, op, ": images must be at most 32768 pixels each way, got ",
        shape_text(images));
  check(height >= 1 && width >= 1 && height <= images.size(2) && width <= images.size(3), op, ": size (", height, ", ",
        width, ") must be at least (1, 1) and at most the images' (", images.size(2), ", ", images.size(3), ")");
  return {images.const_data_ptr(),
          dtype,
          images.size(0),
          static_cast<int>(images.size(2)),
          static_cast<int>(images.size(3)),
          static_cast<int>(height),
          static_cast<int>(width),
          rgb};
}

std::tuple<Tensor, Tensor, Tensor> lab_quantize(const Tensor& images, int64_t height, int64_t width, int64_t kind,
                                                bool rgb) {
  constexpr const char* op = "lab_quantize";
  LabQuantizeArgs args{};
  args.cells = make_cells(op, images, height, width, rgb);
  check(kind >= 0 && kind <= static_cast<int64_t>(LabKind::ab313), op, ": kind must be 0, 1 or 2, got ", kind);
  args.kind = static_cast<LabKind>(kind);
  check(!rgb || args.kind != LabKind::ab313, op, ": RGB has no ab313 bins; choose grid or rescaled");
  args.gamut = lab_gamut();
  Tensor first = torch::stable::new_empty(images, {images.size(0), height, width}, ScalarType::Long);
  Tensor rest = torch::stable::new_empty(images, {images.size(0), height, width}, ScalarType::Long);
  Tensor ranges = torch::stable::new_empty(images, {images.size(0), 3, 2}, ScalarType::Float);
  args.first = static_cast<int64_t*>(first.mutable_data_ptr());
  args.rest = static_cast<int64_t*>(rest.mutable_data_ptr());
  args.ranges = static_cast<float*>(ranges.mutable_data_ptr());
  if (images.size(0) > 0) run(args, images);
  return {first, rest, ranges};
}

std::tuple<Tensor, Tensor> lab_soft_encode(const Tensor& images, int64_t height, int64_t width, int64_t neighbours,
                                           double sigma) {
  constexpr const char* op = "lab_soft_encode";
  LabSoftEncodeArgs args{};
  args.cells = make_cells(op, images, height, width, false);
  check(neighbours >= 1 && neighbours <= lab_most_neighbours, op, ": neighbours must be 1 to ", lab_most_neighbours,
        ", got ", neighbours);
  // Between these bounds no product or quotient of the weights leaves float32.
  check(sigma >= 1e-3 && sigma <= 1e6, op, ": sigma must be in [0.001, 1000000], got ", sigma);
  args.gamut = lab_gamut();
  args.neighbours = static_cast<int>(neighbours);
  args.falloff = static_cast<float>(-0.5 / (sigma * sigma));
  Tensor indices = torch::stable::new_empty(images, {images.size(0), neighbours, height, width}, ScalarType::Long);
  Tensor weights = torch::stable::new_empty(images, {images.size(0), neighbours, height, width}, ScalarType::Float);
  args.indices = static_cast<int64_t*>(indices.mutable_data_ptr());
  args.weights = static_cast<float*>(weights.mutable_data_ptr());
  if (images.size(0) > 0) run(args, images);
  return {indices, weights};
}

SSLFAST_OP(lab_quantize,
           "lab_quantize(Tensor images, int height, int width, int kind, bool rgb) -> (Tensor, Tensor, Tensor)")
SSLFAST_OP(lab_soft_encode,
           "lab_soft_encode(Tensor images, int height, int width, int neighbours, float sigma) -> (Tensor, Tensor)")

}  // namespace
}  // namespace sslfast
