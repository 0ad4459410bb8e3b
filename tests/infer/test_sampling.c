/* Which tokens may be drawn, and how often, against distributions made by hand and against a slow direct computation.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/philox.h"
#include "infer/sampling.h"
#include "unit.h"

enum { DRAWS = 20000, MOST = 64 };

static uint64_t test_seed;

static uint32_t random_word(uint32_t a, uint32_t b) {
  return philox(test_seed, PHILOX_DATA, a, b, 0, 0).x[0];
}

static sampling_spec plain(double temperature) {
  return (sampling_spec){.temperature = temperature, .top_p = 1, .repetition_penalty = 1, .seed = test_seed};
}

/* Draws DRAWS times and counts. */
static void count_draws(const sampling_spec *spec, const float *logits, int64_t vocab, const int32_t *seen,
                        int64_t n_seen, int64_t *counts) {
  sampling *s;
  assert_int_equal(sampling_create(vocab, spec, &s), STATUS_OK);
  memset(counts, 0, (size_t)vocab * sizeof *counts);
  for (int64_t i = 0; i < DRAWS; i++) {
    int32_t token = -1;
    assert_int_equal(sampling_draw(s, logits, seen, n_seen, 3, i, &token), STATUS_OK);
    assert_true(token >= 0 && token < vocab);
    counts[token]++;
  }
  sampling_free(s);
}

/* Every count lies within six standard deviations, and six, of what its probability asks for: a false alarm in 1e8
 * draws of a distribution. Impossible tokens never come. */
static void check_counts(const int64_t *counts, const double *probabilities, int64_t vocab) {
  for (int64_t v = 0; v < vocab; v++) {
    double expected = DRAWS * probabilities[v];
    double allowed = probabilities[v] > 0 ? 6 * sqrt(expected * (1 - probabilities[v])) + 6 : 0;
    if (!(fabs((double)counts[v] - expected) <= allowed)) {
      fail_msg("token %d: drawn %d times, expected %g", (int)v, (int)counts[v], expected);
    }
  }
}

static void check_spec(const sampling_spec *spec, const double *given, const double *wanted, int64_t vocab) {
  float logits[MOST];
  int64_t counts[MOST];
  for (int64_t v = 0; v < vocab; v++) {
    logits[v] = (float)(log(given[v]) + 1.7);
  }
  count_draws(spec, logits, vocab, NULL, 0, counts);
  check_counts(counts, wanted, vocab);
}

static void test_temperature(void **state) {
  const double p[] = {0.1, 0.2, 0.3, 0.4};
  sampling_spec one = plain(1);
  check_spec(&one, p, p, 4);
  /* Temperature 1/2 squares, 2 takes the root. */
  const double squares[] = {1 / 30.0, 4 / 30.0, 9 / 30.0, 16 / 30.0};
  sampling_spec half = plain(0.5);
  check_spec(&half, p, squares, 4);
  double roots[4], sum = 0;
  for (int i = 0; i < 4; i++) {
    sum += roots[i] = sqrt(p[i]);
  }
  for (int i = 0; i < 4; i++) {
    roots[i] /= sum;
  }
  sampling_spec two = plain(2);
  check_spec(&two, p, roots, 4);
  /* So cold that all but the largest underflow. */
  const double last[] = {0, 0, 0, 1};
  sampling_spec cold = plain(1e-300);
  check_spec(&cold, p, last, 4);
}

static void test_nucleus_keeps_the_crossing_token(void **state) {
  const double p[] = {0.15, 0.5, 0.05, 0.3};
  sampling_spec spec = plain(1);
  spec.top_p = 0.9;
  check_spec(&spec, p, (const double[]){0.15 / 0.95, 0.5 / 0.95, 0, 0.3 / 0.95}, 4);
  spec.top_p = 0.79;
  check_spec(&spec, p, (const double[]){0, 0.5 / 0.8, 0, 0.3 / 0.8}, 4);
  spec.top_p = 0.49;
  check_spec(&spec, p, (const double[]){0, 1, 0, 0}, 4);
  spec.top_p = 1e-9;
  check_spec(&spec, p, (const double[]){0, 1, 0, 0}, 4);
  spec.top_p = 0.96;
  check_spec(&spec, p, p, 4);
}

