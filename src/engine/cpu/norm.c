#include "engine/cpu/norm.h"

#include <math.h>
#include <string.h>

#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/fp8.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/reduce.h"

#define RMS_EPSILON 1e-6
#define LAYER_EPSILON 1e-5

static real rms_inverse(const real *x, int64_t D) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < D; j++) {
    sum += x[j] * x[j];
  }
  return (real)(1.0 / sqrt((double)sum / (double)D + RMS_EPSILON));
}

/* Two passes: the mean first, so that a large mean doesn't eat the variance's digits. */
static void layer_statistics(const real *x, int64_t D, real *mean, real *inverse) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < D; j++) {
    sum += x[j];
  }
  real m = (real)((double)sum / (double)D);
  real squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t j = 0; j < D; j++) {
    squares += (x[j] - m) * (x[j] - m);
  }
  *mean = m;
  *inverse = (real)(1.0 / sqrt((double)squares / (double)D + LAYER_EPSILON));
}

void norm_row(const norm_spec *norm, int64_t N, int64_t D, int64_t row, const real *x) {
  if (norm->kind == NORM_NONE) {
    return;
  }
  const real *scale = norm->scale;
  real *y = (real *)norm->y + row * D;
  real *stats = norm->stats;
  if (norm->kind == NORM_RMS) {
    real inverse = rms_inverse(x, D);
    stats[row] = inverse;
#pragma omp simd
    for (int64_t j = 0; j < D; j++) {
      y[j] = x[j] * inverse * scale[j];
    }
    return;
  }
  const real *bias = norm->bias;
  real mean, inverse;
  layer_statistics(x, D, &mean, &inverse);
  stats[row] = mean;
  stats[N + row] = inverse;
#pragma omp simd
  for (int64_t j = 0; j < D; j++) {
    y[j] = (x[j] - mean) * inverse * scale[j] + bias[j];
  }
}

void norm_amax(int threads, const norm_spec *norm, int64_t N, int64_t D) {
  if (norm->kind != NORM_NONE) {
    note_amax(threads, norm->y, N * D, norm->y_amax);
  }
}

status ENGINE_NAME(norm_forward)(engine *e, const norm_forward_args *a) {
  int64_t blocks = blocks_of(a->N, ROW_BLOCK);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(a->N, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      norm_row(&a->norm, a->N, a->D, row, (const real *)a->x + row * a->D);
    }
  }
  norm_amax(cpu_of(e)->threads, &a->norm, a->N, a->D);
  return STATUS_OK;
}

/* dx = residual + dy s / r − x (Σ dy s x) / (D r³), 1/r = inverse; adds the row to dscale. */
static void rms_backward_row(int64_t D, const real *x, const real *scale, real inverse, const real *dy,
                             const real *residual, real *dx, real *dscale) {
  real dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t j = 0; j < D; j++) {
    real g = dy[j] * x[j];
    dot += g * scale[j];
    dscale[j] += g * inverse;
  }
  real factor = (real)((double)dot * inverse * inverse * inverse / (double)D);
  if (residual) {
#pragma omp simd
    for (int64_t j = 0; j < D; j++) {
      dx[j] = residual[j] + (dy[j] * scale[j] * inverse - x[j] * factor);
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < D; j++) {
      dx[j] = dy[j] * scale[j] * inverse - x[j] * factor;
    }
  }
}

/* With n = (x − mean)/deviation and g = dy s: dx = residual + (g − mean(g) − n · mean(g n)) / deviation. */
static void layer_backward_row(int64_t D, const real *x, const real *scale, real mean, real inverse, const real *dy,
                               const real *residual, real *dx, real *dscale, real *dbias) {
  real sum = 0, dot = 0;
#pragma omp simd reduction(+ : sum, dot)
  for (int64_t j = 0; j < D; j++) {
    real n = (x[j] - mean) * inverse;
    real g = dy[j] * scale[j];
    sum += g;
    dot += g * n;
    dscale[j] += dy[j] * n;
    dbias[j] += dy[j];
  }
  real mean_g = (real)((double)sum / (double)D);
  real mean_gn = (real)((double)dot / (double)D);
#pragma omp simd
  for (int64_t j = 0; j < D; j++) {
    real n = (x[j] - mean) * inverse;
    real d = (dy[j] * scale[j] - mean_g - n * mean_gn) * inverse;
    dx[j] = residual ? residual[j] + d : d;
  }
}

status ENGINE_NAME(norm_backward)(engine *e, const norm_backward_args *a) {
  REQUIRE(a->norm.kind != NORM_NONE, "norm_backward was called without a norm");
  int64_t N = a->N, D = a->D;
  int64_t blocks = blocks_of(N, ROW_BLOCK);
  scratch s = scratch_open(e);
  real *partial;
  TRY(scratch_take(&s, blocks * 2 * D, sizeof(real), &partial));
  const real *x = a->x, *dy = a->dy, *residual = a->dresidual, *stats = a->norm.stats;
  real *dx = a->dx;
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    real *dscale = partial + block * 2 * D, *dbias = dscale + D;
    memset(dscale, 0, (size_t)(2 * D) * sizeof(real));
    int64_t end = min_i64(N, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      int64_t at = row * D;
      const real *res = residual ? residual + at : NULL;
      if (a->norm.kind == NORM_RMS) {
        rms_backward_row(D, x + at, a->norm.scale, stats[row], dy + at, res, dx + at, dscale);
      } else {
        layer_backward_row(D, x + at, a->norm.scale, stats[row], stats[N + row], dy + at, res, dx + at, dscale, dbias);
      }
    }
  }
  note_amax(cpu_of(e)->threads, dx, N * D, a->dx_amax);
  sum_blocks(partial, blocks, 2 * D, D, NULL, a->dscale);
  sum_blocks(partial + D, blocks, 2 * D, D, NULL, a->dbias);
  return STATUS_OK;
}
