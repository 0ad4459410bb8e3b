// The kernels of attention_split.cu: q, k and v into tiles of split numbers, and causal attention over these.
#pragma once

#include <stdint.h>

#include "split_layout.h"
#include "split_numbers.cuh"
#include "tensor_core.cuh"

namespace attention_split {

enum {
  KEYS = 64,      // rows of a tile of q, k or v, and keys that a block takes in one turn
  QUERIES = 128,  // of a block
  PART_BYTES = KEYS * SPLIT_LINE,
  STAGES = 2,
  SPLIT_THREADS = 256,
};

// Probabilities are kept as 2^WEIGHT_PEAK · exp(score − max): fp16 holds them from 2^-38 on.
constexpr float WEIGHT_PEAK = 14;

// Sequences and heads of a launch. A pair is a (sequence, head), sequences outermost.
struct problem {
  int64_t T, H, h;
  int64_t first_pair;  // pairs of this launch begin here
  int tiles;           // of KEYS rows a pair, an even number
  bool alibi;
  const float *qkv;  // (N, 3, H, h)
  char *data;        // [pair][q, k, v][tile][part of SPLIT_K elements], PART_BYTES each
  float *scale;      // [pair][q, k, v][tile]: 2^-e
  float *out;        // (N, H·h)
  float *lse;        // (B, H, T); may be NULL
};

// A block makes one tile of q, k or v: grid (tiles, 3, pairs). PARTS = ceil(h / SPLIT_K).
template <int PARTS>
__global__ void __launch_bounds__(SPLIT_THREADS) split_tiles(problem s) {
  enum { CHUNKS = PARTS * SPLIT_K / 8, EACH = KEYS * CHUNKS / SPLIT_THREADS, WARPS = SPLIT_THREADS / 32 };
  __shared__ float maxima[WARPS];
  int64_t pair = s.first_pair + blockIdx.z, b = pair / s.H, head = pair % s.H, first = (int64_t)blockIdx.x * KEYS;
  const float *x = s.qkv + (b * s.T * 3 + blockIdx.y) * s.H * s.h + head * s.h;
  float v[EACH][8], largest = 0;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int at = (int)threadIdx.x + i * SPLIT_THREADS, chunk = at % CHUNKS;
    int64_t row = first + at / CHUNKS;
    load_chunk(x + row * 3 * s.H * s.h + chunk * 8, row < s.T ? s.h - chunk * 8 : 0, s.h % 4 == 0, v[i]);
#pragma unroll
    for (int j = 0; j < 8; j++) largest = fmaxf(largest, fabsf(v[i][j]));
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = largest;
  __syncthreads();
  largest = maxima[0];
#pragma unroll
  for (int w = 1; w < WARPS; w++) largest = fmaxf(largest, maxima[w]);
  int e = split_exponent(largest);
  int64_t tile = ((int64_t)blockIdx.z * 3 + blockIdx.y) * s.tiles + blockIdx.x;
#pragma unroll
  for (int i = 0; i < EACH; i++) {
    int at = (int)threadIdx.x + i * SPLIT_THREADS, chunk = at % CHUNKS;
    store_chunks(s.data + (tile * PARTS + chunk / 4) * PART_BYTES, at / CHUNKS, chunk % 4, v[i], power_of_two(e));
  }
  if (threadIdx.x == 0) s.scale[tile] = power_of_two(-e);
}

// Slope of a head (docs/model.md): with c the largest power of two ≤ H, base^(i+1) for the first c heads, then odd
// powers of the next finer base.
__device__ __forceinline__ float slope_of(int64_t head, int64_t H) {
  int64_t c = 1;
  while (c * 2 <= H) c *= 2;
  if (head < c) return exp2f(-8.0f / (float)c * (float)(head + 1));
  return exp2f(-4.0f / (float)c * (float)(2 * (head - c) + 1));
}

// Shared memory: the block's queries, then STAGES times a tile of keys and one of values, then the barriers.
template <int PARTS>
struct memory_map {
  enum {
    TILE_BYTES = PARTS * PART_BYTES,
    KEYS_AT = QUERIES / KEYS * TILE_BYTES,
    STAGE_BYTES = 2 * TILE_BYTES,
    BARRIERS_AT = KEYS_AT + STAGES * STAGE_BYTES,
    BYTES = BARRIERS_AT + 16 * STAGES,
  };
};

// Scores of MT · 16 queries and KEYS keys, before scaling: 32 elements of the head at a time are summed by the tensor
// cores, small terms first, and added in fp32.
template <int PARTS, int MT>
__device__ __forceinline__ void scores(uint32_t queries, uint32_t keys, float (&s)[MT][8][4]) {
  int lane = threadIdx.x % 32;
  uint32_t q_line = queries + split_chunk(lane % 16, lane / 16), k_line = keys + split_chunk(lane % 8, lane / 8);
#pragma unroll
  for (int part = 0; part < PARTS; part++) {
    uint32_t hi[MT][2][4], lo[MT][2][4];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int step = 0; step < 2; step++) {
        uint32_t at = q_line + part * PART_BYTES + i * 16 * SPLIT_LINE;
        load_matrices(hi[i][step], at ^ (step << 5));
        load_matrices(lo[i][step], at ^ (step << 5 | SPLIT_LO << 4));
      }
#pragma unroll
    for (int first = 0; first < 8; first += 2) {
      uint32_t k_hi[2][4], k_lo[2][4];
      float sum[MT][2][4];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        uint32_t at = k_line + part * PART_BYTES + (first + j) * 8 * SPLIT_LINE;
        load_matrices(k_hi[j], at);
        load_matrices(k_lo[j], at ^ (SPLIT_LO << 4));
      }
#pragma unroll
      for (int step = 0; step < 2; step++)
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) {
            if (step == 0)
              mma_first(sum[i][j], lo[i][step], k_hi[j][2 * step], k_hi[j][2 * step + 1]);
            else
              mma(sum[i][j], lo[i][step], k_hi[j][2 * step], k_hi[j][2 * step + 1]);
          }
#pragma unroll
      for (int step = 0; step < 2; step++)
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) mma(sum[i][j], hi[i][step], k_lo[j][2 * step], k_lo[j][2 * step + 1]);
#pragma unroll
      for (int step = 0; step < 2; step++)
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) mma(sum[i][j], hi[i][step], k_hi[j][2 * step], k_hi[j][2 * step + 1]);
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
          for (int c = 0; c < 4; c++) s[i][first + j][c] = part == 0 ? sum[i][j][c] : s[i][first + j][c] + sum[i][j][c];
    }
  }
}

