/* Generation: the cache gives what a whole pass gives, rows don't disturb each other, and each stops where it must. */
#include <math.h>
#include <stdio.h>

#include "infer/generate.h"
#include "small_model.h"
#include "unit.h"

static uint64_t seed;

static const char *const variants[] = {
    "base=respsann positional_encoding=rope n_heads=2",
    "base=respsann positional_encoding=alibi",
    "base=respsann positional_encoding=sinusoidal",
    "base=respsann mlp_activation=gelu n_heads=1",
    "base=waveresnet n_heads=2",
    "base=waveresnet wave_interleave=true wave_kernel_size=3 wave_dilation_growth=2 n_heads=2",
    "base=waveresnet wave_interleave=true wave_replace=true wave_kernel_size=4 n_heads=2",
    "base=transformer positional_encoding=sinusoidal",
    "base=transformer mlp_activation=relu n_heads=2",
};
enum { VARIANTS = sizeof variants / sizeof variants[0], LONGEST = 64 };

static void random_ids(uint32_t what, int64_t count, int64_t vocab, int32_t *ids) {
  for (int64_t i = 0; i < count; i++) {
    ids[i] = (int32_t)pick(seed, what, (uint32_t)i, 0, vocab - 1);
  }
}

static void *to_engine(const small_model *s, const void *host, size_t bytes) {
  void *p;
  WORKS(s->e->ops->alloc(s->e, bytes, "a test's buffer", &p));
  WORKS(s->e->ops->copy(s->e, STREAM_MAIN, COPY_TO_ENGINE, p, host, bytes));
  return p;
}

/* Logits (T, V) of a whole pass over one text. */
static void whole_pass(const small_model *s, const int32_t *ids, int64_t T, double *logits) {
  size_t count = (size_t)(T * s->m->config.vocab_size);
  run_spec spec = {.B = 1, .T = T};
  model_run *r;
  WORKS(model_run_create(s->m, s->e, &spec, &r));
  void *tokens = to_engine(s, ids, (size_t)T * sizeof *ids), *out;
  WORKS(s->e->ops->alloc(s->e, count * sizeof(double), "a test's logits", &out));
  WORKS(model_logits(r, &s->w->source, tokens, out));
  WORKS(s->e->ops->copy(s->e, STREAM_MAIN, COPY_TO_HOST, logits, out, count * dtype_size(s->e->state)));
  WORKS(s->e->ops->synchronize(s->e));
  for (size_t i = count; s->e->state == DTYPE_F32 && i-- > 0;) {
    float value;
    memcpy(&value, (char *)logits + i * sizeof value, sizeof value);
    logits[i] = value;
  }
  s->e->ops->free(s->e, tokens);
  s->e->ops->free(s->e, out);
  model_run_free(r);
}

static int64_t arg_max(const double *logits, int64_t vocab) {
  int64_t best = 0;
  for (int64_t v = 1; v < vocab; v++) {
    best = logits[v] > logits[best] ? v : best;
  }
  return best;
}

static double largest_difference(const double *a, const double *b, int64_t count) {
  double largest = 0;
  for (int64_t i = 0; i < count; i++) {
    double difference = fabs(a[i] - b[i]);
    largest = difference > largest || isnan(difference) ? difference : largest;
  }
  return largest;
}