static void test_top_k_keeps_ties(void **state) {
  const double p[] = {0.05, 0.2, 0.2, 0.35, 0.2};
  sampling_spec spec = plain(1);
  spec.top_k = 2;
  check_spec(&spec, p, (const double[]){0, 0.2 / 0.95, 0.2 / 0.95, 0.35 / 0.95, 0.2 / 0.95}, 5);
  spec.top_k = 1;
  check_spec(&spec, p, (const double[]){0, 0, 0, 1, 0}, 5);
  spec.top_k = 5;
  check_spec(&spec, p, p, 5);
  spec.top_k = 500;
  check_spec(&spec, p, p, 5);
}

/* The nucleus is measured on what top-k left, and after the temperature. */
static void test_order_of_filters(void **state) {
  const double p[] = {0.4, 0.3, 0.2, 0.1};
  sampling_spec spec = plain(1);
  spec.top_k = 3;
  spec.top_p = 0.75; /* of 0.9: 0.675, which the second token crosses */
  check_spec(&spec, p, (const double[]){0.4 / 0.7, 0.3 / 0.7, 0, 0}, 4);
  spec = plain(0.5);
  spec.top_p = 0.8; /* squares 16, 9, 4, 1 of 30: 24 is crossed by the second */
  check_spec(&spec, p, (const double[]){16 / 25.0, 9 / 25.0, 0, 0}, 4);
}

static void test_repetition_penalty(void **state) {
  const float logits[] = {2.0f, -1.0f, 0.5f, 1.5f};
  const int32_t seen[] = {1, 0, 0, 1, 0};
  sampling_spec spec = plain(1);
  spec.repetition_penalty = 2;
  double p[4] = {exp(1), exp(-2), exp(0.5), exp(1.5)}, sum = p[0] + p[1] + p[2] + p[3];
  for (int i = 0; i < 4; i++) {
    p[i] /= sum;
  }
  int64_t counts[4];
  count_draws(&spec, logits, 4, seen, 5, counts);
  check_counts(counts, p, 4);
  /* It also decides the arg max. */
  spec.temperature = 0;
  count_draws(&spec, logits, 4, seen, 5, counts);
  assert_int_equal(counts[3], DRAWS);
}

static void test_arg_max(void **state) {
  const float logits[] = {1, 3, -2, 3, 0};
  sampling_spec spec = plain(0);
  int64_t counts[5];
  count_draws(&spec, logits, 5, NULL, 0, counts);
  assert_int_equal(counts[1], DRAWS);
}

/* A larger vocabulary and all filters at once, against sorting and adding up. */
static const float *sorted_logits;

static int by_logit(const void *a, const void *b) {
  int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
  return sorted_logits[x] != sorted_logits[y] ? (sorted_logits[x] < sorted_logits[y] ? 1 : -1) : x - y;
}

static void test_random_against_direct(void **state) {
  for (uint32_t trial = 0; trial < 12; trial++) {
    int64_t vocab = 1 + random_word(trial, 1000) % MOST;
    float logits[MOST];
    int32_t order[MOST];
    for (int32_t v = 0; v < vocab; v++) {
      logits[v] = (float)(random_word(trial, (uint32_t)v) % 17) / 4.0f - 2; /* ties are common */
      order[v] = v;
    }
    sampling_spec spec = plain(0.3 + 0.2 * trial);
    spec.top_k = random_word(trial, 1001) % (uint32_t)(vocab + 1);
    spec.top_p = 0.0501 + 0.95 * philox_uniform(random_word(trial, 1002));
    spec.top_p = spec.top_p > 1 ? 1 : spec.top_p;
    sorted_logits = logits;
    qsort(order, (size_t)vocab, sizeof *order, by_logit);
    int64_t n = vocab;
    if (spec.top_k > 0) {
      for (n = spec.top_k; n < vocab && logits[order[n]] == logits[order[n - 1]];) {
        n++;
      }
    }
    double p[MOST] = {0}, total = 0, mass = 0;
    for (int64_t i = 0; i < n; i++) {
      total += exp(logits[order[i]] / spec.temperature);
    }
    int64_t kept = 0;
    while (kept < n && (kept == 0 || mass < spec.top_p * total)) {
      mass += exp(logits[order[kept++]] / spec.temperature);
    }
    for (int64_t i = 0; i < kept; i++) {
      p[order[i]] = exp(logits[order[i]] / spec.temperature) / mass;
    }
    int64_t counts[MOST];
    count_draws(&spec, logits, vocab, NULL, 0, counts);
    check_counts(counts, p, vocab);
  }
}

