// The kernels of attention_wgmma.cu: causal attention's gradients at head size 64, in one fixed order of addition.
//
// An item is a tile of KEYS keys of one (sequence, head); it walks over the tiles of QUERIES queries from the diagonal
// on, a step each. Four warpgroups: threads of the first bring tiles and speak with other blocks. Two have half of the
// keys each: scores and their gradients, transposed, with the keys along the rows, so that both go back into the tensor
// cores from registers, for dK and dV, which stay in registers until the item's end. The gradients of the scores go
// through shared memory to the other warpgroup, for the queries' gradient.
//
// A query's gradient is a sum over tiles of keys, which different blocks compute at the same time. They add in order,
// from the diagonal to the first key: each waits for the number of those before it. Items begin in that order too, and
// take as long for a step, so what a block waits for is a tile of keys ahead as a rule.
#pragma once

#include "device.cuh"
#include "warpgroup.cuh"

namespace attention_wgmma {

enum {
  HEAD = 64,
  KEYS = 128,
  QUERIES = 64,
  STEPS = KEYS / QUERIES,  // whose queries wait for each other's sums together
  LINE = HEAD * 2,         // bytes
  HALF = 64,               // rows that a warpgroup multiplies
  HALF_BYTES = HALF * LINE,
  KEYS_BYTES = KEYS * LINE,
  QUERIES_BYTES = QUERIES * LINE,
  GROUP = 128,  // threads of a warpgroup
  GROUP_WARPS = GROUP / WARP,
  KEY_GROUPS = KEYS / HALF,
  THREADS = (2 + KEY_GROUPS) * GROUP,
  BRING_REGISTERS = 24,
  QUERY_REGISTERS = 88,
  KEY_REGISTERS = 200,
  STEP16 = 32,          // bytes of 16 elements along a line,
  STEP16_ALONG = 2048,  // of 16 lines
  ROW_STATS = 2,        // of a query: log2 e times the log of its sum of exponentials, and Σ out · dout
  STATS_BYTES = ROW_STATS * QUERIES * sizeof(float),
  VECTORS = HALF * HEAD / (GROUP * 4),  // of four, that a thread of a warpgroup has of 64 × 64
};

struct problem {
  int64_t T, H;
  int tiles, items;  // tiles of keys of a (sequence, head); of all of them
  float scale;
  const float *stats;  // [pair][tile of queries][ROW_STATS][QUERIES]
  float *sums;         // [pair][tile of queries][vector][thread] of 4: gradients of queries so far
  int *added;          // [pair][tile of keys]: tiles of keys that are in the sums of its queries
  int *next;           // item
};

// Where everything lies in shared memory, PLACES of each: keys and values of this item and the next; queries and
// gradients at the output of some steps; gradients of scores; results on their way to memory, of each group that
// multiplies. Barriers are 8 bytes apart. ADDED: what other blocks add to a tile's sums before this one is there; TOLD:
// they may know that this one's is.
enum { KEY_PLACES = 2, QUERY_PLACES = 4, SCORE_PLACES = 3, SUM_PLACES = 2 };
// A group of keys holds a step and the ones that it skips while it waits for the next.
static_assert((int)QUERY_PLACES >= (int)KEY_GROUPS + 2);
enum barrier_name {
  KEYS_FULL,
  KEYS_EMPTY = KEYS_FULL + KEY_PLACES,
  QUERIES_FULL = KEYS_EMPTY + KEY_PLACES,
  QUERIES_EMPTY = QUERIES_FULL + QUERY_PLACES,
  SCORES_FULL = QUERIES_EMPTY + QUERY_PLACES,
  SCORES_EMPTY = SCORES_FULL + SCORE_PLACES,
  ADDED_FULL = SCORES_EMPTY + SCORE_PLACES,
  ADDED_EMPTY = ADDED_FULL + SUM_PLACES,
  TOLD_FULL = ADDED_EMPTY + SUM_PLACES,
  TOLD_EMPTY = TOLD_FULL + SUM_PLACES,
  BARRIERS = TOLD_EMPTY + SUM_PLACES,
};
constexpr int SCORES_BYTES = (int)KEY_GROUPS * QUERIES_BYTES, RESULTS = 1 + 2 * (int)KEY_GROUPS,
              SHARED_BYTES = 2 * (int)KEY_PLACES * KEYS_BYTES + 2 * (int)QUERY_PLACES * QUERIES_BYTES +
                             (int)SCORE_PLACES * SCORES_BYTES + RESULTS * HALF_BYTES + (int)QUERY_PLACES * STATS_BYTES +
                             4 * (int)KEY_PLACES + 8 * (int)BARRIERS;
struct room {
  uint32_t keys, values, queries, douts, dscores, results, stats, items, barriers;
};
__device__ __forceinline__ room room_make() {
  room r;
  r.keys = dynamic_shared();
  r.values = r.keys + KEY_PLACES * KEYS_BYTES;
  r.queries = r.values + KEY_PLACES * KEYS_BYTES;
  r.douts = r.queries + QUERY_PLACES * QUERIES_BYTES;
  r.dscores = r.douts + QUERY_PLACES * QUERIES_BYTES;
  r.results = r.dscores + SCORE_PLACES * SCORES_BYTES;
  r.stats = r.results + RESULTS * HALF_BYTES;
  r.barriers = r.stats + QUERY_PLACES * STATS_BYTES;
  r.items = r.barriers + 8 * BARRIERS;
  return r;
}

// Use number `count`, from 0 on, of PLACES places in turn: its place, and the parity of its turn there.
template <int PLACES>
struct use_of {
  int count;
  __device__ __forceinline__ uint32_t place() const { return (uint32_t)count % PLACES; }
  __device__ __forceinline__ uint32_t turn() const { return (uint32_t)count / PLACES % 2; }
};
using key_use = use_of<KEY_PLACES>;
using query_use = use_of<QUERY_PLACES>;
using score_use = use_of<SCORE_PLACES>;
using sum_use = use_of<SUM_PLACES>;
template <int PLACES>
__device__ __forceinline__ uint32_t barrier_of(const room &r, barrier_name first, use_of<PLACES> u) {
  return r.barriers + 8 * (first + u.place());
}
template <int PLACES>
__device__ __forceinline__ void wait_full(const room &r, barrier_name first, use_of<PLACES> u) {
  barrier_wait(barrier_of(r, first, u), u.turn());
}
template <int PLACES>
__device__ __forceinline__ void wait_empty(const room &r, barrier_name first, use_of<PLACES> u) {
  barrier_wait(barrier_of(r, first, u), u.turn() ^ 1);  // a place's first user finds it empty
}
// One arrival a warp, once all its threads have come.
template <int PLACES>
__device__ __forceinline__ void warp_arrives(const room &r, barrier_name first, use_of<PLACES> u) {
  __syncwarp();
  if (threadIdx.x % WARP == 0) barrier_arrive(barrier_of(r, first, u));
}

struct item_place {
  int pair, tile;  // of keys
};
// Tiles of keys from the last one on.
__device__ __forceinline__ item_place place_of(const problem &p, int item) {
  int pair = item / p.tiles;
  return {pair, p.tiles - 1 - (item - pair * p.tiles)};
}

__device__ __forceinline__ int shared_word(uint32_t address) {
  int x;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(x) : "r"(address) : "memory");
  return x;
}
// The item at its place, said to be the same for the warp; negative: there is none.
__device__ __forceinline__ int item_at(const room &r, key_use u) {
  return __shfl_sync(0xffffffffu, shared_word(r.items + 4 * u.place()), 0);
}
__device__ __forceinline__ void store_shared_word(uint32_t address, int x) {
  asm volatile("st.shared.u32 [%0], %1;" ::"r"(address), "r"(x) : "memory");
}
__device__ __forceinline__ float2 shared_floats(uint32_t address) {
  float2 x;
  asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(x.x), "=f"(x.y) : "r"(address) : "memory");
  return x;
}

