// In which order attention_wgmma_kernels.cuh works: items, the steps of each, and whose sums come before whose. Tests
// compile it for the host, too.
//
// An item is a tile of keys of a pair of a sequence and a head. It walks over the tiles of queries between its diagonal
// and the last one. Every tile of keys on or before a query's diagonal adds to the query's gradient, in one order, in
// which items begin as well.
//
// Upward: keys add from the diagonal to the first ones and walk from the diagonal to the last queries, so that each
// tile of keys is a tile ahead of the next by itself. Downward: keys add from the first ones to the diagonal and walk
// from the last queries to the diagonal. Then the longest items come first, so that blocks end together, but only the
// items of other pairs, between two of a pair, keep one ahead of the other, and more memory is in use at a time.
#pragma once

#include <stdint.h>

struct item_place {
  int pair, tile;  // of keys
};

// `tiles` of keys in each of `pairs`, STEPS tiles of queries in each. `together`: pairs whose items begin by turns.
template <bool UPWARD, int STEPS>
struct item_order {
  static __device__ __forceinline__ item_place place_of(int pairs, int tiles, int together, int item) {
    int first = item / (together * tiles) * together, round = min(together, pairs - first);
    int within = item - first * tiles, turn = within / round;
    return {first + within - turn * round, UPWARD ? tiles - 1 - turn : turn};
  }
  static __device__ __forceinline__ int steps_of(int tiles, item_place at) { return (tiles - at.tile) * STEPS; }
  // The tile of queries where `left` steps are left of the walk, this one included.
  static __device__ __forceinline__ int tile_of(int tiles, item_place at, int left) {
    return UPWARD ? tiles * STEPS - left : at.tile * STEPS + left - 1;
  }
  // How many tiles of keys add to these queries' sums before the item does.
  static __device__ __forceinline__ int before(item_place at, int tile) {
    return UPWARD ? tile / STEPS - at.tile : at.tile;
  }
  // None adds after it.
  static __device__ __forceinline__ bool is_last(item_place at, int tile) {
    return UPWARD ? at.tile == 0 : tile / STEPS == at.tile;
  }
};

// Downward: so many pairs at a time whose `bytes` stay in the L2 cache from one tile of keys to the next, and about as
// many in every round, since in a last one of few the blocks would wait for each other.
inline int pairs_together(int pairs, int64_t bytes) {
  const int64_t L2_BYTES = 44 << 20;  // of 50 MiB
  int64_t most = (L2_BYTES + bytes - 1) / bytes, rounds = (pairs + most / 2) / most;
  return rounds > 0 ? (int)((pairs + rounds - 1) / rounds) : pairs;
}
