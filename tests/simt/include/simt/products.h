// How tensor cores add up: NVIDIA documents no more than "at least single precision". Measured (Fasi, Higham, Mikaitis,
// Pranesh, "Numerical behavior of NVIDIA tensor cores", PeerJ CS 2021; Khattak, Mikaitis, "Accurate models of NVIDIA
// tensor cores", arXiv 2512.07004): products are exact; as many as the chip takes at a time, and the sum so far, are
// aligned to the largest of them, cut off there, added without error, and cut off to float32. Nothing is rounded.
#pragma once

#include "runtime.h"

namespace simt {

// sum + a[0] b[0] + … + a[depth - 1] b[depth - 1]. `tf32`: factors are TF32, of which a chip takes half as many at a
// time as of 16-bit ones.
SIMT_EXPORT float multiply_add(float sum, const float* a, const float* b, int depth, bool tf32);

}  // namespace simt
