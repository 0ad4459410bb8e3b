/* The engine's variants against each other: fp32 against fp64, instruction sets and numbers of threads against each
 * other, on one small model's worth of operations. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/cpu/variants.h"
#include "support.h"

enum {
  B = 3,
  T = 67,
  N = B * T,
  H = 3,
  HEAD = 24,
  D = H * HEAD,
  M = 53,
  V = 131,
  VP = 256,
  K = 3,
  DILATION = 2,
  MOST = 64
};

/* Inputs, the same for all engines. */
typedef struct {
  double *embedding, *x, *dx, *wqkv, *wo, *w1, *b1, *w2, *b2, *alpha, *scale, *bias, *A, *f, *d, *taps, *head, *qkv;
  int32_t tokens[N], order[N], labels[N];
} inputs;

typedef struct {
  const char *name;
  double *values;
  int64_t n;
  bool own; /* no product of OpenBLAS on several threads went into it */
} result;

typedef struct {
  engine *e;
  result list[MOST];
  int n;
} run;

static inputs new_inputs(void) {
  inputs in = {
      .embedding = random_doubles(V * D, 1),
      .x = random_doubles(N * D, 1),
      .dx = random_doubles(N * D, 1),
      .wqkv = random_doubles(3 * D * D, 0.3),
      .wo = random_doubles(D * D, 0.3),
      .w1 = random_doubles(M * D, 0.3),
      .b1 = random_doubles(M, 0.3),
      .w2 = random_doubles(D * M, 0.2),
      .b2 = random_doubles(D, 0.3),
      .alpha = random_doubles(1, 1),
      .scale = random_doubles(D, 1),
      .bias = random_doubles(D, 1),
      .A = random_doubles(M, 1),
      .f = random_doubles(M, 1),
      .d = random_doubles(M, 1),
      .taps = random_doubles(D * K, 1),
      .head = random_doubles(VP * D, 0.3),
      .qkv = random_doubles(N * 3 * D, 1),
  };
  int n = 0;
  for (int i = 0; i < N; i++) {
    in.tokens[i] = (int32_t)below(V);
    in.labels[i] = (int32_t)below(V);
  }
  for (int32_t v = 0; v < V; v++) {
    for (int32_t i = 0; i < N; i++) {
      if (in.tokens[i] == v) {
        in.order[n++] = i;
      }
    }
  }
  return in;
}

static void *given(const run *r, const double *x, int64_t n) {
  if (r->e->compute == DTYPE_F32) {
    return to_floats(x, n);
  }
  return memcpy(zeros((size_t)n, sizeof(double)), x, (size_t)n * sizeof(double));
}

/* Room for n numbers that will be compared. */
static void *wanted(run *r, const char *name, int64_t n, bool own) {
  assert_true(r->n < MOST);
  void *p = zeros((size_t)n, dtype_size(r->e->compute));
  r->list[r->n++] = (result){name, p, n, own};
  return p;
}

static void finish(run *r) {
  for (int i = 0; i < r->n && r->e->compute == DTYPE_F32; i++) {
    r->list[i].values = to_doubles((const float *)r->list[i].values, r->list[i].n);
  }
}

static act_spec act_of(const run *r, const inputs *in, act_kind kind, int64_t F) {
  return (act_spec){.kind = kind,
                    .decay = ACT_DECAY_ABS,
                    .amplitude = given(r, in->A, F),
                    .frequency = given(r, in->f, F),
                    .damping = given(r, in->d, F),
                    .amplitude_lo = 0.1,
                    .amplitude_hi = INFINITY,
                    .frequency_lo = -INFINITY,
                    .frequency_hi = 1.5,
                    .damping_lo = -INFINITY,
                    .damping_hi = INFINITY};
}