// o += scale · weights · values, weights as the scores' fragments hold them. 32 keys at a time, small terms first.
template <int PARTS, int MT>
__device__ __forceinline__ void weigh(const float (&w)[MT][8][4], uint32_t values, float scale,
                                      float (&o)[MT][PARTS * 4][4]) {
  int lane = threadIdx.x % 32;
  // Line lane of 32 keys; eight elements of the head are one chunk of it.
  uint32_t v_line = values + split_chunk(lane, 0);
#pragma unroll
  for (int half = 0; half < 2; half++) {
    uint32_t hi[MT][2][4], lo[MT][2][4];
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int step = 0; step < 2; step++)
#pragma unroll
        for (int tile = 0; tile < 2; tile++) {
          const float(&p)[4] = w[i][4 * half + 2 * step + tile];
          split_pair(p[0], p[1], hi[i][step][2 * tile], lo[i][step][2 * tile]);
          split_pair(p[2], p[3], hi[i][step][2 * tile + 1], lo[i][step][2 * tile + 1]);
        }
#pragma unroll
    for (int first = 0; first < PARTS * 4; first += 2) {
      uint32_t v_hi[2][4], v_lo[2][4];
      float sum[MT][2][4];
#pragma unroll
      for (int j = 0; j < 2; j++) {
        uint32_t at = v_line + (first + j) / 4 * PART_BYTES + half * 32 * SPLIT_LINE;
        load_matrices_transposed(v_hi[j], at ^ ((first + j) % 4 << 4));
        load_matrices_transposed(v_lo[j], at ^ ((SPLIT_LO + (first + j) % 4) << 4));
      }
#pragma unroll
      for (int step = 0; step < 2; step++)
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) {
            if (step == 0)
              mma_first(sum[i][j], lo[i][step], v_hi[j][2 * step], v_hi[j][2 * step + 1]);
            else
              mma(sum[i][j], lo[i][step], v_hi[j][2 * step], v_hi[j][2 * step + 1]);
          }
#pragma unroll
      for (int step = 0; step < 2; step++)
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) mma(sum[i][j], hi[i][step], v_lo[j][2 * step], v_lo[j][2 * step + 1]);
#pragma unroll
      for (int step = 0; step < 2; step++)
