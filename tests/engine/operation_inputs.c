#include "operation_inputs.h"

#include <math.h>

int64_t op_chunk(const op_case *c) {
  return c->chunk > 0 ? c->chunk : c->B * c->T;
}

void *op_past(trial *t, const op_case *c, int64_t most) {
  bool fresh;
  int32_t *past = integers(t, "past", c->B, &fresh);
  for (int64_t b = 0; b < c->B && fresh && c->past; b++) {
    past[b] = (int32_t)(b == 0 ? most : below(most + 1));
  }
  return put(t, KIND_I32, past, c->B);
}

dropout_spec op_dropout(const op_case *c) {
  return (dropout_spec){.p = c->dropout, .site = 7};
}

void *op_amax(trial *t, const op_case *c, const char *name, const char *of, int64_t n) {
  bool fresh;
  if (!c->fp8) {
    return NULL;
  }
  const double *x = numbers(t, of, n, &fresh);
  double *amax = numbers(t, name, 1, &fresh);
  for (int64_t i = 0; i < n && fresh; i++) {
    *amax = fmax(*amax, fabs(x[i]));
  }
  return put(t, KIND_S, amax, 1);
}

void *op_amax_result(trial *t, const op_case *c, const char *name, rounding r) {
  return c->fp8 ? result(t, KIND_S, name, 1, r) : NULL;
}

norm_spec op_norm(trial *t, const op_case *c, int64_t N, int stored) {
  norm_spec n = {.kind = c->norm};
  if (c->norm == NORM_NONE) {
    return n;
  }
  n.scale = given(t, KIND_S, "norm scale", c->D, 1);
  n.bias = c->norm == NORM_LAYER ? given(t, KIND_S, "norm bias", c->D, 1) : NULL;
  rounding y = {.stored = stored + 1, .terms = c->D, .product = stored > 1};
  n.y = result(t, KIND_C, "norm.y", N * c->D, y);
  n.y_amax = op_amax_result(t, c, "norm.y_amax", y);
  n.stats = result(t, KIND_S, "norm.stats", c->norm == NORM_LAYER ? 2 * N : N,
                   (rounding){.stored = stored, .terms = c->D, .product = stored > 1});
  return n;
}

void *op_alpha(trial *t, const op_case *c) {
  bool fresh;
  double *alpha = numbers(t, "alpha", 1, &fresh);
  if (fresh) {
    *alpha = 1 + bell() / 4;
  }
  return c->alpha ? put(t, KIND_S, alpha, 1) : NULL;
}

/* Far features: there are some in a few narrow shapes. FAR is their raw parameter, and nearly what softplus makes of
 * it. */
static const double FAR = 25;
static bool has_far(const op_case *c, int64_t F) {
  return c->act == ACT_SINE && F > 3 && F <= 32;
}

int64_t op_act_terms(const op_case *c, int64_t F) {
  return has_far(c, F) ? 160000 : 64;
}

double op_act_size(const op_case *c, int64_t F) {
  return has_far(c, F) ? FAR / sqrt((double)F) : 1;
}

act_spec op_act(trial *t, const op_case *c, int64_t F, bool far) {
  static const char *const names[] = {"amplitude", "frequency", "damping"};
  act_spec act = {.kind = c->act, .decay = c->decay};
  void *raw[3] = {NULL, NULL, NULL};
  for (int i = 0; i < 3 && c->act == ACT_SINE; i++) {
    bool fresh;
    double *x = numbers(t, names[i], F, &fresh);
    for (int64_t j = 0; j < F && fresh; j++) {
      x[j] = far && has_far(c, F) && j == i ? FAR : bell() / 2;
    }
    raw[i] = put(t, KIND_S, x, F);
  }
  act.amplitude = raw[0], act.frequency = raw[1], act.damping = raw[2];
  double none = INFINITY;
  act.amplitude_lo = c->bounds ? 0.5 : -none, act.amplitude_hi = c->bounds ? 1.125 : none;
  act.frequency_lo = c->bounds ? 0.625 : -none, act.frequency_hi = none;
  act.damping_lo = -none, act.damping_hi = c->bounds ? 0.875 : none;
  return act;
}

act_grads op_act_grads(trial *t, const op_case *c, int64_t F, rounding r) {
  if (c->act != ACT_SINE) {
    return (act_grads){0};
  }
  return (act_grads){.amplitude = result(t, KIND_S, "damplitude", F, r),
                     .frequency = c->frozen ? NULL : result(t, KIND_S, "dfrequency", F, r),
                     .damping = c->frozen ? NULL : result(t, KIND_S, "ddamping", F, r)};
}
