#include "operations.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A sequence number beyond 32 bits, and a scale that keeps small gradients in the range of fp16. */
const step_state op_step = {
    .step = 4, .updates = 3, .first_sequence = 5000000001, .lr = 0.01, .loss_scale = 1024, .micro_batches = 3};

static int64_t padded(int64_t V) {
  return (V + 127) / 128 * 128;
}

static int64_t at_least(int64_t n, int64_t least) {
  return n > least ? n : least;
}

static int64_t chunk_of(const op_case *c) {
  return c->chunk > 0 ? c->chunk : c->B * c->T;
}

engine_limits op_limits(const op_case *c) {
  if (c->D == 0) { /* of the update, which needs none */
    return limits_of(1, 1, 8, 8, 8, 1);
  }
  /* Without heads: as many as features, so that no plan is made for an attention that nobody asked for. */
  engine_limits l = limits_of(c->B, c->T, c->D, c->H > 0 ? c->H : c->D, at_least(c->M, c->D), at_least(c->V, 1));
  l.chunk = chunk_of(c);
  return l;
}

void op_describe(const op_case *c, char *text, size_t size) {
  static const char *const norms[] = {"", ", RMSNorm", ", LayerNorm"};
  static const char *const acts[] = {"sine", "GELU", "ReLU"}, *const decays[] = {"abs", "relu", "none"};
  const struct {
    const char *name;
    int64_t value;
  } sizes[] = {{"B", c->B},
               {"T", c->T},
               {"D", c->D},
               {"H", c->H},
               {"M", c->M},
               {"V", c->V},
               {"chunk", c->chunk},
               {"k", c->k},
               {"dilation", c->dilation},
               {"capacity", c->capacity}};
  const struct {
    const char *name;
    bool on;
  } options[] = {{"bounds", c->bounds},   {"rope", c->rope}, {"alibi", c->alibi},       {"sinusoidal", c->sinusoidal},
                 {"past", c->past},       {"bias", c->bias}, {"alpha", c->alpha},       {"causal", c->causal},
                 {"history", c->history}, {"keep", c->keep}, {"in place", c->in_place}, {"frozen", c->frozen}};
  size_t at = 0;
  text[0] = 0;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (sizes[i].value != 0 && at < size) {
      at +=
          (size_t)snprintf(text + at, size - at, "%s%s %lld", at ? ", " : "", sizes[i].name, (long long)sizes[i].value);
    }
  }
  if ((c->M > 0 || c->k > 0) && at < size) {
    at += (size_t)snprintf(text + at, size - at, ", %s %s", acts[c->act], c->act == ACT_SINE ? decays[c->decay] : "");
  }
  if (at < size) {
    at += (size_t)snprintf(text + at, size - at, "%s", norms[c->norm]);
  }
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    if (options[i].on && at < size) {
      at += (size_t)snprintf(text + at, size - at, ", %s", options[i].name);
    }
  }
  if (c->dropout > 0 && at < size) {
    snprintf(text + at, size - at, ", dropout %g", c->dropout);
  }
}

/* Tokens of which half are one token, so that its rows fill several chunks of the embedding's gradient. */
static void *tokens_of(trial *t, const op_case *c, int64_t N, int32_t **host) {
  bool fresh;
  int32_t *tokens = integers(t, "tokens", N, &fresh);
  int32_t often = fresh ? (int32_t)below(c->V) : 0;
  for (int64_t i = 0; i < N && fresh; i++) {
    tokens[i] = below(2) == 0 ? often : (int32_t)below(c->V);
  }
  *host = tokens;
  return put(t, KIND_I32, tokens, N);
}

/* Rows that start at positions up to `most`, one of them there. */
static void *past_of(trial *t, const op_case *c, int64_t most) {
  bool fresh;
  int32_t *past = integers(t, "past", c->B, &fresh);
  for (int64_t b = 0; b < c->B && fresh && c->past; b++) {
    past[b] = (int32_t)(b == 0 ? most : below(most + 1));
  }
  return put(t, KIND_I32, past, c->B);
}

