/* Projection onto the residual stream, and the norm that follows. */
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/dropout.h"
#include "engine/cpu/fp8.h"
#include "engine/cpu/norm.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/reduce.h"

/* One row: y = residual + alpha · (mask ⊙) (product + bias). */
static void add_row(int64_t D, const real *product, const real *bias, real alpha, const real *residual, real *y) {
  if (bias) {
#pragma omp simd
    for (int64_t j = 0; j < D; j++) {
      y[j] = residual[j] + alpha * (product[j] + bias[j]);
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < D; j++) {
      y[j] = residual[j] + alpha * product[j];
    }
  }
}

static void add_row_dropped(const engine *e, const out_forward_args *a, int64_t row, const real *product, real alpha,
                            const real *residual, real *y) {
  const real *bias = a->bias;
  int64_t sequence = ((const cpu_engine *)e)->step.first_sequence + row / a->T;
  for (int64_t first = 0; first < a->D; first += COLUMN_BLOCK) {
    int64_t n = min_i64(COLUMN_BLOCK, a->D - first);
    real mask[COLUMN_BLOCK];
    dropout_mask(&a->dropout, e->seed, sequence, (row % a->T) * a->D + first, n, mask);
    for (int64_t j = 0; j < n; j++) {
      real u = product[first + j] + (bias ? bias[first + j] : (real)0);
      y[first + j] = residual[first + j] + alpha * (mask[j] * u);
    }
  }
}

status ENGINE_NAME(out_forward)(engine *e, const out_forward_args *a) {
  int64_t N = a->B * a->T, D = a->D;
  real *y = a->y, *product = a->y;
  const real *residual = a->residual;
  scratch s = scratch_open(e);
  /* The arithmetic is the same whether y is the residual or not: a block that is computed again must get the same bits.
   */
  if (y == residual) {
    TRY(scratch_take(&s, N * D, sizeof(real), &product));
  }
  TRY(layer_forward(s, N, D, a->K, a->in, a->in_amax, a->weight, product));
  real alpha = a->alpha ? *(const real *)a->alpha : (real)1;
  int64_t blocks = blocks_of(N, ROW_BLOCK);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(N, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      int64_t at = row * D;
      if (a->dropout.p > 0) {
        add_row_dropped(e, a, row, product + at, alpha, residual + at, y + at);
      } else {
        add_row(D, product + at, a->bias, alpha, residual + at, y + at);
      }
      norm_row(&a->norm, N, D, row, y + at);
    }
  }
  norm_amax(cpu_of(e)->threads, &a->norm, N, D);
  return STATUS_OK;
}

status ENGINE_NAME(out_backward)(engine *e, const out_backward_args *a) {
  int64_t N = a->B * a->T, D = a->D;
  scratch s = scratch_open(e);
  const real *g = a->dy;
  const void *amax = a->dy_amax;
  if (a->dropout.p > 0) {
    real *masked;
    TRY(scratch_take(&s, N * D, sizeof(real), &masked));
    dropout_rows(e, &a->dropout, a->B, a->T, D, g, masked);
    g = masked;
    amax = NULL; /* its own */
  }
  if (a->dbias) {
    real *partial;
    TRY(scratch_take(&s, blocks_of(N, ROW_BLOCK) * D, sizeof(real), &partial));
    column_sums(cpu_of(e)->threads, g, N, D, 1, partial, a->dbias);
  }
  return layer_backward(s, N, D, a->K, g, amax, a->weight, a->in, a->in_amax, a->din, a->dweight);
}
