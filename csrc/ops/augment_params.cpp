#include "csrc/ops/augment_params.h"

#include <cstring>
#include <tuple>
#include <vector>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

std::tuple<Tensor, Tensor> augment_params(const Tensor& index, const Tensor& sizes, std::vector<double> fields,
                                          int64_t seed, int64_t epoch, int64_t view, int64_t views) {
  constexpr const char* op = "augment_params";
  check_tensor(index, op, "index", ScalarType::Long, {-1});
  const int64_t count = index.size(0);
  check_tensor(sizes, op, "sizes", ScalarType::Int, {count, 2});
  check_contiguous(index, op, "index");
  check_contiguous(sizes, op, "sizes");
  check_same_device(sizes, index, op, "sizes", "index");
  check(fields.size() == static_cast<size_t>(view_field_count), op, ": fields must have ", view_field_count,
        " entries, got ", fields.size(), "; make them with sslfast.ops.augment_params");
  check(epoch >= 0 && epoch < int64_t{1} << 32, op, ": epoch must be in [0, 2^32), got ", epoch);
  check(views >= 1 && views < 65536, op, ": views must be in [1, 65536), got ", views);
  check(view >= 0 && view < (int64_t{1} << 16) && views <= (int64_t{1} << 16) - view, op,
        ": view must be in [0, 65536), got ", view, " and up to ", view + views - 1);

  Tensor params = torch::stable::new_empty(index, {views * count, augment_column_count}, ScalarType::Float);
  Tensor noise_key = torch::stable::new_empty(index, {views * count}, ScalarType::Long);
  AugmentParamsArgs args{};
  args.index = static_cast<const int64_t*>(index.const_data_ptr());
  args.sizes = static_cast<const int32_t*>(sizes.const_data_ptr());
  args.params = static_cast<AugmentParams*>(params.mutable_data_ptr());
  args.noise_key = static_cast<int64_t*>(noise_key.mutable_data_ptr());
  args.count = count;
  args.views = views;
  args.stream = {static_cast<uint64_t>(seed), static_cast<uint32_t>(epoch), static_cast<uint32_t>(view)};
  std::memcpy(&args.fields, fields.data(), sizeof(args.fields));
  if (count > 0) run(args, index);
  return {params, noise_key};
}

SSLFAST_OP(augment_params,
           "augment_params(Tensor index, Tensor sizes, float[] fields, int seed, int epoch, int view, int views=1) -> "
           "(Tensor, Tensor)")

}  // namespace
}  // namespace sslfast
