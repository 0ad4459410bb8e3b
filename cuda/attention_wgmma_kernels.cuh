// The kernels of attention_wgmma.cu: causal attention's gradients at head sizes 64 and 128, in one fixed order of
// addition.
//
// An item is a tile of KEYS keys; it walks over tiles of QUERIES queries, a step each. Four warpgroups: threads of the
// first bring tiles and speak with other blocks. Two have half of the keys each: scores and their gradients,
// transposed, with the keys along the rows, so that both go back into the tensor cores from registers, for dK and dV,
// which stay in registers until the item's end. The gradients of the scores go through shared memory to the other
// warpgroup, for the queries' gradient.
//
// A query's gradient is a sum over tiles of keys, which different blocks compute at the same time. They add in one
// order (attention_order.cuh): each waits for the number of those before it. Items begin in that order too, so that
// what a block waits for is some steps ahead as a rule.
#pragma once

#include "attention_order.cuh"
#include "device.cuh"
#include "places.cuh"
#include "warpgroup.cuh"
#include "warpgroup_rows.cuh"

namespace attention_wgmma {

enum {
  KEYS = 128,
  QUERIES = 64,
  STEPS = KEYS / QUERIES,
  COLUMNS = 64,        // of a box
  LINE = COLUMNS * 2,  // bytes
  HALF = 64,           // rows that a warpgroup multiplies
  HALF_BYTES = HALF * LINE,
  GROUP = 128,  // threads of a warpgroup
  GROUP_WARPS = GROUP / WARP,
  KEY_GROUPS = KEYS / HALF,
  THREADS = (2 + KEY_GROUPS) * GROUP,
  STEP16 = 32,          // bytes of 16 elements along a line,
  STEP16_ALONG = 2048,  // of 16 lines
  ROW_STATS = 2,        // of a query: log2 e times the log of its sum of exponentials, and Σ out · dout
  STATS_BYTES = ROW_STATS * QUERIES * sizeof(float),
  VECTORS = HALF * COLUMNS / (GROUP * 4),  // of four, that a thread of a warpgroup has of 64 × 64
};

struct problem {
  int64_t T, H;
  int pairs, tiles, items;  // pairs; tiles of keys of each; of all of them
  int together;             // pairs whose items are given out by turns
  float scale;
  void *dqkv;          // (B, T, 3, H, HEAD)
  const float *stats;  // [pair][tile of queries][ROW_STATS][QUERIES]
  float *sums;         // [pair][tile of queries][box][vector][thread] of 4: gradients of queries so far
  int *added;          // [pair][turn of tiles of queries]: tiles of keys that are in their sums
  int *next;           // item
};

__device__ __forceinline__ int shared_word(uint32_t address) {
  int x;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(address) : "memory");
  return x;
}
__device__ __forceinline__ void store_shared_word(uint32_t address, int x) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(x) : "memory");
}
__device__ __forceinline__ float2 shared_floats(uint32_t address) {
  float2 x;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(address) : "memory");
  return x;
}
__device__ __forceinline__ void add_vector(float *to, const float *x) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]),
               "f"(x[3])
               : "memory");
}

template <typename T, int HEAD>
struct block {
  enum {
    BOXES = HEAD / COLUMNS,
    KEYS_BOX = KEYS * LINE,
    KEYS_BYTES = BOXES * KEYS_BOX,
    QUERIES_BOX = QUERIES * LINE,
    QUERIES_BYTES = BOXES * QUERIES_BOX,
    SCORES_BYTES = KEY_GROUPS * QUERIES * LINE,
    // At head size 64 there is room for more. In registers: a group of keys multiplies the scores of the next step and
    // the gradients of its probabilities ahead of it. In shared memory: values come with their keys, gradients at the
    // output with their queries, and results leave through boxes.
    AHEAD = BOXES == 1,
    QUERY_REGISTERS = AHEAD ? 88 : 72,
    KEY_REGISTERS = AHEAD ? 200 : 208,
    BRING_REGISTERS = 24,
    // How many lie in shared memory: keys and values of this item and, but for values that come late, the next;
    // queries with their stats, and gradients at the output, of some steps; gradients of scores; boxes of results, one
    // for the queries and two for each group of keys. SUM_PLACES: tiles whose sums the helpers are ahead.
    KEY_PLACES = 2,
    VALUE_PLACES = AHEAD ? KEY_PLACES : 1,
    QUERY_PLACES = AHEAD ? 4 : 3,
    DOUT_PLACES = AHEAD ? QUERY_PLACES : 2,
    SCORE_PLACES = 3,
    RESULTS = AHEAD ? 1 + 2 * KEY_GROUPS : 0,
    SUM_PLACES = 2,
    // Downward costs more at head size 64 than it gains (attention_order.cuh), and there steps are too short to wait
    // for, and tell, the sums of each (TURN: of so many).
    UPWARD = AHEAD,
    TURN = AHEAD ? STEPS : 1,
  };

