/* Depthwise convolution over time and its activation. Work is split by feature, so that sums over all rows need no
 * other thread's part. */
#include <string.h>

#include "engine/cpu/activation.h"
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/ops.h"

/* Where tap 0 of position 0 reads. */
static int64_t first_tap(bool causal, int64_t k, int64_t dilation) {
  return causal ? -(k - 1) * dilation : -((k - 1) / 2) * dilation;
}

static status check_taps(bool causal, int64_t k) {
  REQUIRE(causal || k % 2 == 1, "a convolution with padding on both sides needs an odd number of taps, not %lld",
          (long long)k);
  return STATUS_OK;
}

/* The row that a tap reads, `from` counted in this sequence; NULL: zero. */
static const real *tap_row(const conv_forward_args *a, int64_t b, int64_t from) {
  int64_t kept = (a->k - 1) * a->dilation;
  if (from >= a->T) {
    return NULL;
  }
  if (from >= 0) {
    return (const real *)a->x + (b * a->T + from) * a->D;
  }
  return a->history ? (const real *)a->history + (b * kept + kept + from) * a->D : NULL;
}

/* sum (n) = Σ_j w[·, j] · x[t + shift + j · dilation] for features first … first + n − 1. */
static void convolve(const conv_forward_args *a, int64_t b, int64_t t, int64_t first, int64_t n, real *sum) {
  const real *weight = (const real *)a->weight + first * a->k;
  int64_t from = t + first_tap(a->causal, a->k, a->dilation);
  memset(sum, 0, (size_t)n * sizeof(real));
  for (int64_t j = 0; j < a->k; j++, from += a->dilation) {
    const real *in = tap_row(a, b, from);
    if (!in) {
      continue;
    }
    in += first;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      sum[i] += weight[i * a->k + j] * in[i];
    }
  }
}

status ENGINE_NAME(conv_forward)(engine *e, const conv_forward_args *a) {
  TRY(check_taps(a->causal, a->k));
  REQUIRE(a->causal || !a->history, "a convolution that sees the future can't continue from a history");
  scratch s = scratch_open(e);
  real *room;
  TRY(scratch_take(&s, ACT_PREPARE_ROOM * a->D, sizeof(real), &room));
  act_params p;
  act_prepare(&a->act, a->D, room, &p);
  int64_t N = a->B * a->T, D = a->D;
  int64_t blocks = blocks_of(D, COLUMN_BLOCK);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t first = block * COLUMN_BLOCK, n = min_i64(COLUMN_BLOCK, D - first);
    for (int64_t row = 0; row < N; row++) {
      real sum[COLUMN_BLOCK];
      convolve(a, row / a->T, row % a->T, first, n, sum);
      int64_t at = row * D + first;
      act_forward(&p, first, n, NULL, sum, a->c ? (real *)a->c + at : NULL, (real *)a->a + at);
    }
  }
  return STATUS_OK;
}

/* dx[t] = Σ_j w[·, j] · dc[t − shift − j · dilation] */
static void convolve_back(const conv_backward_args *a, int64_t b, int64_t t, int64_t first, int64_t n) {
  const real *weight = (const real *)a->weight + first * a->k;
  real *dx = (real *)a->dx + (b * a->T + t) * a->D + first;
  int64_t to = t - first_tap(a->causal, a->k, a->dilation);
  memset(dx, 0, (size_t)n * sizeof(real));
  for (int64_t j = 0; j < a->k; j++, to -= a->dilation) {
    if (to < 0 || to >= a->T) {
      continue;
    }
    const real *dc = (const real *)a->scratch_c + (b * a->T + to) * a->D + first;
#pragma omp simd
    for (int64_t i = 0; i < n; i++) {
      dx[i] += weight[i * a->k + j] * dc[i];
    }
  }
}

/* dweight[·, j] = Σ over rows of dc[t] · x[t + shift + j · dilation], in blocks of rows that are added in fp64. */
static void tap_gradient(const conv_backward_args *a, int64_t j, int64_t first, int64_t n) {
  int64_t offset = first_tap(a->causal, a->k, a->dilation) + j * a->dilation;
  int64_t lo = max_i64(0, -offset), hi = min_i64(a->T, a->T - offset);
  double total[COLUMN_BLOCK] = {0};
  for (int64_t b = 0; b < a->B; b++) {
    for (int64_t start = lo; start < hi; start += ROW_BLOCK) {
      real sum[COLUMN_BLOCK] = {0};
      for (int64_t t = start; t < min_i64(hi, start + ROW_BLOCK); t++) {
        const real *dc = (const real *)a->scratch_c + (b * a->T + t) * a->D + first;
        const real *x = (const real *)a->x + (b * a->T + t + offset) * a->D + first;
#pragma omp simd
        for (int64_t i = 0; i < n; i++) {
          sum[i] += dc[i] * x[i];
        }
      }
      for (int64_t i = 0; i < n; i++) {
        total[i] += (double)sum[i];
      }
    }
  }
  real *dweight = a->dweight;
  for (int64_t i = 0; i < n; i++) {
    dweight[(first + i) * a->k + j] = (real)total[i];
  }
}

/* da becomes dc in scratch_c; the activation's parameters get their gradients. */
static void activation_gradient(const conv_backward_args *a, const act_params *p, int64_t first, int64_t n) {
  int64_t N = a->B * a->T, D = a->D;
  double total[3][COLUMN_BLOCK] = {{0}};
  for (int64_t start = 0; start < N; start += ROW_BLOCK) {
    int64_t rows = min_i64(ROW_BLOCK, N - start), at = start * D + first;
    real sums[SUMS_PER_FEATURE][COLUMN_BLOCK] = {{0}};
    act_sums block = {sums[0], sums[1], sums[2], sums[3]};
    for (int64_t r = 0; r < rows; r++) {
      memcpy((real *)a->scratch_c + at + r * D, (const real *)a->da + at + r * D, (size_t)n * sizeof(real));
    }
    act_backward(p, first, n, rows, D, 1, (const real *)a->c + at, (real *)a->scratch_c + at, NULL, &block);
    for (int which = 0; which < 3; which++) {
      for (int64_t i = 0; i < n; i++) {
        total[which][i] += (double)sums[which][i];
      }
    }
  }
  if (p->kind != ACT_SINE) {
    return;
  }
  real *out[3] = {a->dact.amplitude, a->dact.frequency, a->dact.damping};
  const real *factor[3] = {p->amplitude_d, p->frequency_d, p->damping_d};
  for (int which = 0; which < 3; which++) {
    for (int64_t i = 0; out[which] && i < n; i++) {
      out[which][first + i] = (real)(total[which][i] * (double)factor[which][first + i]);
    }
  }
}

status ENGINE_NAME(conv_backward)(engine *e, const conv_backward_args *a) {
  TRY(check_taps(a->causal, a->k));
  scratch s = scratch_open(e);
  real *room;
  TRY(scratch_take(&s, ACT_PREPARE_ROOM * a->D, sizeof(real), &room));
  act_params p;
  act_prepare(&a->act, a->D, room, &p);
  int64_t N = a->B * a->T;
  int64_t blocks = blocks_of(a->D, COLUMN_BLOCK);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t first = block * COLUMN_BLOCK, n = min_i64(COLUMN_BLOCK, a->D - first);
    activation_gradient(a, &p, first, n);
    for (int64_t row = 0; row < N; row++) {
      convolve_back(a, row / a->T, row % a->T, first, n);
    }
    for (int64_t j = 0; j < a->k; j++) {
      tap_gradient(a, j, first, n);
    }
  }
  return STATUS_OK;
}
