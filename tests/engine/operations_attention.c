/* Attention, over a sequence and over a cache. */
#include "operation_inputs.h"

/* For attention D is H · h. */
static attention_forward_args attention_of(trial *t, const op_case *c, bool compared) {
  int64_t N = c->B * c->T;
  attention_forward_args a = {
      .B = c->B, .T = c->T, .H = c->H, .h = c->D / c->H, .alibi = c->alibi, .dropout = op_dropout(c)};
  a.qkv = given(t, KIND_C, "qkv", N * 3 * c->D, 1);
  if (compared) {
    rounding r = {.stored = 1, .fed = 1, .terms = 16 * c->T};
    a.out = result(t, KIND_C, "out", N * c->D, r);
    a.out_amax = op_amax_result(t, c, "out_amax", r);
    a.lse = result(t, KIND_S, "lse", N * c->H, (rounding){.terms = 16 * (a.h + c->T), .scale = 1});
  } else {
    a.out = scratch(t, KIND_C, N * c->D);
    a.lse = scratch(t, KIND_S, N * c->H);
  }
  return a;
}

static status run_attention_forward(trial *t, const op_case *c) {
  attention_forward_args a = attention_of(t, c, true);
  return t->e->ops->attention_forward(t->e, &a);
}

/* From the out and lse of the reference. */
static status run_attention_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T;
  attention_forward_args f = attention_of(t, c, false);
  TRY(t->e->ops->attention_forward(t->e, &f));
  attention_backward_args a = {
      .B = f.B, .T = f.T, .H = f.H, .h = f.h, .alibi = f.alibi, .dropout = f.dropout, .qkv = f.qkv};
  a.out = put(t, KIND_C, shared(t, KIND_C, "out", f.out, N * c->D), N * c->D);
  a.lse = put(t, KIND_S, shared(t, KIND_S, "lse", f.lse, N * c->H), N * c->H);
  a.dout = given(t, KIND_C, "dout", N * c->D, 1);
  a.dqkv = result(t, KIND_C, "dqkv", N * 3 * c->D, (rounding){.stored = 2, .fed = 2, .terms = 64 * (c->T + f.h)});
  return t->e->ops->attention_backward(t->e, &a);
}

static status run_attention_cached(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, cache = c->B * c->capacity * c->D;
  bool fresh;
  attention_cached_args a = {
      .B = c->B, .T = c->T, .H = c->H, .h = c->D / c->H, .capacity = c->capacity, .alibi = c->alibi};
  a.qkv = given(t, KIND_C, "qkv", N * 3 * c->D, 1);
  a.past = op_past(t, c, c->capacity - c->T);
  double *keys = numbers(t, "keys", cache, &fresh), *values = numbers(t, "values", cache, &fresh);
  for (int64_t i = 0; i < cache && fresh; i++) {
    keys[i] = bell();
    values[i] = bell();
  }
  a.keys = changed(t, KIND_C, "keys", keys, cache, (rounding){.exact = true});
  a.values = changed(t, KIND_C, "values", values, cache, (rounding){.exact = true});
  a.out = result(t, KIND_C, "out", N * c->D, (rounding){.stored = 1, .fed = 1, .terms = c->capacity});
  return t->e->ops->attention_cached(t->e, &a);
}

const operation op_attention_forward = {"attention_forward", run_attention_forward},
                op_attention_backward = {"attention_backward", run_attention_backward},
                op_attention_cached = {"attention_cached", run_attention_cached};
