/* The end of a step: sums, squared norms, spikes, AdamW. */
#include <math.h>

#include "operations.h"

/* For the update M elements. */
static status run_add(trial *t, const op_case *c) {
  bool fresh;
  double *sum = numbers(t, "sum", c->M, &fresh);
  for (int64_t i = 0; i < c->M && fresh; i++) {
    sum[i] = bell();
  }
  void *to = changed(t, KIND_S, "sum", sum, c->M, (rounding){.terms = 1});
  return t->e->ops->add(t->e, STREAM_MAIN, to, to, given(t, KIND_S, "term", c->M, 1), c->M);
}

/* B leaves of T elements; every M-th square is written. */
static status run_leaf_squares(trial *t, const op_case *c) {
  void *grad = given(t, KIND_S, "grad", c->B * c->T, 1);
  int64_t stride = c->M > 0 ? c->M : 1;
  double before[4096] = {0};
  assert_true(c->B * stride <= 4096);
  double *squares = changed(t, KIND_F64, "squares", before, c->B * stride, (rounding){.wide = true});
  return t->e->ops->leaf_squares(t->e, STREAM_MAIN, grad, c->T, c->B, squares, stride);
}

/* Bits of the squares, which lie in `squares`, against those that leaf_squares makes of the sum. */
static status same_as_apart(trial *t, const op_case *c, const void *sum, const double *squares, int64_t stride) {
  int64_t n = c->B * stride;
  size_t bytes = (size_t)n * sizeof(double);
  double before[4096] = {0}, *together = zeros((size_t)n, sizeof(double)), *apart = zeros((size_t)n, sizeof(double));
  double *again = changed(t, KIND_F64, "squares of the sum", before, n, (rounding){.terms = 1});
  TRY(t->e->ops->leaf_squares(t->e, STREAM_MAIN, sum, c->T, c->B, again, stride));
  TRY(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_HOST, together, squares, bytes));
  TRY(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_HOST, apart, again, bytes));
  TRY(t->e->ops->synchronize(t->e));
  assert_memory_equal(together, apart, bytes);
  return STATUS_OK;
}

/* The sum of B leaves of T elements in a place of its own, or in that of its first or second term. */
static status add_squared(trial *t, const op_case *c, int place) {
  static const char *const terms[] = {"term", "other term"};
  int64_t n = c->B * c->T, stride = c->M > 0 ? c->M : 1;
  double before[4096] = {0};
  assert_true(c->B * stride <= 4096);
  void *ab[2], *sum = NULL;
  for (int i = 0; i < 2; i++) {
    bool fresh;
    double *x = numbers(t, terms[i], n, &fresh);
    for (int64_t k = 0; k < n && fresh; k++) {
      x[k] = bell();
    }
    ab[i] = place == i ? changed(t, KIND_S, "sum", x, n, (rounding){.terms = 1}) : put(t, KIND_S, x, n);
    sum = place == i ? ab[i] : sum;
  }
  sum = sum != NULL ? sum : result(t, KIND_S, "sum", n, (rounding){.terms = 1});
  double *squares = changed(t, KIND_F64, "squares", before, c->B * stride, (rounding){.terms = 1});
  TRY(t->e->ops->add_leaf_squares(t->e, STREAM_MAIN, sum, ab[0], ab[1], c->T, c->B, squares, stride, c->beside));
  return same_as_apart(t, c, sum, squares, stride);
}

/* B leaves of T elements; every M-th square is written. */
static status run_add_leaf_squares(trial *t, const op_case *c) {
  if (!c->in_place) {
    return add_squared(t, c, 2);
  }
  TRY(add_squared(t, c, 0));
  return add_squared(t, c, 1);
}

/* B squares and T losses. */
static status finish(trial *t, const op_case *c, step_result *r) {
  bool fresh;
  double *squares = numbers(t, "squares", c->B, &fresh), *losses = numbers(t, "losses", c->T, &fresh);
  for (int64_t i = 0; i < c->B && fresh; i++) {
    squares[i] = uniform(0, 1e6);
  }
  for (int64_t i = 0; i < c->T && fresh; i++) {
    losses[i] = uniform(0, 10);
  }
  if (c->infinite) {
    squares[c->B / 2] = INFINITY;
  }
  const void *s = put(t, KIND_F64, squares, c->B), *l = put(t, KIND_F64, losses, c->T);
  TRY(t->e->ops->finish_norm(t->e, s, c->B, l, c->T, c->grad_clip));
  return t->e->ops->get_result(t->e, r);
}

