// One thread an image, two sweeps over its planes, strip by strip so that the steps meet in the first-level cache:
//
//   bytes -> resize -> colours before contrast -> planes                 (contrast needs the mean of the whole view)
//   planes -> other colours -> blur -> solarize, noise, normalise -> result
//
// A view without contrast and rotation needs one sweep only. Rotation and sobel need whole planes before them, and
// write them to a second set.
#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "csrc/ops/augment.h"
#include "csrc/ops/common/augment_math.h"
#include "csrc/ops/cpu/augment_blur.h"
#include "csrc/ops/cpu/augment_color.h"
#include "csrc/ops/cpu/augment_resize.h"
#include "csrc/ops/cpu/augment_rotation.h"
#include "csrc/ops/cpu/augment_store.h"
#include "csrc/stable/helpers.h"
#include "csrc/stable/isa.h"

namespace sslfast {
namespace {

// What a thread needs; it grows with the first images and is then reused.
struct Workspace {
  explicit Workspace(const AugmentArgs& args) : args(args) {}

  Planes planes(Scratch<float>& memory) const {
    const int64_t stride = plane_stride(static_cast<int64_t>(args.height) * args.width);
    return {memory.get(stride * args.channels), stride, args.height, args.width, args.channels};
  }

  const AugmentArgs& args;
  Scratch<float> front, back;
  ResizeWork resize;
  BlurWork blur;
};

void sobel(Workspace& work) {
  const Planes in = work.planes(work.front), out = work.planes(work.back);
  for (int c = 0; c < in.channels; ++c) {
    for (int y = 0; y < in.height; ++y) {
      const float* __restrict up = in.row(c, larger(y - 1, 0));
      const float* __restrict here = in.row(c, y);
      const float* __restrict down = in.row(c, smaller(y + 1, in.height - 1));
      float* __restrict row = out.row(c, y);
      const int last = in.width - 1;
      row[0] = sobel_at(in.channel(c), in.height, in.width, 0, y);
      row[last] = sobel_at(in.channel(c), in.height, in.width, last, y);
#pragma omp simd
      for (int x = 1; x < last; ++x) {
        row[x] = sobel_of(up[x + 1] - up[x - 1], here[x + 1] - here[x - 1], down[x + 1] - down[x - 1],
                          down[x - 1] - up[x - 1], down[x] - up[x], down[x + 1] - up[x + 1]);
      }
    }
  }
  std::swap(work.front, work.back);
}

// Calls prepare(first row, last row + 1) before rows of the view are read, and take(finished rows, number of their
// first pixel).
template <class Prepare, class Take>
void blur_or_not(const AugmentParams& params, Workspace& work, const Prepare& prepare, const Take& take) {
  const Planes view = work.planes(work.front);
  if (const int radius = blur_radius(params); radius > 0) return blur(view, params, radius, work.blur, prepare, take);
  for_each_strip(view, [&](int begin, int end) {
    prepare(begin, end);
    take(view.rows(begin, end), static_cast<int64_t>(begin) * view.width);
  });
}

template <class T>
void make_view(const AugmentArgs& args, int64_t b, Workspace& work) {
  const AugmentParams& params = args.params[b];
  const Planes view = work.planes(work.front);
  ColorSteps colors(params, view.pixels());
  const Resize resize(args, b, view, work.resize);
  const bool rotation = has_rotation(params), one_sweep = !rotation && !colors.has_contrast();
  if (!one_sweep) {
    for_each_strip(view, [&](int begin, int end) {
      resize(begin, end);
      if (!rotation) colors.before_contrast(view.rows(begin, end));
    });
  }
  if (rotation) {
    rotate(params, view, work.planes(work.back));
    std::swap(work.front, work.back);
    const Planes rotated = work.planes(work.front);
    for_each_strip(rotated, [&](int begin, int end) { colors.before_contrast(rotated.rows(begin, end)); });
  }
  const Planes front = work.planes(work.front);
  const auto prepare = [&](int begin, int end) {
    if (one_sweep) resize(begin, end);
    colors.the_rest(front.rows(begin, end));
  };
  const ViewStore<T> store(args, b);
  if (params.sobel == 0.0f) {
    blur_or_not(params, work, prepare, [&](const Block& rows, int64_t first) { store(rows, first); });
  } else {
    const Planes whole = work.planes(work.back);
    blur_or_not(params, work, prepare, [&](const Block& rows, int64_t first) { copy(rows, whole, first); });
    std::swap(work.front, work.back);
    sobel(work);
    store(work.planes(work.front).rows(0, args.height), 0);
  }
  store.cutout();
}

void check_images(const AugmentArgs& args) {
  for (int64_t b = 0; b < args.count; ++b) {
    const int32_t height = args.sizes[2 * b], width = args.sizes[2 * b + 1];
    check(inside_storage(args.offsets[b], height, width, args.channels, args.storage_bytes), "augment: image ", b,
          " (offset ", args.offsets[b], ", ", height, " x ", width, " x ", args.channels,
          " bytes) does not lie inside the storage of ", args.storage_bytes,
          " bytes; check offsets, sizes and channels");
  }
}

// The views in the order of their images in the storage, so that all views of an image find it in the caches.
std::vector<int64_t> image_order(const AugmentArgs& args) {
  std::vector<int64_t> order(args.count);
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return args.offsets[a] < args.offsets[b]; });
  return order;
}

// Images take different times (half of them are blurred, say), so each thread takes the next few that are left.
template <class T>
void make_views(const AugmentArgs& args) {
  const int64_t values = static_cast<int64_t>(args.height) * args.width * args.channels;
  const std::vector<int64_t> order = image_order(args);
  Pieces views(args.count, larger<int64_t>(1, 65536 / values));
  share_out(views.number(), [&] {
    Workspace work(args);
    views.for_each([&](int64_t i) { make_view<T>(args, order[i], work); });
    end_of_stream();
  });
}

void kernel(const AugmentArgs& args) {
  check_images(args);
  switch (args.dtype) {
    case ScalarType::Half: return make_views<float16>(args);
    case ScalarType::BFloat16: return make_views<bfloat16>(args);
    default: return make_views<float>(args);
  }
}

SSLFAST_CPU_KERNEL(AugmentArgs, kernel)

}  // namespace
}  // namespace sslfast
