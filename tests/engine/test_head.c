/* Head, cross entropy and embedding. */
#include <math.h>
#include <string.h>

#include "support.h"

typedef struct {
  engine *e;
  int64_t N, D, V, Vp, chunk;
  double smoothing;
  double *x, *weight, *dx, *dweight, loss;
  int32_t *labels;
} head_case;

static double run_train(void *context) {
  head_case *c = context;
  head_train_args a = {.N = c->N,
                       .D = c->D,
                       .V = c->V,
                       .Vp = c->Vp,
                       .chunk = c->chunk,
                       .x = c->x,
                       .weight = c->weight,
                       .labels = c->labels,
                       .label_smoothing = c->smoothing,
                       .loss = &c->loss,
                       .dx = c->dx,
                       .dweight = c->dweight};
  OK(c->e->ops->head_train(c->e, &a));
  return c->loss;
}

static head_case new_case(int64_t N, int64_t D, int64_t V, int64_t chunk, double smoothing, double loss_scale) {
  engine_limits limits = limits_of(1, N, D, 1, 4, V);
  limits.chunk = chunk;
  head_case c = {.e = open_engine(DTYPE_F64, 1, &limits),
                 .N = N,
                 .D = D,
                 .V = V,
                 .Vp = limits.Vp,
                 .chunk = chunk,
                 .smoothing = smoothing};
  step_state step = {.step = 1, .loss_scale = loss_scale, .micro_batches = 1};
  OK(c.e->ops->set_step(c.e, &step));
  c.x = random_doubles(N * D, 1);
  c.weight = random_doubles(c.Vp * D, 1); /* rows past V hold numbers that must not matter */
  c.dx = zeros((size_t)(N * D), 8);
  c.dweight = random_doubles(c.Vp * D, 1);
  c.labels = zeros((size_t)N, sizeof(int32_t));
  for (int64_t i = 0; i < N; i++) {
    c.labels[i] = (int32_t)below(V);
  }
  return c;
}

static double plain_loss(const head_case *c) {
  double total = 0;
  for (int64_t row = 0; row < c->N; row++) {
    double sum = 0, mean = 0;
    for (int64_t v = 0; v < c->V; v++) {
      double s = dot(c->x + row * c->D, c->weight + v * c->D, c->D);
      sum += exp(s);
      mean += s / (double)c->V;
    }
    double nll = log(sum) - dot(c->x + row * c->D, c->weight + c->labels[row] * c->D, c->D);
    total += (1 - c->smoothing) * nll + c->smoothing * (log(sum) - mean);
  }
  return total / (double)c->N;
}

static void check_train(int64_t N, int64_t D, int64_t V, int64_t chunk, double smoothing, double loss_scale) {
  head_case c = new_case(N, D, V, chunk, smoothing, loss_scale);
  run_train(&c);
  assert_true(fabs(c.loss - plain_loss(&c)) < 1e-12);
  double *dx = zeros((size_t)(N * D), 8), *dw = zeros((size_t)(c.Vp * D), 8);
  for (int64_t i = 0; i < N * D; i++) {
    dx[i] = c.dx[i] / loss_scale;
  }
  for (int64_t i = 0; i < c.Vp * D; i++) {
    dw[i] = c.dweight[i] / loss_scale;
  }
  check_gradient("x", run_train, &c, c.x, dx, N * D);
  check_gradient("lm_head", run_train, &c, c.weight, dw, V * D);
  for (int64_t i = V * D; i < c.Vp * D; i++) {
    assert_true(c.dweight[i] == 0);
  }
  close_engine(c.e);
  free_all();
}

static void test_train(void **state) {
  (void)state;
  check_train(1, 5, 3, 1, 0, 1);
  check_train(13, 9, 131, 4, 0, 1);
  check_train(65, 7, 33, 65, 0.1, 1);
  check_train(130, 6, 257, 37, 0.3, 1024);
  check_train(7, 4, 128, 100, 0, 8);
}

static void test_eval(void **state) {
  (void)state;
  head_case c = new_case(67, 5, 41, 10, 0, 1);
  double nll = 0, counted = 0, hits = 0;
  /* Row 3: all logits equal; the lowest index wins. */
  memset(c.x + 3 * 5, 0, 5 * sizeof(double));
  c.labels[3] = 0;
  c.labels[4] = c.labels[66] = -1;
  for (int64_t row = 0; row < 67; row++) {
    if (c.labels[row] < 0) {
      continue;
    }
    double sum = 0, best = -INFINITY;
    int64_t arg = -1;
    for (int64_t v = 0; v < 41; v++) {
      double s = dot(c.x + row * 5, c.weight + v * 5, 5);
      sum += exp(s);
      if (s > best) {
        best = s;
        arg = v;
      }
    }
    nll += log(sum) - dot(c.x + row * 5, c.weight + c.labels[row] * 5, 5);
    counted++;
    hits += arg == c.labels[row];
  }
  double sums[3];
  head_eval_args a = {
      .N = 67, .D = 5, .V = 41, .Vp = 128, .chunk = 10, .x = c.x, .weight = c.weight, .labels = c.labels, .sums = sums};
  OK(c.e->ops->head_eval(c.e, &a));
  assert_true(fabs(sums[0] - nll) < 1e-10 && sums[1] == counted && sums[2] == hits && counted == 65);
  double *logits = zeros(67 * 41, 8);
  head_logits_args l = {.N = 67, .D = 5, .V = 41, .Vp = 128, .x = c.x, .weight = c.weight, .logits = logits};
  OK(c.e->ops->head_logits(c.e, &l));
  for (int64_t i = 0; i < 67 * 41; i++) {
    assert_true(fabs(logits[i] - dot(c.x + i / 41 * 5, c.weight + i % 41 * 5, 5)) < 1e-12);
  }
  /* A NaN reaches the loss and is nobody's arg max. */
  c.x[0] = NAN;
  c.labels[0] = 0;
  OK(c.e->ops->head_eval(c.e, &a));
  assert_true(isnan(sums[0]));
  run_train(&c);
  assert_true(isnan(c.loss));
  close_engine(c.e);
  free_all();
}