static dropout_spec dropout_of(const op_case *c) {
  return (dropout_spec){.p = c->dropout, .site = 7};
}

/* The norm at the end of an operation, whose input was rounded `stored` times. */
static norm_spec norm_of(trial *t, const op_case *c, int64_t N, int stored) {
  norm_spec n = {.kind = c->norm};
  if (c->norm == NORM_NONE) {
    return n;
  }
  n.scale = given(t, KIND_S, "norm scale", c->D, 1);
  n.bias = c->norm == NORM_LAYER ? given(t, KIND_S, "norm bias", c->D, 1) : NULL;
  n.y = result(t, KIND_C, "norm.y", N * c->D, (rounding){.stored = stored + 1, .terms = c->D, .product = stored > 1});
  n.stats = result(t, KIND_S, "norm.stats", c->norm == NORM_LAYER ? 2 * N : N,
                   (rounding){.stored = stored, .terms = c->D, .product = stored > 1});
  return n;
}

static status run_embed_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T;
  int32_t *tokens;
  embed_forward_args a = {.B = c->B, .T = c->T, .D = c->D, .V = c->V, .sinusoidal = c->sinusoidal};
  a.tokens = tokens_of(t, c, N, &tokens);
  a.weight = given(t, KIND_C, "embedding", c->V * c->D, 1);
  a.past = c->past ? past_of(t, c, 1234) : NULL;
  a.x = result(t, KIND_C, "x", N * c->D, (rounding){.stored = 1});
  a.norm = norm_of(t, c, N, 1);
  return t->e->ops->embed_forward(t->e, &a);
}

static status run_embed_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, n = 0;
  int32_t *tokens;
  bool fresh;
  embed_backward_args a = {.B = c->B, .T = c->T, .D = c->D, .V = c->V};
  a.tokens = tokens_of(t, c, N, &tokens);
  int32_t *order = integers(t, "order", N, &fresh);
  for (int64_t v = 0; v < c->V && fresh; v++) {
    for (int64_t i = 0; i < N; i++) {
      if (tokens[i] == v) {
        order[n++] = (int32_t)i;
      }
    }
  }
  a.order = put(t, KIND_I32, order, N);
  a.dx = given(t, KIND_C, "dx", N * c->D, 1);
  a.dweight = result(t, KIND_S, "dweight", c->V * c->D, (rounding){.terms = N, .scale = sqrt((double)N)});
  return t->e->ops->embed_backward(t->e, &a);
}

static status run_norm_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T;
  norm_forward_args a = {.N = N, .D = c->D};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.norm = norm_of(t, c, N, 0);
  return t->e->ops->norm_forward(t->e, &a);
}

static status run_norm_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, width = c->norm == NORM_LAYER ? 2 * N : N;
  bool fresh;
  norm_forward_args f = {.N = N, .D = c->D};
  f.x = given(t, KIND_C, "x", N * c->D, 1);
  f.norm = norm_of(t, c, N, 0);
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
  a.dscale = result(t, KIND_S, "dscale", c->D, column);
  a.dbias = c->norm == NORM_LAYER ? result(t, KIND_S, "dbias", c->D, column) : NULL;
  return t->e->ops->norm_backward(t->e, &a);
}

static status run_qkv_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D;
  qkv_forward_args a = {.B = c->B, .T = c->T, .D = D, .H = c->H, .rope = c->rope};
  a.x = given(t, KIND_C, "x", N * D, 1);
  a.weight = given(t, KIND_C, "weight", 3 * D * D, 1 / sqrt((double)D));
  a.past = c->past ? past_of(t, c, 1234) : NULL;
  a.qkv = result(t, KIND_C, "qkv", N * 3 * D, (rounding){.stored = c->rope ? 2 : 1, .terms = D, .product = true});
  return t->e->ops->qkv_forward(t->e, &a);
}

static status run_qkv_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D;
  bool fresh;
  int fed = c->rope ? 1 : 0;
  qkv_backward_args a = {.B = c->B, .T = c->T, .D = D, .H = c->H, .rope = c->rope};
  a.x = given(t, KIND_C, "x", N * D, 1);
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

