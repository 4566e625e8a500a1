// wgmma: a product is computed when it is issued, from what its warp may see then; its sums reach the registers with
// the wait, and its operands may not change before.
#include <algorithm>

#include "../include/simt/products.h"
#include "scheduler.h"

namespace simt {
namespace {

// What one warp's products read from shared memory, fetched by its first lane to run.
struct WarpState {
  uint64_t fetched = 0;
  uint64_t history = 0;  // of all its warp-group instructions
  float a[16][16];       // (row, k)
  float b[256][16];      // (column, k)
};
WarpState warps[most_warps];
uint64_t products = 0;  // of all launches, by their first lane

struct Operand {
  uint32_t a[4];
  uint64_t a_matrix, b_matrix;
  int columns;
  bool add, in_registers;
};

constexpr uint32_t poison_pair = static_cast<uint32_t>(poison) << 16 | poison;

int unit_of_warp() { return threads_of_block() + most_mbarriers + current->warp(); }

// All 32 lanes, and a word about it for the comparison of the four warps.
void meet(const Operand& operand, uint64_t what, const Site& site, Operand* lanes) {
  if (current->warp() / 4 * 128 + 128 > threads_of_block()) fail_at("the warp group has no four warps", 0);
  rendezvous(Collective::warpgroup, 0xffffffffu, &operand, sizeof(Operand), lanes, false, site);
  if (current->lane() != 0) return;
  uint64_t& history = warps[current->warp()].history;
  history = (history ^ what) * 0x9e3779b97f4a7c15u + 1;
}

// Byte of a matrix in shared memory, swizzled by 128 bytes: element k of row or column mn.
uint32_t address_of(uint64_t matrix, bool transposed, int mn, int k) {
  const auto field = [&](int bit) { return static_cast<uint32_t>(matrix >> bit & 0x3fffu) << 4; };
  const uint32_t start = field(0), leading = field(16), stride = field(32);
  const uint32_t offset = transposed ? mn % 64 * 2 + mn / 64 * leading + k % 8 * 128 + k / 8 * stride
                                     : mn % 8 * 128 + mn / 8 * stride + k * 2;
  const uint32_t address = start + offset;
  return address ^ (address >> 7 & 7u) << 4;
}

void check_matrix(uint64_t matrix) {
  if (matrix >> 62 != 1) fail_at("the bench knows matrices with a swizzle of 128 bytes only", 0);
  if (matrix >> 49 & 7u) fail_at("the bench knows matrices with base offset 0 only", 0);
  if (matrix >> 3 & 7u) fail_at("the matrix begins inside of the pattern of its swizzle: bits 7 to 9 are not 0", 0);
}

void fetch(uint64_t matrix, bool transposed, int first, int count, float (*out)[16], float (*widen)(uint16_t)) {
  check_matrix(matrix);
  for (int i = 0; i < count; ++i) {
    for (int k = 0; k < 16; ++k) {
      const uintptr_t address = shared_window() + address_of(matrix, transposed, first + i, k);
      read_async(address, 2, unit_of_warp());
      uint16_t bits;
      memcpy(&bits, reinterpret_cast<const void*>(address), 2);
      out[i][k] = widen(bits);
    }
  }
}

bool is_poison(const float* sums, size_t count) {
  return std::all_of(sums, sums + count, [](float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits == poison_pair;
  });
}

PendingSums& pending_sums(const WarpgroupProduct& product) {
  AsyncState& state = current->async;
  const size_t count = static_cast<size_t>(product.columns) / 2;
  for (PendingSums& pending : state.sums) {
    if (product.sums + count <= pending.sums || product.sums >= pending.sums + pending.value.size()) continue;
    if (pending.sums != product.sums || pending.value.size() != count) {
      fail_at("products of different shapes share registers", 0);
    }
    if (!is_poison(pending.sums, count)) fail_at("the sums of a product under way have been written", 0);
    return pending;
  }
  if (!state.fenced) fail_at("no wgmma_fence before products of registers that other instructions have used", 0);
  state.sums.push_back({product.sums, {product.sums, product.sums + count}, 0});
  fill_poison(product.sums, count * sizeof(float));
  return state.sums.back();
}

}  // namespace

extern "C" SIMT_EXPORT uint64_t simt_warpgroup_products() { return products; }

void reset_products() {
  for (WarpState& warp : warps) warp.fetched = warp.history = 0;
}

void check_products_end() {
  for (int i = 0; i < threads_of_block(); ++i) {
    current = &fiber_of(i);
    if (!current->async.sums.empty()) fail_at("it returns while its products are under way", 0);
    const int first = current->warp() / 4 * 4;
    if (current->lane() == 0 && warps[current->warp()].history != warps[first].history) {
      fail_at("the four warps of its warp group have not called the same products", 0);
    }
  }
}

void wgmma(const WarpgroupProduct& product, Site site) {
  Operand mine{{}, product.a_matrix, product.b_matrix, product.columns, product.add, product.a != nullptr};
  if (product.a != nullptr) memcpy(mine.a, product.a, sizeof(mine.a));
  std::vector<Operand> lanes(warp_lanes);
  meet(mine, product.a_matrix ^ product.b_matrix << 1 ^ static_cast<uint64_t>(product.columns) << 50 ^ product.add,
       site, lanes.data());
  for (const Operand& other : lanes) {
    if (other.a_matrix != mine.a_matrix || other.b_matrix != mine.b_matrix || other.add != mine.add) {
      fail_at("the lanes of a warp give different matrices", 0);
    }
  }
  AsyncState& state = current->async;
  if (product.a != nullptr && !state.fenced) fail_at("no wgmma_fence between a wait and a product of registers", 0);
  WarpState& warp = warps[current->warp()];
  if (warp.fetched != ++state.products) {
    warp.fetched = state.products;
    ++products;
    fetch(product.b_matrix, product.b_transposed, 0, product.columns, warp.b, product.widen);
    if (product.a == nullptr) fetch(product.a_matrix, false, current->warp() % 4 * 16, 16, warp.a, product.widen);
    for (int row = 0; product.a != nullptr && row < 16; ++row) {
      for (int k = 0; k < 16; ++k) {
        const uint32_t pair = lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2];
        warp.a[row][k] = product.widen(static_cast<uint16_t>(k % 2 ? pair >> 16 : pair & 0xffffu));
      }
    }
  }
  PendingSums& pending = pending_sums(product);
  pending.group = static_cast<int>(state.commits.size());
  const int g = current->lane() / 4, t = current->lane() % 4;
  for (size_t i = 0; i < pending.value.size(); ++i) {
    const int row = g + static_cast<int>(i) % 4 / 2 * 8;
    const int column = static_cast<int>(i) / 4 * 8 + 2 * t + static_cast<int>(i) % 2;
    pending.value[i] = multiply_add(product.add ? pending.value[i] : 0.0f, warp.a[row], warp.b[column], 16, false);
  }
  if (product.a == nullptr) return;
  state.operands.push_back({product.a, {}, pending.group});
  memcpy(state.operands.back().copy, product.a, sizeof(mine.a));
}

