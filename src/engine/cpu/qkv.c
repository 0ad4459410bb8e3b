/* The product for queries, keys and values, and the rotation of queries and keys (RoPE). */
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/fp8.h"
#include "engine/cpu/ops.h"

/* Rotates the pairs (x[2i], x[2i+1]) of `heads` consecutive heads by the angles of one position; direction −1 rotates
 * back. */
static void rotate_heads(real *x, int64_t heads, int64_t h, const float *cosines, const float *sines, real direction) {
  int64_t half = h / 2;
  for (int64_t head = 0; head < heads; head++, x += h) {
#pragma omp simd
    for (int64_t i = 0; i < half; i++) {
      real c = (real)cosines[i], s = direction * (real)sines[i];
      real even = x[2 * i], odd = x[2 * i + 1];
      x[2 * i] = even * c - odd * s;
      x[2 * i + 1] = odd * c + even * s;
    }
  }
}

/* Rotates queries and keys of all rows of qkv (B·T, 3, H, h) in place. */
static status rotate(cpu_engine *cpu, int64_t B, int64_t T, int64_t D, int64_t H, const int32_t *past, real direction,
                     real *qkv) {
  int64_t h = D / H, N = B * T;
  REQUIRE(h % 2 == 0, "RoPE rotates pairs, but a head of %lld / %lld features is odd", (long long)D, (long long)H);
  TRY(rope_table_cover(&cpu->rope, h, positions_needed(past, B, T)));
  int64_t blocks = blocks_of(N, ROW_BLOCK);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(N, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      int64_t position = row % T + (past ? past[row / T] : 0);
      int64_t at = position * (h / 2);
      rotate_heads(qkv + row * 3 * D, 2 * H, h, cpu->rope.cosines + at, cpu->rope.sines + at, direction);
    }
  }
  return STATUS_OK;
}

status ENGINE_NAME(qkv_forward)(engine *e, const qkv_forward_args *a) {
  int64_t N = a->B * a->T, D = a->D;
  TRY(layer_forward(scratch_open(e), N, 3 * D, D, a->x, a->x_amax, a->weight, a->qkv));
  if (a->rope) {
    TRY(rotate(cpu_of(e), a->B, a->T, D, a->H, a->past, 1, a->qkv));
  }
  return STATUS_OK;
}

status ENGINE_NAME(qkv_backward)(engine *e, const qkv_backward_args *a) {
  int64_t N = a->B * a->T, D = a->D;
  if (a->rope) {
    TRY(rotate(cpu_of(e), a->B, a->T, D, a->H, NULL, -1, a->dqkv));
  }
  return layer_backward(scratch_open(e), N, 3 * D, D, a->dqkv, NULL, a->weight, a->x, a->x_amax, a->dx, a->dweight);
}
