/* Head and cross entropy, in chunks of rows. But for head_forward columns past V are never computed, so they need no
 * −∞. */
#include <math.h>
#include <string.h>

#include "engine/cpu/blas.h"
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/softmax.h"

/* One row of logits (V) becomes its gradient, (p − target) · seed; returns the row's loss. */
static double row_loss(real *s, int64_t V, int32_t label, double smoothing, double seed) {
  double chosen = (double)s[label];
  double mean = 0;
  if (smoothing > 0) {
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < V; j++) {
      sum += (double)s[j];
    }
    mean = sum / (double)V;
  }
  real most = row_max(s, V);
  double sum = (double)row_exp(s, V, most);
  double lse = (double)most + log(sum);
  real factor = (real)(seed / sum), everywhere = (real)(seed * smoothing / (double)V);
  if (smoothing > 0) {
#pragma omp simd
    for (int64_t j = 0; j < V; j++) {
      s[j] = s[j] * factor - everywhere;
    }
  } else {
#pragma omp simd
    for (int64_t j = 0; j < V; j++) {
      s[j] *= factor;
    }
  }
  s[label] -= (real)(seed * (1.0 - smoothing));
  return (1.0 - smoothing) * (lse - chosen) + (smoothing > 0 ? smoothing * (lse - mean) : 0.0);
}

status ENGINE_NAME(head_train)(engine *e, const head_train_args *a) {
  cpu_engine *cpu = cpu_of(e);
  int64_t D = a->D, V = a->V;
  scratch s = scratch_open(e);
  real *logits;
  double *losses;
  TRY(scratch_take(&s, min_i64(a->chunk, a->N) * V, sizeof(real), &logits));
  TRY(scratch_take(&s, a->N, sizeof(double), &losses));
  double seed = cpu->step.loss_scale / (double)a->N;
  real *dweight = a->dweight;
  for (int64_t start = 0; start < a->N; start += a->chunk) {
    int64_t rows = min_i64(a->chunk, a->N - start);
    const real *x = (const real *)a->x + start * D;
    linear_forward(rows, V, D, x, a->weight, logits);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
      losses[start + row] = row_loss(logits + row * V, V, a->labels[start + row], a->label_smoothing, seed);
    }
    linear_backward_input(rows, V, D, logits, a->weight, (real *)a->dx + start * D);
    gemm(TRANSPOSED, PLAIN, V, D, rows, 1, logits, V, x, D, start == 0 ? 0 : 1, dweight, D);
  }
  memset(dweight + V * D, 0, (size_t)((a->Vp - V) * D) * sizeof(real));
  double total = 0;
  for (int64_t row = 0; row < a->N; row++) {
    total += losses[row];
  }
  *a->loss = total / (double)a->N;
  return STATUS_OK;
}

/* Lowest index of the largest value; −1 when there is a NaN. */
static int64_t arg_max(const real *s, int64_t n) {
  int64_t best = 0;
  for (int64_t j = 0; j < n; j++) {
    if (isnan(s[j])) {
      return -1;
    }
    best = s[j] > s[best] ? j : best;
  }
  return best;
}

status ENGINE_NAME(head_eval)(engine *e, const head_eval_args *a) {
  int64_t D = a->D, V = a->V;
  scratch s = scratch_open(e);
  real *logits;
  double *losses;
  int32_t *right;
  TRY(scratch_take(&s, min_i64(a->chunk, a->N) * V, sizeof(real), &logits));
  TRY(scratch_take(&s, a->N, sizeof(double), &losses));
  TRY(scratch_take(&s, a->N, sizeof(int32_t), &right));
  for (int64_t start = 0; start < a->N; start += a->chunk) {
    int64_t rows = min_i64(a->chunk, a->N - start);
    linear_forward(rows, V, D, (const real *)a->x + start * D, a->weight, logits);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
    for (int64_t row = 0; row < rows; row++) {
      int32_t label = a->labels[start + row];
      if (label < 0) {
        continue;
      }
      real *l = logits + row * V;
      right[start + row] = arg_max(l, V) == label;
      double chosen = (double)l[label];
      real most = row_max(l, V);
      double sum = (double)row_exp(l, V, most);
      losses[start + row] = (double)most + log(sum) - chosen;
    }
  }
  double loss = 0, counted = 0, hits = 0;
  for (int64_t row = 0; row < a->N; row++) {
    if (a->labels[row] >= 0) {
      loss += losses[row];
      counted += 1;
      hits += right[row];
    }
  }
  a->sums[0] = loss;
  a->sums[1] = counted;
  a->sums[2] = hits;
  return STATUS_OK;
}

status ENGINE_NAME(head_logits)(engine *e, const head_logits_args *a) {
  (void)e;
  linear_forward(a->N, a->V, a->D, a->x, a->weight, a->logits);
  return STATUS_OK;
}

status ENGINE_NAME(head_forward)(engine *e, const head_forward_args *a) {
  (void)e;
  linear_forward(a->N, a->Vp, a->D, a->x, a->weight, a->logits);
  return STATUS_OK;
}
