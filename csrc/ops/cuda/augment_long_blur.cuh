// Gaussian blur along one axis of the planes, in place, of any radius and for lines of any length: what the faster
// passes of augment_blur.cuh and augment_tensor_blur.cuh do not take.
//
// Lines go through a ring in the work memory, which holds what their windows still need of what has been written over:
//
//   position   0 …          done - radius …   done …              end - radius …   end …
//              blurred      blurred, kept     blurred next        kept             not read yet
//
// Rows of a view are as many lines at once as fit; columns are 32 where the radius leaves room for them, so that the
// lanes of a warp read neighbours.
#pragma once

#include "csrc/ops/cuda/augment_tensor_blur.cuh"

namespace sslfast {
namespace {

struct Blur {
  int radius;
  int margin;  // 4, 8, 12; 0 for radii beyond
  float inverse_sum;
  const float* weights;  // of distances 0 … 12, where there is a margin
  float* stage;
  int stage_size;
};

// Floats of work memory that suffice for every radius: a line, or a window and some positions to go on by.
inline int64_t least_blur_work(int height, int width) {
  return blur_weight_count + smaller(larger(height, width), 2 * max_blur_radius + 256);
}

struct Ring {
  float* values;
  int capacity;     // positions of a line
  int lines;        // at once
  int step, pitch;  // from position to position, from line to line

  __device__ float* of_line(int line) const { return values + line * pitch; }
};

__device__ inline Ring ring_of(const Blur& blur, int size, int lines, bool down) {
  const int wanted = larger(blur.stage_size / (down ? 32 : 1), 4 * blur.radius + 32);
  const int capacity = smaller(size, smaller(blur.stage_size, wanted));
  const int together = smaller(lines, blur.stage_size / capacity);
  return {blur.stage, capacity, together, down ? together : 1, down ? 1 : capacity};
}

__device__ inline float blurred(const Blur& blur, const AugmentParams& params, const Ring& ring, const float* line,
                                int position, int size) {
  const bool inside = position >= blur.radius && position + blur.radius < size;
  int slot = inside ? (position - blur.radius) % ring.capacity : 0;
  float sum = 0.0f;
#pragma unroll 1
  for (int k = -blur.radius; k <= blur.radius; ++k) {
    if (!inside) slot = reflect(position + k, size) % ring.capacity;
    const float weight = blur.margin > 0 ? blur.weights[k < 0 ? -k : k] : blur_weight(params, k) * blur.inverse_sum;
    sum += weight * line[slot * ring.step];
    if (++slot == ring.capacity) slot = 0;
  }
  return sum;
}

// Along the rows, or `down` the columns.
template <class V>
__device__ void blur_lines(const V& view, const Blur& blur, bool down, bool last) {
  const int size = down ? view.args.height : view.args.width;
  const int across = down ? view.args.width : view.args.height;
  const int all = view.channels() * across;
  const Ring ring = ring_of(blur, size, all, down);
  for (int first = 0; first < all; first += ring.lines) {
    const int lines = smaller(ring.lines, all - first);
    // visit(line of the ring, position, channel, place in memory)
    const auto each = [&](int begin, int end, const auto& visit) {
      const int length = end - begin;
      for (int item = threadIdx.x; item < lines * length; item += blockDim.x) {
        const int quotient = item / (down ? lines : length);
        const int rest = item - quotient * (down ? lines : length);
        const int line = down ? rest : quotient, position = begin + (down ? quotient : rest);
        const int channel = (first + line) / across;
        const int other = first + line - channel * across;
        const int y = down ? position : other, x = down ? other : position;
        visit(line, position, channel, view.at(channel, y * view.args.width + x));
      }
    };
    for (int begin = 0, done = 0; done < size;) {
      const int end = smaller(size, larger(done - blur.radius, 0) + ring.capacity);
      __syncthreads();  // the planes are complete, and what leaves the ring is used up
      each(begin, end, [&](int line, int position, int, int at) {
        ring.of_line(line)[position % ring.capacity * ring.step] = decode(view.planes[at]);
      });
      __syncthreads();  // the ring holds all windows up to the next part
      const int ready = end == size ? size : end - blur.radius;
      each(done, ready, [&](int line, int position, int channel, int at) {
        store_value(view, at, blurred(blur, view.params, ring, ring.of_line(line), position, size), channel, last);
      });
      begin = end;
      done = ready;
    }
  }
}

}  // namespace
}  // namespace sslfast
