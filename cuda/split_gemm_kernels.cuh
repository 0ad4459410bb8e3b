// The kernels of split_gemm.cu: operands into blocks of split numbers, and their product.
#pragma once

#include <stdint.h>

#include "split_layout.h"
#include "split_numbers.cuh"
#include "tensor_core.cuh"

namespace split_gemm {

enum {
  BLOCK_BYTES = SPLIT_ROWS * SPLIT_LINE,
  TILE_ROWS = 128,
  TILE_COLUMNS = 256,
  STAGES = 4,
  STAGE_BYTES = 3 * BLOCK_BYTES,  // one block of the left operand, two of the right
  AHEAD = 2,
  WARPS = 8,
  SHARED_BYTES = STAGES * STAGE_BYTES + 16 * STAGES,
  GROUP_ROWS = 16,  // tiles of so many rows of tiles are neighbours in time, so that they meet their operands in L2
  SPLIT_WARPS = 8,
};

// An operand as it is: rows × k.
struct source {
  const float *x;
  int64_t rows, k;
};

// A slab of operands in blocks, [row block][block along k], and 2^-e of every row.
struct blocks {
  char *data;
  float *scale;
};

struct product {
  blocks left, right;
  int k_blocks, row_tiles, column_tiles;
  int64_t rows, columns;  // of the result's part that this launch computes
  float *result;
  int64_t stride;      // elements between rows of the result
  const float *alpha;  // device; NULL: 1
  bool accumulate;
  bool streaming;  // the result does not stay in L2
  bool wide;       // rows of the result begin on 16 bytes
};

// A warp a row; a lane takes eight elements at a time. Rows up to the end of the last block are zeros. RIGHT: rows lie
// where split_column_place says.
template <bool RIGHT, bool WIDE>
__global__ void __launch_bounds__(SPLIT_WARPS * 32) split_rows(source s, blocks out, int k_blocks) {
  int lane = threadIdx.x % 32;
  int64_t row = (int64_t)blockIdx.x * SPLIT_WARPS + threadIdx.x / 32;
  const float *x = s.x + row * s.k;
  float v[8], largest = 0;
  for (int64_t first = lane * 8; first < s.k; first += 256) {
    load_chunk(x + first, row < s.rows ? s.k - first : 0, WIDE, v);
#pragma unroll
    for (int i = 0; i < 8; i++) largest = fmaxf(largest, fabsf(v[i]));
  }
#pragma unroll
  for (int d = 16; d > 0; d /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, d));
  int e = split_exponent(largest), place = (int)(row % SPLIT_ROWS);
  float scale = power_of_two(e);
  if (RIGHT) place = split_column_place(place);
  char *line = out.data + row / SPLIT_ROWS * k_blocks * BLOCK_BYTES;
  for (int64_t first = lane * 8; first < (int64_t)k_blocks * SPLIT_K; first += 256) {
    load_chunk(x + first, row < s.rows ? s.k - first : 0, WIDE, v);
    store_chunks(line + first / SPLIT_K * BLOCK_BYTES, place, (int)(first % SPLIT_K) / 8, v, scale);
  }
  if (lane == 0) out.scale[row] = power_of_two(-e);
}

// The tile that a block computes in its turn: GROUP_ROWS rows of tiles are walked column by column.
struct place {
  int row, column;
};
__device__ __forceinline__ place tile_of(int tile, int row_tiles, int column_tiles) {
  int group = tile / (GROUP_ROWS * column_tiles), first = group * GROUP_ROWS,
      height = row_tiles - first < GROUP_ROWS ? row_tiles - first : GROUP_ROWS,
      at = tile - group * GROUP_ROWS * column_tiles;
  return {first + at % height, at / height};
}

// What the stages of shared memory hold, in the order in which a block needs it: tile after tile, block after block
// along k. One thread fills them.
struct pipeline {
  uint32_t memory, full, empty;  // empty[s] and full[s] at 8 · s
};

__device__ __forceinline__ pipeline pipeline_make() {
  uint32_t memory = dynamic_shared(), full = memory + STAGES * STAGE_BYTES;
  return {memory, full, full + 8 * STAGES};
}

