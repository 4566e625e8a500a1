// The part of CUDA C++ that kernels use, for the host compiler: see docs/cuda-kernels.md.
// What is missing here is missing on purpose or not needed yet: __activemask, cooperative groups, textures, managed
// memory, __noinline__ (the host compiler's own headers use that word), and what exists on one chip only, but for
// Hopper's units: csrc/stable/hopper.h.
#pragma once

#include "simt/api.h"
#include "simt/atomics.h"
#include "simt/hopper.h"
#include "simt/intrinsics.h"
#include "simt/launch.h"
#include "simt/products.h"
#include "simt/runtime.h"
#include "simt/vector_types.h"
#include "simt/warp.h"