#pragma unroll
        for (int i = 0; i < MT; i++)
#pragma unroll
          for (int j = 0; j < 2; j++) mma(sum[i][j], hi[i][step], v_hi[j][2 * step], v_hi[j][2 * step + 1]);
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < 2; j++)
#pragma unroll
          for (int c = 0; c < 4; c++) o[i][first + j][c] = fmaf(sum[i][j][c], scale, o[i][first + j][c]);
    }
  }
}

// Running softmax of MT · 16 queries; row (i, r) of a thread is i · 16 + lane / 4 + 8 · r.
template <int MT>
struct softmax {
  float top[MT][2];    // largest score so far, times log2 e
  float total[MT][2];  // this thread's share of the sum of weights
};

// Scores become weights 2^WEIGHT_PEAK · exp(score − top); what was summed before is to be multiplied by shrink.
// factor: scale of a score times log2 e. slope: of ALiBi times log2 e. distance: first query − first key of this
// thread's row 0 and column 0; keys behind their query get no weight.
template <bool ALIBI, int MT>
__device__ __forceinline__ void weights(float (&s)[MT][8][4], float factor, float slope, int distance,
                                        softmax<MT> &state, float (&shrink)[MT][2]) {
  if (distance < KEYS) {
#pragma unroll
    for (int i = 0; i < MT; i++)
#pragma unroll
      for (int j = 0; j < 8; j++)
#pragma unroll
        for (int c = 0; c < 4; c++)
          if (distance + i * 16 + c / 2 * 8 < j * 8 + c % 2) s[i][j][c] = -INFINITY;
  }
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (ALIBI) {
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
          for (int c = 0; c < 2; c++)
            s[i][j][2 * r + c] =
                fmaf(s[i][j][2 * r + c], factor, -slope * (float)(distance + i * 16 + r * 8 - j * 8 - c));
      }
      float top = -INFINITY;
#pragma unroll
      for (int j = 0; j < 8; j++) top = fmaxf(top, fmaxf(s[i][j][2 * r], s[i][j][2 * r + 1]));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
      top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
      top = fmaxf(ALIBI ? top : top * factor, state.top[i][r]);
      shrink[i][r] = exp2_fast(state.top[i][r] - top);
      state.top[i][r] = top;
      float total = state.total[i][r] * shrink[i][r], offset = WEIGHT_PEAK - top;
#pragma unroll
      for (int j = 0; j < 8; j++)
#pragma unroll
        for (int c = 0; c < 2; c++) {
          float &x = s[i][j][2 * r + c];
          x = exp2_fast(ALIBI ? x + offset : fmaf(x, factor, offset));
          total += x;
        }
      state.total[i][r] = total;
    }
}

template <int PARTS, int MT>
__device__ __forceinline__ void store_rows(const problem &s, int64_t pair, int64_t first_query, softmax<MT> &state,
                                           float (&o)[MT][PARTS * 4][4]) {
  int lane = threadIdx.x % 32;
#pragma unroll
  for (int i = 0; i < MT; i++)
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float total = state.total[i][r];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      int64_t query = first_query + i * 16 + r * 8 + lane / 4;
      if (query >= s.T) continue;
      float *to = s.out + ((pair / s.H * s.T + query) * s.H + pair % s.H) * s.h;
      float inverse = 1.0f / total;
#pragma unroll
      for (int j = 0; j < PARTS * 4; j++) {
        int at = j * 8 + lane % 4 * 2;
        if (at < s.h)
          *reinterpret_cast<float2 *>(to + at) = make_float2(o[i][j][2 * r] * inverse, o[i][j][2 * r + 1] * inverse);
      }
      if (lane % 4 == 0 && s.lse)
        s.lse[pair * s.T + query] = (state.top[i][r] - WEIGHT_PEAK) * 0.69314718055994531f + logf(total);
    }
}