__device__ __forceinline__ void stage_fill(const product &p, const pipeline &line, int step) {
  int stage = step % STAGES, k = step % p.k_blocks,
      tile = (int)(blockIdx.x + (unsigned)(step / p.k_blocks) * gridDim.x);
  place at = tile_of(tile, p.row_tiles, p.column_tiles);
  uint32_t to = line.memory + stage * STAGE_BYTES, full = line.full + 8 * stage;
  const char *left = p.left.data + ((int64_t)at.row * p.k_blocks + k) * BLOCK_BYTES,
             *right = p.right.data + ((int64_t)at.column * 2 * p.k_blocks + k) * BLOCK_BYTES;
  barrier_arrive_expect(full, STAGE_BYTES);
  bulk_copy(to, left, BLOCK_BYTES, full);
  bulk_copy(to + BLOCK_BYTES, right, BLOCK_BYTES, full);
  bulk_copy(to + 2 * BLOCK_BYTES, right + (int64_t)p.k_blocks * BLOCK_BYTES, BLOCK_BYTES, full);
}

// Thread 0 fills the stages, AHEAD steps before they are needed: so the other warps may be some steps behind it or
// before it.
__device__ __forceinline__ void pipeline_start(const product &p, const pipeline &line, int steps) {
  if (threadIdx.x == 0) {
    for (int s = 0; s < STAGES; s++) {
      barrier_init(line.full + 8 * s, 1);
      barrier_init(line.empty + 8 * s, WARPS);
    }
    barrier_init_done();
    for (int step = 0; step < AHEAD && step < steps; step++) stage_fill(p, line, step);
  }
  __syncthreads();
}

// Waits for a step's stage, whose address it gives.
__device__ __forceinline__ uint32_t stage_wait(const product &p, const pipeline &line, int step, int steps) {
  int fill = step + AHEAD, last_use = fill - STAGES;
  if (threadIdx.x == 0 && fill < steps) {
    if (last_use >= 0) barrier_wait(line.empty + 8 * (fill % STAGES), (last_use / STAGES) & 1);
    stage_fill(p, line, fill);
  }
  __syncwarp();
  barrier_wait(line.full + 8 * (step % STAGES), (step / STAGES) & 1);
  return line.memory + step % STAGES * STAGE_BYTES;
}

// This warp has read all it needs of the step's stage.
__device__ __forceinline__ void stage_release(const pipeline &line, int step) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier_arrive(line.empty + 8 * (step % STAGES));
}

__device__ __forceinline__ void store_four(const product &p, int64_t row, int64_t column, float4 v) {
  if (row >= p.rows || column >= p.columns) return;
  float *to = p.result + row * p.stride + column;
  if (p.wide) {
    float4 *wide = reinterpret_cast<float4 *>(to);
    if (p.accumulate) {
      float4 old = *wide;
      v = make_float4(old.x + v.x, old.y + v.y, old.z + v.z, old.w + v.w);
    }
    if (p.streaming)
      __stcs(wide, v);
    else
      *wide = v;
    return;
  }
  float part[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
  for (int i = 0; i < 4; i++)
    if (column + i < p.columns) to[i] = (p.accumulate ? to[i] : 0.0f) + part[i];
}

// mma.sync: eight warps, each 64 × 64 of the tile. A step of sixteen along k is summed by the tensor cores from zero,
// small terms first, and added to the sum in fp32: the tensor cores truncate what they sum, so they get few summands.
__global__ void __launch_bounds__(WARPS * 32, 1) product_mma(product p) {
  int tiles = p.row_tiles * p.column_tiles, warp = threadIdx.x / 32, lane = threadIdx.x % 32,
      steps = (tiles - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x * p.k_blocks, step = 0;
  pipeline line = pipeline_make();
  pipeline_start(p, line, steps);
  int warp_row = warp / 4 * 64, warp_column = warp % 4 * 64;
  // Both operands' addresses in a stage; a step along k and lo are other chunks, so other bits of the address.
  uint32_t left = split_chunk(warp_row + lane % 16, lane / 16),
           right = BLOCK_BYTES + split_chunk(warp_column + lane % 8, (lane / 16) * SPLIT_LO + lane / 8 % 2);
  float sum[4][8][4];
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
      for (int j = 0; j < 8; j++)
#pragma unroll
        for (int c = 0; c < 4; c++) sum[i][j][c] = 0;
    for (int k = 0; k < p.k_blocks; k++, step++) {
      uint32_t memory = stage_wait(p, line, step, steps);
#pragma unroll 1
      for (int half = 0; half < 2; half++) {
        uint32_t r[8][4];  // hi k, hi k + 8, lo k, lo k + 8
#pragma unroll
        for (int j = 0; j < 8; j++) load_matrices(r[j], (memory + right + j * 8 * SPLIT_LINE) ^ (half << 5));
#pragma unroll
        for (int i = 0; i < 4; i++) {
          uint32_t hi[4], lo[4];
          load_matrices(hi, (memory + left + i * 16 * SPLIT_LINE) ^ (half << 5));
          load_matrices(lo, (memory + left + i * 16 * SPLIT_LINE) ^ (half << 5 | SPLIT_LO << 4));
#pragma unroll
          for (int first = 0; first < 8; first += 4) {
            float part[4][4];
#pragma unroll
            for (int j = 0; j < 4; j++) mma_first(part[j], lo, r[first + j][0], r[first + j][1]);
#pragma unroll
            for (int j = 0; j < 4; j++) mma(part[j], hi, r[first + j][2], r[first + j][3]);
#pragma unroll
            for (int j = 0; j < 4; j++) mma(part[j], hi, r[first + j][0], r[first + j][1]);
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
              for (int c = 0; c < 4; c++) sum[i][first + j][c] += part[j][c];
          }
        }
      }
      stage_release(line, step);
    }
    place at = tile_of(tile, p.row_tiles, p.column_tiles);
    int64_t row = (int64_t)at.row * TILE_ROWS + warp_row + lane / 4,
            column = (int64_t)at.column * TILE_COLUMNS + warp_column + lane % 4 * 4;
    float alpha = p.alpha ? *p.alpha : 1.0f;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      float scale = alpha * p.left.scale[row + i * 8];
#pragma unroll
      for (int j = 0; j < 4; j++) {
        float4 s = *reinterpret_cast<const float4 *>(p.right.scale + column + j * 16);
        const float *even = &sum[i / 2][2 * j][i % 2 * 2], *odd = &sum[i / 2][2 * j + 1][i % 2 * 2];
        store_four(p, row + i * 8, column + j * 16,
                   make_float4(even[0] * (scale * s.x), even[1] * (scale * s.y), odd[0] * (scale * s.z),
                               odd[1] * (scale * s.w)));
      }
    }
  }
}