/* For attention D is H · h. */
static attention_forward_args attention_of(trial *t, const op_case *c, bool compared) {
  int64_t N = c->B * c->T;
  attention_forward_args a = {
      .B = c->B, .T = c->T, .H = c->H, .h = c->D / c->H, .alibi = c->alibi, .dropout = dropout_of(c)};
  a.qkv = given(t, KIND_C, "qkv", N * 3 * c->D, 1);
  if (compared) {
    a.out = result(t, KIND_C, "out", N * c->D, (rounding){.stored = 1, .fed = 1, .terms = 16 * c->T});
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
  a.past = past_of(t, c, c->capacity - c->T);
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

/* The residual's factor, not near 0. */
static void *alpha_of(trial *t, const op_case *c) {
  bool fresh;
  double *alpha = numbers(t, "alpha", 1, &fresh);
  if (fresh) {
    *alpha = 1 + bell() / 4;
  }
  return c->alpha ? put(t, KIND_S, alpha, 1) : NULL;
}

/* For the projections M is the input's width: K of out_forward. */
static status run_out_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, K = c->M;
  bool fresh;
  rounding r = {.stored = 2, .terms = K, .product = true};
  out_forward_args a = {.B = c->B, .T = c->T, .D = D, .K = K, .dropout = dropout_of(c)};
  a.in = given(t, KIND_C, "in", N * K, 1);
  a.weight = given(t, KIND_C, "weight", D * K, 1 / sqrt((double)K));
  a.bias = c->bias ? given(t, KIND_S, "bias", D, 1) : NULL;
  a.alpha = alpha_of(t, c);
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
  a.norm = norm_of(t, c, N, 2);
  return t->e->ops->out_forward(t->e, &a);
}

static status run_out_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, K = c->M;
  int masked = c->dropout > 0 ? 1 : 0;
  out_backward_args a = {.B = c->B, .T = c->T, .D = D, .K = K, .dropout = dropout_of(c)};
  a.in = given(t, KIND_C, "in", N * K, 1);
  a.weight = given(t, KIND_C, "weight", D * K, 1 / sqrt((double)K));
  a.dy = given(t, KIND_C, "dy", N * D, 1);
  a.din = result(t, KIND_C, "din", N * K, (rounding){.stored = 1, .fed = masked, .terms = D, .product = true});
  a.dweight = result(t, KIND_S, "dweight", D * K, (rounding){.fed = masked, .terms = N, .product = true});
  a.dbias = c->bias ? result(t, KIND_S, "dbias", D, (rounding){.stored = masked, .terms = N}) : NULL;
  return t->e->ops->out_backward(t->e, &a);
}

/* Far features: there are some in a few narrow shapes. */
static bool has_far(const op_case *c, int64_t F) {
  return c->act == ACT_SINE && F > 3 && F <= 32;
}

/* What a backward through the activation adds to `terms`: a far feature's frequency, 25, is itself rounded to fp32, and
 * its derivative multiplies the angle's error by 25 again. */
static int64_t act_terms(const op_case *c, int64_t F) {
  return has_far(c, F) ? 160000 : 64;
}

/* `far`: with features beyond softplus's threshold, which turn 20 times faster and are for inputs that are not rounded
 * on the way. */
