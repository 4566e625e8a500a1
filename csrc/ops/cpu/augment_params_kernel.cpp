#include "csrc/ops/augment_params.h"
#include "csrc/stable/helpers.h"
#include "csrc/stable/isa.h"

namespace sslfast {
namespace {

void kernel(const AugmentParamsArgs& args) {
  Pieces rows(args.views * args.count, 256);
  share_out(rows.number(), [&] {
    rows.for_each([&](int64_t row) {
      const int64_t b = row % args.count;
      DrawStream stream = args.stream;
      stream.view += static_cast<uint32_t>(row / args.count);
      args.noise_key[row] =
          draw_params(args.params[row], args.fields, stream, args.index[b], args.sizes[2 * b], args.sizes[2 * b + 1]);
    });
  });
}

SSLFAST_CPU_KERNEL(AugmentParamsArgs, kernel)

}  // namespace
}  // namespace sslfast
