/* The norms. */
#include "operation_inputs.h"

static status run_norm_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T;
  norm_forward_args a = {.N = N, .D = c->D};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.norm = op_norm(t, c, N, 0);
  return t->e->ops->norm_forward(t->e, &a);
}

static status run_norm_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, width = c->norm == NORM_LAYER ? 2 * N : N;
  bool fresh;
  norm_forward_args f = {.N = N, .D = c->D};
  f.x = given(t, KIND_C, "x", N * c->D, 1);
  f.norm = op_norm(t, c, N, 0);
  TRY(t->e->ops->norm_forward(t->e, &f));
  norm_backward_args a = {.N = N, .D = c->D, .x = f.x, .norm = f.norm};
  a.norm.y = NULL;
  a.norm.stats = put(t, KIND_S, shared(t, KIND_S, "stats", f.norm.stats, width), width);
  a.dy = given(t, KIND_C, "dy", N * c->D, 1);
  rounding r = {.stored = 1, .terms = c->D}, column = {.terms = N};
  if (c->in_place) {
    double *before = numbers(t, "dresidual", N * c->D, &fresh);
    for (int64_t i = 0; i < N * c->D && fresh; i++) {
      before[i] = bell();
    }
    a.dx = changed(t, KIND_C, "dx", before, N * c->D, r);
    a.dresidual = a.dx;
  } else {
    a.dx = result(t, KIND_C, "dx", N * c->D, r);
    a.dresidual = c->keep ? given(t, KIND_C, "dresidual", N * c->D, 1) : NULL;
  }
  a.dx_amax = op_amax_result(t, c, "dx_amax", r);
  a.dscale = result(t, KIND_S, "dscale", c->D, column);
  a.dbias = c->norm == NORM_LAYER ? result(t, KIND_S, "dbias", c->D, column) : NULL;
  return t->e->ops->norm_backward(t->e, &a);
}

const operation op_norm_forward = {"norm_forward", run_norm_forward},
                op_norm_backward = {"norm_backward", run_norm_backward};
