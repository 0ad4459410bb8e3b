#include "fixture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/philox.h"

uint64_t test_seed(void) {
  static uint64_t seed;
  if (seed == 0) {
    const char *given = getenv("PSANN_TEST_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec;
    seed += seed == 0;
    printf("PSANN_TEST_SEED=%llu\n", (unsigned long long)seed);
  }
  return seed;
}

static philox_block fresh(void) {
  static uint64_t drawn;
  drawn++;
  return philox(test_seed(), PHILOX_SAMPLING, (uint32_t)drawn, (uint32_t)(drawn >> 32), 77, 0);
}

int64_t random_below(int64_t below) {
  philox_block b = fresh();
  return (int64_t)((((uint64_t)b.x[0] << 32) | b.x[1]) % (uint64_t)below);
}

double random_real(void) {
  philox_block b = fresh();
  return 2 * philox_uniform53(b.x[0], b.x[1]) - 1;
}

config_model make_config(const char *keys) {
  config *c = NULL;
  GOOD(config_new(&c));
  char text[1024];
  snprintf(text, sizeof(text), "%s", keys);
  for (char *rest = text, *item; (item = strsep(&rest, " ")) != NULL;) {
    if (item[0] == '\0') {
      continue;
    }
    char *value = strchr(item, '=');
    assert_non_null(value);
    *value++ = '\0';
    GOOD(config_set(c, "model", item, value, "test"));
  }
  GOOD(config_resolve_model(&c->model));
  config_model m = c->model;
  config_free(c);
  return m;
}

const model_variant model_variants[] = {
    {"respsann rope", "base=respsann d_mlp=27"},
    {"respsann alibi, three heads", "base=respsann d_model=15 n_heads=3 d_mlp=22 positional_encoding=alibi"},
    {"respsann sinusoidal", "base=respsann d_mlp=16 positional_encoding=sinusoidal n_heads=1"},
    {"respsann gelu", "base=respsann mlp_activation=gelu d_mlp=31"},
    {"respsann decay relu", "base=respsann sine_decay_mode=relu sine_damp_init=0.2 d_mlp=20"},
    {"respsann decay none, frequency learns", "base=respsann sine_decay_mode=none sine_learnable=frequency d_mlp=20"},
    {"respsann bounds",
     "base=respsann d_mlp=20 sine_amp_bounds=0.9,1.1 sine_damp_bounds=0.0095,none sine_freq_bounds=none,1.02"},
    {"waveresnet interleave", "base=waveresnet wave_interleave=true d_mlp=24 wave_dilation_growth=2"},
    {"waveresnet interleave, kernel of 4, gelu",
     "base=waveresnet wave_interleave=true wave_kernel_size=4 wave_dilation_growth=3 d_mlp=24 mlp_activation=gelu"},
    {"waveresnet interleave, beyond the text",
     "base=waveresnet wave_interleave=true wave_kernel_size=4 wave_dilation_growth=13 d_mlp=24"},
    {"waveresnet replace", "base=waveresnet wave_interleave=true wave_replace=true wave_kernel_size=5"},
    {"waveresnet, neither MLP nor wave", "base=waveresnet wave_replace=true"},
    {"waveresnet same", "base=waveresnet wave_interleave=true wave_padding=same d_mlp=24"},
    {"transformer gelu", "base=transformer d_mlp=24"},
    {"transformer relu, alibi", "base=transformer mlp_activation=relu d_mlp=24 positional_encoding=alibi"},
};
const int n_model_variants = sizeof(model_variants) / sizeof(model_variants[0]);

/* ---- weight source ---- */

static size_t state_bytes(const test_source *s, int unit_index) {
  return (size_t)s->m->units[unit_index].count * dtype_size(s->e->state);
}

static void put(test_source *s, int i, bool readable) {
  int64_t n = s->m->units[i].count;
  for (int64_t j = 0; j < n; j++) {
    double v = readable ? s->values[i][j] : NAN;
    if (s->e->state == DTYPE_F64) {
      ((double *)s->weights[i])[j] = v;
    } else {
      ((float *)s->weights[i])[j] = (float)v;
    }
  }
}

static status gather(weight_source *source, int i, int direction, unit_weights *out) {
  test_source *s = (test_source *)source;
  REQUIRE(direction >= -1 && direction <= 1, "direction %d", direction);
  if (s->held[i]++ == 0) {
    put(s, i, true);
  }
  out->matrices = s->weights[i];
  out->vectors = (char *)s->weights[i] + (size_t)s->m->units[i].vectors * dtype_size(s->e->state);
  return STATUS_OK;
}

static status release(weight_source *source, int i) {
  test_source *s = (test_source *)source;
  REQUIRE(s->held[i] > 0, "unit %d is released but was not gathered", i);
  if (--s->held[i] == 0) {
    put(s, i, false);
  }
  return STATUS_OK;
}

static status grad(weight_source *source, int i, void **out) {
  *out = ((test_source *)source)->grads[i];
  return STATUS_OK;
}

static status grad_done(weight_source *source, int i) {
  ((test_source *)source)->finished[i]++;
  return STATUS_OK;
}

/* Initial values are far from every special point but zero biases, unit scales and equal sine parameters. */
static void fill(test_source *s, int i, uint64_t seed) {
  const unit *u = &s->m->units[i];
  float *initial = test_calloc((size_t)u->count, sizeof(float));
  GOOD(model_initial(s->m, i, seed, 0, u->count, initial));
  for (int64_t j = 0; j < u->count; j++) {
    s->values[i][j] = initial[j];
  }
  for (int k = 0; k < u->n_tensors; k++) {
    const tensor *t = &u->tensors[k];
    for (int64_t j = 0; j < t->count && t->dims == 1; j++) {
      s->values[i][t->offset + j] += 0.2 * random_real();
    }
  }
  test_free(initial);
}

test_source *test_source_create(const model *m, engine *e, uint64_t seed) {
  test_source *s = test_calloc(1, sizeof(test_source));
  size_t n = (size_t)m->n_units;
  s->source = (weight_source){.gather = gather, .release = release, .grad = grad, .grad_done = grad_done};
  s->m = m;
  s->e = e;
  s->values = test_calloc(n, sizeof(double *));
  s->weights = test_calloc(n, sizeof(void *));
  s->grads = test_calloc(n, sizeof(void *));
  s->held = test_calloc(n, sizeof(int));
  s->finished = test_calloc(n, sizeof(int));
  for (int i = 0; i < m->n_units; i++) {
    s->values[i] = test_calloc((size_t)m->units[i].count, sizeof(double));
    s->weights[i] = engine_new(e, state_bytes(s, i));
    s->grads[i] = engine_new(e, state_bytes(s, i));
    fill(s, i, seed);
    put(s, i, false);
  }
  return s;
}

void test_source_free(test_source *s) {
  for (int i = 0; i < s->m->n_units; i++) {
    test_free(s->values[i]);
    s->e->ops->free(s->e, s->weights[i]);
    s->e->ops->free(s->e, s->grads[i]);
  }
  test_free(s->values);
  test_free(s->weights);
  test_free(s->grads);
  test_free(s->held);
  test_free(s->finished);
  test_free(s);
}

void test_source_check_released(const test_source *s) {
  for (int i = 0; i < s->m->n_units; i++) {
    assert_int_equal(s->held[i], 0);
  }
}

void test_source_reset(test_source *s) {
  for (int i = 0; i < s->m->n_units; i++) {
    memset(s->grads[i], 0, state_bytes(s, i));
    s->finished[i] = 0;
  }
}

/* ---- batches ---- */

test_batch *test_batch_create(engine *e, int64_t B, int64_t T, int64_t V) {
  test_batch *b = test_calloc(1, sizeof(test_batch));
  size_t bytes = (size_t)(B * T) * sizeof(int32_t);
  b->e = e;
  b->rows = B * T;
  b->host_tokens = test_malloc(bytes);
  b->host_labels = test_malloc(bytes);
  b->batch = (model_batch){engine_new(e, bytes), engine_new(e, bytes), engine_new(e, bytes)};
  for (int64_t i = 0; i < b->rows; i++) {
    b->host_tokens[i] = (int32_t)random_below(V);
    b->host_labels[i] = (int32_t)random_below(V);
  }
  test_batch_upload(b);
  return b;
}

void test_batch_free(test_batch *b) {
  b->e->ops->free(b->e, (void *)b->batch.tokens);
  b->e->ops->free(b->e, (void *)b->batch.labels);
  b->e->ops->free(b->e, (void *)b->batch.order);
  test_free(b->host_tokens);
  test_free(b->host_labels);
  test_free(b);
}

void test_batch_upload(test_batch *b) {
  size_t bytes = (size_t)b->rows * sizeof(int32_t);
  int32_t *order = test_malloc(bytes);
  for (int64_t i = 0; i < b->rows; i++) {
    int64_t before = 0; /* rows that sort before row i */
    for (int64_t j = 0; j < b->rows; j++) {
      before += b->host_tokens[j] < b->host_tokens[i] || (b->host_tokens[j] == b->host_tokens[i] && j < i);
    }
    order[before] = (int32_t)i;
  }
  GOOD(b->e->ops->copy(b->e, STREAM_MAIN, COPY_TO_ENGINE, (void *)b->batch.tokens, b->host_tokens, bytes));
  GOOD(b->e->ops->copy(b->e, STREAM_MAIN, COPY_TO_ENGINE, (void *)b->batch.labels, b->host_labels, bytes));
  GOOD(b->e->ops->copy(b->e, STREAM_MAIN, COPY_TO_ENGINE, (void *)b->batch.order, order, bytes));
  GOOD(b->e->ops->synchronize(b->e));
  test_free(order);
}

void *engine_new(engine *e, size_t bytes) {
  void *p = NULL;
  GOOD(e->ops->alloc(e, bytes, "test", &p));
  return p;
}

void engine_read(engine *e, const void *from, double *to, int64_t n) {
  size_t size = dtype_size(e->state);
  char *raw = test_malloc((size_t)n * size);
  GOOD(e->ops->copy(e, STREAM_MAIN, COPY_TO_HOST, raw, from, (size_t)n * size));
  GOOD(e->ops->synchronize(e));
  for (int64_t i = 0; i < n; i++) {
    to[i] = e->state == DTYPE_F64 ? ((double *)(void *)raw)[i] : (double)((float *)(void *)raw)[i];
  }
  test_free(raw);
}