// The thread that brings tiles.
__device__ __forceinline__ void bring(const problem &p, const room &r, const CUtensorMap *qkv,
                                      const CUtensorMap *dout) {
  int H = (int)p.H;
  key_use items = {0};
  query_use steps = {0};
  for (;; items.count++) {
    // No sooner than its tiles can be asked for: what a block has taken and not begun, others wait for.
    int item = atomicAdd(p.next, 1);
    bool end = item >= p.items;
    wait_empty(r, KEYS_EMPTY, items);
    uint32_t barrier = barrier_of(r, KEYS_FULL, items);
    store_shared_word(r.items + 4 * items.place(), end ? -1 : item);
    if (end) {
      barrier_arrive(barrier);
      return;
    }
    item_place at = place_of(p, item);
    int b = at.pair / H, head = at.pair - b * H;
    uint32_t to = items.place() * KEYS_BYTES;
    barrier_arrive_expect(barrier, 2 * KEYS_BYTES);
    box_copy(r.keys + to, qkv, 0, at.tile * KEYS, H + head, b, barrier);
    box_copy(r.keys + to + HALF_BYTES, qkv, 0, at.tile * KEYS + HALF, H + head, b, barrier);
    box_copy(r.values + to, qkv, 0, at.tile * KEYS, 2 * H + head, b, barrier);
    box_copy(r.values + to + HALF_BYTES, qkv, 0, at.tile * KEYS + HALF, 2 * H + head, b, barrier);
    const float *stats = p.stats + (int64_t)at.pair * p.tiles * STEPS * (ROW_STATS * QUERIES);
    for (int tile = at.tile * STEPS; tile < p.tiles * STEPS; tile++, steps.count++) {
      wait_empty(r, QUERIES_EMPTY, steps);
      barrier = barrier_of(r, QUERIES_FULL, steps);
      to = steps.place() * QUERIES_BYTES;
      barrier_arrive_expect(barrier, 2 * QUERIES_BYTES + STATS_BYTES);
      box_copy(r.queries + to, qkv, 0, tile * QUERIES, head, b, barrier);
      box_copy(r.douts + to, dout, 0, tile * QUERIES, head, b, barrier);
      bulk_copy(r.stats + steps.place() * STATS_BYTES, stats + tile * (ROW_STATS * QUERIES), STATS_BYTES, barrier);
    }
  }
}