static void run_ends(run *r, const inputs *in) {
  const engine_ops *ops = r->e->ops;
  norm_spec norm = {NORM_RMS, given(r, in->scale, D), NULL, wanted(r, "embed norm", N * D, true),
                    wanted(r, "embed stats", N, true)};
  embed_forward_args ef = {.B = B,
                           .T = T,
                           .D = D,
                           .V = V,
                           .tokens = in->tokens,
                           .weight = given(r, in->embedding, V * D),
                           .sinusoidal = true,
                           .x = wanted(r, "embed", N * D, true),
                           .norm = norm};
  OK(ops->embed_forward(r->e, &ef));
  embed_backward_args eb = {.B = B,
                            .T = T,
                            .D = D,
                            .V = V,
                            .tokens = in->tokens,
                            .order = in->order,
                            .dx = given(r, in->dx, N * D),
                            .dweight = wanted(r, "embed dweight", V * D, true)};
  OK(ops->embed_backward(r->e, &eb));
  head_train_args h = {.N = N,
                       .D = D,
                       .V = V,
                       .Vp = VP,
                       .chunk = 50,
                       .x = given(r, in->x, N * D),
                       .weight = given(r, in->head, VP * D),
                       .labels = in->labels,
                       .label_smoothing = 0.1,
                       .loss = zeros(1, 8),
                       .dx = wanted(r, "head dx", N * D, false),
                       .dweight = wanted(r, "head dweight", VP * D, false)};
  OK(ops->head_train(r->e, &h));
  double sums[3];
  head_eval_args he = {
      .N = N, .D = D, .V = V, .Vp = VP, .chunk = 50, .x = h.x, .weight = h.weight, .labels = in->labels, .sums = sums};
  OK(ops->head_eval(r->e, &he));
  head_logits_args hl = {
      .N = N, .D = D, .V = V, .Vp = VP, .x = h.x, .weight = h.weight, .logits = wanted(r, "logits", N * V, false)};
  OK(ops->head_logits(r->e, &hl));
}

static void run_attention(run *r, const inputs *in, bool alibi, double p) {
  const engine_ops *ops = r->e->ops;
  void *lse = wanted(r, "lse", B * H * T, true);
  attention_forward_args f = {.B = B,
                              .T = T,
                              .H = H,
                              .h = HEAD,
                              .alibi = alibi,
                              .dropout = {p, 3},
                              .qkv = given(r, in->qkv, N * 3 * D),
                              .out = wanted(r, "attention", N * D, true),
                              .lse = lse};
  OK(ops->attention_forward(r->e, &f));
  attention_backward_args b = {.B = B,
                               .T = T,
                               .H = H,
                               .h = HEAD,
                               .alibi = alibi,
                               .dropout = {p, 3},
                               .qkv = f.qkv,
                               .out = f.out,
                               .lse = lse,
                               .dout = given(r, in->dx, N * D),
                               .dqkv = wanted(r, "attention backward", N * 3 * D, true)};
  OK(ops->attention_backward(r->e, &b));
  int32_t past[B] = {0};
  attention_cached_args c = {.B = B,
                             .T = T,
                             .H = H,
                             .h = HEAD,
                             .capacity = T,
                             .alibi = alibi,
                             .qkv = f.qkv,
                             .past = past,
                             .keys = given(r, in->qkv, N * D),
                             .values = given(r, in->qkv, N * D),
                             .out = wanted(r, "cached", N * D, true)};
  OK(ops->attention_cached(r->e, &c));
}

static void run_qkv(run *r, const inputs *in) {
  const engine_ops *ops = r->e->ops;
  qkv_forward_args f = {.B = B,
                        .T = T,
                        .D = D,
                        .H = H,
                        .x = given(r, in->x, N * D),
                        .weight = given(r, in->wqkv, 3 * D * D),
                        .rope = true,
                        .qkv = wanted(r, "qkv", N * 3 * D, false)};
  OK(ops->qkv_forward(r->e, &f));
  qkv_backward_args b = {.B = B,
                         .T = T,
                         .D = D,
                         .H = H,
                         .x = f.x,
                         .weight = f.weight,
                         .rope = true,
                         .dqkv = given(r, in->qkv, N * 3 * D),
                         .dx = wanted(r, "qkv dx", N * D, false),
                         .dweight = wanted(r, "qkv dweight", 3 * D * D, false)};
  OK(ops->qkv_backward(r->e, &b));
}

