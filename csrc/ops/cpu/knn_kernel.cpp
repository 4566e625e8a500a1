// knn on the CPU. A tile of similarities has a key a row and a query a column, so that a row is compared as a whole
// with what the queries ask for: the least similarity of their k best so far. Next to nothing passes. What does joins
// the candidates of its query, which are cut to the k best whenever they have no more room. A few queries would leave
// most of such a tile empty: theirs has a query a row and a key a column.
//
// The k best do not depend on what they were chosen among step by step, so that queries and keys may be divided among
// any number of threads.
#include "csrc/ops/knn.h"

#include <algorithm>
#include <type_traits>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "csrc/ops/cpu/convert.h"
#include "csrc/ops/cpu/knn_candidates.h"
#include "csrc/ops/cpu/knn_transpose.h"
#include "csrc/ops/cpu/matrix_tile.h"
#include "csrc/stable/isa.h"
#include "csrc/stable/parallel.h"

namespace sslfast {
namespace {

constexpr int64_t key_tiles = 16;                              // tiles of keys that are multiplied at a time
constexpr int64_t panel_bytes = 32 * 1024;                     // of a panel that the first cache keeps
constexpr int64_t group_bytes = 512 * 1024;                    // of all panels of a task: half of a second cache
constexpr int64_t candidate_bytes = int64_t{4} * 1024 * 1024;  // of a task
constexpr int64_t least_keys = 1024;                           // of a task

struct Range {
  int64_t begin;
  int64_t end;
};

// Part `index` of `parts` nearly equal ones of [0, count).
inline Range part(int64_t index, int64_t parts, int64_t count) {
  return {count * index / parts, count * (index + 1) / parts};
}

inline int64_t quotient(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Bit c is set unless row[c] <= threshold[c]; so NaN passes.
inline uint64_t above(const float* row, const float* threshold) {
  uint64_t mask = 0;
  for (int v = 0; v < tile_vectors; ++v) {
#if defined(__AVX512F__)
    mask |= static_cast<uint64_t>(
                _mm512_cmp_ps_mask(_mm512_loadu_ps(row + v * 16), _mm512_loadu_ps(threshold + v * 16), _CMP_NLE_UQ))
            << (v * 16);
#elif defined(__AVX2__)
    mask |= static_cast<uint64_t>(_mm256_movemask_ps(
                _mm256_cmp_ps(_mm256_loadu_ps(row + v * 8), _mm256_loadu_ps(threshold + v * 8), _CMP_NLE_UQ)))
            << (v * 8);
#else
    for (int c = v * lanes<float>; c < (v + 1) * lanes<float>; ++c) {
      mask |= static_cast<uint64_t>(!(row[c] <= threshold[c])) << c;
    }
#endif
  }
  return mask;
}

inline uint64_t above(const double* row, const double* threshold) {
  uint64_t mask = 0;
  for (int c = 0; c < tile_columns<double>; ++c) mask |= static_cast<uint64_t>(!(row[c] <= threshold[c])) << c;
  return mask;
}

// The candidates of a task's queries. A panel is as many queries as a tile has columns; the last one may be filled up
// with rows of zeros, which take no candidates.
template <class R>
class Search {
 public:
  Search(int64_t queries, int64_t k, int64_t capacity)
      : k_(k),
        capacity_(capacity),
        queries_(queries),
        thresholds_(round_up(queries, tile_columns<R>)),
        counts_(queries),
        orders_(queries * capacity),
        positions_(queries * capacity) {
    // Nothing is at most NaN: the first candidates all pass.
    std::fill_n(thresholds_.data(), round_up(queries, tile_columns<R>), std::numeric_limits<R>::quiet_NaN());
    std::fill_n(counts_.data(), queries, int64_t{0});
  }

  Candidates<OrderOf<R>> candidates(int64_t query) const {
    return {orders_.data() + query * capacity_, positions_.data() + query * capacity_, counts_.data()[query]};
  }

  // One query's similarities to the keys from `position` on, of which `valid` count.
  void offer_keys(int64_t query, const R* row, int64_t valid, int32_t position) {
    R threshold[tile_columns<R>];
    std::fill_n(threshold, tile_columns<R>, thresholds_.data()[query]);
    uint64_t passed = above(row, threshold);
    if (valid < tile_columns<R>) passed &= (uint64_t{1} << valid) - 1;
    for (; passed != 0; passed &= passed - 1) {
      const int c = __builtin_ctzll(passed);
      // The threshold may have risen meanwhile.
      if (!(row[c] <= thresholds_.data()[query])) add(query, row[c], position + c);
    }
  }

  // One key's similarities to the queries from `first` on.
  void offer(int64_t first, const R* row, int32_t position) {
    uint64_t passed = above(row, thresholds_.data() + first);
    const int64_t valid = queries_ - first;
    if (valid < tile_columns<R>) passed &= (uint64_t{1} << valid) - 1;
    for (; passed != 0; passed &= passed - 1) {
      const int c = __builtin_ctzll(passed);
      add(first + c, row[c], position);
    }
  }

 private:
  void add(int64_t query, R similarity, int32_t position) {
    const int64_t count = counts_.data()[query]++;
    orders_.data()[query * capacity_ + count] = order_of(similarity);
    positions_.data()[query * capacity_ + count] = position;
    if (count + 1 == capacity_ && capacity_ > k_) cut(query);
  }

  void cut(int64_t query) {
    Candidates<OrderOf<R>> full = candidates(query);
    const R least = value_of<R>(full.cut(k_));
    counts_.data()[query] = full.count;
    // Numbers do not pass k candidates that are NaN; a further NaN does, to be cut again.
    thresholds_.data()[query] = least != least ? std::numeric_limits<R>::infinity() : least;
  }

  int64_t k_;
  int64_t capacity_;
  int64_t queries_;
  Scratch<R> thresholds_;
  Scratch<int64_t> counts_;
  Scratch<OrderOf<R>> orders_;
  Scratch<int32_t> positions_;
};

// Rows of T as panels of R: element (k, c) of a panel at k * tile_columns + c, zeros past the last row.
template <class R, class T>
void pack(const T* rows, int64_t count, int64_t depth, R* panels) {
  constexpr int64_t width = tile_columns<R>;
  for (int64_t first = 0; first < count; first += width, panels += width * depth) {
    for (int64_t c = 0; c < width; ++c) {
      const T* row = rows + (first + c) * depth;
      for (int64_t k = 0; k < depth; ++k) panels[k * width + c] = first + c < count ? R(widen(row[k])) : R(0);
    }
  }
}

// Similarities of up to key_tiles tiles of keys, rows (count, depth), with one panel.
template <class R>
void multiply(const R* keys, int64_t count, int64_t depth, const R* panel, R (*tiles)[tile_rows][tile_columns<R>]) {
  constexpr int64_t width = tile_columns<R>;
  constexpr int64_t step = panel_bytes / (width * static_cast<int64_t>(sizeof(R)));
  for (int64_t k = 0; k < depth; k += step) {
    for (int64_t i = 0; i < count; i += tile_rows) {
      const R* left[tile_rows];
      for (int r = 0; r < tile_rows; ++r) left[r] = keys + smaller(i + r, count - 1) * depth + k;
      multiply_tile<R>(left, 1, panel + k * width, width, smaller(step, depth - k), tiles[i / tile_rows], k > 0);
    }
  }
}

// Offers the keys of a range to the queries of a range.
template <class T, class R>
void search(const KnnArgs& args, Range queries, Range keys, Search<R>& found) {
  constexpr int64_t width = tile_columns<R>;
  constexpr int64_t block = key_tiles * tile_rows;
  const int64_t depth = args.depth;
  const int64_t count = queries.end - queries.begin;
  const T* const key_rows = static_cast<const T*>(args.keys);
  const R* const bias = static_cast<const R*>(args.bias);
  const Scratch<R> panels(round_up(count, width) * depth);
  const Scratch<R> widened(std::is_same_v<T, R> ? 0 : block * depth);
  const Scratch<R> sums(block * width);
  auto* const tiles = reinterpret_cast<R(*)[tile_rows][width]>(sums.data());
  pack(static_cast<const T*>(args.queries) + queries.begin * depth, count, depth, panels.data());
  for (int64_t first = keys.begin; first < keys.end; first += block) {
    const int64_t rows = smaller(block, keys.end - first);
    const R* block_keys;
    if constexpr (std::is_same_v<T, R>) {
      block_keys = key_rows + first * depth;
    } else {
      for (int64_t i = 0; i < rows * depth; ++i) widened.data()[i] = widen(key_rows[first * depth + i]);
      block_keys = widened.data();
    }
    for (int64_t query = 0; query < count; query += width) {
      multiply<R>(block_keys, rows, depth, panels.data() + query * depth, tiles);
      for (int64_t i = 0; i < rows; ++i) {
        R* const row = tiles[i / tile_rows][i % tile_rows];
        for (int64_t c = 0; c < width && bias != nullptr; ++c) row[c] += bias[first + i];
        found.offer(query, row, static_cast<int32_t>(first + i));
      }
    }
  }
}

// Are the queries so few that a tile of `search` would stay more than half empty?
template <class R>
bool are_few(int64_t queries) {
  constexpr int64_t width = tile_columns<R>;
  return queries <= smaller(tile_rows, width) || round_up(queries, tile_rows) <= width / 2;
}

// The same for all queries, where they are few: tiles have queries as rows and keys as columns. The sums of a pair are
// those of `search`, bit by bit.
template <class T, class R>
void search_few(const KnnArgs& args, Range keys, Search<R>& found) {
  constexpr int64_t width = tile_columns<R>;
  constexpr int64_t step = panel_bytes / (width * static_cast<int64_t>(sizeof(R)));
  const int64_t depth = args.depth;
  const T* const key_rows = static_cast<const T*>(args.keys);
  const R* const bias = static_cast<const R*>(args.bias);
  const int64_t groups = quotient(args.rows, tile_rows);
  const Scratch<R> query_rows(args.rows * depth);
  for (int64_t i = 0; i < args.rows * depth; ++i) {
    query_rows.data()[i] = widen(static_cast<const T*>(args.queries)[i]);
  }
  const Scratch<R> panel(width * step);
  const Scratch<R> widened(std::is_same_v<T, R> ? 0 : width * step);
  const Scratch<R> sums(groups * tile_rows * width);
  auto* const tiles = reinterpret_cast<R(*)[tile_rows][width]>(sums.data());
  for (int64_t first = keys.begin; first < keys.end; first += width) {
    const int64_t count = smaller(width, keys.end - first);
    for (int64_t k = 0; k < depth; k += step) {
      const int64_t length = smaller(step, depth - k);
      if constexpr (std::is_same_v<T, R>) {
        transpose(key_rows + first * depth + k, depth, count, length, panel.data());
      } else {
        for (int64_t c = 0; c < count; ++c) {
          const T* const row = key_rows + (first + c) * depth + k;
          for (int64_t i = 0; i < length; ++i) widened.data()[c * step + i] = widen(row[i]);
        }
        transpose(widened.data(), step, count, length, panel.data());
      }
      for (int64_t group = 0; group < groups; ++group) {
        const R* left[tile_rows];
        for (int r = 0; r < tile_rows; ++r) {
          left[r] = query_rows.data() + smaller(group * tile_rows + r, args.rows - 1) * depth + k;
        }
        multiply_tile<R>(left, 1, panel.data(), width, length, tiles[group], k > 0);
      }
    }
    for (int64_t query = 0; query < args.rows; ++query) {
      R* const row = tiles[query / tile_rows][query % tile_rows];
      for (int64_t c = 0; c < count && bias != nullptr; ++c) row[c] += bias[first + c];
      found.offer_keys(query, row, count, static_cast<int32_t>(first));
    }
  }
}

// Tasks: groups of queries, times parts of the keys where there are fewer groups than threads.
struct Plan {
  int64_t groups;
  int64_t parts;
  int64_t capacity;  // of candidates a query
};

template <class R>
Plan plan(const KnnArgs& args) {
  constexpr int64_t width = tile_columns<R>;
  const int64_t threads = thread_count();
  const int64_t capacity = smaller(args.k == 1 ? 2 : 3 * args.k + 16, args.columns);
  const int64_t query_bytes = args.depth * static_cast<int64_t>(sizeof(R));
  const int64_t query_candidates = capacity * static_cast<int64_t>(sizeof(OrderOf<R>) + sizeof(int32_t));
  const int64_t most =
      std::max<int64_t>(1, smaller(group_bytes / (width * query_bytes), candidate_bytes / (width * query_candidates)));
  const int64_t panels = quotient(args.rows, width);
  // A multiple of the threads, for equal work.
  const int64_t groups = smaller(panels, round_up(quotient(panels, most), threads));
  const int64_t wanted = quotient(threads, groups);
  const int64_t parts = std::max<int64_t>(1, smaller(wanted, args.columns / std::max(least_keys, 4 * args.k)));
  return {groups, parts, capacity};
}

template <class T>
void knn(const KnnArgs& args) {
  using R = decltype(widen(T{}));
  using Order = OrderOf<R>;
  constexpr int64_t width = tile_columns<R>;
  const Plan plan = sslfast::plan<R>(args);
  const int64_t panels = quotient(args.rows, width);
  const int64_t room = plan.parts * args.k;
  R* const similarities = static_cast<R*>(args.similarities);
  // With several parts the best of each part, part after part.
  const Scratch<Order> orders(plan.parts == 1 ? 0 : args.rows * room);
  const Scratch<int32_t> positions(plan.parts == 1 ? 0 : args.rows * room);

  parallel_for(plan.groups * plan.parts, 1, [&](int64_t begin, int64_t end) {
    std::vector<std::pair<Order, int32_t>> ranked;
    for (int64_t task = begin; task < end; ++task) {
      const Range panel_range = part(task / plan.parts, plan.groups, panels);
      const Range queries{panel_range.begin * width, smaller(panel_range.end * width, args.rows)};
      const Range keys = part(task % plan.parts, plan.parts, args.columns);
      Search<R> found(queries.end - queries.begin, args.k, plan.capacity);
      are_few<R>(args.rows) ? search_few<T, R>(args, keys, found) : search<T, R>(args, queries, keys, found);
      for (int64_t query = queries.begin; query < queries.end; ++query) {
        Candidates<Order> best = found.candidates(query - queries.begin);
        if (best.count > args.k) best.cut(args.k);
        if (plan.parts == 1) {
          best.write(ranked, similarities + query * args.k, args.positions + query * args.k);
        } else {
          const int64_t place = query * room + task % plan.parts * args.k;
          std::copy_n(best.orders, best.count, orders.data() + place);
          std::copy_n(best.positions, best.count, positions.data() + place);
        }
      }
    }
  });
  if (plan.parts == 1) return;
  // A part has more than k keys, and so k candidates.
  parallel_for(args.rows, 16, [&](int64_t begin, int64_t end) {
    std::vector<std::pair<Order, int32_t>> ranked;
    for (int64_t query = begin; query < end; ++query) {
      Candidates<Order> best{orders.data() + query * room, positions.data() + query * room, room};
      best.cut(args.k);
      best.write(ranked, similarities + query * args.k, args.positions + query * args.k);
    }
  });
}

void kernel(const KnnArgs& args) {
  switch (args.dtype) {
    case ScalarType::Half: return knn<float16>(args);
    case ScalarType::BFloat16: return knn<bfloat16>(args);
    case ScalarType::Double: return knn<double>(args);
    default: return knn<float>(args);
  }
}

SSLFAST_CPU_KERNEL(KnnArgs, kernel)

}  // namespace
}  // namespace sslfast
