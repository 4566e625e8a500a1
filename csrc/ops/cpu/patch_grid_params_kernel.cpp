#include "csrc/ops/patch_grid_params.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

void kernel(const PatchGridParamsArgs& args) {
  parallel_for(args.images, 64, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t k = 0; k < args.count; ++k) draw_entry(args, b, k);
    }
  });
}

SSLFAST_CPU_KERNEL(PatchGridParamsArgs, kernel)

}  // namespace
}  // namespace sslfast
