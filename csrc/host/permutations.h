// Sets of permutations that differ in as many places as possible.
#pragma once

#include <vector>

namespace sslfast {

// `count` different permutations of 0 … tiles - 1, greedily: each next one has the largest minimal Hamming distance to
// those before it; among equals the largest mean distance (the criterion of Noroozi and Favaro 2016, algorithm 1), then
// the first in lexicographic order. The identity comes first, and a smaller set is the beginning of a larger one.
std::vector<std::vector<int>> permutation_set(int tiles, int count);

}  // namespace sslfast
