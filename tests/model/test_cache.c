/* Generation: what the cache gives is what a full pass over the text gives. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"

enum { ROWS = 3, LONGEST = 300 };

/* Texts that grow, and the cache that follows them. */
typedef struct {
  const char *name;
  engine *e;
  model *m;
  test_source *s;
  model_cache *cache;
  int64_t capacity;
  int32_t text[ROWS][LONGEST];
  int32_t length[ROWS];
  void *tokens, *logits; /* engine memory */
} texts;

static void start(texts *x, const model_variant *v, dtype type, int64_t rows, int64_t capacity) {
  char keys[512];
  snprintf(keys, sizeof(keys), "d_model=12 n_heads=2 n_layers=3 vocab_size=23 %s", v->keys);
  config_model c = make_config(keys);
  *x = (texts){.name = v->name, .capacity = capacity};
  GOOD(engine_cpu_create(type, 1, 1, &x->e));
  GOOD(model_create(&c, NULL, &x->m));
  x->s = test_source_create(x->m, x->e, test_seed());
  GOOD(model_cache_create(x->m, x->e, rows, capacity, &x->cache));
  x->tokens = engine_new(x->e, ROWS * LONGEST * sizeof(int32_t));
  x->logits = engine_new(x->e, ROWS * 23 * sizeof(double));
  for (int i = 0; i < ROWS; i++) {
    for (int t = 0; t < LONGEST; t++) {
      x->text[i][t] = (int32_t)random_below(23);
    }
  }
}

static void stop(texts *x) {
  x->e->ops->free(x->e, x->tokens);
  x->e->ops->free(x->e, x->logits);
  model_cache_free(x->cache);
  test_source_free(x->s);
  model_free(x->m);
  x->e->ops->destroy(x->e);
}

/* Logits of the last of `length` tokens by a pass over all of them. */
static void full_logits(texts *x, int row, int64_t length, double logits[23]) {
  model_run *r;
  run_spec spec = {.B = 1, .T = length};
  GOOD(model_run_create(x->m, x->e, &spec, &r));
  void *tokens = engine_new(x->e, (size_t)length * sizeof(int32_t));
  void *all = engine_new(x->e, (size_t)length * 23 * sizeof(double));
  GOOD(x->e->ops->copy(x->e, STREAM_MAIN, COPY_TO_ENGINE, tokens, x->text[row], (size_t)length * sizeof(int32_t)));
  GOOD(model_logits(r, &x->s->source, tokens, all));
  size_t skip = (size_t)(length - 1) * 23 * dtype_size(x->e->state);
  engine_read(x->e, (char *)all + skip, logits, 23);
  x->e->ops->free(x->e, tokens);
  x->e->ops->free(x->e, all);
  model_run_free(r);
}

/* Appends T tokens to `row`, or to each of `rows` rows when row < 0, and compares the logits. */
static void feed(texts *x, int row, int rows, int64_t T) {
  int first = row < 0 ? 0 : row, n = row < 0 ? rows : 1;
  int32_t *fed = test_malloc((size_t)(n * T) * sizeof(int32_t));
  for (int i = 0; i < n; i++) {
    memcpy(fed + i * T, x->text[first + i] + x->length[first + i], (size_t)T * sizeof(int32_t));
  }
  GOOD(x->e->ops->copy(x->e, STREAM_MAIN, COPY_TO_ENGINE, x->tokens, fed, (size_t)(n * T) * sizeof(int32_t)));
  GOOD(model_decode(x->cache, &x->s->source, row, T, x->tokens, &x->length[first], x->logits));
  test_source_check_released(x->s);
  test_free(fed);
  double *got = test_malloc((size_t)n * 23 * sizeof(double));
  engine_read(x->e, x->logits, got, n * 23);
  double tolerance = x->e->state == DTYPE_F64 ? 1e-11 : 2e-4;
  for (int i = 0; i < n; i++) {
    double wanted[23];
    x->length[first + i] += (int32_t)T;
    full_logits(x, first + i, x->length[first + i], wanted);
    for (int v = 0; v < 23; v++) {
      if (!(fabs(got[i * 23 + v] - wanted[v]) <= tolerance)) {
        fail_msg("%s: row %d of %d tokens, logit %d is %.9g with the cache, %.9g without", x->name, first + i,
                 x->length[first + i], v, got[i * 23 + v], wanted[v]);
      }
    }
  }
  test_free(got);
}

