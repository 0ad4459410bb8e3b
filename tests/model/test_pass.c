/* Whole models: gradients against finite differences, causality, recomputation, evaluation, memory. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

#define SMALL "d_model=12 n_heads=2 n_layers=2 vocab_size=23 "

static model *create(const char *keys, const char *more) {
  char all[1024];
  snprintf(all, sizeof(all), SMALL "%s %s", keys, more);
  config_model c = make_config(all);
  model *m;
  GOOD(model_create(&c, NULL, &m));
  return m;
}

static void set_step(engine *e) {
  step_state s = {.step = 1, .updates = 0, .first_sequence = 5, .lr = 1e-3, .loss_scale = 1, .micro_batches = 1};
  GOOD(e->ops->set_step(e, &s));
}

static double train_loss(model_run *r, test_source *s, test_batch *b, double *loss) {
  double value;
  GOOD(model_train(r, &s->source, &b->batch, loss));
  GOOD(s->e->ops->copy(s->e, STREAM_MAIN, COPY_TO_HOST, &value, loss, sizeof(double)));
  GOOD(s->e->ops->synchronize(s->e));
  return value;
}

/* ---- gradients ---- */

static double slope(model_run *r, test_source *s, test_batch *b, double *loss, int unit_index, int64_t element) {
  const double step = 2e-6;
  double *value = &s->values[unit_index][element], kept = *value;
  *value = kept + step;
  double more = train_loss(r, s, b, loss);
  *value = kept - step;
  double less = train_loss(r, s, b, loss);
  *value = kept;
  return (more - less) / (2 * step);
}

static void check_gradients(const model *m, const char *name, config_recompute recompute) {
  engine *e;
  GOOD(engine_cpu_create(DTYPE_F64, 1, test_seed(), &e));
  run_spec spec = {.B = 3, .T = 7, .recompute = recompute, .label_smoothing = 0.1, .training = true};
  model_run *r;
  GOOD(model_run_create(m, e, &spec, &r));
  set_step(e);
  test_source *s = test_source_create(m, e, test_seed());
  test_batch *b = test_batch_create(e, spec.B, spec.T, m->config.vocab_size);
  double *loss = engine_new(e, sizeof(double));
  for (int u = 0; u < m->n_units; u++) {
    test_source_reset(s); /* what the finite differences left */
    train_loss(r, s, b, loss);
    test_source_check_released(s);
    assert_int_equal(s->finished[u], 1);
    double *grads = test_malloc((size_t)m->units[u].count * sizeof(double));
    engine_read(e, s->grads[u], grads, m->units[u].count);
    for (int i = 0; i < m->units[u].n_tensors; i++) {
      const tensor *t = &m->units[u].tensors[i];
      for (int trial = 0; trial < 4; trial++) {
        int64_t element = t->offset + random_below(t->count);
        double wanted = t->trainable ? slope(r, s, b, loss, u, element) : 0;
        if (!(fabs(grads[element] - wanted) <= 1e-8 + 1e-5 * fabs(wanted))) {
          fail_msg("%s: gradient of %s[%lld] is %.10g, finite differences give %.10g", name, t->name,
                   (long long)(element - t->offset), grads[element], wanted);
        }
      }
    }
    int64_t end = 0; /* padding keeps the zeros that the source put there */
    for (int i = 0; i <= m->units[u].n_tensors; i++) {
      const tensor *t = i < m->units[u].n_tensors ? &m->units[u].tensors[i] : NULL;
      for (int64_t j = end; j < (t != NULL ? t->offset : m->units[u].count); j++) {
        assert_true(grads[j] == 0);
      }
      end = t != NULL ? t->offset + t->count : 0;
    }
    test_free(grads);
  }
  e->ops->free(e, loss);
  test_batch_free(b);
  test_source_free(s);
  model_run_free(r);
  e->ops->destroy(e);
}

static void test_gradients(void **unused) {
  const char *dropout[] = {"", "dropout=0.2 wave_dropout=0.3"};
  for (int i = 0; i < n_model_variants; i++) {
    for (int d = 0; d < 2; d++) {
      model *m = create(model_variants[i].keys, dropout[d]);
      check_gradients(m, model_variants[i].name, (config_recompute)((i + d) % 3));
      model_free(m);
    }
  }
}

/* ---- largest magnitudes ---- */

