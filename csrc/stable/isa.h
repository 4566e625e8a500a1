// CPU kernels are compiled once per instruction set; the best one that the processor has is chosen at run time.
//
// A kernel is a function of one plain struct of pointers and sizes:
//
//   // ops/my_op.h                            // ops/cpu/my_op_kernel.cpp (compiled once per instruction set)
//   struct MyOpArgs { const float* in; … };   static void kernel(const MyOpArgs& args) { … }
//                                             SSLFAST_CPU_KERNEL(MyOpArgs, kernel)
#pragma once

#include <cstdlib>
#include <string>

#include "csrc/stable/error.h"

namespace sslfast {

enum class Isa : int { baseline = 0, avx2 = 1, avx512 = 2 };
inline constexpr int isa_count = 3;
inline constexpr const char* isa_names[isa_count] = {"baseline", "avx2", "avx512"};

inline bool isa_supported(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && isa_supported(Isa::avx2);
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    default: return true;
  }
#else
  return isa == Isa::baseline;
#endif
}

// The instruction set in use: the best supported one, or the one named by SSLFAST_CPU_ISA.
inline Isa active_isa() {
  static const Isa chosen = [] {
    if (const char* name = std::getenv("SSLFAST_CPU_ISA"); name != nullptr && *name != '\0') {
      for (int i = 0; i < isa_count; ++i) {
        if (std::string(name) != isa_names[i]) continue;
        check(isa_supported(static_cast<Isa>(i)), "SSLFAST_CPU_ISA=", name,
              ": this processor does not have it; unset the variable");
        return static_cast<Isa>(i);
      }
      check(false, "SSLFAST_CPU_ISA=", name, " is unknown; use baseline, avx2 or avx512");
    }
    if (isa_supported(Isa::avx512)) return Isa::avx512;
    return isa_supported(Isa::avx2) ? Isa::avx2 : Isa::baseline;
  }();
  return chosen;
}

template <class Args>
struct CpuKernel {
  using Function = void (*)(const Args&);
  static inline Function by_isa[isa_count] = {};

  static void run(const Args& args) {
    for (int i = static_cast<int>(active_isa()); i >= 0; --i) {
      if (by_isa[i] != nullptr) return by_isa[i](args);
    }
    check(false, "sslfast was built without a CPU kernel for this operation; reinstall it");
  }
};

}  // namespace sslfast

#define SSLFAST_CPU_KERNEL(Args, function)                                                        \
  [[maybe_unused]] static const bool sslfast_registered_##function = [] {                         \
    ::sslfast::CpuKernel<Args>::by_isa[static_cast<int>(::sslfast::Isa::SSLFAST_ISA)] = function; \
    return true;                                                                                  \
  }();
