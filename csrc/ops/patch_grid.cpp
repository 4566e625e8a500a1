#include "csrc/ops/patch_grid.h"

#include <optional>
#include <vector>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

constexpr int64_t most_pixels = int64_t{1} << 30;  // of an image's plane, and values of a patch: 32-bit indices

int element_bytes(ScalarType dtype) {
  switch (dtype) {
    case ScalarType::Byte: return 1;
    case ScalarType::Half:
    case ScalarType::BFloat16: return 2;
    case ScalarType::Float: return 4;
    case ScalarType::Double: return 8;
    default: return 0;
  }
}

// Checks the geometry and the tables of `images` images on the device of `like` (called `name`).
PatchGrid make_grid(const char* op, const Tensor& like, const char* name, const std::optional<Tensor>& order,
                    const std::optional<Tensor>& offsets, const std::optional<Tensor>& dropped,
                    const std::vector<int64_t>& grid, const std::vector<int64_t>& patch,
                    const std::vector<int64_t>& stride, int64_t images, int64_t channels, int64_t height,
                    int64_t width) {
  for (const auto* pair : {&grid, &patch, &stride}) {
    const char* what = pair == &grid ? "grid" : (pair == &patch ? "patch" : "stride");
    check(pair->size() == 2, op, ": ", what, " must have 2 numbers, got ", pair->size());
    check((*pair)[0] >= 1 && (*pair)[1] >= 1, op, ": ", what, " must be 1 or more each way, got (", (*pair)[0], ", ",
          (*pair)[1], ")");
    check((*pair)[0] < most_pixels && (*pair)[1] < most_pixels, op, ": ", what, " must be below 2^30, got (",
          (*pair)[0], ", ", (*pair)[1], ")");
  }
  // In float64, because the product of two such numbers may leave int64's range.
  const double need[2] = {static_cast<double>(grid[0] - 1) * static_cast<double>(stride[0]) + patch[0],
                          static_cast<double>(grid[1] - 1) * static_cast<double>(stride[1]) + patch[1]};
  check(need[0] <= height && need[1] <= width, op, ": a grid of ", grid[0], " x ", grid[1], " patches of ", patch[0],
        " x ", patch[1], " pixels with stride (", stride[0], ", ", stride[1], ") needs images of ", need[0], " x ",
        need[1], " pixels, got ", height, " x ", width, "; resize the images or choose a smaller grid");
  check(channels >= 1, op, ": images must have at least one channel");
  check(height * width < most_pixels && channels * patch[0] * patch[1] < most_pixels, op,
        ": an image's plane and a patch must have fewer than 2^30 values; got ", height, " x ", width, " and ",
        channels, " x ", patch[0], " x ", patch[1]);

  PatchGrid out{};
  out.images = images;
  out.count = order.has_value() && order->dim() == 2 ? order->size(1) : grid[0] * grid[1];
  const auto read_table = [&](const std::optional<Tensor>& table, const char* table_name, ScalarType dtype,
                              std::initializer_list<int64_t> sizes) -> const void* {
    if (!table.has_value()) return nullptr;
    check_tensor(*table, op, table_name, dtype, sizes);
    check_contiguous(*table, op, table_name);
    check_same_device(*table, like, op, table_name, name);
    return table->const_data_ptr();
  };
  out.order = static_cast<const int64_t*>(read_table(order, "order", ScalarType::Long, {images, out.count}));
  out.offsets = static_cast<const int32_t*>(read_table(offsets, "offsets", ScalarType::Int, {images, out.count, 2}));
  out.dropped = static_cast<const int32_t*>(read_table(dropped, "dropped", ScalarType::Int, {images, out.count}));
  check(out.dropped == nullptr || channels <= 32, op, ": dropped has one bit for each of 32 channels; images have ",
        channels);
  out.channels = static_cast<int>(channels);
  out.height = static_cast<int>(height);
  out.width = static_cast<int>(width);
  out.rows = static_cast<int>(grid[0]);
  out.columns = static_cast<int>(grid[1]);
  out.patch_height = static_cast<int>(patch[0]);
  out.patch_width = static_cast<int>(patch[1]);
  out.stride_y = static_cast<int>(stride[0]);
  out.stride_x = static_cast<int>(stride[1]);
  return out;
}

Tensor patch_grid(const Tensor& images, std::optional<Tensor> order, std::optional<Tensor> offsets,
                  std::optional<Tensor> dropped, std::vector<int64_t> grid, std::vector<int64_t> patch,
                  std::vector<int64_t> stride) {
  constexpr const char* op = "patch_grid";
  const ScalarType dtype = images.scalar_type();
  check(element_bytes(dtype) > 0, op, ": images must be uint8, float16, bfloat16, float32 or float64, got ",
        dtype_name(dtype), "; convert them with .float()");
  check_tensor(images, op, "images", dtype, {-1, -1, -1, -1});
  check_contiguous(images, op, "images");
  PatchGridArgs args{};
  args.grid = make_grid(op, images, "images", order, offsets, dropped, grid, patch, stride, images.size(0),
                        images.size(1), images.size(2), images.size(3));
  Tensor patches =
      torch::stable::new_empty(images, {images.size(0), args.grid.count, images.size(1), patch[0], patch[1]});
  args.images = images.const_data_ptr();
  args.patches = patches.mutable_data_ptr();
  args.element_bytes = element_bytes(dtype);
  if (patches.numel() > 0) run(args, images);
  return patches;
}

Tensor patch_grid_backward(const Tensor& grad, std::optional<Tensor> order, std::optional<Tensor> offsets,
                           std::optional<Tensor> dropped, std::vector<int64_t> grid, std::vector<int64_t> stride,
                           int64_t height, int64_t width) {
  constexpr const char* op = "patch_grid_backward";
  const ScalarType dtype = grad.scalar_type();
  check(element_bytes(dtype) > 1, op, ": grad must be float16, bfloat16, float32 or float64, got ", dtype_name(dtype),
        "; convert it with .float()");
  check_tensor(grad, op, "grad", dtype, {-1, -1, -1, -1, -1});
  check_contiguous(grad, op, "grad");
  PatchGridBackwardArgs args{};
  args.grid = make_grid(op, grad, "grad", order, offsets, dropped, grid, {grad.size(3), grad.size(4)}, stride,
                        grad.size(0), grad.size(2), height, width);
  check(grad.size(1) == args.grid.count, op, ": grad must have ", args.grid.count, " patches an image, got ",
        grad.size(1));
  Tensor grad_images = torch::stable::new_empty(grad, {grad.size(0), grad.size(2), height, width});
  args.grad_patches = grad.const_data_ptr();
  args.grad_images = grad_images.mutable_data_ptr();
  args.dtype = dtype;
  if (grad_images.numel() > 0) run(args, grad);
  return grad_images;
}

SSLFAST_OP(patch_grid,
           "patch_grid(Tensor images, Tensor? order, Tensor? offsets, Tensor? dropped, int[] grid, int[] patch, "
           "int[] stride) -> Tensor")
SSLFAST_OP(patch_grid_backward,
           "patch_grid_backward(Tensor grad, Tensor? order, Tensor? offsets, Tensor? dropped, int[] grid, "
           "int[] stride, int height, int width) -> Tensor")

}  // namespace
}  // namespace sslfast
