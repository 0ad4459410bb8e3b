/* The MLP: first product with the activation, and the backward of the whole. */
#include <math.h>
#include <string.h>

#include "operation_inputs.h"

/* A multiple of 2^-12: sums of a few such numbers are exact in fp32. */
static double on_grid(double x) {
  return rint(x * 0x1p12) * 0x1p-12;
}

static up_forward_args up_of(trial *t, const op_case *c, bool far) {
  int64_t N = c->B * c->T;
  up_forward_args a = {.N = N, .D = c->D, .M = c->M};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.x_amax = op_amax(t, c, "x_amax", "x", N * c->D);
  a.weight = given(t, KIND_C, "w1", c->M * c->D, 1 / sqrt((double)c->D));
  bool fresh;
  double *bias = numbers(t, "b1", c->M, &fresh);
  for (int64_t i = 0; i < c->M && fresh && c->bias; i++) {
    bias[i] = on_grid(bell() / 2);
  }
  a.bias = put(t, KIND_S, bias, c->M);
  a.act = op_act(t, c, c->M, far);
  return a;
}

/* An engine may keep z with or without the bias, so z is compared where the bias is 0. */
static status run_up_forward(trial *t, const op_case *c) {
  int64_t n = c->B * c->T * c->M;
  rounding z = {.stored = 1, .terms = c->D, .product = true};
  up_forward_args a = up_of(t, c, false);
  a.z = !c->keep ? NULL : c->bias ? scratch(t, KIND_C, n) : result(t, KIND_C, "z", n, z);
  rounding r = {.stored = 3, .terms = 9 * c->D, .product = true};
  a.a = result(t, KIND_C, "a", n, r);
  a.a_amax = op_amax_result(t, c, "a_amax", r);
  return t->e->ops->up_forward(t->e, &a);
}

/* Whether an engine's z has the bias in it: z of x = 0 tells. */
static status keeps_bias(engine *e, bool *yes) {
  enum { WIDTH = 8 };
  inputs *in = inputs_new(&precision_fp32);
  trial t = {.e = e, .in = in, .reference = true};
  double zero[WIDTH * WIDTH] = {0}, ones[WIDTH], raw[WIDTH];
  for (int i = 0; i < WIDTH; i++) {
    ones[i] = 1;
  }
  up_forward_args a = {.N = 1, .D = WIDTH, .M = WIDTH, .act = {.kind = ACT_RELU}};
  a.x = put(&t, KIND_C, zero, WIDTH);
  a.weight = put(&t, KIND_C, zero, WIDTH * WIDTH);
  a.bias = put(&t, KIND_S, ones, WIDTH);
  a.z = scratch(&t, KIND_C, WIDTH);
  a.a = scratch(&t, KIND_C, WIDTH);
  status s = e->ops->up_forward(e, &a);
  if (s == STATUS_OK) {
    memcpy(raw, shared(&t, KIND_C, "z", a.z, WIDTH), sizeof raw);
    *yes = raw[0] == 1;
  }
  trial_end(&t);
  return s;
}

/* The z to give to the backward: `z` is without the bias, and on the grid, as the bias is. */
static void *kept_z(trial *t, const op_case *c, const double *z, const double *b1, bool with_bias) {
  int64_t N = c->B * c->T, M = c->M;
  if (!with_bias) {
    double *copy = zeros((size_t)(N * M), sizeof *copy);
    memcpy(copy, z, (size_t)(N * M) * sizeof *copy);
    return put(t, KIND_C, copy, N * M);
  }
  /* As its own type has it: a sum that is not rounded to the type under test (a CPU engine in the place of one of 16
   * bits has fp32). */
  double *sum = zeros((size_t)(N * M), sizeof *sum);
  for (int64_t i = 0; i < N * M; i++) {
    sum[i] = z[i] + b1[i % M];
  }
  const void *own = t->e->compute == DTYPE_F64 ? (const void *)sum : to_floats(sum, N * M);
  void *p = scratch(t, KIND_C, N * M);
  OK(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, p, own, (size_t)(N * M) * dtype_size(t->e->compute)));
  return p;
}