/* The same numbers again, a unit above the level of the loss and at that of the norm. */
static status run_spike(trial *t, const op_case *c, const step_result *plain) {
  spike_watch w = {.loss = {.level = plain->loss - 1, .variance = 0.01},
                   .norm = {.level = plain->grad_norm, .variance = 0.01},
                   .count = 8,
                   .window = 8,
                   .zscore = 6,
                   .skip = 1};
  step_result r;
  TRY(t->e->ops->set_spike_watch(t->e, &w));
  TRY(finish(t, c, &r));
  const double decided[] = {(double)r.spike, (double)r.skip, (double)r.spikes.count};
  noted(t, "spike", decided, 3, (rounding){.exact = true});
  if (!c->infinite) {
    const double memory[] = {r.loss_zscore, r.spikes.loss.mean, r.spikes.loss.variance, r.spikes.norm.variance};
    noted(t, "spike's memory", memory, 4, (rounding){.wide = true});
  }
  return t->e->ops->set_spike_watch(t->e, &(spike_watch){.window = 0});
}

static status run_finish_norm(trial *t, const op_case *c) {
  step_result r;
  TRY(finish(t, c, &r));
  double skip = (double)r.skip;
  noted(t, "loss", &r.loss, 1, (rounding){.wide = true});
  noted(t, "skip", &skip, 1, (rounding){.exact = true});
  if (!c->infinite) {
    noted(t, "grad_norm", &r.grad_norm, 1, (rounding){.wide = true});
    noted(t, "grad_scale", &r.grad_scale, 1, (rounding){.wide = true});
  }
  return run_spike(t, c, &r);
}

/* Four runs with padding between and behind them; M elements of the unit from `first` on. */
static status run_adamw(trial *t, const op_case *c) {
  static optim_run runs[4];
  int64_t n = c->M, first = (int64_t)c->first, part = n / 4;
  bool fresh;
  for (int i = 0; i < 4; i++) {
    runs[i] = (optim_run){first + i * part + (i == 0 ? -first / 2 : 3), part - 9 + (i == 0 ? first / 2 : 0), i != 2,
                          i % 2 == 0};
  }
  double *master = numbers(t, "master", n, &fresh), *m = numbers(t, "m", n, &fresh), *v = numbers(t, "v", n, &fresh);
  double *weights = numbers(t, "weights", n, &fresh);
  for (int64_t i = 0; i < n && fresh; i++) {
    master[i] = bell();
    m[i] = bell() / 8;
    v[i] = uniform(0.001, 0.02);
    weights[i] = master[i];
  }
  step_result r;
  TRY(finish(t, c, &r));
  rounding few = {.terms = 16};
  adamw_args a = {.first = first,
                  .count = n,
                  .runs = runs,
                  .n_runs = 4,
                  .beta1 = 0.9,
                  .beta2 = 0.95,
                  .eps = 1e-8,
                  .weight_decay = 0.1};
  a.grad = given(t, KIND_S, "grad", n, 1000);
  a.master = changed(t, KIND_S, "master", master, n, few);
  a.m = changed(t, KIND_S, "m", m, n, few);
  a.v = changed(t, KIND_S, "v", v, n, few);
  bool alone = c->in_place && trial_precision(t)->storage_type == DTYPE_F32;
  a.weights = alone ? a.master : changed(t, KIND_C, "weights", weights, n, (rounding){0});
  TRY(t->e->ops->adamw(t->e, &a));
  for (int i = 0; i < 4 && !alone; i++) { /* what does not learn may be written or left */
    int64_t from = i == 0 ? 0 : runs[i].first - first, to = runs[i].first + runs[i].count - first;
    if (runs[i].trainable) {
      stretch(t, a.weights, "weights of a run", from, to - from, (rounding){.stored = 1, .terms = 16});
    }
  }
  return STATUS_OK;
}

const operation op_add = {"add", run_add}, op_leaf_squares = {"leaf_squares", run_leaf_squares},
                op_add_leaf_squares = {"add_leaf_squares", run_add_leaf_squares},
                op_finish_norm = {"finish_norm", run_finish_norm}, op_adamw = {"adamw", run_adamw};
