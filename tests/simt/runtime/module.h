// The library that holds the running kernel: its constants and variables, and its static shared variables.
#pragma once

#include "memory.h"

namespace simt {

struct Segment {
  uintptr_t begin, end;
  bool writable;
};

struct Module {
  std::vector<Segment> segments;
  std::vector<Region> shared;  // in the order of their addresses
};

// The module of `kernel`, the same object at every call for the same library.
Module& module_of(const void* kernel);

}  // namespace simt