// The thread that waits for other blocks' sums: a tile of keys at a time, until all before this item's are in the sums
// of its queries.
__device__ __forceinline__ void wait_added(const problem &p, const room &r) {
  key_use items = {0};
  sum_use sums = {0};
  for (;; items.count++) {
    wait_full(r, KEYS_FULL, items);
    int item = shared_word(r.items + 4 * items.place());
    if (item < 0) return;
    barrier_arrive(barrier_of(r, KEYS_EMPTY, items));
    item_place at = place_of(p, item);
    const int *added = p.added + at.pair * p.tiles;
    for (int tile = at.tile + 1; tile < p.tiles; tile++, sums.count++) {
      wait_empty(r, ADDED_EMPTY, sums);
      int now;
      do {
        asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(now) : "l"(added + tile) : "memory");
      } while (now != tile - at.tile);
      barrier_arrive(barrier_of(r, ADDED_FULL, sums));
    }
  }
}

// The thread that tells other blocks what is in the sums.
__device__ __forceinline__ void tell_added(const problem &p, const room &r) {
  key_use items = {0};
  sum_use sums = {0};
  for (;; items.count++) {
    wait_full(r, KEYS_FULL, items);
    int item = shared_word(r.items + 4 * items.place());
    if (item < 0) return;
    barrier_arrive(barrier_of(r, KEYS_EMPTY, items));
    item_place at = place_of(p, item);
    int *added = p.added + at.pair * p.tiles;
    for (int tile = at.tile; tile < p.tiles && at.tile > 0; tile++, sums.count++) {
      wait_full(r, TOLD_FULL, sums);
      asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(added + tile), "r"(tile - at.tile + 1) : "memory");
      barrier_arrive(barrier_of(r, TOLD_EMPTY, sums));
    }
  }
}

__device__ __forceinline__ void add_vector(float *to, const float *x) {
  asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(x[0]), "f"(x[1]), "f"(x[2]),
               "f"(x[3])
               : "memory");
}

// 64 rows of a gradient, as a warpgroup has them, to shared memory at `through`, from where its first thread sends them
// to dqkv: results_free before, when the last ones have left, results_written after. `number`: of a barrier of the
// warpgroup's own.
template <typename T>
__device__ __forceinline__ void stage_rows(uint32_t through, float scale, const float (&x)[32]) {
  int lane = threadIdx.x % WARP, warp = threadIdx.x % GROUP / WARP;
  uint32_t to = through + (uint32_t)(warp * 16 + lane % 16) * LINE, chunk = (uint32_t)(lane / 16 ^ lane % 8) << 4;
#pragma unroll
  for (int i = 0; i < HEAD / 16; i++) {
    const float *y = x + 8 * i;
    store_matrices(to + (chunk ^ (uint32_t)i << 5), pair_of_floats<T>(y[0] * scale, y[1] * scale),
                   pair_of_floats<T>(y[2] * scale, y[3] * scale), pair_of_floats<T>(y[4] * scale, y[5] * scale),
                   pair_of_floats<T>(y[6] * scale, y[7] * scale));
  }
}
__device__ __forceinline__ void results_free(int number) {
  if (threadIdx.x % GROUP == 0) copies_read();
  threads_wait<GROUP>(number);
}
__device__ __forceinline__ void results_written(int number) {
  shared_written();
  threads_wait<GROUP>(number);
}

