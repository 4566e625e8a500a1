// The best of what a query has seen: similarities as whole numbers of the same order, and where they were seen.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

namespace sslfast {
namespace {

template <class R>
using OrderOf = std::conditional_t<std::is_same_v<R, double>, int64_t, int32_t>;

// Whole numbers that compare as the values do: negative floats have the order of their bits reversed. NaN is the
// largest, and -0 is 0.
template <class R>
inline OrderOf<R> order_of(R value) {
  constexpr OrderOf<R> most = std::numeric_limits<OrderOf<R>>::max();
  OrderOf<R> bits;
  value += R(0);
  std::memcpy(&bits, &value, sizeof(bits));
  return value != value ? most : bits < 0 ? bits ^ most : bits;
}

template <class R>
inline R value_of(OrderOf<R> order) {
  const OrderOf<R> bits = order < 0 ? order ^ std::numeric_limits<OrderOf<R>>::max() : order;
  R value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// The k-th largest of `count` orders, count >= k >= 1, by bisection: each step is one vectorised pass without branches.
template <class Order>
Order kth_largest(const Order* orders, Order count, Order k) {
  using Bits = std::make_unsigned_t<Order>;
  Order low = orders[0];
  Order high = orders[0];
#pragma omp simd reduction(min : low) reduction(max : high)
  for (Order i = 0; i < count; ++i) {
    low = orders[i] < low ? orders[i] : low;
    high = orders[i] > high ? orders[i] : high;
  }
  while (low < high) {
    const Bits gap = static_cast<Bits>(high) - static_cast<Bits>(low);
    const Order middle = static_cast<Order>(static_cast<Bits>(low) + gap / 2 + gap % 2);
    Order larger = 0;
    Order smallest = high;
#pragma omp simd reduction(+ : larger) reduction(min : smallest)
    for (Order i = 0; i < count; ++i) {
      larger += orders[i] >= middle;
      smallest = orders[i] >= middle && orders[i] < smallest ? orders[i] : smallest;
    }
    if (larger == k) return smallest;
    if (larger > k) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

// Candidates of one query in the order of their positions.
template <class Order>
struct Candidates {
  Order* orders;
  int32_t* positions;
  int64_t count;

  // Keeps the k largest of more than k, of equal ones the first; returns the least that is kept.
  Order cut(int64_t k) {
    const Order least = kth_largest(orders, static_cast<Order>(count), static_cast<Order>(k));
    int64_t room = k;  // for those that equal the least
    for (int64_t i = 0; i < count; ++i) room -= orders[i] > least;
    int64_t kept = 0;
    for (int64_t i = 0; i < count; ++i) {
      const Order order = orders[i];
      const bool equal = order == least && room > 0;
      room -= equal;
      orders[kept] = order;
      positions[kept] = positions[i];
      kept += order > least || equal;
    }
    count = kept;
    return least;
  }

  // Writes them by falling similarity, equal ones by position. `ranked` is memory of the caller's.
  template <class R>
  void write(std::vector<std::pair<Order, int32_t>>& ranked, R* similarity, int64_t* position) const {
    ranked.resize(count);
    for (int64_t i = 0; i < count; ++i) ranked[i] = {~orders[i], positions[i]};  // ~ reverses the order
    std::sort(ranked.begin(), ranked.end());
    for (int64_t i = 0; i < count; ++i) {
      similarity[i] = value_of<R>(~ranked[i].first);
      position[i] = ranked[i].second;
    }
  }
};

}  // namespace
}  // namespace sslfast