/* Pieces of random length through the cache, in fp64, where only rounding may differ. */
static void check_pieces(const char *variant, uint32_t trial) {
  small_model s;
  small_model_open(&s, variant, DTYPE_F64, seed + trial);
  int64_t V = s.m->config.vocab_size, T = pick(seed, 1, trial, 5, LONGEST), B = 3, row = pick(seed, 2, trial, 0, 2);
  int32_t ids[LONGEST];
  double *whole = malloc((size_t)(T * V) * sizeof *whole), *last = malloc((size_t)V * sizeof *last);
  random_ids(3 + trial, T, V, ids);
  whole_pass(&s, ids, T, whole);
  model_cache *k;
  WORKS(model_cache_create(s.m, s.e, B, T, &k));
  void *tokens = to_engine(&s, ids, (size_t)T * sizeof *ids), *out;
  WORKS(s.e->ops->alloc(s.e, (size_t)V * sizeof(double), "a test's logits", &out));
  for (int64_t t = 0, piece; t < T; t += piece) {
    piece = pick(seed, 100 + trial, (uint32_t)t, 1, T - t);
    int32_t past = (int32_t)t;
    WORKS(model_decode(k, &s.w->source, row, piece, (int32_t *)tokens + t, &past, out));
    WORKS(s.e->ops->copy(s.e, STREAM_MAIN, COPY_TO_HOST, last, out, (size_t)V * sizeof(double)));
    WORKS(s.e->ops->synchronize(s.e));
    double difference = largest_difference(last, whole + (t + piece - 1) * V, V);
    if (!(difference < 1e-10)) {
      fail_msg("%s: the logits after token %d differ by %g", variant, (int)(t + piece), difference);
    }
  }
  s.e->ops->free(s.e, tokens);
  s.e->ops->free(s.e, out);
  model_cache_free(k);
  small_model_close(&s);
  free(whole);
  free(last);
}

static void test_cache_equals_whole_pass(void **state) {
  for (uint32_t i = 0; i < VARIANTS; i++) {
    check_pieces(variants[i], 2 * i);
    check_pieces(variants[i], 2 * i + 1);
  }
}

static generate_spec greedy(int64_t max_tokens) {
  return (generate_spec){.sampling = {.temperature = 0, .top_p = 1, .repetition_penalty = 1},
                         .max_tokens = max_tokens,
                         .context = 1000,
                         .stop = false};
}

static generate_row new_row(int64_t number, const int32_t *prompt, int64_t count) {
  generate_row row = {.number = number, .count = (size_t)count, .capacity = (size_t)count, .prompt = (size_t)count};
  if (count > 0) {
    row.ids = malloc((size_t)count * sizeof *row.ids);
    assert_non_null(row.ids);
    memcpy(row.ids, prompt, (size_t)count * sizeof *row.ids);
  }
  return row;
}

/* Greedy generation of several prompts of different length: each token is the whole pass's arg max, logits close at
 * fp32. */
static void check_greedy(const char *variant, uint32_t trial, dtype type) {
  enum { ROWS = 4, NEW = 21 };
  small_model s;
  small_model_open(&s, variant, type, seed + trial);
  int64_t V = s.m->config.vocab_size;
  int32_t end = (int32_t)pick(seed, 6, trial, 0, V - 1);
  generate_row rows[ROWS];
  for (uint32_t b = 0; b < ROWS; b++) {
    int32_t ids[LONGEST];
    int64_t count = b == 1 ? 0 : pick(seed, 7 + b, trial, 1, 30);
    random_ids(20 + 8 * trial + b, count, V, ids);
    rows[b] = new_row(b, ids, count);
  }
  generate_spec spec = greedy(NEW);
  WORKS(generate(s.m, s.e, &s.w->source, &spec, end, rows, ROWS, NULL, NULL));
  for (int b = 0; b < ROWS; b++) {
    int32_t text[LONGEST];
    size_t start = rows[b].prompt == 0;
    text[0] = end;
    memcpy(text + start, rows[b].ids, rows[b].count * sizeof *text);
    int64_t T = (int64_t)(rows[b].count + start);
    assert_int_equal(rows[b].count - rows[b].prompt, NEW);
    assert_int_equal(rows[b].end, END_MAX_TOKENS);
    double *whole = malloc((size_t)(T * V) * sizeof *whole);
    whole_pass(&s, text, T, whole);
    for (int64_t t = T - NEW; t < T; t++) {
      const double *at = whole + (t - 1) * V;
      int64_t best = arg_max(at, V);
      /* Two logits closer than rounding have no order. */
      if (text[t] != best && !(fabs(at[text[t]] - at[best]) < (type == DTYPE_F64 ? 1e-11 : 1e-5))) {
        fail_msg("%s, row %d: token %d is %d, the whole pass says %d (%g against %g)", variant, b, (int)t, (int)text[t],
                 (int)best, at[text[t]], at[best]);
      }
    }
    free(whole);
    free(rows[b].ids);
  }
  small_model_close(&s);
}

