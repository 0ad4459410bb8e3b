/* The temporal convolution. */
#include <math.h>

#include "operation_inputs.h"

static status run_conv_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, past = (c->k - 1) * c->dilation;
  conv_forward_args a = {.B = c->B, .T = c->T, .D = c->D, .k = c->k, .dilation = c->dilation, .causal = c->causal};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.weight = given(t, KIND_S, "weight", c->D * c->k, 1 / sqrt((double)c->k));
  a.act = op_act(t, c, c->D, false);
  a.history = c->history && past > 0 ? given(t, KIND_C, "history", c->B * past * c->D, 1) : NULL;
  a.c = c->keep ? result(t, KIND_C, "c", N * c->D, (rounding){.stored = 1, .terms = c->k}) : NULL;
  a.a = result(t, KIND_C, "a", N * c->D, (rounding){.stored = 3, .terms = 9 * c->k});
  return t->e->ops->conv_forward(t->e, &a);
}

/* The backward takes any c. */
static status run_conv_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, far = op_act_terms(c, c->D);
  double size = op_act_size(c, c->D) / 2;
  rounding column = {.stored = 1, .terms = N + far, .scale = size * sqrt((double)N)};
  conv_backward_args a = {.B = c->B, .T = c->T, .D = c->D, .k = c->k, .dilation = c->dilation, .causal = c->causal};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.weight = given(t, KIND_S, "weight", c->D * c->k, 1 / sqrt((double)c->k));
  a.c = given(t, KIND_C, "c", N * c->D, 1);
  a.act = op_act(t, c, c->D, true);
  a.da = given(t, KIND_C, "da", N * c->D, 1);
  a.scratch_c = result(t, KIND_C, "dc", N * c->D, (rounding){.stored = 1, .terms = far, .scale = size});
  a.dx = result(t, KIND_C, "dx", N * c->D, (rounding){.stored = 2, .terms = far, .scale = size});
  a.dweight = result(t, KIND_S, "dweight", c->D * c->k, column);
  a.dact = op_act_grads(t, c, c->D, column);
  return t->e->ops->conv_backward(t->e, &a);
}

const operation op_conv_forward = {"conv_forward", run_conv_forward},
                op_conv_backward = {"conv_backward", run_conv_backward};
