// nt_xent on the CPU. Similarities are computed tile by tile in registers and used while they lie in the first cache.
// Work is cut into blocks of rows and columns whose size depends on the counts alone, and every sum is taken in a fixed
// order, so results do not depend on the number of threads.
#include "csrc/ops/nt_xent.h"

#include "csrc/ops/cpu/nt_xent_backward.h"
#include "csrc/ops/cpu/nt_xent_forward.h"
#include "csrc/stable/isa.h"

namespace sslfast {
namespace {

// float16 and bfloat16 are widened to float32, which costs little beside the products.
template <class From, class To>
void convert(const From* from, int64_t count, To* to) {
  parallel_for(count, 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) to[i] = static_cast<To>(from[i]);
  });
}

template <class T>
void forward_widened(const NtXentForwardArgs<T>& args) {
  const Scratch<float> queries(args.rows * args.depth);
  const Scratch<float> keys(args.keys == nullptr ? 0 : args.columns * args.depth);
  convert(args.queries, args.rows * args.depth, queries.data());
  if (args.keys != nullptr) convert(args.keys, args.columns * args.depth, keys.data());
  forward<float>({queries.data(), args.keys == nullptr ? nullptr : keys.data(), args.excluded, args.lse, args.largest,
                  args.rows, args.columns, args.depth, args.exclusions, args.temperature, args.tf32, args.classes,
                  args.key_classes, args.largest_other});
}

template <class T>
void backward_widened(const NtXentBackwardArgs<T>& args) {
  const int64_t query_numbers = args.rows * args.depth;
  const int64_t key_numbers = args.keys == nullptr ? 0 : args.columns * args.depth;
  const Scratch<float> queries(query_numbers);
  const Scratch<float> keys(key_numbers);
  const Scratch<float> grad_queries(query_numbers);
  const Scratch<float> grad_keys(args.grad_keys == nullptr ? 0 : key_numbers);
  convert(args.queries, query_numbers, queries.data());
  if (args.keys != nullptr) convert(args.keys, key_numbers, keys.data());
  backward<float>({args.grad_lse, queries.data(), args.keys == nullptr ? nullptr : keys.data(), args.excluded, args.lse,
                   grad_queries.data(), args.grad_keys == nullptr ? nullptr : grad_keys.data(), args.rows, args.columns,
                   args.depth, args.exclusions, args.temperature, args.tf32});
  convert(grad_queries.data(), query_numbers, args.grad_queries);
  if (args.grad_keys != nullptr) convert(grad_keys.data(), key_numbers, args.grad_keys);
}

void forward_float(const NtXentForwardArgs<float>& args) { forward(args); }
void forward_double(const NtXentForwardArgs<double>& args) { forward(args); }
void backward_float(const NtXentBackwardArgs<float>& args) { backward(args); }
void backward_double(const NtXentBackwardArgs<double>& args) { backward(args); }

void forward_half(const NtXentForwardArgs<Half>& args) { forward_widened(args); }
void forward_bfloat16(const NtXentForwardArgs<BFloat16>& args) { forward_widened(args); }
void backward_half(const NtXentBackwardArgs<Half>& args) { backward_widened(args); }
void backward_bfloat16(const NtXentBackwardArgs<BFloat16>& args) { backward_widened(args); }

SSLFAST_CPU_KERNEL(NtXentForwardArgs<Half>, forward_half)
SSLFAST_CPU_KERNEL(NtXentForwardArgs<BFloat16>, forward_bfloat16)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<Half>, backward_half)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<BFloat16>, backward_bfloat16)
SSLFAST_CPU_KERNEL(NtXentForwardArgs<float>, forward_float)
SSLFAST_CPU_KERNEL(NtXentForwardArgs<double>, forward_double)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<float>, backward_float)
SSLFAST_CPU_KERNEL(NtXentBackwardArgs<double>, backward_double)

}  // namespace
}  // namespace sslfast
