// The order of attention's gradients, compiled for the host: every item is given out once; whose sums come before whose
// is one order, in which items begin; and blocks that take items and wait for each other come to an end, whatever their
// number and however they are scheduled.
#include <cstdio>
#include <random>
#include <vector>

#include "host_intrinsics.h"

static inline int min(int a, int b) {
  return a < b ? a : b;
}
#include "attention_order.cuh"

enum { STEPS = 2 };

static int bad;
static std::mt19937 generator(20261201);

static void check(bool good, const char *what, bool upward, int pairs, int tiles, int together) {
  if (!good) {
    std::printf("FAILED: %s: %s, %d pairs of %d tiles, %d together\n", what, upward ? "upward" : "downward", pairs,
                tiles, together);
    bad = 1;
  }
}

template <bool UPWARD>
static void check_order(int pairs, int tiles, int together) {
  using order = item_order<UPWARD, STEPS>;
  int steps = tiles * STEPS, items = pairs * tiles;
  auto say = [&](bool good, const char *what) { check(good, what, UPWARD, pairs, tiles, together); };
  // adder[pair][tile of queries][how many before]: the item, from 1 on
  std::vector<int> adder((size_t)pairs * steps * tiles), given((size_t)items);
  for (int item = 0; item < items; item++) {
    item_place at = order::place_of(pairs, tiles, together, item);
    if (at.pair < 0 || at.pair >= pairs || at.tile < 0 || at.tile >= tiles) {
      say(false, "an item outside");
      return;
    }
    say(given[at.pair * tiles + at.tile]++ == 0, "an item twice");
    std::vector<int> walked((size_t)steps);
    for (int left = order::steps_of(tiles, at); left > 0; left--) {
      int tile = order::tile_of(tiles, at, left), diagonal = tile / STEPS, before = order::before(at, tile);
      if (tile < at.tile * STEPS || tile >= steps || before < 0 || before > diagonal) {
        say(false, "a step outside");
        return;
      }
      say(walked[tile]++ == 0, "a step twice");
      say(order::is_last(at, tile) == (before == diagonal), "the last is not who has all others before");
      int *mine = &adder[((size_t)at.pair * steps + tile) * tiles + before];
      say(*mine == 0, "two at once");
      say(before == 0 || (mine[-1] != 0 && mine[-1] <= item), "an item waits for one that begins after it");
      *mine = item + 1;
    }
  }
}

// Blocks take items in their order; a step is possible when those before have added.
template <bool UPWARD>
static void check_end(int pairs, int tiles, int together, int blocks) {
  using order = item_order<UPWARD, STEPS>;
  struct worker {
    item_place at;
    int left;
  };
  int items = pairs * tiles, next = 0, done = 0;
  std::vector<worker> workers((size_t)blocks);
  std::vector<int> added((size_t)pairs * tiles * STEPS);
  for (bool moved = true; moved && done < items;) {
    moved = false;
    for (int i = 0; i < 2 * blocks; i++) {
      worker &w = workers[generator() % (unsigned)blocks];
      if (w.left == 0 && next < items) {
        w.at = order::place_of(pairs, tiles, together, next++);
        w.left = order::steps_of(tiles, w.at);
        moved = true;
      }
      if (w.left == 0)
        continue;
      int tile = order::tile_of(tiles, w.at, w.left), *sums = &added[w.at.pair * tiles * STEPS + tile];
      if (*sums != order::before(w.at, tile))
        continue;
      ++*sums;
      done += --w.left == 0;
      moved = true;
    }
    for (worker &w : workers) { /* nobody was chosen who can go on: that is no standstill */
      moved = moved || (w.left > 0 && added[w.at.pair * tiles * STEPS + order::tile_of(tiles, w.at, w.left)] ==
                                          order::before(w.at, order::tile_of(tiles, w.at, w.left)));
      moved = moved || (w.left == 0 && next < items);
    }
  }
  check(done == items, "blocks wait for each other", UPWARD, pairs, tiles, together);
}

static int below(int n) {
  return (int)(generator() % (unsigned)n);
}

int main() {
  for (int i = 0; i < 400; i++) {
    int pairs = 1 + below(40), tiles = 1 + below(12), together = 1 + below(pairs), blocks = 1 + below(140);
    check_order<true>(pairs, tiles, 1);
    check_order<false>(pairs, tiles, together);
    check_end<true>(pairs, tiles, 1, blocks);
    check_end<false>(pairs, tiles, together, blocks);
  }
  for (int i = 0; i < 10000; i++) { /* rounds differ by less than half */
    int pairs = 1 + below(5000), together = pairs_together(pairs, 1 + below(100 << 20));
    int rounds = together > 0 ? (pairs + together - 1) / together : 0, rest = pairs - (rounds - 1) * together;
    bool even = rounds > 0 && (rounds == 1 || rest + rounds >= together);
    if (together < 1 || together > pairs || !even) {
      std::printf("FAILED: %d of %d pairs together, %d in the last round\n", together, pairs, rest);
      bad = 1;
    }
  }
  std::printf(bad ? "failed\n" : "the order holds\n");
  return bad;
}