  using order = item_order<(bool)UPWARD, STEPS>;
  // A group of keys holds a step and the ones that it skips while it waits for the next.
  static_assert((int)QUERY_PLACES > (int)KEY_GROUPS);
  using key_use = use_of<KEY_PLACES>;
  using value_use = use_of<VALUE_PLACES>;
  using query_use = use_of<QUERY_PLACES>;
  using dout_use = use_of<DOUT_PLACES>;
  using score_use = use_of<SCORE_PLACES>;
  using sum_use = use_of<SUM_PLACES>;

  // ADDED: what other blocks add to a tile's sums before this one is there; TOLD: they may know that this one's is.
  enum barrier_name {
    KEYS_FULL,
    KEYS_EMPTY = KEYS_FULL + KEY_PLACES,
    VALUES_FULL = KEYS_EMPTY + KEY_PLACES,
    VALUES_EMPTY = VALUES_FULL + VALUE_PLACES,
    QUERIES_FULL = VALUES_EMPTY + VALUE_PLACES,
    QUERIES_EMPTY = QUERIES_FULL + QUERY_PLACES,
    DOUTS_FULL = QUERIES_EMPTY + QUERY_PLACES,
    DOUTS_EMPTY = DOUTS_FULL + DOUT_PLACES,
    SCORES_FULL = DOUTS_EMPTY + DOUT_PLACES,
    SCORES_EMPTY = SCORES_FULL + SCORE_PLACES,
    ADDED_FULL = SCORES_EMPTY + SCORE_PLACES,
    ADDED_EMPTY = ADDED_FULL + SUM_PLACES,
    TOLD_FULL = ADDED_EMPTY + SUM_PLACES,
    TOLD_EMPTY = TOLD_FULL + SUM_PLACES,
    BARRIERS = TOLD_EMPTY + SUM_PLACES,
  };
  static constexpr int SHARED_BYTES = (KEY_PLACES + VALUE_PLACES) * KEYS_BYTES +
                                      (QUERY_PLACES + DOUT_PLACES) * QUERIES_BYTES + SCORE_PLACES * SCORES_BYTES +
                                      RESULTS * HALF_BYTES + QUERY_PLACES * STATS_BYTES + 8 * BARRIERS + 4 * KEY_PLACES;
  struct room {
    uint32_t keys, values, queries, douts, dscores, results, stats, barriers, items;
    __device__ __forceinline__ uint32_t operator[](barrier_name name) const { return barriers + 8 * name; }
  };
  static __device__ __forceinline__ room room_make() {
    room r;
    r.keys = dynamic_shared();
    r.values = r.keys + KEY_PLACES * KEYS_BYTES;
    r.queries = r.values + VALUE_PLACES * KEYS_BYTES;
    r.douts = r.queries + QUERY_PLACES * QUERIES_BYTES;
    r.dscores = r.douts + DOUT_PLACES * QUERIES_BYTES;
    r.results = r.dscores + SCORE_PLACES * SCORES_BYTES;
    r.stats = r.results + RESULTS * HALF_BYTES;
    r.barriers = r.stats + QUERY_PLACES * STATS_BYTES;
    r.items = r.barriers + 8 * BARRIERS;
    return r;
  }
  // The item at its place, said to be the same for the warp; negative: there is none.
  static __device__ __forceinline__ int item_at(const room &r, key_use u) {
    return __shfl_sync(0xffffffffu, shared_word(r.items + 4 * u.place()), 0);
  }

  // ROWS positions from `row` on of head number `part` of those that a position has.
  template <int ROWS>
  static __device__ __forceinline__ void bring_rows(uint32_t to, const CUtensorMap *map, int row, int part, int b,
                                                    uint32_t barrier) {
#pragma unroll
    for (int box = 0; box < BOXES; box++)
#pragma unroll
      for (int i = 0; i < ROWS; i += HALF)
        box_copy(to + (uint32_t)((box * ROWS + i) * LINE), map, 0, row + i, part * BOXES + box, b, barrier);
  }

