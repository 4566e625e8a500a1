// Matrix products of one warp through csrc/stable/tensor_core.h: C (16 x 8) = A (16 x K) B (K x 8), K a multiple of 16.
#include "csrc/stable/tensor_core.h"

#include <string>

#include "csrc/stable/op.h"

namespace sslfast {
namespace {

struct ProductArgs {
  std::string path;  // "k16", "k8": fragments built by index; "shared": cp.async and ldmatrix
  ScalarType dtype;
  const void* a;
  const void* b;
  float* c;
  int depth;
};

__device__ void store_sums(const float (&sum)[4], float* c) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

template <class T, int step>
__global__ void product_of_fragments(const T* a, const T* b, float* c, int depth) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  float sum[4] = {};
  for (int k = 0; k < depth; k += step) {
    const auto pair_of_a = [&](int row, int column) {
      const T* at = a + row * depth + k + column;
      return pack_pair(at[0], at[1]);
    };
    const auto pair_of_b = [&](int row) { return pack_pair(b[(k + row) * 8 + g], b[(k + row + 1) * 8 + g]); };
    if constexpr (step == 16) {
      const uint32_t left[4] = {pair_of_a(g, 2 * t), pair_of_a(g + 8, 2 * t), pair_of_a(g, 2 * t + 8),
                                pair_of_a(g + 8, 2 * t + 8)};
      const uint32_t right[2] = {pair_of_b(2 * t), pair_of_b(2 * t + 8)};
      mma_m16n8k16<T>(sum, left, right);
    } else {
      const uint32_t left[2] = {pair_of_a(g, 2 * t), pair_of_a(g + 8, 2 * t)};
      const uint32_t right[1] = {pair_of_b(2 * t)};
      mma_m16n8k8<T>(sum, left, right);
    }
  }
  store_sums(sum, c);
}

__global__ void product_tf32(const float* a, const float* b, float* c, int depth) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  float sum[4] = {};
  for (int k = 0; k < depth; k += 8) {
    const float* row = a + g * depth + k + t;
    const float* below = row + 8 * depth;
    const uint32_t left[4] = {to_tf32(row[0]), to_tf32(below[0]), to_tf32(row[4]), to_tf32(below[4])};
    const uint32_t right[2] = {to_tf32(b[(k + t) * 8 + g]), to_tf32(b[(k + t + 4) * 8 + g])};
    mma_m16n8k8_tf32(sum, left, right);
  }
  store_sums(sum, c);
}

// Two stages: while one is multiplied, the next is on its way.
template <class T>
__global__ void product_through_shared(const T* a, const T* b, float* c, int depth) {
  __shared__ __align__(16) T left[2][16][16];
  __shared__ __align__(16) T right[2][16][8];
  const int lane = static_cast<int>(threadIdx.x);
  const auto fetch = [&](int k, int stage) {
    copy_async<16>(&left[stage][lane / 2][lane % 2 * 8], a + lane / 2 * depth + k + lane % 2 * 8);
    if (lane < 16) copy_async<16>(&right[stage][lane][0], b + (k + lane) * 8);
    copy_async_commit();
  };
  float sum[4] = {};
  fetch(0, 0);
  for (int k = 0; k < depth; k += 16) {
    const int stage = k / 16 % 2;
    if (k + 16 < depth) {
      fetch(k + 16, 1 - stage);
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncwarp();
    uint32_t fragment_a[4], fragment_b[2];
    load_matrices(fragment_a, &left[stage][lane % 16][lane / 16 * 8]);
    load_matrices<true>(fragment_b, &right[stage][lane % 16][0]);
    mma_m16n8k16<T>(sum, fragment_a, fragment_b);
    __syncwarp();  // the stage is overwritten by the next step but one
  }
  store_sums(sum, c);
}

template <class T>
void run_half(const ProductArgs& args, CudaContext& context) {
  const auto* a = static_cast<const T*>(args.a);
  const auto* b = static_cast<const T*>(args.b);
  if (args.path == "k16") {
    launch(product_of_fragments<T, 16>, dim3(1), dim3(32), 0, context, a, b, args.c, args.depth);
  } else if (args.path == "k8") {
    launch(product_of_fragments<T, 8>, dim3(1), dim3(32), 0, context, a, b, args.c, args.depth);
  } else {
    launch(product_through_shared<T>, dim3(1), dim3(32), 0, context, a, b, args.c, args.depth);
  }
}

void run_product(const ProductArgs& args, CudaContext& context) {
  if (args.dtype == ScalarType::Half) return run_half<__half>(args, context);
  if (args.dtype == ScalarType::BFloat16) return run_half<__nv_bfloat16>(args, context);
  launch(product_tf32, dim3(1), dim3(32), 0, context, static_cast<const float*>(args.a),
         static_cast<const float*>(args.b), args.c, args.depth);
}

SSLFAST_CUDA_KERNEL(ProductArgs, run_product)

Tensor example_product(std::string path, const Tensor& a, const Tensor& b) {
  Tensor c = torch::stable::new_empty(a, {16, 8}, ScalarType::Float);
  run(ProductArgs{path, a.scalar_type(), a.const_data_ptr(), b.const_data_ptr(),
                  static_cast<float*>(c.mutable_data_ptr()), static_cast<int>(a.size(1))},
      a);
  return c;
}

SSLFAST_OP(example_product, "example_product(str path, Tensor a, Tensor b) -> Tensor")

}  // namespace
}  // namespace sslfast