/* The CPU engine with a look at every largest magnitude that an operation is given: it must be that of the array beside
 * it, now, whatever the buffers went through since it was found. */
static struct {
  const engine_ops *ops;
  int looked;
} real;

static void look(const char *what, const void *amax, const void *x, int64_t n) {
  if (amax == NULL) {
    return;
  }
  double most = 0;
  for (int64_t i = 0; i < n; i++) {
    most = fmax(most, fabs(((const double *)x)[i]));
  }
  if (*(const double *)amax != most || most == 0) {
    fail_msg("%s: the largest magnitude is said to be %.17g, and is %.17g", what, *(const double *)amax, most);
  }
  real.looked++;
}

static status look_qkv_forward(engine *e, const qkv_forward_args *a) {
  look("x of qkv_forward", a->x_amax, a->x, a->B * a->T * a->D);
  return real.ops->qkv_forward(e, a);
}
static status look_qkv_backward(engine *e, const qkv_backward_args *a) {
  look("x of qkv_backward", a->x_amax, a->x, a->B * a->T * a->D);
  return real.ops->qkv_backward(e, a);
}
static status look_out_forward(engine *e, const out_forward_args *a) {
  look("in of out_forward", a->in_amax, a->in, a->B * a->T * a->K);
  return real.ops->out_forward(e, a);
}
static status look_out_backward(engine *e, const out_backward_args *a) {
  look("in of out_backward", a->in_amax, a->in, a->B * a->T * a->K);
  look("dy of out_backward", a->in_amax ? a->dy_amax : NULL, a->dy, a->B * a->T * a->D);
  assert_true(a->in_amax == NULL || a->dy_amax != NULL); /* there is one: norm_backward left it */
  return real.ops->out_backward(e, a);
}
static status look_up_forward(engine *e, const up_forward_args *a) {
  look("x of up_forward", a->x_amax, a->x, a->N * a->D);
  return real.ops->up_forward(e, a);
}
/* a is there, or what will be computed again has the forward's bits. */
static status look_mlp_backward(engine *e, const mlp_backward_args *a) {
  int64_t N = a->B * a->T;
  look("x of mlp_backward", a->x_amax, a->x, N * a->D);
  look("dy of mlp_backward", a->x_amax ? a->dy_amax : NULL, a->dy, N * a->D);
  assert_true((a->x_amax == NULL) == (a->a_amax == NULL) && (a->x_amax == NULL || a->dy_amax != NULL));
  double a_amax = a->a_amax ? *(const double *)a->a_amax : 0;
  status s = real.ops->mlp_backward(e, a);
  look("a of mlp_backward", a->a_amax ? &a_amax : NULL, a->a ? a->a : a->scratch_a, N * a->M);
  return s;
}

static void check_magnitudes(const char *keys, const char *more, config_recompute recompute) {
  model *m = create(keys, more);
  engine *e;
  GOOD(engine_cpu_create(DTYPE_F64, 1, test_seed(), &e));
  real.ops = e->ops;
  real.looked = 0;
  engine_ops looking = *e->ops;
  looking.qkv_forward = look_qkv_forward, looking.qkv_backward = look_qkv_backward;
  looking.out_forward = look_out_forward, looking.out_backward = look_out_backward;
  looking.up_forward = look_up_forward, looking.mlp_backward = look_mlp_backward;
  e->ops = &looking;
  e->fp8 = true;
  run_spec spec = {.B = 2, .T = 16, .recompute = recompute, .training = true, .fp8 = true};
  model_run *r;
  GOOD(model_run_create(m, e, &spec, &r));
  set_step(e);
  test_source *s = test_source_create(m, e, test_seed());
  test_batch *b = test_batch_create(e, spec.B, spec.T, m->config.vocab_size);
  double *loss = engine_new(e, sizeof(double)), *sums = engine_new(e, 3 * sizeof(double));
  for (int pass = 0; pass < 2; pass++) {
    int before = real.looked;
    test_source_reset(s);
    assert_true(isfinite(train_loss(r, s, b, loss)));
    assert_true(real.looked - before >= 2 * 5); /* two inner blocks, five magnitudes of attention each at least */
    before = real.looked;
    GOOD(model_eval(r, &s->source, &b->batch, sums));
    assert_int_equal(real.looked, before); /* evaluation has none */
  }
  e->ops->free(e, loss);
  e->ops->free(e, sums);
  test_batch_free(b);
  test_source_free(s);
  model_run_free(r);
  e->ops->destroy(e);
  model_free(m);
}

