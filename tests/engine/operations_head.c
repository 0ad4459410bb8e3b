/* The head: loss with gradients, evaluation, logits. */
#include <math.h>

#include "operation_inputs.h"

static int64_t padded(int64_t V) {
  return (V + 127) / 128 * 128;
}

/* Labels, some of them −1 when `masked`. */
static int32_t *labels_of(trial *t, const op_case *c, bool masked) {
  int64_t N = c->B * c->T;
  bool fresh;
  int32_t *labels = integers(t, "labels", N, &fresh);
  for (int64_t i = 0; i < N && fresh; i++) {
    labels[i] = masked && N > 1 && below(5) == 0 ? -1 : (int32_t)below(c->V);
  }
  return labels;
}

static status run_head_train(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, V = c->V, Vp = padded(V);
  head_train_args a = {.N = N, .D = D, .V = V, .Vp = Vp, .chunk = op_chunk(c), .label_smoothing = c->label_smoothing};
  rounding r = {.stored = 1, .fed = 3, .terms = Vp + D, .product = true};
  a.x = given(t, KIND_C, "x", N * D, 1);
  /* Rows past V hold numbers that must not matter. */
  a.weight = given(t, KIND_C, "lm_head", Vp * D, 1 / sqrt((double)D));
  a.labels = put(t, KIND_I32, labels_of(t, c, false), N);
  a.loss = result(t, KIND_F64, "loss", 1, (rounding){.stored = 1, .terms = D, .product = true});
  a.dx = result(t, KIND_C, "dx", N * D, r);
  a.dweight = result(t, KIND_S, "lm_head's gradient", Vp * D, r);
  TRY(t->e->ops->head_train(t->e, &a));
  /* Rows of labels are the large ones, and few. */
  double row = op_step.loss_scale / (double)N / 2;
  stretch(t, a.dweight, "dweight", 0, V * D, (rounding){.fed = 3, .terms = N + D, .scale = row, .product = true});
  if (Vp > V) {
    stretch(t, a.dweight, "dweight of the padding", V * D, (Vp - V) * D, (rounding){.exact = true});
  }
  return STATUS_OK;
}

static status logits_of(trial *t, const op_case *c, const void *x, const void *weight, void *logits) {
  head_logits_args a = {
      .N = c->B * c->T, .D = c->D, .V = c->V, .Vp = padded(c->V), .x = x, .weight = weight, .logits = logits};
  return t->e->ops->head_logits(t->e, &a);
}

static status run_head_logits(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D;
  void *x = given(t, KIND_C, "x", N * D, 1), *w = given(t, KIND_C, "lm_head", padded(c->V) * D, 1 / sqrt((double)D));
  return logits_of(t, c, x, w,
                   result(t, KIND_S, "logits", N * c->V, (rounding){.stored = 1, .terms = D, .product = true}));
}

/* Rows whose label is so close to the largest other logit that rounding decides which wins. */
static double undecided(const op_case *c, const double *logits, const int32_t *labels, double unit) {
  double rows = 0;
  for (int64_t i = 0; i < c->B * c->T; i++) {
    const double *row = logits + i * c->V;
    double other = -INFINITY, most = 0;
    for (int64_t v = 0; v < c->V; v++) {
      most = fmax(most, fabs(row[v]));
      other = v == labels[i] ? other : fmax(other, row[v]);
    }
    rows += labels[i] >= 0 && fabs(row[labels[i]] - other) < 32 * unit * most;
  }
  return rows;
}

/* Every second label is the row's largest logit. */
static status run_head_eval(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, V = c->V;
  const precision_spec *p = trial_precision(t);
  bool fresh;
  head_eval_args a = {.N = N, .D = D, .V = V, .Vp = padded(V), .chunk = op_chunk(c)};
  a.x = given(t, KIND_C, "x", N * D, 1);
  a.weight = given(t, KIND_C, "lm_head", a.Vp * D, 1 / sqrt((double)D));
  int32_t *labels = labels_of(t, c, true);
  void *room = scratch(t, KIND_S, N * V);
  TRY(logits_of(t, c, a.x, a.weight, room));
  double *logits = shared(t, KIND_F64, "logits", room, N * V), *slack = numbers(t, "undecided", 1, &fresh);
  if (fresh) {
    for (int64_t i = 0; i < N; i += 2) {
      for (int64_t v = 0; labels[i] >= 0 && v < V; v++) {
        labels[i] = logits[i * V + v] > logits[i * V + labels[i]] ? (int32_t)v : labels[i];
      }
    }
    *slack = undecided(c, logits, labels, fmax(fmax(p->storage, p->product), 0x1p-20));
  }
  a.labels = put(t, KIND_I32, labels, N);
  a.sums = result(t, KIND_F64, "sums", 3, (rounding){.product = true});
  TRY(t->e->ops->head_eval(t->e, &a));
  stretch(t, a.sums, "sum of -log p", 0, 1, (rounding){.stored = 1, .terms = D, .scale = (double)N, .product = true});
  stretch(t, a.sums, "rows counted", 1, 1, (rounding){.exact = true});
  stretch(t, a.sums, "rows correct", 2, 1, (rounding){.exact = true, .slack = *slack, .product = true});
  return STATUS_OK;
}

const operation op_head_train = {"head_train", run_head_train}, op_head_eval = {"head_eval", run_head_eval},
                op_head_logits = {"head_logits", run_head_logits};