static act_spec act_of(trial *t, const op_case *c, int64_t F, bool far) {
  static const char *const names[] = {"amplitude", "frequency", "damping"};
  act_spec act = {.kind = c->act, .decay = c->decay};
  void *raw[3] = {NULL, NULL, NULL};
  for (int i = 0; i < 3 && c->act == ACT_SINE; i++) {
    bool fresh;
    double *x = numbers(t, names[i], F, &fresh);
    for (int64_t j = 0; j < F && fresh; j++) {
      x[j] = far && has_far(c, F) && j == i ? 25 : bell() / 2;
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

/* Gradients of the activation's parameters. */
static act_grads act_grads_of(trial *t, const op_case *c, int64_t F, rounding r) {
  if (c->act != ACT_SINE) {
    return (act_grads){0};
  }
  return (act_grads){.amplitude = result(t, KIND_S, "damplitude", F, r),
                     .frequency = c->frozen ? NULL : result(t, KIND_S, "dfrequency", F, r),
                     .damping = c->frozen ? NULL : result(t, KIND_S, "ddamping", F, r)};
}

/* A multiple of 2^-12: sums of a few such numbers are exact in fp32. */
static double on_grid(double x) {
  return rint(x * 0x1p12) * 0x1p-12;
}

static up_forward_args up_of(trial *t, const op_case *c, bool far) {
  int64_t N = c->B * c->T;
  up_forward_args a = {.N = N, .D = c->D, .M = c->M};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.weight = given(t, KIND_C, "w1", c->M * c->D, 1 / sqrt((double)c->D));
  bool fresh;
  double *bias = numbers(t, "b1", c->M, &fresh);
  for (int64_t i = 0; i < c->M && fresh && c->bias; i++) {
    bias[i] = on_grid(bell() / 2);
  }
  a.bias = put(t, KIND_S, bias, c->M);
  a.act = act_of(t, c, c->M, far);
  return a;
}

/* An engine may keep z with or without the bias, so z is compared where the bias is 0. */
static status run_up_forward(trial *t, const op_case *c) {
  int64_t n = c->B * c->T * c->M;
  rounding z = {.stored = 1, .terms = c->D, .product = true};
  up_forward_args a = up_of(t, c, false);
  a.z = !c->keep ? NULL : c->bias ? scratch(t, KIND_C, n) : result(t, KIND_C, "z", n, z);
  a.a = result(t, KIND_C, "a", n, (rounding){.stored = 3, .terms = 9 * c->D, .product = true});
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
  /* As its own type has it: a sum that is not rounded to the type under test. */
  double *sum = zeros((size_t)(N * M), sizeof *sum);
  for (int64_t i = 0; i < N * M; i++) {
    sum[i] = z[i] + b1[i % M];
  }
  if (t->e->compute == DTYPE_F64) {
    void *p = scratch(t, KIND_C, N * M);
    OK(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, p, sum, (size_t)(N * M) * sizeof *sum));
    return p;
  }
  return put(t, KIND_C, sum, N * M);
}

static status run_mlp_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, D = c->D, M = c->M, far = act_terms(c, M);
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
  double size_z = sqrt((double)D / (double)M) / 2, size_column = size_z * sqrt((double)N);
  rounding dx = {.stored = 1, .fed = 2 + masked, .terms = D + M + far, .scale = 0.5, .product = true},
           column = {.stored = 1, .fed = masked, .terms = N + D + far, .scale = size_column, .product = true};
  mlp_backward_args b = {.B = c->B, .T = c->T, .D = D, .M = M, .x = up.x, .w1 = up.weight, .b1 = up.bias};
  b.z = kept_z(t, c, z, b1, with_bias);
  b.a = c->keep ? put(t, KIND_C, a_kept, N * M) : NULL;
  b.scratch_a = c->keep ? NULL : result(t, KIND_C, "a again", N * M, (rounding){.stored = 1, .terms = far});
  b.scratch_z = result(t, KIND_C, "dz", N * M,
                       (rounding){.stored = 2, .fed = masked, .terms = D + far, .scale = size_z, .product = true});
  b.w2 = given(t, KIND_C, "w2", D * M, 1 / sqrt((double)M));
  b.b2 = given(t, KIND_S, "b2", D, 0.5);
  b.alpha = alpha_of(t, c);
  b.act = up.act;
  b.dropout = dropout_of(c);
  b.dy = given(t, KIND_C, "dy", N * D, 1);
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
  b.dact = act_grads_of(t, c, M, column);
  return t->e->ops->mlp_backward(t->e, &b);
}

static status run_conv_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, past = (c->k - 1) * c->dilation;
  conv_forward_args a = {.B = c->B, .T = c->T, .D = c->D, .k = c->k, .dilation = c->dilation, .causal = c->causal};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.weight = given(t, KIND_S, "weight", c->D * c->k, 1 / sqrt((double)c->k));
  a.act = act_of(t, c, c->D, false);
  a.history = c->history && past > 0 ? given(t, KIND_C, "history", c->B * past * c->D, 1) : NULL;
  a.c = c->keep ? result(t, KIND_C, "c", N * c->D, (rounding){.stored = 1, .terms = c->k}) : NULL;
  a.a = result(t, KIND_C, "a", N * c->D, (rounding){.stored = 3, .terms = 9 * c->k});
  return t->e->ops->conv_forward(t->e, &a);
}