static void test_magnitudes(void **unused) {
  const char *dropout[] = {"", " dropout=0.2 wave_dropout=0.3"};
  for (int i = 0; i < n_model_variants; i++) {
    for (int k = 0; k < 6; k++) {
      char more[96];
      snprintf(more, sizeof more, "n_layers=4 d_model=32 n_heads=2 d_mlp=48%s", dropout[k % 2]);
      check_magnitudes(model_variants[i].keys, more, (config_recompute)(k / 2));
    }
  }
}

/* ---- recomputation ---- */

/* Loss and all gradients of two micro-batches in a row, as bytes. */
static unsigned char *train_twice(const model *m, dtype type, config_recompute recompute,
                                  test_batch *(*batch)(engine *), size_t *bytes) {
  engine *e;
  GOOD(engine_cpu_create(type, 1, 99, &e));
  run_spec spec = {.B = 3, .T = 21, .recompute = recompute, .training = true};
  model_run *r;
  GOOD(model_run_create(m, e, &spec, &r));
  set_step(e);
  test_source *s = test_source_create(m, e, 4711);
  for (int u = 0; u < m->n_units; u++) { /* the same weights for every mode */
    float *initial = test_malloc((size_t)m->units[u].count * sizeof(float));
    GOOD(model_initial(m, u, 4711, 0, m->units[u].count, initial));
    for (int64_t j = 0; j < m->units[u].count; j++) {
      s->values[u][j] = 1.25 * initial[j];
    }
    test_free(initial);
  }
  test_batch *b = batch(e);
  double *loss = engine_new(e, sizeof(double));
  *bytes = 0;
  for (int u = 0; u < m->n_units; u++) {
    *bytes += (size_t)m->units[u].count * dtype_size(type);
  }
  unsigned char *all = test_malloc(2 * (*bytes + sizeof(double))), *at = all;
  for (int pass = 0; pass < 2; pass++) {
    double value = train_loss(r, s, b, loss);
    assert_true(isfinite(value));
    memcpy(at, &value, sizeof(double));
    at += sizeof(double);
    for (int u = 0; u < m->n_units; u++) {
      size_t n = (size_t)m->units[u].count * dtype_size(type);
      GOOD(e->ops->copy(e, STREAM_MAIN, COPY_TO_HOST, at, s->grads[u], n));
      at += n;
    }
  }
  *bytes = (size_t)(at - all);
  e->ops->free(e, loss);
  test_batch_free(b);
  test_source_free(s);
  model_run_free(r);
  e->ops->destroy(e);
  return all;
}

static int32_t kept_tokens[63], kept_labels[63];

static test_batch *kept_batch(engine *e) {
  test_batch *b = test_batch_create(e, 3, 21, 23);
  memcpy(b->host_tokens, kept_tokens, sizeof(kept_tokens));
  memcpy(b->host_labels, kept_labels, sizeof(kept_labels));
  test_batch_upload(b);
  return b;
}

static void test_recompute(void **unused) {
  for (int i = 0; i < 63; i++) {
    kept_tokens[i] = (int32_t)random_below(23);
    kept_labels[i] = (int32_t)random_below(23);
  }
  for (int i = 0; i < 2 * n_model_variants; i++) {
    model *m = create(model_variants[i / 2].keys, "n_layers=3 dropout=0.25 wave_dropout=0.1");
    dtype type = i % 2 == 0 ? DTYPE_F32 : DTYPE_F64;
    size_t bytes, same;
    unsigned char *none = train_twice(m, type, RECOMPUTE_NONE, kept_batch, &bytes);
    for (int mode = RECOMPUTE_CHEAP; mode <= RECOMPUTE_BLOCK; mode++) {
      unsigned char *other = train_twice(m, type, (config_recompute)mode, kept_batch, &same);
      assert_int_equal(bytes, same);
      if (memcmp(none, other, bytes) != 0) {
        fail_msg("%s: recomputation mode %d gives other bits", model_variants[i / 2].name, mode);
      }
      test_free(other);
    }
    test_free(none);
    model_free(m);
  }
}