void wgmma_fence(Site site) {
  std::vector<Operand> lanes(warp_lanes);
  meet({}, 1, site, lanes.data());
  current->async.fenced = true;
}

void wgmma_commit(Site site) {
  std::vector<Operand> lanes(warp_lanes);
  meet({}, 2, site, lanes.data());
  current->async.commits.push_back(++running.now);
}

void wgmma_wait(int pending, Site site) {
  std::vector<Operand> lanes(warp_lanes);
  meet({}, 3 + static_cast<uint64_t>(pending), site, lanes.data());
  AsyncState& state = current->async;
  state.fenced = false;
  const int done = static_cast<int>(state.commits.size()) - pending;
  if (done > 0) {
    Time& seen = current->seen[unit_of_warp()];
    seen = std::max(seen, state.commits[done - 1]);
  }
  for (const PendingOperand& operand : state.operands) {
    if (operand.group < done && memcmp(operand.registers, operand.copy, sizeof(operand.copy)) != 0) {
      fail_at("the left operand of a product under way has been written", 0);
    }
  }
  std::erase_if(state.operands, [&](const PendingOperand& operand) { return operand.group < done; });
  for (const PendingSums& sums : state.sums) {
    if (!is_poison(sums.sums, sums.value.size())) fail_at("the sums of a product under way have been written", 0);
    if (sums.group < done) memcpy(sums.sums, sums.value.data(), sums.value.size() * sizeof(float));
  }
  std::erase_if(state.sums, [&](const PendingSums& sums) { return sums.group < done; });
}

}  // namespace simt
