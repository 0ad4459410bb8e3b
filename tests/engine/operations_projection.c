/* The projections into and out of attention and MLP. */
#include <math.h>

#include "operation_inputs.h"

static status run_qkv_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D;
  qkv_forward_args a = {.B = c->B, .T = c->T, .D = D, .H = c->H, .rope = c->rope};
  a.x = given(t, KIND_C, "x", N * D, 1);
  a.x_amax = op_amax(t, c, "x_amax", "x", N * D);
  a.weight = given(t, KIND_C, "weight", 3 * D * D, 1 / sqrt((double)D));
  a.past = c->past ? op_past(t, c, 1234) : NULL;
  a.qkv = result(t, KIND_C, "qkv", N * 3 * D, (rounding){.stored = c->rope ? 2 : 1, .terms = D, .product = true});
  return t->e->ops->qkv_forward(t->e, &a);
}

static status run_qkv_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D;
  bool fresh;
  int fed = c->rope ? 1 : 0;
  qkv_backward_args a = {.B = c->B, .T = c->T, .D = D, .H = c->H, .rope = c->rope};
  a.x = given(t, KIND_C, "x", N * D, 1);
  a.x_amax = op_amax(t, c, "x_amax", "x", N * D);
  a.weight = given(t, KIND_C, "weight", 3 * D * D, 1 / sqrt((double)D));
  double *dqkv = numbers(t, "dqkv", N * 3 * D, &fresh);
  for (int64_t i = 0; i < N * 3 * D && fresh; i++) {
    dqkv[i] = bell();
  }
  a.dqkv = changed(t, KIND_C, "dqkv", dqkv, N * 3 * D, (rounding){.stored = 1, .exact = !c->rope});
  a.dx = result(t, KIND_C, "dx", N * D, (rounding){.stored = 1, .fed = fed, .terms = 3 * D, .product = true});
  a.dweight = result(t, KIND_S, "dweight", 3 * D * D, (rounding){.fed = fed, .terms = N, .product = true});
  return t->e->ops->qkv_backward(t->e, &a);
}

/* For the projections M is the input's width: K of out_forward. */
static status run_out_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, K = c->M;
  bool fresh;
  rounding r = {.stored = 2, .terms = K, .product = true};
  out_forward_args a = {.B = c->B, .T = c->T, .D = D, .K = K, .dropout = op_dropout(c)};
  a.in = given(t, KIND_C, "in", N * K, 1);
  a.in_amax = op_amax(t, c, "in_amax", "in", N * K);
  a.weight = given(t, KIND_C, "weight", D * K, 1 / sqrt((double)K));
  a.bias = c->bias ? given(t, KIND_S, "bias", D, 1) : NULL;
  a.alpha = op_alpha(t, c);
  double *residual = numbers(t, "residual", N * D, &fresh);
  for (int64_t i = 0; i < N * D && fresh; i++) {
    residual[i] = bell();
  }
  if (c->in_place) {
    a.y = changed(t, KIND_C, "y", residual, N * D, r);
    a.residual = a.y;
  } else {
    a.residual = put(t, KIND_C, residual, N * D);
    a.y = result(t, KIND_C, "y", N * D, r);
  }
  a.norm = op_norm(t, c, N, 2);
  return t->e->ops->out_forward(t->e, &a);
}

static status run_out_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, K = c->M;
  int masked = c->dropout > 0 ? 1 : 0;
  out_backward_args a = {.B = c->B, .T = c->T, .D = D, .K = K, .dropout = op_dropout(c)};
  a.in = given(t, KIND_C, "in", N * K, 1);
  a.in_amax = op_amax(t, c, "in_amax", "in", N * K);
  a.weight = given(t, KIND_C, "weight", D * K, 1 / sqrt((double)K));
  a.dy = given(t, KIND_C, "dy", N * D, 1);
  a.dy_amax = op_amax(t, c, "dy_amax", "dy", N * D);
  a.din = result(t, KIND_C, "din", N * K, (rounding){.stored = 1, .fed = masked, .terms = D, .product = true});
  a.dweight = result(t, KIND_S, "dweight", D * K, (rounding){.fed = masked, .terms = N, .product = true});
  a.dbias = c->bias ? result(t, KIND_S, "dbias", D, (rounding){.stored = masked, .terms = N}) : NULL;
  return t->e->ops->out_backward(t->e, &a);
}

const operation op_qkv_forward = {"qkv_forward", run_qkv_forward}, op_qkv_backward = {"qkv_backward", run_qkv_backward},
                op_out_forward = {"out_forward", run_out_forward}, op_out_backward = {"out_backward", run_out_backward};
