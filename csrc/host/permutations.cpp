#include "csrc/host/permutations.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "csrc/stable/error.h"

namespace sslfast {
namespace {

constexpr int most_tiles = 9;
constexpr int block = 4096;  // candidates that are compared while their counts lie in the first cache

// All permutations in lexicographic order: places[i * count + k] is what stands at place i of permutation k.
std::vector<uint8_t> all_permutations(int tiles, int count) {
  std::vector<uint8_t> places(static_cast<size_t>(tiles) * count);
  std::array<uint8_t, most_tiles> permutation;
  std::iota(permutation.begin(), permutation.end(), uint8_t{0});
  for (int k = 0; k < count; ++k) {
    for (int i = 0; i < tiles; ++i) places[static_cast<size_t>(i) * count + k] = permutation[i];
    std::next_permutation(permutation.begin(), permutation.begin() + tiles);
  }
  return places;
}

// What decides between candidates, the smaller the better: most places in common with one chosen permutation, then
// places in common with all of them (below 2^24, because 9 * 9! is).
inline uint32_t rank_of(uint8_t most_common, uint32_t all_common) { return uint32_t{most_common} << 24 | all_common; }

}  // namespace

std::vector<std::vector<int>> permutation_set(int tiles, int count) {
  check(tiles >= 1 && tiles <= most_tiles, "permutation_set: tiles must be 1 to ", most_tiles, ", got ", tiles);
  int candidates = 1;
  for (int i = 2; i <= tiles; ++i) candidates *= i;
  check(count >= 1 && count <= candidates, "permutation_set: count must be 1 to ", candidates, " for ", tiles,
        " tiles, got ", count);
  const std::vector<uint8_t> places = all_permutations(tiles, candidates);
  std::vector<uint8_t> most_common(candidates);
  std::vector<uint32_t> all_common(candidates);
  std::vector<std::vector<int>> chosen;
  for (int next = 0;;) {
    std::vector<int>& last = chosen.emplace_back(tiles);
    for (int i = 0; i < tiles; ++i) last[i] = places[static_cast<size_t>(i) * candidates + next];
    if (static_cast<int>(chosen.size()) == count) return chosen;
    uint32_t best = UINT32_MAX;
    int best_begin = 0;
    for (int begin = 0; begin < candidates; begin += block) {
      const int size = std::min(block, candidates - begin);
      uint8_t common[block] = {};
      for (int i = 0; i < tiles; ++i) {
        const uint8_t* const place = places.data() + static_cast<size_t>(i) * candidates + begin;
        const uint8_t tile = static_cast<uint8_t>(last[i]);
        for (int j = 0; j < size; ++j) common[j] = static_cast<uint8_t>(common[j] + (place[j] == tile));
      }
      uint8_t* const most = most_common.data() + begin;
      uint32_t* const all = all_common.data() + begin;
      uint32_t least = UINT32_MAX;
      for (int j = 0; j < size; ++j) {
        most[j] = std::max(most[j], common[j]);
        all[j] += common[j];
        least = std::min(least, rank_of(most[j], all[j]));
      }
      if (least < best) best = least, best_begin = begin;
    }
    for (next = best_begin; rank_of(most_common[next], all_common[next]) != best;) ++next;
  }
}

}  // namespace sslfast