static bool can_cache(const model_variant *v) {
  return strstr(v->keys, "wave_padding=same") == NULL;
}

/* Prompts of different length enter row by row; then all rows grow together, and one of them starts anew. */
static void test_ragged(void **unused) {
  for (int i = 0; i < 2 * n_model_variants; i++) {
    const model_variant *v = &model_variants[i / 2];
    if (!can_cache(v)) {
      continue;
    }
    texts x;
    start(&x, v, i % 2 == 0 ? DTYPE_F64 : DTYPE_F32, ROWS, 60);
    feed(&x, 1, 1, 1 + random_below(20));
    feed(&x, 0, 1, 1);
    feed(&x, 2, 1, 9);
    for (int step = 0; step < 6; step++) {
      feed(&x, -1, ROWS, 1);
    }
    feed(&x, -1, ROWS, 4);
    x.length[1] = 0;
    memmove(x.text[1], x.text[1] + 30, 40 * sizeof(int32_t));
    feed(&x, 1, 1, 3);
    feed(&x, 2, 1, 2);
    for (int step = 0; step < 4; step++) {
      feed(&x, -1, ROWS, 1);
    }
    stop(&x);
  }
}

/* Longer than the pieces that a prompt is fed in. */
static void test_long_prompts(void **unused) {
  for (int i = 0; i < n_model_variants; i++) {
    if (!can_cache(&model_variants[i])) {
      continue;
    }
    texts x;
    start(&x, &model_variants[i], DTYPE_F64, 1, LONGEST);
    feed(&x, -1, 1, 290);
    feed(&x, 0, 1, 1);
    feed(&x, -1, 1, 9); /* up to the capacity */
    stop(&x);
    start(&x, &model_variants[i], DTYPE_F64, ROWS, LONGEST);
    feed(&x, 0, 1, 270);
    feed(&x, 2, 1, 5);
    feed(&x, 1, 1, 1);
    stop(&x);
    start(&x, &model_variants[i], DTYPE_F64, ROWS, LONGEST);
    feed(&x, -1, ROWS, 1 + random_below(200));
    feed(&x, -1, ROWS, 90);
    stop(&x);
  }
}

static void test_refused(void **unused) {
  texts x;
  start(&x, &model_variants[0], DTYPE_F32, 2, 10);
  feed(&x, 0, 1, 8);
  feed(&x, 1, 1, 2);
  int32_t past[] = {8, 2};
  assert_int_not_equal(model_decode(x.cache, &x.s->source, 0, 3, x.tokens, past, x.logits), STATUS_OK);
  assert_non_null(strstr(status_message(), "capacity"));
  past[0] = 5;
  assert_int_not_equal(model_decode(x.cache, &x.s->source, -1, 1, x.tokens, past, x.logits), STATUS_OK);
  assert_int_not_equal(model_decode(x.cache, &x.s->source, 2, 1, x.tokens, past, x.logits), STATUS_OK);
  stop(&x);

  config_model c = make_config("base=waveresnet wave_interleave=true wave_padding=same vocab_size=5");
  model *m;
  engine *e;
  model_cache *k;
  GOOD(model_create(&c, NULL, &m));
  GOOD(engine_cpu_create(DTYPE_F32, 1, 1, &e));
  assert_int_equal(model_cache_create(m, e, 1, 10, &k), STATUS_USER_ERROR);
  assert_null(k);
  e->ops->destroy(e);
  model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_ragged),
      cmocka_unit_test(test_long_prompts),
      cmocka_unit_test(test_refused),
  };
  return cmocka_run_group_tests_name("model cache", tests, NULL, NULL);
}
