#include "csrc/ops/augment.h"

#include <vector>

#include "csrc/stable/op.h"
#include "csrc/stable/recycle.h"

namespace sslfast {
namespace {

constexpr const char* op = "augment";

void set_normalisation(AugmentArgs& args, const std::vector<double>& mean, const std::vector<double>& std) {
  const size_t channels = static_cast<size_t>(args.channels);
  check(mean.size() == std.size() && (mean.size() == 1 || mean.size() == channels), op, ": mean and std have ",
        mean.size(), " and ", std.size(), " entries; give one for all channels or one for each of the ", channels);
  for (size_t c = 0; c < channels; ++c) {
    const size_t k = mean.size() == 1 ? 0 : c;
    check(std[k] > 0.0, op, ": std must be above 0, got ", std[k]);
    args.mean[c] = static_cast<float>(mean[k]);
    args.inverse_std[c] = static_cast<float>(1.0 / std[k]);
  }
}

Tensor augment(const Tensor& storage, const Tensor& offsets, const Tensor& sizes, const Tensor& params,
               const Tensor& noise_key, int64_t height, int64_t width, int64_t channels, std::vector<double> mean,
               std::vector<double> std, ScalarType dtype, bool channels_last) {
  check_tensor(storage, op, "storage", ScalarType::Byte, {-1});
  check_tensor(offsets, op, "offsets", ScalarType::Long, {-1});
  const int64_t count = offsets.size(0);
  check_tensor(sizes, op, "sizes", ScalarType::Int, {count, 2});
  check_tensor(params, op, "params", ScalarType::Float, {count, augment_column_count});
  check_tensor(noise_key, op, "noise_key", ScalarType::Long, {count});
  const Tensor* tables[] = {&storage, &offsets, &sizes, &params, &noise_key};
  const char* names[] = {"storage", "offsets", "sizes", "params", "noise_key"};
  for (int i = 0; i < 5; ++i) {
    check_contiguous(*tables[i], op, names[i]);
    check_same_device(*tables[i], storage, op, names[i], "storage");
  }
  check(channels >= 1 && channels <= max_channels, op, ": channels must be 1 to ", max_channels, ", got ", channels);
  check(height >= 1 && width >= 1 && height <= 32768 && width <= 32768, op,
        ": size must be 1 to 32768 pixels each way, got (", height, ", ", width, ")");
  check(dtype == ScalarType::Float || dtype == ScalarType::Half || dtype == ScalarType::BFloat16, op,
        ": dtype must be float32, float16 or bfloat16, got ", dtype_name(dtype));

  AugmentArgs args{};
  args.channels = static_cast<int>(channels);
  set_normalisation(args, mean, std);
  Tensor out = new_images(count, channels, height, width, dtype, channels_last, storage);
  args.storage = static_cast<const uint8_t*>(storage.const_data_ptr());
  args.offsets = static_cast<const int64_t*>(offsets.const_data_ptr());
  args.sizes = static_cast<const int32_t*>(sizes.const_data_ptr());
  args.params = static_cast<const AugmentParams*>(params.const_data_ptr());
  args.noise_key = static_cast<const int64_t*>(noise_key.const_data_ptr());
  args.out = out.mutable_data_ptr();
  args.dtype = dtype;
  args.storage_bytes = storage.numel();
  args.count = count;
  args.height = static_cast<int>(height);
  args.width = static_cast<int>(width);
  args.stride_channel = channels_last ? 1 : height * width;
  args.stride_pixel = channels_last ? channels : 1;
  if (count > 0) run(args, storage);
  return out;
}

SSLFAST_OP(
    augment,
    "augment(Tensor storage, Tensor offsets, Tensor sizes, Tensor params, Tensor noise_key, int height, int width, "
    "int channels, float[] mean, float[] std, ScalarType dtype, bool channels_last) -> Tensor")

}  // namespace
}  // namespace sslfast