/* The backward takes any c. */
static status run_conv_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, far = act_terms(c, c->D);
  rounding column = {.stored = 1, .terms = N + far, .scale = sqrt((double)N) / 2};
  conv_backward_args a = {.B = c->B, .T = c->T, .D = c->D, .k = c->k, .dilation = c->dilation, .causal = c->causal};
  a.x = given(t, KIND_C, "x", N * c->D, 1);
  a.weight = given(t, KIND_S, "weight", c->D * c->k, 1 / sqrt((double)c->k));
  a.c = given(t, KIND_C, "c", N * c->D, 1);
  a.act = act_of(t, c, c->D, true);
  a.da = given(t, KIND_C, "da", N * c->D, 1);
  a.scratch_c = result(t, KIND_C, "dc", N * c->D, (rounding){.stored = 1, .terms = far, .scale = 0.5});
  a.dx = result(t, KIND_C, "dx", N * c->D, (rounding){.stored = 2, .terms = far, .scale = 0.5});
  a.dweight = result(t, KIND_S, "dweight", c->D * c->k, column);
  a.dact = act_grads_of(t, c, c->D, column);
  return t->e->ops->conv_backward(t->e, &a);
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
  head_train_args a = {.N = N, .D = D, .V = V, .Vp = Vp, .chunk = chunk_of(c), .label_smoothing = c->label_smoothing};
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
  head_eval_args a = {.N = N, .D = D, .V = V, .Vp = padded(V), .chunk = chunk_of(c)};
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
  a.sums = result(t, KIND_F64, "sums", 3, (rounding){0});
  TRY(t->e->ops->head_eval(t->e, &a));
  stretch(t, a.sums, "sum of -log p", 0, 1, (rounding){.stored = 1, .terms = D, .scale = (double)N, .product = true});
  stretch(t, a.sums, "rows counted", 1, 1, (rounding){.exact = true});
  stretch(t, a.sums, "rows correct", 2, 1, (rounding){.exact = true, .slack = *slack, .product = true});
  return STATUS_OK;
}

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
  return t->e->ops->leaf_squares(t->e, grad, c->T, c->B, squares, stride);
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

const operation op_embed_forward = {"embed_forward", run_embed_forward},
                op_embed_backward = {"embed_backward", run_embed_backward},
                op_norm_forward = {"norm_forward", run_norm_forward},
                op_norm_backward = {"norm_backward", run_norm_backward},
                op_qkv_forward = {"qkv_forward", run_qkv_forward}, op_qkv_backward = {"qkv_backward", run_qkv_backward},
                op_attention_forward = {"attention_forward", run_attention_forward},
                op_attention_backward = {"attention_backward", run_attention_backward},
                op_attention_cached = {"attention_cached", run_attention_cached},
                op_out_forward = {"out_forward", run_out_forward}, op_out_backward = {"out_backward", run_out_backward},
                op_up_forward = {"up_forward", run_up_forward}, op_mlp_backward = {"mlp_backward", run_mlp_backward},
                op_conv_forward = {"conv_forward", run_conv_forward},
                op_conv_backward = {"conv_backward", run_conv_backward}, op_head_train = {"head_train", run_head_train},
                op_head_eval = {"head_eval", run_head_eval}, op_head_logits = {"head_logits", run_head_logits},
                op_add = {"add", run_add}, op_leaf_squares = {"leaf_squares", run_leaf_squares},
                op_finish_norm = {"finish_norm", run_finish_norm}, op_adamw = {"adamw", run_adamw};