static void run_mlp(run *r, const inputs *in, act_kind kind, double p) {
  const engine_ops *ops = r->e->ops;
  act_spec act = act_of(r, in, kind, M);
  up_forward_args u = {.N = N,
                       .D = D,
                       .M = M,
                       .x = given(r, in->x, N * D),
                       .weight = given(r, in->w1, M * D),
                       .bias = given(r, in->b1, M),
                       .act = act,
                       .z = wanted(r, "z", N * M, false),
                       .a = wanted(r, "a", N * M, false)};
  OK(ops->up_forward(r->e, &u));
  norm_spec norm = {NORM_LAYER, given(r, in->scale, D), given(r, in->bias, D), wanted(r, "out norm", N * D, false),
                    wanted(r, "out stats", 2 * N, false)};
  out_forward_args o = {.B = B,
                        .T = T,
                        .D = D,
                        .K = M,
                        .in = u.a,
                        .weight = given(r, in->w2, D * M),
                        .bias = given(r, in->b2, D),
                        .alpha = given(r, in->alpha, 1),
                        .dropout = {p, 2},
                        .residual = u.x,
                        .y = wanted(r, "out", N * D, false),
                        .norm = norm};
  OK(ops->out_forward(r->e, &o));
  mlp_backward_args b = {.B = B,
                         .T = T,
                         .D = D,
                         .M = M,
                         .x = u.x,
                         .z = u.z,
                         .scratch_a = wanted(r, "a again", N * M, false),
                         .scratch_z = wanted(r, "dz", N * M, false),
                         .w1 = u.weight,
                         .w2 = o.weight,
                         .b2 = o.bias,
                         .alpha = o.alpha,
                         .act = act,
                         .dropout = {p, 2},
                         .dy = given(r, in->dx, N * D),
                         .dx = wanted(r, "mlp dx", N * D, false),
                         .dw1 = wanted(r, "dw1", M * D, false),
                         .db1 = wanted(r, "db1", M, false),
                         .dw2 = wanted(r, "dw2", M * D, false),
                         .db2 = wanted(r, "db2", D, false),
                         .dalpha = wanted(r, "dalpha", 1, false)};
  if (kind == ACT_SINE) {
    b.dact = (act_grads){wanted(r, "dA", M, false), wanted(r, "df", M, false), wanted(r, "dd", M, false)};
  }
  OK(ops->mlp_backward(r->e, &b));
  out_backward_args ob = {.B = B,
                          .T = T,
                          .D = D,
                          .K = M,
                          .in = u.a,
                          .weight = o.weight,
                          .dropout = {p, 2},
                          .dy = b.dy,
                          .din = wanted(r, "out din", N * M, false),
                          .dweight = wanted(r, "out dweight", D * M, false),
                          .dbias = wanted(r, "out dbias", D, true)};
  OK(ops->out_backward(r->e, &ob));
}

static void run_norm_and_conv(run *r, const inputs *in, norm_kind kind) {
  const engine_ops *ops = r->e->ops;
  norm_spec norm = {kind, given(r, in->scale, D), given(r, in->bias, D), wanted(r, "norm", N * D, true),
                    wanted(r, "norm stats", 2 * N, true)};
  norm_forward_args nf = {.N = N, .D = D, .x = given(r, in->x, N * D), .norm = norm};
  OK(ops->norm_forward(r->e, &nf));
  norm_backward_args nb = {.N = N,
                           .D = D,
                           .x = nf.x,
                           .norm = norm,
                           .dy = given(r, in->dx, N * D),
                           .dresidual = nf.x,
                           .dx = wanted(r, "norm dx", N * D, true),
                           .dscale = wanted(r, "norm dscale", D, true),
                           .dbias = kind == NORM_LAYER ? wanted(r, "norm dbias", D, true) : NULL};
  OK(ops->norm_backward(r->e, &nb));
  act_spec act = act_of(r, in, kind == NORM_RMS ? ACT_SINE : ACT_GELU, D);
  conv_forward_args f = {.B = B,
                         .T = T,
                         .D = D,
                         .k = K,
                         .dilation = DILATION,
                         .causal = true,
                         .x = norm.y,
                         .weight = given(r, in->taps, D * K),
                         .act = act,
                         .c = wanted(r, "conv", N * D, true),
                         .a = wanted(r, "conv a", N * D, true)};
  OK(ops->conv_forward(r->e, &f));
  conv_backward_args b = {.B = B,
                          .T = T,
                          .D = D,
                          .k = K,
                          .dilation = DILATION,
                          .causal = true,
                          .x = f.x,
                          .weight = f.weight,
                          .c = f.c,
                          .act = act,
                          .da = nb.dy,
                          .scratch_c = wanted(r, "dc", N * D, true),
                          .dx = wanted(r, "conv dx", N * D, true),
                          .dweight = wanted(r, "taps", D * K, true),
                          .dact = {wanted(r, "conv dA", D, true), wanted(r, "conv df", D, true), NULL}};
  OK(ops->conv_backward(r->e, &b));
}

static void run_all(run *r, const inputs *in, int part) {
  engine_limits limits = limits_of(B, T, D, H, M, V);
  limits.chunk = 50;
  OK(r->e->ops->prepare(r->e, &limits));
  if (part == 0) {
    run_ends(r, in);
    run_qkv(r, in);
    run_attention(r, in, false, 0);
    run_attention(r, in, true, 0.2);
  } else if (part == 1) {
    run_mlp(r, in, ACT_SINE, 0);
    run_mlp(r, in, ACT_GELU, 0.3);
    run_mlp(r, in, ACT_RELU, 0);
  } else {
    run_norm_and_conv(r, in, NORM_RMS);
    run_norm_and_conv(r, in, NORM_LAYER);
  }
  finish(r);
}