/* ---- forward for measuring ---- */

/* All rows at once, and in chunks: after the pass the buffer holds the last chunk. */
static void test_forward(void **unused) {
  const int64_t B = 2, T = 37, N = B * T, V = 61;
  model *m = NULL;
  engine *e;
  config_model c = make_config("d_model=24 n_heads=2 n_layers=2 d_mlp=37 vocab_size=61 base=respsann");
  GOOD(model_create(&c, "", &m));
  GOOD(engine_cpu_create(DTYPE_F64, 1, 1, &e));
  int64_t Vp = m->vocab_padded;
  run_spec spec = {.B = B, .T = T, .training = false};
  model_run *r;
  GOOD(model_run_create(m, e, &spec, &r));
  test_source *s = test_source_create(m, e, test_seed());
  test_batch *b = test_batch_create(e, B, T, V);
  double *narrow = engine_new(e, (size_t)(N * V) * sizeof(double)),
         *wide = engine_new(e, (size_t)(N * Vp) * sizeof(double));
  GOOD(model_logits(r, &s->source, b->batch.tokens, narrow));
  const int64_t chunks[] = {N, N + 5, 20, 1};
  for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++) {
    int64_t first = (N - 1) / chunks[i] * chunks[i];
    memset(wide, 0xff, (size_t)(N * Vp) * sizeof(double));
    GOOD(model_forward(r, &s->source, b->batch.tokens, wide, chunks[i]));
    test_source_check_released(s);
    for (int64_t row = first; row < N; row++) {
      for (int64_t v = 0; v < V; v++) {
        assert_true(fabs(wide[(row - first) * Vp + v] - narrow[row * V + v]) < 1e-12);
      }
    }
  }
  e->ops->free(e, narrow);
  e->ops->free(e, wide);
  test_batch_free(b);
  test_source_free(s);
  model_run_free(r);
  e->ops->destroy(e);
  model_free(m);
}

/* ---- causality ---- */

static void logits_of(model_run *r, test_source *s, test_batch *b, void *logits, double *host, int64_t n) {
  GOOD(model_logits(r, &s->source, b->batch.tokens, logits));
  test_source_check_released(s);
  engine_read(s->e, logits, host, n);
}

static void check_causality(const model *m, const char *name, bool training) {
  engine *e;
  int64_t B = 2, T = 37, V = m->config.vocab_size, n = B * T * V;
  GOOD(engine_cpu_create(DTYPE_F32, 1, 1, &e));
  run_spec spec = {.B = B, .T = T, .training = training};
  model_run *r;
  GOOD(model_run_create(m, e, &spec, &r));
  test_source *s = test_source_create(m, e, test_seed());
  test_batch *b = test_batch_create(e, B, T, V);
  void *logits = engine_new(e, (size_t)n * dtype_size(e->state));
  double *before = test_malloc((size_t)n * sizeof(double)), *after = test_malloc((size_t)n * sizeof(double));
  logits_of(r, s, b, logits, before, n);
  bool leaked = false;
  for (int trial = 0; trial < 4; trial++) {
    int64_t row = random_below(B), t = trial == 0 ? T - 1 : 1 + random_below(T - 1);
    int32_t *token = &b->host_tokens[row * T + t], kept = *token;
    *token = (int32_t)((kept + 1 + random_below(V - 1)) % V);
    test_batch_upload(b);
    logits_of(r, s, b, logits, after, n);
    for (int64_t i = 0; i < B * T; i++) {
      bool same = memcmp(before + i * V, after + i * V, (size_t)V * sizeof(double)) == 0;
      if (i / T != row) {
        assert_true(same); /* other sequences */
      } else if (i % T < t) {
        leaked |= !same;
      } else if (i % T == t && same) {
        fail_msg("%s: a token does not change its own position", name);
      }
    }
    *token = kept;
  }
  bool sees_future = m->config.wave_interleave && m->config.wave_padding == PADDING_SAME;
  if (leaked != sees_future) {
    fail_msg("%s: %s", name, leaked ? "logits depend on later tokens" : "the test does not notice the leak of `same`");
  }
  test_free(before);
  test_free(after);
  e->ops->free(e, logits);
  test_batch_free(b);
  test_source_free(s);
  model_run_free(r);
  e->ops->destroy(e);
}