  // The thread that brings tiles. What comes apart comes as late as it is needed, so that nobody waits for a place
  // longer than for what has to be there first: queries, then the values, whose place may be the last item's, then the
  // gradients at the output of the step before.
  static __device__ __forceinline__ void bring(const problem &p, const room &r, const CUtensorMap *qkv,
                                               const CUtensorMap *dout) {
    int H = (int)p.H;
    key_use items = {0};
    value_use values = {0};
    query_use queries = {0};
    dout_use douts = {0};
    for (;; items.advance()) {
      // No sooner than its tiles can be asked for: what a block has taken and not begun, others wait for.
      int item = atomicAdd(p.next, 1);
      bool end = item >= p.items;
      wait_empty(r[KEYS_EMPTY], items);
      uint32_t barrier = barrier_of(r[KEYS_FULL], items);
      store_shared_word(r.items + 4 * items.place(), end ? -1 : item);
      if (end) {
        barrier_arrive(barrier);
        return;
      }
      item_place at = order::place_of(p.pairs, p.tiles, p.together, item);
      int b = at.pair / H, head = at.pair - b * H;
      auto bring_values = [&]() {
        bring_rows<KEYS>(r.values + values.place() * KEYS_BYTES, qkv, at.tile * KEYS, 2 * H + head, b, barrier);
        values.advance();
      };
      auto bring_dout = [&](int tile) {
        bring_rows<QUERIES>(r.douts + douts.place() * QUERIES_BYTES, dout, tile * QUERIES, head, b, barrier);
        douts.advance();
      };
      barrier_arrive_expect(barrier, (AHEAD ? 2 : 1) * KEYS_BYTES);
      bring_rows<KEYS>(r.keys + items.place() * KEYS_BYTES, qkv, at.tile * KEYS, H + head, b, barrier);
      if constexpr (AHEAD) bring_values();
      const float *stats = p.stats + (int64_t)at.pair * p.tiles * STEPS * (ROW_STATS * QUERIES);
      int steps = order::steps_of(p.tiles, at);
      for (int left = steps; left >= 0; left--) {
        if (left > 0) {
          int tile = order::tile_of(p.tiles, at, left);
          wait_empty(r[QUERIES_EMPTY], queries);
          barrier = barrier_of(r[QUERIES_FULL], queries);
          barrier_arrive_expect(barrier, (AHEAD ? 2 : 1) * QUERIES_BYTES + STATS_BYTES);
          bring_rows<QUERIES>(r.queries + queries.place() * QUERIES_BYTES, qkv, tile * QUERIES, head, b, barrier);
          bulk_copy(r.stats + queries.place() * STATS_BYTES, stats + tile * (ROW_STATS * QUERIES), STATS_BYTES,
                    barrier);
          if constexpr (AHEAD) bring_dout(tile);
          queries.advance();
        }
        if constexpr (!AHEAD) {
          if (left == steps - 1) {
            wait_empty(r[VALUES_EMPTY], values);
            barrier = barrier_of(r[VALUES_FULL], values);
            barrier_arrive_expect(barrier, KEYS_BYTES);
            bring_values();
          }
          if (left < steps) {
            wait_empty(r[DOUTS_EMPTY], douts);
            barrier = barrier_of(r[DOUTS_FULL], douts);
            barrier_arrive_expect(barrier, QUERIES_BYTES);
            bring_dout(order::tile_of(p.tiles, at, left + 1));
          }
        }
      }
    }
  }

  // What the two threads below have in common: `use` of each item, whose keys they don't need.
  template <typename U>
  static __device__ __forceinline__ void for_items(const problem &p, const room &r, U use) {
    for (key_use items = {0};; items.advance()) {
      wait_full(r[KEYS_FULL], items);
      int item = shared_word(r.items + 4 * items.place());
      if (item < 0) return;
      barrier_arrive(barrier_of(r[KEYS_EMPTY], items));
      use(order::place_of(p.pairs, p.tiles, p.together, item));
    }
  }

