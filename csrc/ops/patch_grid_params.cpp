#include "csrc/ops/patch_grid_params.h"

#include <optional>
#include <tuple>
#include <vector>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> patch_grid_params(
    const Tensor& index, std::optional<Tensor> arrangements, int64_t patches, int64_t jitter, double channel_drop,
    std::vector<int64_t> drop_count, int64_t channels, double reduce, std::vector<int64_t> reduce_factor, int64_t seed,
    int64_t epoch, int64_t view) {
  constexpr const char* op = "patch_grid_params";
  check_tensor(index, op, "index", ScalarType::Long, {-1});
  check_contiguous(index, op, "index");
  const int64_t count = index.size(0);
  check(patches >= 1 && patches <= most_drawn_patches, op, ": patches must be 1 to ", most_drawn_patches, ", got ",
        patches);
  check(jitter >= 0 && jitter <= int64_t{1} << 30, op, ": jitter must be in [0, 2^30], got ", jitter);
  check(channel_drop >= 0 && channel_drop <= 1, op, ": channel_drop must be a probability in [0, 1], got ",
        channel_drop);
  check(drop_count.size() == 2, op, ": drop_count must have 2 numbers, got ", drop_count.size());
  check(drop_count[0] >= 0 && drop_count[0] <= drop_count[1] && drop_count[1] <= 32, op,
        ": drop_count must be 0 <= least <= most <= 32, got (", drop_count[0], ", ", drop_count[1], ")");
  check(channels >= 1 && channels <= 32, op, ": channels must be 1 to 32, got ", channels);
  check(reduce >= 0 && reduce <= 1, op, ": reduce must be a probability in [0, 1], got ", reduce);
  check(reduce_factor.size() == 2, op, ": reduce_factor must have 2 numbers, got ", reduce_factor.size());
  check(reduce_factor[0] >= 1 && reduce_factor[0] <= reduce_factor[1] && reduce_factor[1] <= int64_t{1} << 30, op,
        ": reduce_factor must be 1 <= least <= most <= 2^30, got (", reduce_factor[0], ", ", reduce_factor[1], ")");
  check(epoch >= 0 && epoch < int64_t{1} << 32, op, ": epoch must be in [0, 2^32), got ", epoch);
  check(view >= 0 && view < int64_t{1} << 16, op, ": view must be in [0, 65536), got ", view);

  PatchGridParamsArgs args{};
  if (arrangements.has_value()) {
    check_tensor(*arrangements, op, "arrangements", ScalarType::Long, {-1, patches});
    check_contiguous(*arrangements, op, "arrangements");
    check_same_device(*arrangements, index, op, "arrangements", "index");
    check(arrangements->size(0) > 0, op, ": arrangements are empty; give at least one");
    args.arrangements = static_cast<const int64_t*>(arrangements->const_data_ptr());
    args.choices = arrangements->size(0);
  }
  Tensor order = torch::stable::new_empty(index, {count, patches});
  Tensor offsets = torch::stable::new_empty(index, {count, patches, 2}, ScalarType::Int);
  Tensor dropped = torch::stable::new_empty(index, {count, patches}, ScalarType::Int);
  Tensor arrangement = torch::stable::new_empty(index, {count});
  Tensor reduced = torch::stable::new_empty(index, {count, patches}, ScalarType::Int);
  args.index = static_cast<const int64_t*>(index.const_data_ptr());
  args.order = static_cast<int64_t*>(order.mutable_data_ptr());
  args.offsets = static_cast<int32_t*>(offsets.mutable_data_ptr());
  args.dropped = static_cast<int32_t*>(dropped.mutable_data_ptr());
  args.arrangement = static_cast<int64_t*>(arrangement.mutable_data_ptr());
  args.reduced = static_cast<int32_t*>(reduced.mutable_data_ptr());
  args.images = count;
  args.count = patches;
  args.stream = {static_cast<uint64_t>(seed), static_cast<uint32_t>(epoch), static_cast<uint32_t>(view)};
  args.spec = {
      static_cast<int>(jitter),   channel_drop, static_cast<int>(drop_count[0]),    static_cast<int>(drop_count[1]),
      static_cast<int>(channels), reduce,       static_cast<int>(reduce_factor[0]), static_cast<int>(reduce_factor[1])};
  if (count > 0) run(args, index);
  return {order, offsets, dropped, arrangement, reduced};
}

SSLFAST_OP(patch_grid_params,
           "patch_grid_params(Tensor index, Tensor? arrangements, int patches, int jitter, float channel_drop, "
           "int[] drop_count, int channels, float reduce, int[] reduce_factor, int seed, int epoch, int view) -> "
           "(Tensor, Tensor, Tensor, Tensor, Tensor)")

}  // namespace
}  // namespace sslfast