// x = gradients of scores · keys, of the first GROUPS groups of keys; waits for it.
template <typename T, int GROUPS>
__device__ __forceinline__ void multiply_scores(float (&x)[32], uint64_t dscores, uint64_t keys) {
  enum { EACH = HALF / 16 };
  wgmma_begin();
#pragma unroll
  for (int k = 0; k < GROUPS * EACH; k++)
    wgmma_along<T>(x, dscores + ((k / EACH * QUERIES_BYTES + k % EACH * STEP16) >> 4), keys + (k * STEP16_ALONG >> 4),
                   k > 0);
  wgmma_group();
  wgmma_left<0>();
  wgmma_seen(x);
}

// The warpgroup of the queries' gradient.
template <typename T>
__device__ __forceinline__ void sum_queries(const problem &p, const room &r, const CUtensorMap *dqkv) {
  enum { NUMBER = 1 };
  int thread = threadIdx.x % GROUP;
  key_use items = {0};
  score_use steps = {0};
  sum_use waited = {0}, told = {0};
  for (;; items.count++) {
    wait_full(r, KEYS_FULL, items);
    int item = item_at(r, items);
    if (item < 0) break;
    item_place at = place_of(p, item);
    uint64_t keys = along_descriptor(r.keys + items.place() * KEYS_BYTES);
    bool last = at.tile == 0;
    for (int tile = at.tile * STEPS; tile < p.tiles * STEPS; tile++, steps.count++) {
      float *sums = p.sums + ((int64_t)(at.pair * p.tiles * STEPS + tile) * VECTORS * GROUP + thread) * 4;
      bool before = tile / STEPS > at.tile, onto = last && before;
      if (before && tile % STEPS == 0) {
        wait_full(r, ADDED_FULL, waited);
        warp_arrives(r, ADDED_EMPTY, waited);
        waited.count++;
      }
      float x[32];
      float4 others[VECTORS]; /* asked for now, needed once the products are there */
      if (onto) {
#pragma unroll
        for (int i = 0; i < VECTORS; i++) others[i] = __ldcg(reinterpret_cast<const float4 *>(sums + i * GROUP * 4));
      }
      wait_full(r, SCORES_FULL, steps);
      uint64_t dscores = matrix_descriptor(r.dscores + steps.place() * SCORES_BYTES);
      if (tile == at.tile * STEPS) /* the last keys are behind all queries of an item's first step */
        multiply_scores<T, 1>(x, dscores, keys);
      else
        multiply_scores<T, KEY_GROUPS>(x, dscores, keys);
      warp_arrives(r, SCORES_EMPTY, steps);
      if (tile == p.tiles * STEPS - 1) warp_arrives(r, KEYS_EMPTY, items);
      if (last) {
        if (onto) {
#pragma unroll
          for (int i = 0; i < VECTORS; i++) {
            x[4 * i] += others[i].x;
            x[4 * i + 1] += others[i].y;
            x[4 * i + 2] += others[i].z;
            x[4 * i + 3] += others[i].w;
          }
        }
        results_free(NUMBER);
        stage_rows<T>(r.results, p.scale, x);
        results_written(NUMBER);
        int H = (int)p.H, b = at.pair / H;
        if (thread == 0) box_copy_back(dqkv, 0, tile * QUERIES, at.pair - b * H, b, r.results);
        continue;
      }
#pragma unroll
      for (int i = 0; i < VECTORS; i++) {
        float *to = sums + i * GROUP * 4;
        if (before)
          add_vector(to, x + 4 * i);
        else
          __stcg(reinterpret_cast<float4 *>(to), make_float4(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]));
      }
      if (tile % STEPS == STEPS - 1) {
        wait_empty(r, TOLD_EMPTY, told);
        warp_arrives(r, TOLD_FULL, told);
        told.count++;
      }
    }
  }
  if (thread == 0) copies_read();
}

// One of a query's stats for each of this thread's columns.
__device__ __forceinline__ void column_stats(uint32_t from, float (&out)[QUERIES / 4]) {
#pragma unroll
  for (int i = 0; i < QUERIES / 8; i++) {
    float2 pair = shared_floats(from + 32 * i);
    out[2 * i] = pair.x;
    out[2 * i + 1] = pair.y;
  }
}