enum { PARTS = 3 };

static void compare(const run *a, const run *b, double tolerance) {
  assert_int_equal(a->n, b->n);
  for (int i = 0; i < a->n; i++) {
    const result *x = &a->list[i], *y = &b->list[i];
    if (x->n == 1) { /* a sum of N · D terms that cancel: measured by what they would be without */
      assert_true(fabs(x->values[0] - y->values[0]) < 10 * tolerance * sqrt(N * D));
    } else {
      assert_close(x->name, x->values, y->values, x->n, tolerance);
    }
  }
}

static void test_types_and_instruction_sets(void **state) {
  (void)state;
  int n;
  const engine_variant *variants = engine_cpu_variants(&n);
  for (int part = 0; part < PARTS; part++) {
    inputs in = new_inputs();
    run exact = {0};
    OK(engine_cpu_create(DTYPE_F64, 1, 99, &exact.e));
    run_all(&exact, &in, part);
    for (int i = 0; i < n; i++) {
      if (variants[i].compute != DTYPE_F32 || !variants[i].runs_here()) {
        continue;
      }
      run single = {0};
      OK(engine_cpu_create_variant(&variants[i], 1, 99, &single.e));
      run_all(&single, &in, part);
      compare(&single, &exact, 3e-6);
      close_engine(single.e);
    }
    close_engine(exact.e);
    free_all();
  }
}

static void test_threads(void **state) {
  (void)state;
  for (int part = 0; part < PARTS; part++) {
    inputs in = new_inputs();
    run one = {0}, again = {0}, two = {0};
    OK(engine_cpu_create(DTYPE_F32, 1, 99, &one.e));
    run_all(&one, &in, part);
    run_all((again.e = one.e, &again), &in, part);
    OK(engine_cpu_create(DTYPE_F32, 2, 99, &two.e));
    run_all(&two, &in, part);
    for (int i = 0; i < one.n; i++) {
      size_t bytes = (size_t)one.list[i].n * sizeof(double);
      if (memcmp(one.list[i].values, again.list[i].values, bytes) != 0) {
        fail_msg("%s: the same inputs gave other bits", one.list[i].name);
      }
      if (one.list[i].own && memcmp(one.list[i].values, two.list[i].values, bytes) != 0) {
        fail_msg("%s: two threads gave other bits than one", one.list[i].name);
      }
    }
    compare(&two, &one, 1e-6);
    close_engine(one.e);
    close_engine(two.e);
    free_all();
  }
}

/* Angles beyond the vector sine's range take the exact path and stay bounded. */
static void test_far_angles(void **state) {
  (void)state;
  enum { FAR_N = 2, FAR_M = 70 };
  engine_limits limits = limits_of(1, FAR_N, 1, 1, FAR_M, 4);
  engine *e = open_engine(DTYPE_F32, 1, &limits);
  float x[FAR_N] = {3e8f, 1}, *w = zeros(FAR_M, 4), *zero = zeros(FAR_M, 4), *raw = zeros(FAR_M, 4),
        *z = zeros(FAR_N * FAR_M, 4);
  float *a = zeros(FAR_N * FAR_M, 4);
  for (int j = 0; j < FAR_M; j++) {
    w[j] = (float)uniform(0.5, 2);
  }
  act_spec act = {.kind = ACT_SINE,
                  .decay = ACT_DECAY_NONE,
                  .amplitude = raw,
                  .frequency = raw,
                  .damping = raw,
                  .amplitude_lo = -INFINITY,
                  .amplitude_hi = INFINITY,
                  .frequency_lo = -INFINITY,
                  .frequency_hi = INFINITY,
                  .damping_lo = -INFINITY,
                  .damping_hi = INFINITY};
  up_forward_args u = {.N = FAR_N, .D = 1, .M = FAR_M, .x = x, .weight = w, .bias = zero, .act = act, .z = z, .a = a};
  OK(e->ops->up_forward(e, &u));
  for (int i = 0; i < FAR_N * FAR_M; i++) {
    double f = (double)(float)(log(2) + 1e-6);
    assert_true(fabs((double)a[i] - log(2) * sin(f * (double)z[i])) < 2e-7);
  }
  close_engine(e);
  free_all();
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_types_and_instruction_sets), cmocka_unit_test(test_threads),
                                     cmocka_unit_test(test_far_angles)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
