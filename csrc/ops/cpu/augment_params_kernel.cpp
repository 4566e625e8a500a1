#include "csrc/ops/augment_params.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

void kernel(const AugmentParamsArgs& args) {
  parallel_for(args.count, 64, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      args.noise_key[b] = draw_params(args.params[b], args.fields, args.stream, args.index[b], args.sizes[2 * b],
                                      args.sizes[2 * b + 1]);
    }
  });
}

SSLFAST_CPU_KERNEL(AugmentParamsArgs, kernel)

}  // namespace
}  // namespace sslfast