// Probabilities from scores, rounded: the left operand of the next products, with the keys along its rows. On the
// diagonal keys behind their query get none; key and query: this thread's first.
template <typename T>
__device__ __forceinline__ void probabilities(float (&s)[32], const float (&lse)[16], float factor, bool diagonal,
                                              int key, int query, uint32_t (&out)[4][4]) {
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

// p · (dp − delta), rounded.
template <typename T>
__device__ __forceinline__ void score_grads(const uint32_t (&probability)[4][4], const float (&dp)[32],
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

// d (64 × 64) = a · bᵀ, both with HEAD elements a line; d = a · b, plus d where `add`, with a in registers and QUERIES
// lines of b.
template <typename T>
__device__ __forceinline__ void multiply_lines(float (&d)[32], uint64_t a, uint64_t b) {
#pragma unroll
  for (int k = 0; k < HEAD / 16; k++) wgmma<T>(d, a + (k * STEP16 >> 4), b + (k * STEP16 >> 4), k > 0);
}
template <typename T>
__device__ __forceinline__ void multiply_along(float (&d)[32], const uint32_t (&a)[4][4], uint64_t b, bool add) {
#pragma unroll
  for (int k = 0; k < QUERIES / 16; k++) wgmma_along<T>(d, a[k], b + (k * STEP16_ALONG >> 4), k > 0 || add);
}

// A warpgroup of keys: dK and dV of 64 of them. The scores of the next step and the gradients of its probabilities are
// multiplied as soon as this step's have been read, dV and dK as soon as their operands are there.
template <typename T>
__device__ __forceinline__ void sum_keys(const problem &p, const room &r, const CUtensorMap *dqkv) {
  int group = __shfl_sync(0xffffffffu, (int)threadIdx.x / GROUP, 0) - 2;  // said to be the same for the warp
  int thread = threadIdx.x % GROUP, lane = thread % WARP, warp = thread / WARP;
  int first_key = warp * 16 + lane / 4, first_query = lane % 4 * 2, end = p.tiles * STEPS;
  // This lane's line and chunk of the four matrices that it stores at a time.
  uint32_t line = (uint32_t)(lane / 16 * 8 + lane % 8), chunk = (uint32_t)(2 * warp + lane / 8 % 2);
  uint32_t store = r.dscores + (uint32_t)group * QUERIES_BYTES + line * LINE + ((chunk ^ (line & 7)) << 4);
  uint32_t results = r.results + (uint32_t)(1 + 2 * group) * HALF_BYTES;
  int number = 2 + group;
  float factor = p.scale * LOG2_E;
  key_use items = {0};
  int step = 0;
  // The last keys are behind all queries of an item's first step.
  auto skip_steps = [&]() {
    for (int i = 0; i < group; i++, step++) {
      wait_full(r, QUERIES_FULL, query_use{step});
      warp_arrives(r, QUERIES_EMPTY, query_use{step});
      wait_empty(r, SCORES_EMPTY, score_use{step});
      warp_arrives(r, SCORES_FULL, score_use{step});
    }
  };
  wait_full(r, KEYS_FULL, items);
  int item = item_at(r, items);
  if (item < 0) return;
  skip_steps();
  uint32_t keys = (uint32_t)group * HALF_BYTES, place = query_use{step}.place() * QUERIES_BYTES;
  float s[32], dp[32], dk[32], dv[32];
  wait_full(r, QUERIES_FULL, query_use{step});
  wgmma_begin();
  multiply_lines<T>(s, matrix_descriptor(r.keys + keys), matrix_descriptor(r.queries + place));
  multiply_lines<T>(dp, matrix_descriptor(r.values + keys), matrix_descriptor(r.douts + place));
  wgmma_group();
  while (item >= 0) {
    int own = p.tiles - 1 - item % p.tiles, next_item = item;
    bool first = true;
    for (int tile = own * STEPS + group; tile < end; tile++) {
      uint32_t stats = r.stats + query_use{step}.place() * STATS_BYTES + first_query * 4;
      score_use scores = {step};
      bool last = tile + 1 == end;
      int next = step + 1;
      if (last) {
        key_use after = {items.count + 1};
        wait_full(r, KEYS_FULL, after);
        next_item = item_at(r, after);
        keys = after.place() * KEYS_BYTES + (uint32_t)group * HALF_BYTES;
        next += group;
      }
      uint32_t next_place = place; /* after the last item nobody reads what comes of it */
      if (next_item >= 0) {
        wait_full(r, QUERIES_FULL, query_use{next});
        next_place = query_use{next}.place() * QUERIES_BYTES;
      }
      uint32_t probability[4][4], dscore[4][4];
      float lse[16], delta[16];
      column_stats(stats, lse);
      wgmma_left<0>();
      wgmma_seen(s);
      wgmma_seen(dp);
      if (!first) warp_arrives(r, QUERIES_EMPTY, query_use{step - 1});
      probabilities<T>(s, lse, factor, first, first_key, first_query, probability);
      column_stats(stats + QUERIES * 4, delta);
      wgmma_begin();
      multiply_along<T>(dv, probability, along_descriptor(r.douts + place), !first);
      multiply_lines<T>(s, matrix_descriptor(r.keys + keys), matrix_descriptor(r.queries + next_place));
      wgmma_group();
      score_grads<T>(probability, dp, delta, dscore);
      wait_empty(r, SCORES_EMPTY, scores);
#pragma unroll
      for (int k = 0; k < QUERIES / 16; k++)
        store_matrices_transposed(store + scores.place() * SCORES_BYTES + k * STEP16_ALONG, dscore[k]);
      wgmma_begin();
      multiply_along<T>(dk, dscore, along_descriptor(r.queries + place), !first);
      shared_written();
      warp_arrives(r, SCORES_FULL, scores);
      multiply_lines<T>(dp, matrix_descriptor(r.values + keys), matrix_descriptor(r.douts + next_place));
      wgmma_group();
      place = next_place;
      first = false;
      step++;
    }
    results_free(number);
    wgmma_left<0>();
    wgmma_seen(dk);
    wgmma_seen(dv);
    warp_arrives(r, QUERIES_EMPTY, query_use{step - 1});
    warp_arrives(r, KEYS_EMPTY, items);
    stage_rows<T>(results, p.scale, dk);
    stage_rows<T>(results + HALF_BYTES, 1.0f, dv);
    results_written(number);
    if (thread == 0) {
      int H = (int)p.H, pair = item / p.tiles, b = pair / H, head = pair - b * H, row = own * KEYS + group * HALF;
      box_copy_back(dqkv, 0, row, H + head, b, results);
      box_copy_back(dqkv, 0, row, 2 * H + head, b, results + HALF_BYTES);
    }
    item = next_item;
    items.count++;
    if (item >= 0) skip_steps();
  }
  if (thread == 0) copies_read();
}

template <typename T>
__global__ void __launch_bounds__(THREADS, 1)
    gradients(const __grid_constant__ CUtensorMap qkv, const __grid_constant__ CUtensorMap dout,
              const __grid_constant__ CUtensorMap dqkv, problem p) {
  room r = room_make();
  if (threadIdx.x == 0) {
    enum { BOTH = KEY_GROUPS * GROUP_WARPS };
    auto init = [&](int first, int count, uint32_t arrivals) {
      for (int i = 0; i < count; i++) barrier_init(r.barriers + 8 * (first + i), arrivals);
    };
    init(KEYS_FULL, KEY_PLACES, 1);
    init(KEYS_EMPTY, KEY_PLACES, BOTH + GROUP_WARPS + 2);
    init(QUERIES_FULL, QUERY_PLACES, 1);
    init(QUERIES_EMPTY, QUERY_PLACES, BOTH);
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
    if (threadIdx.x == 0) bring(p, r, &qkv, &dout);
    if (threadIdx.x == WARP) wait_added(p, r);
    if (threadIdx.x == 2 * WARP) tell_added(p, r);
  } else if (threadIdx.x < 2 * GROUP) {
    registers_release<QUERY_REGISTERS>();
    sum_queries<T>(p, r, &dqkv);
  } else {
    registers_take<KEY_REGISTERS>();
    sum_keys<T>(p, r, &dqkv);
  }
}

// A tile of queries a block: what the other kernel needs of each, and nothing added yet. Queries past T get no weight.
enum { STATS_THREADS = 256, ROW_THREADS = HEAD / 8, STATS_ROWS = STATS_THREADS / ROW_THREADS };
template <typename T>
__global__ void __launch_bounds__(STATS_THREADS)
    row_stats(problem p, const T *out, const T *dout, const float *lse, float *stats) {
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
  if (blockIdx.x % STEPS == 0 && threadIdx.x == 0) p.added[pair * p.tiles + blockIdx.x / STEPS] = 0;
  if (threadIdx.x == 0 && blockIdx.x == 0 && blockIdx.y == 0) *p.next = 0;
}

}  // namespace attention_wgmma