static void test_greedy_equals_whole_pass(void **state) {
  for (uint32_t i = 0; i < VARIANTS; i++) {
    check_greedy(variants[i], i, i % 2 == 0 ? DTYPE_F32 : DTYPE_F64);
  }
}

/* The texts of prompts 0 … n − 1 are the same together, alone, and in another order. */
static void test_batch_independence(void **state) {
  enum { ROWS = 5, NEW = 25 };
  small_model s;
  small_model_open(&s, "base=waveresnet wave_interleave=true n_heads=2", DTYPE_F64, seed);
  generate_spec spec = greedy(NEW);
  spec.sampling = (sampling_spec){.temperature = 1.1, .top_p = 0.9, .repetition_penalty = 1.2, .seed = seed};
  generate_row together[ROWS], turned[ROWS];
  for (uint32_t b = 0; b < ROWS; b++) {
    int32_t ids[LONGEST];
    int64_t count = pick(seed, 50, b, 0, 9);
    random_ids(60 + b, count, 37, ids);
    together[b] = new_row(b, ids, count);
    turned[ROWS - 1 - b] = new_row(b, ids, count);
  }
  generate_row copy = new_row(2, together[2].ids, (int64_t)together[2].prompt);
  WORKS(generate(s.m, s.e, &s.w->source, &spec, 0, together, ROWS, NULL, NULL));
  WORKS(generate(s.m, s.e, &s.w->source, &spec, 0, turned, ROWS, NULL, NULL));
  WORKS(generate(s.m, s.e, &s.w->source, &spec, 0, &copy, 1, NULL, NULL));
  assert_int_equal(copy.count, together[2].count);
  assert_memory_equal(copy.ids, together[2].ids, copy.count * sizeof *copy.ids);
  bool some_differ = false;
  for (int b = 0; b < ROWS; b++) {
    const generate_row *other = &turned[ROWS - 1 - b];
    assert_int_equal(other->count, together[b].count);
    assert_memory_equal(other->ids, together[b].ids, other->count * sizeof *other->ids);
    some_differ = some_differ || memcmp(together[b].ids + together[b].prompt, together[0].ids + together[0].prompt,
                                        NEW * sizeof(int32_t)) != 0;
  }
  assert_true(some_differ);
  /* Another seed, another text. */
  generate_row again = new_row(2, copy.ids, (int64_t)copy.prompt);
  spec.sampling.seed++;
  WORKS(generate(s.m, s.e, &s.w->source, &spec, 0, &again, 1, NULL, NULL));
  assert_true(memcmp(again.ids, copy.ids, copy.count * sizeof *copy.ids) != 0);
  for (int b = 0; b < ROWS; b++) {
    free(together[b].ids);
    free(turned[b].ids);
  }
  free(copy.ids);
  free(again.ids);
  small_model_close(&s);
}

typedef struct {
  int64_t tokens[8];
  bool after_end[8];
} heard;

static status listen(void *context, const generate_row *row) {
  heard *h = context;
  h->after_end[row->number] = h->after_end[row->number] || row->end == END_OF_TEXT;
  h->tokens[row->number]++;
  return STATUS_OK;
}

/* With the stop, a row's text is the one without it, cut before the first end of text. */
static void test_stop_at_end_of_text(void **state) {
  enum { ROWS = 8, NEW = 60, END = 5 };
  small_model s;
  small_model_open(&s, "base=respsann vocab_size=11 n_heads=2", DTYPE_F64, seed);
  generate_spec spec = greedy(NEW);
  spec.sampling = (sampling_spec){.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = seed};
  generate_row free_rows[ROWS], rows[ROWS];
  for (uint32_t b = 0; b < ROWS; b++) {
    int32_t ids[LONGEST];
    int64_t count = pick(seed, 80, b, 0, 6);
    random_ids(81 + b, count, 11, ids); /* an end of text inside the prompt does not stop */
    rows[b] = new_row(b, ids, count);
    free_rows[b] = new_row(b, ids, count);
  }
  heard h = {0};
  WORKS(generate(s.m, s.e, &s.w->source, &spec, END, free_rows, ROWS, NULL, NULL));
  spec.stop = true;
  WORKS(generate(s.m, s.e, &s.w->source, &spec, END, rows, ROWS, listen, &h));
  int stopped = 0;
  for (int b = 0; b < ROWS; b++) {
    size_t cut = rows[b].prompt;
    while (cut < free_rows[b].count && free_rows[b].ids[cut] != END) {
      cut++;
    }
    assert_int_equal(rows[b].count, cut);
    assert_memory_equal(rows[b].ids, free_rows[b].ids, cut * sizeof(int32_t));
    assert_int_equal(rows[b].end, cut < free_rows[b].count ? END_OF_TEXT : END_MAX_TOKENS);
    assert_int_equal(h.tokens[b], cut - rows[b].prompt);
    assert_false(h.after_end[b]);
    stopped += rows[b].end == END_OF_TEXT;
    free(rows[b].ids);
    free(free_rows[b].ids);
  }
  assert_true(stopped > 0);
  small_model_close(&s);
}