  // The thread that waits for other blocks' sums, until all keys before this item's are in those of its queries.
  static __device__ __forceinline__ void wait_added(const problem &p, const room &r) {
    sum_use sums = {0};
    for_items(p, r, [&](item_place at) {
      const int *added = p.added + (int64_t)at.pair * p.tiles * (STEPS / TURN);
      for (int left = order::steps_of(p.tiles, at); left > 0; left -= TURN) {
        int tile = order::tile_of(p.tiles, at, left), count = order::before(at, tile), now;
        if (count == 0) continue;
        wait_empty(r[ADDED_EMPTY], sums);
        do {
          asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(added + tile / TURN) : "memory");
        } while (now != count);
        barrier_arrive(barrier_of(r[ADDED_FULL], sums));
        sums.advance();
      }
    });
  }

  // The thread that tells other blocks what is in the sums.
  static __device__ __forceinline__ void tell_added(const problem &p, const room &r) {
    sum_use sums = {0};
    for_items(p, r, [&](item_place at) {
      int *added = p.added + (int64_t)at.pair * p.tiles * (STEPS / TURN);
      for (int left = order::steps_of(p.tiles, at); left > 0; left -= TURN) {
        int tile = order::tile_of(p.tiles, at, left), count = order::before(at, tile) + 1;
        if (order::is_last(at, tile)) continue;
        wait_full(r[TOLD_FULL], sums);
        asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(added + tile / TURN), "r"(count) : "memory");
        barrier_arrive(barrier_of(r[TOLD_EMPTY], sums));
        sums.advance();
      }
    });
  }

  // 64 rows and a box's columns of a gradient, as a warpgroup has them, to dqkv (which: dq, dk or dv), from position
  // `row` on. number: of a barrier of the warpgroup's own. places: boxes of results that it has from `through` on; it
  // takes them in turn, `place` being the next.
  static __device__ __forceinline__ void put_rows(const problem &p, const CUtensorMap *dqkv, int pair, int which,
                                                  int row, int box, float scale, const float (&x)[32], int number,
                                                  uint32_t through, int places, int &place) {
    int H = (int)p.H, b = pair / H, head = pair - b * H, part = which * H + head;
    if constexpr (AHEAD) {
      through += (uint32_t)place * HALF_BYTES;
      bool sender = threadIdx.x % GROUP == 0;
      if (sender) {
        if (places == 1)
          copies_read<0>();
        else
          copies_read<1>();
      }
      threads_wait<GROUP>(number);
      rows_to_box<T>(through, scale, x);
      shared_written();
      threads_wait<GROUP>(number);
      if (sender) box_copy_back(dqkv, 0, row, part, b, through);
      place = (place + 1) % places;
    } else {
      T *to = static_cast<T *>(p.dqkv) + (((int64_t)b * p.T + row) * 3 * H + part) * HEAD + box * COLUMNS;
      rows_to_global(to, 3 * p.H * HEAD, p.T - row, scale, x);
    }
  }

  // x = gradients of scores · keys, of the first GROUPS groups of keys, plus x where `add`; waits for it.
  template <int GROUPS>
  static __device__ __forceinline__ void multiply_scores(float (&x)[32], uint64_t dscores, uint64_t keys, bool add) {
    enum { EACH = HALF / 16 };
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < GROUPS * EACH; k++)
      wgmma_along<T>(x, dscores + ((k / EACH * QUERIES * LINE + k % EACH * STEP16) >> 4),
                     keys + (k * STEP16_ALONG >> 4), k > 0 || add);
    wgmma_group();
    wgmma_left<0>();
    wgmma_seen(x);
  }

  // The warpgroup of the queries' gradient. The last keys that add to a query's sums write the result.
  static __device__ __forceinline__ void sum_queries(const problem &p, const room &r, const CUtensorMap *dqkv) {
    enum { NUMBER = 1 };
    int thread = threadIdx.x % GROUP, place = 0;
    key_use items = {0};
    score_use steps = {0};
    sum_use waited = {0}, told = {0};
    for (;; items.advance()) {
      wait_full(r[KEYS_FULL], items);
      int item = item_at(r, items);
      if (item < 0) break;
      item_place at = order::place_of(p.pairs, p.tiles, p.together, item);
      uint64_t keys = along_descriptor(r.keys + items.place() * KEYS_BYTES);
      for (int left = order::steps_of(p.tiles, at); left > 0; left--, steps.advance()) {
        int tile = order::tile_of(p.tiles, at, left);
        float *sums = p.sums + ((int64_t)(at.pair * p.tiles * STEPS + tile) * (BOXES * VECTORS) * GROUP + thread) * 4;
        bool others = order::before(at, tile) > 0, last = order::is_last(at, tile), onto = last && others;
        if (others && left % TURN == 0) {
          wait_full(r[ADDED_FULL], waited);
          warp_arrives(r[ADDED_EMPTY], waited);
          waited.advance();
        }
#pragma unroll 1 /* two at a time would not fit into the registers */
        for (int box = 0; box < BOXES; box++) {
          float x[32];
          if (onto) { /* asked for before the wait for what is to be added */
#pragma unroll
            for (int v = 0; v < VECTORS; v++) {
              float4 sum = __ldcg(reinterpret_cast<const float4 *>(sums + (box * VECTORS + v) * GROUP * 4));
              x[4 * v] = sum.x;
              x[4 * v + 1] = sum.y;
              x[4 * v + 2] = sum.z;
              x[4 * v + 3] = sum.w;
            }
          }
          if (box == 0) wait_full(r[SCORES_FULL], steps);
          uint64_t dscores = matrix_descriptor(r.dscores + steps.place() * SCORES_BYTES);
          uint64_t columns = keys + (box * KEYS_BOX >> 4);
          if (tile == at.tile * STEPS) /* the last keys are behind all of these queries */
            multiply_scores<1>(x, dscores, columns, onto);
          else
            multiply_scores<KEY_GROUPS>(x, dscores, columns, onto);
          if (box == BOXES - 1) {
            warp_arrives(r[SCORES_EMPTY], steps);
            if (left == 1) warp_arrives(r[KEYS_EMPTY], items);
          }
          if (last) {
            put_rows(p, dqkv, at.pair, 0, tile * QUERIES, box, p.scale, x, NUMBER, r.results, 1, place);
            continue;
          }
#pragma unroll
          for (int v = 0; v < VECTORS; v++) {
            float *to = sums + (box * VECTORS + v) * GROUP * 4;
            if (others)
              add_vector(to, x + 4 * v);
            else
              __stcg(reinterpret_cast<float4 *>(to), make_float4(x[4 * v], x[4 * v + 1], x[4 * v + 2], x[4 * v + 3]));
          }
        }
        if (!last && left % TURN == TURN - 1) {
          wait_empty(r[TOLD_EMPTY], told);
          warp_arrives(r[TOLD_FULL], told);
          told.advance();
        }
      }
    }
    copies_read<0>();
  }

  // One of a query's stats for each of this thread's columns.
  static __device__ __forceinline__ void column_stats(uint32_t from, float (&out)[QUERIES / 4]) {
#pragma unroll
    for (int i = 0; i < QUERIES / 8; i++) {
      float2 pair = shared_floats(from + 32 * i);
      out[2 * i] = pair.x;
      out[2 * i + 1] = pair.y;
    }
  }

  // Probabilities from scores, rounded: the left operand of the next products, with the keys along its rows. On the
  // diagonal keys behind their query get none; key and query: this thread's first.
  static __device__ __forceinline__ void probabilities(float (&s)[32], const float (&lse)[16], float factor,
                                                       bool diagonal, int key, int query, uint32_t (&out)[4][4]) {
    if (diagonal) {
#pragma unroll
      for (int i = 0; i < QUERIES / 8; i++)
#pragma unroll
        for (int c = 0; c < 4; c++)
          if (key + c / 2 * 8 > query + 8 * i + c % 2) s[4 * i + c] = -INFINITY;
    }
#pragma unroll
    for (int i = 0; i < QUERIES / 8; i++) {
      float x[4];
#pragma unroll
      for (int c = 0; c < 4; c++) x[c] = exp2_fast(fmaf(s[4 * i + c], factor, -lse[2 * i + c % 2]));
      out[i / 2][i % 2 * 2] = pair_of_floats<T>(x[0], x[1]);
      out[i / 2][i % 2 * 2 + 1] = pair_of_floats<T>(x[2], x[3]);
    }
  }

  // p · (dp − delta), rounded; out may be p.
  static __device__ __forceinline__ void score_grads(const uint32_t (&probability)[4][4], const float (&dp)[32],
                                                     const float (&delta)[16], uint32_t (&out)[4][4]) {
#pragma unroll
    for (int i = 0; i < QUERIES / 8; i++) {
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float2 pair = floats_of_pair<T>(probability[i / 2][i % 2 * 2 + r]);
        out[i / 2][i % 2 * 2 + r] = pair_of_floats<T>(pair.x * (dp[4 * i + 2 * r] - delta[2 * i]),
                                                      pair.y * (dp[4 * i + 2 * r + 1] - delta[2 * i + 1]));
      }
    }
  }

  // d (64 × 64) = a · bᵀ, both with HEAD elements a row, a of KEYS rows and b of QUERIES; d (64 × HEAD) = a · b, plus d
  // where `add`, with a in registers and QUERIES rows of b.
  static __device__ __forceinline__ void multiply_rows(float (&d)[32], uint32_t a, uint32_t b) {
    enum { EACH = COLUMNS / 16 };
    uint64_t left = matrix_descriptor(a), right = matrix_descriptor(b);
#pragma unroll
    for (int k = 0; k < HEAD / 16; k++)
      wgmma<T>(d, left + ((k / EACH * KEYS_BOX + k % EACH * STEP16) >> 4),
               right + ((k / EACH * QUERIES_BOX + k % EACH * STEP16) >> 4), k > 0);
  }
  static __device__ __forceinline__ void multiply_along(float (&d)[BOXES][32], const uint32_t (&a)[4][4], uint32_t b,
                                                        bool add) {
    uint64_t right = along_descriptor(b);
#pragma unroll
    for (int k = 0; k < QUERIES / 16; k++)
#pragma unroll
      for (int box = 0; box < BOXES; box++)
        wgmma_along<T>(d[box], a[k], right + ((box * QUERIES_BOX + k * STEP16_ALONG) >> 4), k > 0 || add);
  }

  // A warpgroup of keys: dK and dV of 64 of them, by two rounds of products a step. AHEAD: dV with the next step's
  // scores, dK with the gradients of its probabilities. Otherwise these two share their registers: dV with this step's
  // gradients of probabilities, dK with the next scores.
  static __device__ __forceinline__ void sum_keys(const problem &p, const room &r, const CUtensorMap *dqkv) {
    int group = __shfl_sync(0xffffffffu, (int)threadIdx.x / GROUP, 0) - 2;  // said to be the same for the warp
    int thread = threadIdx.x % GROUP, lane = thread % WARP, warp = thread / WARP;
    int first_key = warp * 16 + lane / 4, first_query = lane % 4 * 2;
    // This lane's line and chunk of the four matrices that it stores at a time.
    uint32_t line = (uint32_t)(lane / 16 * 8 + lane % 8), chunk = (uint32_t)(2 * warp + lane / 8 % 2);
    uint32_t store = r.dscores + (uint32_t)group * (QUERIES * LINE) + line * LINE + ((chunk ^ (line & 7)) << 4);
    uint32_t half = (uint32_t)group * HALF_BYTES, results = r.results + (uint32_t)(1 + 2 * group) * HALF_BYTES;
    int number = 2 + group, result = 0;
    float factor = p.scale * LOG2_E;
    key_use items = {0};
    value_use value = {0};
    query_use query = {0};
    dout_use dout = {0};
    score_use score = {0};
    auto send_scores = [&](const uint32_t(&x)[4][4]) {
      wait_empty(r[SCORES_EMPTY], score);
#pragma unroll
      for (int k = 0; k < QUERIES / 16; k++)
        store_matrices_transposed(store + score.place() * SCORES_BYTES + k * STEP16_ALONG, x[k]);
    };
    // The last keys are behind all queries of an item's first step, or, downward, its last.
    auto skip_steps = [&]() {
      for (int i = 0; i < group; i++) {
        wait_full(r[QUERIES_FULL], query);
        warp_arrives(r[QUERIES_EMPTY], query);
        query.advance();
        if constexpr (!AHEAD) {
          wait_full(r[DOUTS_FULL], dout);
          warp_arrives(r[DOUTS_EMPTY], dout);
          dout.advance();
        }
        wait_empty(r[SCORES_EMPTY], score);
        warp_arrives(r[SCORES_FULL], score);
        score.advance();
      }
    };
    wait_full(r[KEYS_FULL], items);
    int item = item_at(r, items);
    if (item < 0) return;
    if constexpr (UPWARD) skip_steps();
    uint32_t keys = r.keys + half, values = r.values + half, queries = r.queries + query.place() * QUERIES_BYTES;
    uint32_t douts = r.douts + query.place() * QUERIES_BYTES;  // AHEAD alone: they come with their queries
    uint32_t held = 0;                                         // the barrier of the last step's queries
    float s[32], dp[AHEAD ? 32 : 1], dk[BOXES][32], dv[BOXES][32];
    wait_full(r[QUERIES_FULL], query);
    wgmma_begin();
    multiply_rows(s, keys, queries);
    if constexpr (AHEAD) multiply_rows(dp, values, douts);
    wgmma_group();
    while (item >= 0) {
      item_place at = order::place_of(p.pairs, p.tiles, p.together, item);
      int next_item = item;
      bool first = true;
      for (int left = order::steps_of(p.tiles, at) - group; left > 0; left--) {
        uint32_t stats = r.stats + query.place() * STATS_BYTES + first_query * 4;
        bool last = left == 1;
        query_use next = query.next();
        uint32_t next_queries = queries, next_douts = douts;
        // What is multiplied ahead; after the last item nobody reads what comes of it.
        auto find_next = [&]() {
          if (last) {
            key_use after = items.next();
            wait_full(r[KEYS_FULL], after);
            next_item = item_at(r, after);
            keys = r.keys + after.place() * KEYS_BYTES + half;
            if constexpr (AHEAD) values = r.values + after.place() * KEYS_BYTES + half;
            for (int i = 0; i < group; i++) next.advance();
          }
          if (next_item >= 0) {
            wait_full(r[QUERIES_FULL], next);
            next_queries = r.queries + next.place() * QUERIES_BYTES;
            if constexpr (AHEAD) next_douts = r.douts + next.place() * QUERIES_BYTES;
          }
        };
        uint32_t probability[4][4];
        float lse[16], delta[16];
        if constexpr (AHEAD) find_next();
        column_stats(stats, lse);
        wgmma_left<0>();
        wgmma_seen(s);
        if constexpr (AHEAD) wgmma_seen(dp);
        if (!first) warp_arrives(held);
        held = barrier_of(r[QUERIES_EMPTY], query);
        probabilities(s, lse, factor, UPWARD ? first : last, first_key, first_query, probability);
        if constexpr (AHEAD) {
          column_stats(stats + QUERIES * 4, delta);
          wgmma_begin();
          multiply_along(dv, probability, douts, !first);
          multiply_rows(s, keys, next_queries);
          wgmma_group();
          uint32_t dscore[4][4];
          score_grads(probability, dp, delta, dscore);
          send_scores(dscore);
          wgmma_begin();
          multiply_along(dk, dscore, queries, !first);
          shared_written();
          warp_arrives(r[SCORES_FULL], score);
          multiply_rows(dp, values, next_douts);
          wgmma_group();
        } else {
          if (first) wait_full(r[VALUES_FULL], value);
          wait_full(r[DOUTS_FULL], dout);
          douts = r.douts + dout.place() * QUERIES_BYTES;
          wgmma_begin();
          multiply_along(dv, probability, douts, !first);
          multiply_rows(s, values, douts);
          wgmma_group();
          column_stats(stats + QUERIES * 4, delta);
          wgmma_left<0>();
          wgmma_seen(s);
          warp_arrives(r[DOUTS_EMPTY], dout);
          dout.advance();
          if (last) {
            warp_arrives(r[VALUES_EMPTY], value);
            value.advance();
          }
          score_grads(probability, s, delta, probability);
          send_scores(probability);
          find_next();
          wgmma_begin();
          multiply_along(dk, probability, queries, !first);
          multiply_rows(s, keys, next_queries);
          wgmma_group();
          shared_written();
          warp_arrives(r[SCORES_FULL], score);
        }
        score.advance();
        query.advance();
        queries = next_queries;
        if constexpr (AHEAD) douts = next_douts;
        first = false;
      }
      if (!UPWARD || next_item >= 0) skip_steps();
      auto put = [&](int which, float scale, float(&x)[BOXES][32]) {
#pragma unroll
        for (int box = 0; box < BOXES; box++) {
          wgmma_seen(x[box]);
          put_rows(p, dqkv, at.pair, which, at.tile * KEYS + group * HALF, box, scale, x[box], number, results, 2,
                   result);
        }
      };
      if constexpr (AHEAD) wgmma_left<0>(); /* otherwise dV has been there since the first round */
      put(2, 1.0f, dv);
      wgmma_left<0>();
      warp_arrives(held);
      warp_arrives(r[KEYS_EMPTY], items);
      put(1, p.scale, dk);
      item = next_item;
      items.advance();
    }
    copies_read<0>();
  }

  static __device__ __forceinline__ void run(const problem &p, const CUtensorMap *qkv, const CUtensorMap *dout,
                                             const CUtensorMap *dqkv) {
    room r = room_make();
    if (threadIdx.x == 0) {
      enum { BOTH = KEY_GROUPS * GROUP_WARPS };
      auto init = [&](barrier_name first, int count, uint32_t arrivals) {
        for (int i = 0; i < count; i++) barrier_init(r[first] + 8 * i, arrivals);
      };
      init(KEYS_FULL, KEY_PLACES, 1);
      init(KEYS_EMPTY, KEY_PLACES, BOTH + GROUP_WARPS + 2);
      init(VALUES_FULL, VALUE_PLACES, 1);
      init(VALUES_EMPTY, VALUE_PLACES, BOTH);
      init(QUERIES_FULL, QUERY_PLACES, 1);
      init(QUERIES_EMPTY, QUERY_PLACES, BOTH);
      init(DOUTS_FULL, DOUT_PLACES, 1);
      init(DOUTS_EMPTY, DOUT_PLACES, BOTH);
      init(SCORES_FULL, SCORE_PLACES, BOTH);
      init(SCORES_EMPTY, SCORE_PLACES, GROUP_WARPS);
      init(ADDED_FULL, SUM_PLACES, 1);
      init(ADDED_EMPTY, SUM_PLACES, GROUP_WARPS);
      init(TOLD_FULL, SUM_PLACES, GROUP_WARPS);
      init(TOLD_EMPTY, SUM_PLACES, 1);
      barrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x < GROUP) {
      registers_release<BRING_REGISTERS>();
      if (threadIdx.x == 0) bring(p, r, qkv, dout);
      if (threadIdx.x == WARP) wait_added(p, r);
      if (threadIdx.x == 2 * WARP) tell_added(p, r);
    } else if (threadIdx.x < 2 * GROUP) {
      registers_release<QUERY_REGISTERS>();
      sum_queries(p, r, dqkv);
    } else {
      registers_take<KEY_REGISTERS>();
      sum_keys(p, r, dqkv);
    }
  }
};