static void test_causality(void **unused) {
  for (int i = 0; i < n_model_variants; i++) {
    model *m = create(model_variants[i].keys, "n_layers=3 dropout=0.1");
    check_causality(m, model_variants[i].name, i % 2 == 0);
    model_free(m);
  }
}

/* ---- evaluation ---- */

static void read_sums(test_source *s, model_run *r, test_batch *b, double *engine_sums, double sums[3]) {
  GOOD(model_eval(r, &s->source, &b->batch, engine_sums));
  test_source_check_released(s);
  GOOD(s->e->ops->copy(s->e, STREAM_MAIN, COPY_TO_HOST, sums, engine_sums, 3 * sizeof(double)));
  GOOD(s->e->ops->synchronize(s->e));
}

/* −log p of the label and whether the label is the arg max, from logits. */
static void judge(const double *logits, int64_t V, int32_t label, double *loss, double *right) {
  double most = -INFINITY, sum = 0;
  int64_t best = 0;
  for (int64_t v = 0; v < V; v++) {
    best = logits[v] > most ? v : best;
    most = fmax(most, logits[v]);
  }
  for (int64_t v = 0; v < V; v++) {
    sum += exp(logits[v] - most);
  }
  *loss += most + log(sum) - logits[label];
  *right += best == label;
}

static void check_evaluation(const model *m, dtype type, double tolerance) {
  engine *e;
  GOOD(engine_cpu_create(type, 1, 1, &e));
  run_spec spec = {.B = 2, .T = 13, .training = true}, eval_spec = {.B = 2, .T = 13};
  model_run *train, *eval;
  GOOD(model_run_create(m, e, &spec, &train));
  GOOD(model_run_create(m, e, &eval_spec, &eval));
  set_step(e);
  test_source *s = test_source_create(m, e, test_seed());
  test_batch *b = test_batch_create(e, 2, 13, m->config.vocab_size);
  double *loss = engine_new(e, sizeof(double)), *engine_sums = engine_new(e, 3 * sizeof(double)), sums[3];
  double mean = train_loss(train, s, b, loss);
  read_sums(s, eval, b, engine_sums, sums);
  assert_true(sums[1] == 26);
  assert_true(fabs(sums[0] / 26 - mean) <= tolerance * mean);
  double with_train_run[3];
  read_sums(s, train, b, engine_sums, with_train_run);
  assert_memory_equal(sums, with_train_run, sizeof(sums));

  int64_t V = m->config.vocab_size, n = 26 * V;
  void *logits = engine_new(e, (size_t)n * dtype_size(e->state));
  double *host = test_malloc((size_t)n * sizeof(double)), wanted = 0, right = 0, rows = 0;
  logits_of(eval, s, b, logits, host, n);
  for (int i = 0; i < 26; i++) {
    if (i % 5 == 2) {
      b->host_labels[i] = -1;
    } else {
      if (i % 3 == 0) { /* some that are right */
        double most = -INFINITY;
        for (int64_t v = 0; v < V; v++) {
          b->host_labels[i] = host[i * V + v] > most ? (int32_t)v : b->host_labels[i];
          most = fmax(most, host[i * V + v]);
        }
      }
      judge(host + i * V, V, b->host_labels[i], &wanted, &right);
      rows++;
    }
  }
  test_batch_upload(b);
  read_sums(s, eval, b, engine_sums, sums);
  assert_true(fabs(sums[0] - wanted) <= tolerance * wanted);
  assert_true(sums[1] == rows && sums[2] == right && right > 0);
  assert_int_not_equal(model_train(eval, &s->source, &b->batch, loss), STATUS_OK);
  test_free(host);
  e->ops->free(e, logits);
  e->ops->free(e, loss);
  e->ops->free(e, engine_sums);
  test_batch_free(b);
  test_source_free(s);
  model_run_free(train);
  model_run_free(eval);
  e->ops->destroy(e);
}

static void test_evaluation(void **unused) {
  for (int i = 0; i < n_model_variants; i++) {
    model *m = create(model_variants[i].keys, "");
    check_evaluation(m, DTYPE_F64, 1e-12);
    check_evaluation(m, DTYPE_F32, 1e-5);
    model_free(m);
  }
}