/* The padding's columns are written too; all others are what head_logits gives. */
static void check_forward(dtype type, int64_t N, int64_t D, int64_t V) {
  engine_limits limits = limits_of(1, N, D, 1, 4, V);
  engine *e = open_engine(type, 1, &limits);
  int64_t Vp = limits.Vp;
  double *x = random_doubles(N * D, 1), *weight = random_doubles(Vp * D, 1);
  size_t size = dtype_size(type);
  void *logits = zeros((size_t)(N * V), size), *padded = zeros((size_t)(N * Vp), size);
  const void *xs = type == DTYPE_F64 ? (void *)x : to_floats(x, N * D);
  const void *weights = type == DTYPE_F64 ? (void *)weight : to_floats(weight, Vp * D);
  head_logits_args l = {.N = N, .D = D, .V = V, .Vp = Vp, .x = xs, .weight = weights, .logits = logits};
  head_forward_args f = {.N = N, .D = D, .Vp = Vp, .x = xs, .weight = weights, .logits = padded};
  OK(e->ops->head_logits(e, &l));
  OK(e->ops->head_forward(e, &f));
  double tolerance = type == DTYPE_F64 ? 1e-12 : 1e-4;
  for (int64_t row = 0; row < N; row++) {
    for (int64_t v = 0; v < Vp; v++) {
      double wanted = dot(x + row * D, weight + v * D, D);
      int64_t at = row * Vp + v, narrow = row * V + v;
      double got = type == DTYPE_F64 ? ((double *)padded)[at] : (double)((float *)padded)[at];
      assert_true(fabs(got - wanted) < tolerance);
      if (v < V) {
        double other = type == DTYPE_F64 ? ((double *)logits)[narrow] : (double)((float *)logits)[narrow];
        assert_true(fabs(got - other) < tolerance);
      }
    }
  }
  close_engine(e);
  free_all();
}

static void test_forward(void **state) {
  (void)state;
  check_forward(DTYPE_F64, 1, 1, 1);
  check_forward(DTYPE_F64, 67, 5, 41);
  check_forward(DTYPE_F32, 13, 9, 131);
  check_forward(DTYPE_F32, 3, 33, 257);
}

typedef struct {
  engine *e;
  int64_t B, T, D, V;
  int32_t *tokens, *past;
  double *weight, *x, *w;
  bool sinusoidal;
} embed_case;

static double run_embed(void *context) {
  embed_case *c = context;
  embed_forward_args a = {.B = c->B,
                          .T = c->T,
                          .D = c->D,
                          .V = c->V,
                          .tokens = c->tokens,
                          .weight = c->weight,
                          .sinusoidal = c->sinusoidal,
                          .past = c->past,
                          .x = c->x};
  OK(c->e->ops->embed_forward(c->e, &a));
  return dot(c->w, c->x, c->B * c->T * c->D);
}

static void check_embed(int64_t B, int64_t T, int64_t D, int64_t V, bool sinusoidal) {
  engine_limits limits = limits_of(B, T, D, 1, 4, V);
  embed_case c = {.e = open_engine(DTYPE_F64, 1, &limits), .B = B, .T = T, .D = D, .V = V, .sinusoidal = sinusoidal};
  int64_t N = B * T;
  c.tokens = zeros((size_t)N, sizeof(int32_t));
  int32_t *order = zeros((size_t)N, sizeof(int32_t));
  for (int64_t i = 0; i < N; i++) {
    c.tokens[i] = (int32_t)(below(3) ? below(V) : V - 1); /* one token much more often than the others */
  }
  int64_t n = 0;
  for (int32_t v = 0; v < V; v++) {
    for (int32_t i = 0; i < N; i++) {
      if (c.tokens[i] == v) {
        order[n++] = i;
      }
    }
  }
  c.weight = random_doubles(V * D, 1);
  c.x = zeros((size_t)(N * D), 8);
  c.w = random_doubles(N * D, 1);
  double *dweight = random_doubles(V * D, 1);
  run_embed(&c);
  embed_backward_args b = {
      .B = B, .T = T, .D = D, .V = V, .tokens = c.tokens, .order = order, .dx = c.w, .dweight = dweight};
  OK(c.e->ops->embed_backward(c.e, &b));
  check_gradient("embedding", run_embed, &c, c.weight, dweight, V * D);
  int32_t past[8] = {4, 0, 9, 200};
  c.past = past;
  run_embed(&c);
  for (int64_t row = 0; row < N; row++) {
    for (int64_t j = 0; j < D; j++) {
      double angle = (double)(row % T + past[row / T]) * pow(10000, -(double)(j / 2 * 2) / (double)D);
      double encoding = !sinusoidal ? 0 : j % 2 ? cos(angle) : sin(angle);
      assert_true(fabs(c.x[row * D + j] - c.weight[c.tokens[row] * D + j] - encoding) < 1e-4);
    }
  }
  close_engine(c.e);
  free_all();
}

static void test_embed(void **state) {
  (void)state;
  check_embed(1, 1, 6, 3, true);
  check_embed(2, 130, 10, 67, true);
  check_embed(4, 65, 261, 130, false);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_train), cmocka_unit_test(test_eval),
                                     cmocka_unit_test(test_forward), cmocka_unit_test(test_embed)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