static status run_mlp_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, M = c->M, far = op_act_terms(c, M);
  bool with_bias = false, fresh;
  TRY(keeps_bias(t->e, &with_bias));
  up_forward_args up = up_of(t, c, true);
  up.z = scratch(t, KIND_C, N * M);
  up.a = scratch(t, KIND_C, N * M);
  TRY(t->e->ops->up_forward(t->e, &up));
  double *b1 = numbers(t, "b1", M, &fresh), *z = numbers(t, "z", N * M, &fresh);
  if (fresh) { /* the reference's, whose z has the bias */
    double *whole = shared(t, KIND_F64, "z + b1", up.z, N * M);
    for (int64_t i = 0; i < N * M; i++) {
      z[i] = on_grid(whole[i] - (with_bias ? b1[i % M] : 0));
    }
    put(t, KIND_C, z, N * M); /* rounds it */
  }
  double *a_kept = shared(t, KIND_C, "a", up.a, N * M);
  int masked = c->dropout > 0 ? 1 : 0;
  /* Magnitudes that small shapes may fall short of by chance. */
  double size_z = op_act_size(c, M) * sqrt((double)D / (double)M) / 2, size_column = size_z * sqrt((double)N);
  rounding dx = {.stored = 1, .fed = 2 + masked, .terms = D + M + far, .scale = 0.5, .product = true},
           column = {.stored = 1, .fed = masked, .terms = N + D + far, .scale = size_column, .product = true};
  mlp_backward_args b = {.B = c->B, .T = c->T, .D = D, .M = M, .x = up.x, .w1 = up.weight, .b1 = up.bias};
  b.x_amax = up.x_amax;
  b.a_amax = op_amax(t, c, "a_amax", "a", N * M);
  b.z = kept_z(t, c, z, b1, with_bias);
  b.a = c->keep ? put(t, KIND_C, a_kept, N * M) : NULL;
  b.scratch_a = c->keep ? NULL : result(t, KIND_C, "a again", N * M, (rounding){.stored = 1, .terms = far});
  b.scratch_z = result(t, KIND_C, "dz", N * M,
                       (rounding){.stored = 2, .fed = masked, .terms = D + far, .scale = size_z, .product = true});
  b.w2 = given(t, KIND_C, "w2", D * M, 1 / sqrt((double)M));
  b.b2 = given(t, KIND_S, "b2", D, 0.5);
  b.alpha = op_alpha(t, c);
  b.act = up.act;
  b.dropout = op_dropout(c);
  b.dy = given(t, KIND_C, "dy", N * D, 1);
  b.dy_amax = op_amax(t, c, "dy_amax", "dy", N * D);
  b.dx = result(t, KIND_C, "dx", N * D, dx);
  rounding dw1 = column;
  dw1.fed++;
  b.dw1 = result(t, KIND_S, "dw1", M * D, dw1);
  b.db1 = result(t, KIND_S, "db1", M, column);
  b.dw2 = result(t, KIND_S, "dw2", D * M, (rounding){.fed = 1 + masked, .terms = N + far, .product = true});
  b.db2 = result(t, KIND_S, "db2", D, (rounding){.stored = masked, .terms = N, .product = true});
  rounding total = column; /* a sum of N · D terms, each with a sum of M in it, that cancel: measured by what they would
                              be without */
  total.scale = sqrt((double)(N * D) * (double)M);
  b.dalpha = c->alpha ? result(t, KIND_S, "dalpha", 1, total) : NULL;
  b.dact = op_act_grads(t, c, M, column);
  return t->e->ops->mlp_backward(t->e, &b);
}

const operation op_up_forward = {"up_forward", run_up_forward}, op_mlp_backward = {"mlp_backward", run_mlp_backward};