/* The same (seed, prompt, position) gives the same token; another of any of them gives other draws. */
static void test_draws_are_counted(void **state) {
  float logits[MOST] = {0};
  int32_t first[32], token;
  sampling_spec spec = plain(1);
  for (int variant = 0; variant < 4; variant++) {
    spec.seed = test_seed + (variant == 2);
    sampling *s;
    assert_int_equal(sampling_create(MOST, &spec, &s), STATUS_OK);
    int equal = 0;
    for (int i = 31; i >= 0; i--) {
      int64_t position = variant == 3 ? i + ((int64_t)1 << 32) : i;
      assert_int_equal(sampling_draw(s, logits, NULL, 0, variant == 1 ? 8 : 7, position, &token), STATUS_OK);
      first[i] = variant == 0 ? token : first[i];
      equal += token == first[i];
    }
    assert_true(variant == 0 ? equal == 32 : equal < 16);
    for (int i = 0; i < 32 && variant == 0; i++) {
      assert_int_equal(sampling_draw(s, logits, NULL, 0, 7, i, &token), STATUS_OK);
      assert_int_equal(token, first[i]);
    }
    sampling_free(s);
  }
}

static void refuse(sampling_spec spec, const char *word) {
  sampling *s;
  assert_int_equal(sampling_create(5, &spec, &s), STATUS_USER_ERROR);
  assert_null(s);
  if (strstr(status_message(), word) == NULL) {
    fail_msg("no '%s' in: %s", word, status_message());
  }
}

static void test_bad_values(void **state) {
  sampling_spec spec = plain(-1);
  refuse(spec, "temperature is -1");
  spec.temperature = NAN;
  refuse(spec, "temperature is nan");
  spec = plain(1);
  spec.top_k = -3;
  refuse(spec, "top-k is -3");
  spec = plain(1);
  spec.top_p = 0;
  refuse(spec, "top-p is 0");
  spec.top_p = NAN;
  refuse(spec, "top-p is nan");
  spec = plain(1);
  spec.repetition_penalty = 0;
  refuse(spec, "repetition penalty is 0");
}

static void test_logits_that_are_not_finite(void **state) {
  const float bad[] = {NAN, INFINITY, -INFINITY};
  for (int i = 0; i < 3; i++) {
    for (int cold = 0; cold < 2; cold++) {
      float logits[] = {0, 1, bad[i], 2};
      sampling_spec spec = plain(cold ? 0 : 1);
      sampling *s;
      int32_t token;
      assert_int_equal(sampling_create(4, &spec, &s), STATUS_OK);
      assert_int_equal(sampling_draw(s, logits, NULL, 0, 0, 9, &token), STATUS_FAILURE);
      assert_non_null(strstr(status_message(), "token 2"));
      assert_non_null(strstr(status_message(), "position 9"));
      sampling_free(s);
    }
  }
}

int main(void) {
  test_seed = (uint64_t)time(NULL);
  printf("seed %llu\n", (unsigned long long)test_seed);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_temperature),
      cmocka_unit_test(test_nucleus_keeps_the_crossing_token),
      cmocka_unit_test(test_top_k_keeps_ties),
      cmocka_unit_test(test_order_of_filters),
      cmocka_unit_test(test_repetition_penalty),
      cmocka_unit_test(test_arg_max),
      cmocka_unit_test(test_random_against_direct),
      cmocka_unit_test(test_draws_are_counted),
      cmocka_unit_test(test_bad_values),
      cmocka_unit_test(test_logits_that_are_not_finite),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