// wgmma: two groups of four warps, each 64 × 256 of the tile in two halves. The tensor cores sum a block of 32 along k
// from zero, small terms first; while one group adds its sums in fp32, they work for the other.
__global__ void __launch_bounds__(WARPS * 32, 1) product_wgmma(product p) {
  int tiles = p.row_tiles * p.column_tiles, warp = threadIdx.x / 32, lane = threadIdx.x % 32,
      steps = (tiles - (int)blockIdx.x + (int)gridDim.x - 1) / (int)gridDim.x * p.k_blocks, step = 0;
  pipeline line = pipeline_make();
  pipeline_start(p, line, steps);
  for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    float sum[2][64], part[64];
#pragma unroll
    for (int i = 0; i < 64; i++) sum[0][i] = sum[1][i] = part[i] = 0;
    for (int k = 0; k < p.k_blocks; k++, step++) {
      uint32_t memory = stage_wait(p, line, step, steps);
      uint64_t left = matrix_descriptor(memory + warp / 4 * 64 * SPLIT_LINE);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        // Sixteen elements are two units of a descriptor's address, hi and lo are four apart.
        uint64_t right = matrix_descriptor(memory + (1 + half) * BLOCK_BYTES);
        wgmma_begin();
        wgmma(part, left + 4, right, false);
        wgmma(part, left + 6, right + 2, true);
        wgmma(part, left, right + 4, true);
        wgmma(part, left + 2, right + 6, true);
        wgmma(part, left, right, true);
        wgmma(part, left + 2, right + 2, true);
        wgmma_finish(part);
#pragma unroll
        for (int i = 0; i < 64; i++) sum[half][i] += part[i];
      }
      stage_release(line, step);
    }
    place at = tile_of(tile, p.row_tiles, p.column_tiles);
    int64_t row = (int64_t)at.row * TILE_ROWS + warp * 16 + lane / 4,
            column = (int64_t)at.column * TILE_COLUMNS + lane % 4 * 4;
    float alpha = p.alpha ? *p.alpha : 1.0f;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float scale = alpha * p.left.scale[row + r * 8];
#pragma unroll
      for (int j = 0; j < 16; j++) {
        float4 s = *reinterpret_cast<const float4 *>(p.right.scale + column + j * 16);
        const float *even = &sum[j / 8][j % 8 * 8 + r * 2], *odd = even + 4;
        store_four(p, row + r * 8, column + j * 16,
                   make_float4(even[0] * (scale * s.x), even[1] * (scale * s.y), odd[0] * (scale * s.z),
                               odd[1] * (scale * s.w)));
      }
    }
  }
}

}  // namespace split_gemm