/* Dropout is part of training alone, and its masks follow the sequence's number in the job. */
static void test_dropout(void **unused) {
  model *m = create("base=waveresnet wave_interleave=true", "dropout=0.3 wave_dropout=0.3");
  model *plain = create("base=waveresnet wave_interleave=true", "");
  engine *e;
  GOOD(engine_cpu_create(DTYPE_F64, 1, test_seed(), &e));
  run_spec spec = {.B = 2, .T = 9, .training = true};
  model_run *r, *r_plain;
  GOOD(model_run_create(m, e, &spec, &r));
  GOOD(model_run_create(plain, e, &spec, &r_plain));
  test_source *s = test_source_create(m, e, test_seed()), *s_plain = test_source_create(plain, e, test_seed());
  for (int u = 0; u < m->n_units; u++) {
    memcpy(s_plain->values[u], s->values[u], (size_t)m->units[u].count * sizeof(double));
  }
  test_batch *b = test_batch_create(e, 2, 9, m->config.vocab_size);
  double *loss = engine_new(e, sizeof(double)), *sums = engine_new(e, 3 * sizeof(double)), a[3], c[3];
  step_state state = {.step = 1, .first_sequence = 0, .loss_scale = 1, .micro_batches = 1};
  GOOD(e->ops->set_step(e, &state));
  double first = train_loss(r, s, b, loss), again = train_loss(r, s, b, loss);
  state.first_sequence = 2;
  GOOD(e->ops->set_step(e, &state));
  double later = train_loss(r, s, b, loss), without = train_loss(r_plain, s_plain, b, loss);
  assert_true(first == again && first != later && first != without && isfinite(first) && isfinite(later));
  read_sums(s, r, b, sums, a);
  read_sums(s_plain, r_plain, b, sums, c);
  assert_memory_equal(a, c, sizeof(a));
  e->ops->free(e, loss);
  e->ops->free(e, sums);
  test_batch_free(b);
  test_source_free(s);
  test_source_free(s_plain);
  model_run_free(r);
  model_run_free(r_plain);
  e->ops->destroy(e);
  model_free(m);
  model_free(plain);
}

/* ---- memory ---- */

static size_t taken;
static status (*real_alloc)(engine *e, size_t bytes, const char *what, void **out);

static status counted_alloc(engine *e, size_t bytes, const char *what, void **out) {
  taken += bytes;
  return real_alloc(e, bytes, what, out);
}

static size_t run_bytes(const model *m, dtype type, run_spec spec) {
  engine *e;
  GOOD(engine_cpu_create(type, 1, 1, &e));
  engine_limits limits;
  model_limits(m, e, spec.B, spec.T, &limits);
  GOOD(e->ops->prepare(e, &limits)); /* scratch is not counted */
  const engine_ops *ops = e->ops;
  engine_ops counting = *ops;
  real_alloc = ops->alloc;
  counting.alloc = counted_alloc;
  e->ops = &counting;
  taken = 0;
  model_run *r;
  GOOD(model_run_create(m, e, &spec, &r));
  assert_int_equal(taken, model_run_bytes(m, e->compute, e->state, &spec));
  model_run_free(r);
  e->ops = ops;
  e->ops->destroy(e);
  return taken;
}

static void test_memory(void **unused) {
  for (int i = 0; i < n_model_variants; i++) {
    model *m = create(model_variants[i].keys, "n_layers=5");
    dtype type = i % 2 == 0 ? DTYPE_F32 : DTYPE_F64;
    run_spec spec = {.B = 2, .T = 31, .recompute = RECOMPUTE_NONE, .training = true};
    size_t none = run_bytes(m, type, spec);
    spec.recompute = RECOMPUTE_CHEAP;
    size_t cheap = run_bytes(m, type, spec);
    spec.recompute = RECOMPUTE_BLOCK;
    size_t block = run_bytes(m, type, spec);
    spec.training = false;
    size_t eval = run_bytes(m, type, spec);
    assert_true(none > cheap && cheap > block && block > 2 * eval);
    model_free(m);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_gradients), cmocka_unit_test(test_magnitudes), cmocka_unit_test(test_recompute),
      cmocka_unit_test(test_causality), cmocka_unit_test(test_evaluation), cmocka_unit_test(test_dropout),
      cmocka_unit_test(test_memory),    cmocka_unit_test(test_forward),
  };
  return cmocka_run_group_tests_name("model pass", tests, NULL, NULL);
}