template <typename T, int HEAD>
__global__ void __launch_bounds__(THREADS, 1)
    gradients(const __grid_constant__ CUtensorMap qkv, const __grid_constant__ CUtensorMap dout,
              const __grid_constant__ CUtensorMap dqkv, problem p) {
  block<T, HEAD>::run(p, &qkv, &dout, &dqkv);
}

// A tile of queries a block: what the other kernel needs of each, and nothing added yet. Queries past T get no weight.
enum { STATS_THREADS = 256 };
template <typename T, int HEAD>
__global__ void __launch_bounds__(STATS_THREADS)
    row_stats(problem p, const T *out, const T *dout, const float *lse, float *stats) {
  enum { ROW_THREADS = HEAD / 8, STATS_ROWS = STATS_THREADS / ROW_THREADS };
  int64_t pair = blockIdx.y, b = pair / p.H, head = pair % p.H, first = (int64_t)blockIdx.x * QUERIES;
  int row = threadIdx.x / ROW_THREADS, part = threadIdx.x % ROW_THREADS * 8;
  float sum[QUERIES / STATS_ROWS];
#pragma unroll
  for (int i = 0; i < QUERIES / STATS_ROWS; i++) {
    int64_t t = first + row + i * STATS_ROWS, from = ((b * p.T + t) * p.H + head) * HEAD + part;
    float x[8] = {}, y[8] = {};
    if (t < p.T) {
      unpack<T, 8>(*reinterpret_cast<const raw_pack<T, 8> *>(out + from), x);
      unpack<T, 8>(*reinterpret_cast<const raw_pack<T, 8> *>(dout + from), y);
    }
    sum[i] = 0;
#pragma unroll
    for (int c = 0; c < 8; c++) sum[i] = fmaf(x[c], y[c], sum[i]);
  }
  float *to = stats + (pair * p.tiles * STEPS + blockIdx.x) * ROW_STATS * QUERIES;
#pragma unroll
  for (int i = 0; i < QUERIES / STATS_ROWS; i++) {
#pragma unroll
    for (int d = 1; d < ROW_THREADS; d *= 2) sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], d);
    if (part == 0) to[QUERIES + row + i * STATS_ROWS] = sum[i];
  }
  if (threadIdx.x < QUERIES)
    to[threadIdx.x] = first + threadIdx.x < p.T ? lse[pair * p.T + first + threadIdx.x] * LOG2_E : INFINITY;
  if (threadIdx.x == 0) p.added[pair * p.tiles * STEPS + blockIdx.x] = 0; /* as many as there may be turns */
  if (threadIdx.x == 0 && blockIdx.x == 0 && blockIdx.y == 0) *p.next = 0;
}

}  // namespace attention_wgmma
