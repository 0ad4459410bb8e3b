/* Sums of gradients, their norm, and AdamW. */
#include <math.h>

#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/vecmath.h"

enum { UPDATE_BLOCK = 16384 }; /* elements that one thread takes at once */

status ENGINE_NAME(update_add)(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t n) {
  (void)s;
  real *to = sum;
  const real *x = a, *y = b;
  int64_t blocks = blocks_of(n, UPDATE_BLOCK);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(n, (block + 1) * UPDATE_BLOCK);
#pragma omp simd
    for (int64_t i = block * UPDATE_BLOCK; i < end; i++) {
      to[i] = x[i] + y[i];
    }
  }
  return STATUS_OK;
}

status ENGINE_NAME(leaf_squares)(engine *e, stream_id s, const void *grad, int64_t leaf, int64_t n_leaves,
                                 double *squares, int64_t stride) {
  (void)s;
  const real *g = grad;
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t i = 0; i < n_leaves; i++) {
    const real *x = g + i * leaf;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < leaf; j++) {
      sum += (double)x[j] * (double)x[j];
    }
    squares[i * stride] = sum;
  }
  return STATUS_OK;
}

status ENGINE_NAME(add_leaf_squares)(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t leaf,
                                     int64_t n_leaves, double *squares, int64_t stride, bool beside) {
  (void)beside;
  TRY(ENGINE_NAME(update_add)(e, s, sum, a, b, leaf * n_leaves));
  return ENGINE_NAME(leaf_squares)(e, s, sum, leaf, n_leaves, squares, stride);
}

status ENGINE_NAME(finish_norm)(engine *e, const double *squares, int64_t n_squares, const double *losses,
                                int64_t n_losses, double grad_clip) {
  cpu_engine *cpu = cpu_of(e);
  double total = 0, loss = 0;
  for (int64_t i = 0; i < n_squares; i++) {
    total += squares[i];
  }
  for (int64_t i = 0; i < n_losses; i++) {
    loss += losses[i];
  }
  double scale = 1.0 / (cpu->step.micro_batches * cpu->step.loss_scale);
  double norm = sqrt(total) * scale;
  double clip = grad_clip > 0 ? fmin(1.0, grad_clip / (norm + 1e-6)) : 1.0;
  loss /= (double)n_losses;
  bool finite = isfinite(norm) && isfinite(loss);
  loss_scaling_after(&cpu->scaling, finite);
  double loss_zscore = 0, norm_zscore = 0;
  bool spike = finite && spike_watch_after(&cpu->spikes, loss, norm, &loss_zscore, &norm_zscore);
  cpu->result = (step_result){
      .grad_norm = norm,
      .grad_scale = clip * scale,
      .loss = loss,
      .skip = !finite || (spike && cpu->spikes.skip),
      .loss_scale = cpu->step.loss_scale,
      .next = cpu->scaling,
      .spike = spike,
      .loss_zscore = loss_zscore,
      .norm_zscore = norm_zscore,
      .spikes = cpu->spikes,
  };
  return STATUS_OK;
}

/* The step's constants, rounded once. */
typedef struct {
  real grad_scale, keep, beta1, rest1, beta2, rest2, root_correction, eps, rate;
} adamw_constants;

static void adamw_elements(const adamw_constants *c, int64_t n, const real *grad, real *master, real *m, real *v,
                           real *weights) {
  const adamw_constants k = *c;
#pragma omp simd
  for (int64_t i = 0; i < n; i++) {
    real g = k.grad_scale * grad[i];
    real mi = k.beta1 * m[i] + k.rest1 * g;
    real vi = k.beta2 * v[i] + k.rest2 * g * g;
    real p = master[i] * k.keep - k.rate * (mi / (real_sqrt(vi) / k.root_correction + k.eps));
    m[i] = mi;
    v[i] = vi;
    master[i] = p;
    weights[i] = p;
  }
}

/* The part of a run that lies in [first, first + count). */
static void adamw_run(const cpu_engine *cpu, const adamw_args *a, const adamw_constants *c, const optim_run *run) {
  int64_t lo = max_i64(a->first, run->first), hi = min_i64(a->first + a->count, run->first + run->count);
  int64_t blocks = hi > lo ? blocks_of(hi - lo, UPDATE_BLOCK) : 0;
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t at = lo - a->first + block * UPDATE_BLOCK;
    int64_t n = min_i64(UPDATE_BLOCK, hi - a->first - at);
    adamw_elements(c, n, (const real *)a->grad + at, (real *)a->master + at, (real *)a->m + at, (real *)a->v + at,
                   (real *)a->weights + at);
  }
}

status ENGINE_NAME(adamw)(engine *e, const adamw_args *a) {
  const cpu_engine *cpu = cpu_of(e);
  if (cpu->result.skip) {
    return STATUS_OK;
  }
  double t = (double)(cpu->step.updates + 1);
  adamw_constants c = {
      .grad_scale = (real)cpu->result.grad_scale,
      .beta1 = (real)a->beta1,
      .rest1 = (real)(1.0 - a->beta1),
      .beta2 = (real)a->beta2,
      .rest2 = (real)(1.0 - a->beta2),
      .root_correction = (real)sqrt(1.0 - pow(a->beta2, t)),
      .eps = (real)a->eps,
      .rate = (real)(cpu->step.lr / (1.0 - pow(a->beta1, t))),
  };
  for (int64_t i = 0; i < a->n_runs; i++) {
    if (a->runs[i].trainable) {
      c.keep = (real)(a->runs[i].decay ? 1.0 - cpu->step.lr * a->weight_decay : 1.0);
      adamw_run(cpu, a, &c, &a->runs[i]);
    }
  }
  return STATUS_OK;
}