/* A text of the whole context's length plus the token that follows it; shorter rows beside it end for their own
 * reasons. */
static void test_context(void **state) {
  enum { CONTEXT = 12 };
  small_model s;
  small_model_open(&s, "base=respsann positional_encoding=alibi", DTYPE_F32, seed);
  int32_t ids[CONTEXT];
  random_ids(90, CONTEXT, 37, ids);
  generate_row rows[] = {new_row(0, ids, CONTEXT), new_row(1, ids, 9), new_row(2, ids, 2), new_row(3, NULL, 0)};
  generate_spec spec = greedy(5);
  spec.context = CONTEXT;
  WORKS(generate(s.m, s.e, &s.w->source, &spec, 1, rows, 4, NULL, NULL));
  static const struct {
    size_t count;
    generate_end end;
  } wanted[] = {{CONTEXT + 1, END_CONTEXT}, {CONTEXT + 1, END_CONTEXT}, {7, END_MAX_TOKENS}, {5, END_MAX_TOKENS}};
  for (int b = 0; b < 4; b++) {
    assert_int_equal(rows[b].count, wanted[b].count);
    assert_int_equal(rows[b].end, wanted[b].end);
    free(rows[b].ids);
  }
  small_model_close(&s);
}

static void refuse(const small_model *s, generate_spec spec, int32_t end, generate_row row, const char *word) {
  assert_int_equal(generate(s->m, s->e, &s->w->source, &spec, end, &row, 1, NULL, NULL), STATUS_USER_ERROR);
  if (strstr(status_message(), word) == NULL) {
    fail_msg("no '%s' in: %s", word, status_message());
  }
  free(row.ids);
}

static void test_bad_requests(void **state) {
  small_model s;
  small_model_open(&s, "n_heads=2", DTYPE_F32, seed);
  const int32_t ids[] = {1, 2, 37}, negative[] = {-1};
  generate_spec spec = greedy(4);
  refuse(&s, spec, -1, new_row(4, NULL, 0), "prompt 5 is empty");
  refuse(&s, spec, 0, new_row(0, ids, 3), "is 37, outside the vocabulary of 37");
  refuse(&s, spec, 0, new_row(0, negative, 1), "is -1, outside");
  spec.context = 1;
  refuse(&s, spec, 0, new_row(0, ids, 2), "2 tokens, more than the context of 1");
  spec = greedy(0);
  refuse(&s, spec, 0, new_row(0, ids, 2), "max-tokens is 0");
  spec = greedy(4);
  spec.context = 0;
  refuse(&s, spec, 0, new_row(0, ids, 2), "context is 0");
  spec = greedy(4);
  spec.sampling.top_p = 2;
  refuse(&s, spec, 0, new_row(0, ids, 2), "top-p is 2");
  small_model_close(&s);
  small_model_open(&s, "base=waveresnet wave_interleave=true wave_padding=same n_heads=2", DTYPE_F32, seed);
  refuse(&s, greedy(4), 0, new_row(0, ids, 2), "same");
  small_model_close(&s);
}

int main(void) {
  seed = new_seed();
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_cache_equals_whole_pass),
      cmocka_unit_test(test_greedy_equals_whole_pass),
      cmocka_unit_test(test_batch_independence),
      cmocka_unit_test(test_stop_at_end_of_text),
      cmocka_unit_test(test_context),
      cmocka_unit_test(test_bad_requests),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