// A block takes QUERIES queries of a pair, the longest first: grid (tiles / 2, pairs). A warp has MT · 16 of them. One
// thread fetches tiles of keys and values one turn ahead.
template <int PARTS, int MT, bool ALIBI>
__global__ void __launch_bounds__(QUERIES / MT * 2) forward(problem s) {
  using map = memory_map<PARTS>;
  enum { WARPS = QUERIES / (16 * MT), TILE_BYTES = map::TILE_BYTES };
  uint32_t memory = dynamic_shared(), full = memory + map::BARRIERS_AT, empty = full + 8 * STAGES;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int block = (int)(gridDim.x - 1 - blockIdx.x), turns = (block + 1) * (QUERIES / KEYS);
  // Tiles of the pair's queries, keys and values.
  int64_t q = (int64_t)blockIdx.y * 3 * s.tiles, k = q + s.tiles, v = k + s.tiles;
  if (threadIdx.x == 0) {
    for (int i = 0; i < STAGES; i++) {
      barrier_init(full + 8 * i, 1);
      barrier_init(empty + 8 * i, WARPS);
    }
    barrier_init_done();
  }
  __syncthreads();
  auto fetch = [&](int turn) {
    uint32_t to = memory + map::KEYS_AT + turn % STAGES * map::STAGE_BYTES, barrier = full + 8 * (turn % STAGES);
    barrier_arrive_expect(barrier, map::STAGE_BYTES + (turn == 0 ? map::KEYS_AT : 0));
    if (turn == 0) bulk_copy(memory, s.data + (q + block * 2) * TILE_BYTES, map::KEYS_AT, barrier);
    bulk_copy(to, s.data + (k + turn) * TILE_BYTES, TILE_BYTES, barrier);
    bulk_copy(to + TILE_BYTES, s.data + (v + turn) * TILE_BYTES, TILE_BYTES, barrier);
  };
  if (threadIdx.x == 0) fetch(0);
  int own = warp * 16 * MT;  // first row of this warp in the block
  int64_t pair = s.first_pair + blockIdx.y;
  int first_query = block * QUERIES + own;
  const float log2_e = 1.4426950408889634f;
  float slope = ALIBI ? slope_of(pair % s.H, s.H) * log2_e : 0.0f,
        score_scale = s.scale[q + block * 2 + own / KEYS] * (float)(1.4426950408889634 / sqrt((double)s.h));
  uint32_t queries = memory + own / KEYS * TILE_BYTES + own % KEYS * SPLIT_LINE;
  softmax<MT> state;
  float o[MT][PARTS * 4][4];
#pragma unroll
  for (int i = 0; i < MT; i++) {
    state.top[i][0] = state.top[i][1] = -INFINITY;
    state.total[i][0] = state.total[i][1] = 0;
#pragma unroll
    for (int j = 0; j < PARTS * 4; j++)
#pragma unroll
      for (int c = 0; c < 4; c++) o[i][j][c] = 0;
  }
#pragma unroll 1
  for (int turn = 0; turn < turns; turn++) {
    if (threadIdx.x == 0 && turn + 1 < turns) {
      if (turn > 0) barrier_wait(empty + 8 * ((turn - 1) % STAGES), (turn - 1) / STAGES & 1);
      fetch(turn + 1);
    }
    __syncwarp();
    int first_key = turn * KEYS;
    barrier_wait(full + 8 * (turn % STAGES), turn / STAGES & 1);
    if (first_key < first_query + 16 * MT) {  // otherwise all keys lie behind this warp's queries
      uint32_t keys = memory + map::KEYS_AT + turn % STAGES * map::STAGE_BYTES;
      float w[MT][8][4], shrink[MT][2];
      scores<PARTS, MT>(queries, keys, w);
      weights<ALIBI, MT>(w, score_scale * s.scale[k + turn], slope, first_query + lane / 4 - first_key - lane % 4 * 2,
                         state, shrink);
#pragma unroll
      for (int i = 0; i < MT; i++)
#pragma unroll
        for (int j = 0; j < PARTS * 4; j++)
#pragma unroll
          for (int c = 0; c < 4; c++) o[i][j][c] *= shrink[i][c / 2];
      weigh<PARTS, MT>(w, keys + TILE_BYTES, s.scale[v + turn], o);
    }
    __syncwarp();
    if (lane == 0) barrier_arrive(empty + 8 * (turn % STAGES));
  }
  store_rows<PARTS, MT>(s, pair, first_query, state, o);
}

}  // namespace attention_split
