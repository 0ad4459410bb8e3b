/* The order of windows, and micro-batches. */
#include "data/sampler.h"
#include "data_support.h"

static const int64_t window_counts[] = {1, 2, 3, 7, 64, 1000, 4097};
enum { COUNTS = sizeof window_counts / sizeof *window_counts };

static void every_window_once_an_epoch(void **state) {
  uint64_t rng = test_seed();
  for (int k = 0; k < COUNTS; k++) {
    int64_t n = window_counts[k], same_as_before = 0;
    sampler s = {.windows = n, .T = 4, .seed = test_random(&rng)};
    int64_t *order = calloc((size_t)n, sizeof *order), *before = calloc((size_t)n, sizeof *before);
    for (int64_t epoch = 0; epoch < 5; epoch++) {
      char *seen = calloc((size_t)n, 1);
      int equal = epoch > 0;
      for (int64_t i = 0; i < n; i++) {
        order[i] = sampler_window(&s, epoch * n + i);
        assert_in_range(order[i], 0, n - 1);
        assert_int_equal(seen[order[i]], 0);
        seen[order[i]] = 1;
        equal = equal && order[i] == before[i];
        before[i] = order[i];
      }
      same_as_before += equal;
      free(seen);
    }
    if (n >= 64) {
      assert_int_equal(same_as_before, 0);
    }
    free(order);
    free(before);
  }
  (void)state;
}

static void seeds_and_epochs_give_other_orders(void **state) {
  uint64_t rng = test_seed();
  uint64_t seed = test_random(&rng);
  sampler a = {.windows = 4097, .T = 1, .seed = seed}, b = {.windows = 4097, .T = 1, .seed = seed ^ (1ull << 40)};
  int64_t fixed = 0, same_seed = 0, same_epoch = 0;
  for (int64_t i = 0; i < 4097; i++) {
    int64_t w = sampler_window(&a, i);
    fixed += w == i;
    same_seed += w == sampler_window(&b, i);
    same_epoch += w == sampler_window(&a, 4097 + i);
  }
  /* One fixed point on average in a random order: Poisson. */
  assert_in_range(fixed, 0, 15);
  assert_in_range(same_seed, 0, 15);
  assert_in_range(same_epoch, 0, 15);
  (void)state;
}

static void first_window_is_even_over_epochs(void **state) {
  uint64_t rng = test_seed();
  enum { N = 7, EPOCHS = 7000 };
  sampler s = {.windows = N, .T = 1, .seed = test_random(&rng)};
  int64_t count[N][N] = {0};
  for (int64_t e = 0; e < EPOCHS; e++) {
    for (int64_t i = 0; i < N; i++) {
      count[i][sampler_window(&s, e * N + i)]++;
    }
  }
  for (int i = 0; i < N; i++) {
    for (int w = 0; w < N; w++) {
      assert_in_range(count[i][w], 820, 1180); /* 1000 expected, standard deviation 29 */
    }
  }
  (void)state;
}

static int compare_windows(const void *a, const void *b) {
  int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
  return (x > y) - (x < y);
}

static void any_position_of_a_huge_store(void **state) {
  uint64_t rng = test_seed();
  enum { SAMPLES = 20000 };
  int64_t n = ((int64_t)1 << 40) + test_below(&rng, 1 << 20);
  sampler s = {.windows = n, .T = 1, .seed = test_random(&rng)};
  int64_t *windows = calloc(SAMPLES, sizeof *windows), first = test_below(&rng, n - SAMPLES),
          epoch = test_below(&rng, 1 << 20);
  for (int64_t i = 0; i < SAMPLES; i++) {
    windows[i] = sampler_window(&s, epoch * n + first + i);
    assert_true(windows[i] >= 0 && windows[i] < n);
  }
  qsort(windows, SAMPLES, sizeof *windows, compare_windows);
  for (int i = 1; i < SAMPLES; i++) {
    assert_true(windows[i] != windows[i - 1]);
  }
  free(windows);
  (void)state;
}

static int32_t *random_tokens(uint64_t *rng, size_t count, int64_t vocab) {
  int32_t *tokens = calloc(count + 1, sizeof *tokens);
  for (size_t i = 0; i < count; i++) {
    tokens[i] = (int32_t)test_below(rng, vocab);
  }
  return tokens;
}

static void check_order(const host_batch *b) {
  int64_t rows = b->B * b->T;
  char *seen = calloc((size_t)rows, 1);
  for (int64_t i = 0; i < rows; i++) {
    assert_in_range(b->order[i], 0, rows - 1);
    assert_int_equal(seen[b->order[i]]++, 0);
    if (i > 0) {
      int32_t p = b->tokens[b->order[i - 1]], q = b->tokens[b->order[i]];
      assert_true(p < q || (p == q && b->order[i - 1] < b->order[i]));
    }
  }
  free(seen);
}

static void batches_hold_the_windows(void **state) {
  uint64_t rng = test_seed();
  static const int64_t vocabs[] = {2, 257, 65536, 65537, 50000000};
  char *folder = test_folder(), *path = test_path(folder, "s.h5");
  for (size_t v = 0; v < sizeof vocabs / sizeof *vocabs; v++) {
    int64_t T = 1 + test_below(&rng, 33), B = 1 + test_below(&rng, 9), count = T + 1 + test_below(&rng, 40 * T);
    int32_t *tokens = random_tokens(&rng, (size_t)count, vocabs[v]);
    make_store(path, tokens, (size_t)count, vocabs[v]);
    token_store *store;
    sampler s;
    host_batch b;
    assert_ok(token_store_open(path, &store));
    assert_ok(sampler_init(&s, store, T, test_random(&rng)));
    assert_int_equal(s.windows, (count - 1) / T);
    assert_ok(host_batch_init(&b, B, T));
    for (int round = 0; round < 5; round++) {
      int64_t first = test_below(&rng, 3 * s.windows);
      assert_ok(sampler_load(&s, first, &b));
      for (int64_t r = 0; r < B; r++) {
        int64_t start = sampler_window(&s, first + r) * T;
        assert_memory_equal(b.tokens + r * T, tokens + start, (size_t)T * 4);
        assert_memory_equal(b.labels + r * T, tokens + start + 1, (size_t)T * 4);
      }
      check_order(&b);
    }
    host_batch_free(&b);
    token_store_close(store);
    free(tokens);
  }
  free(path);
  remove_folder(folder);
  (void)state;
}

static void evaluation_predicts_every_token_once(void **state) {
  uint64_t rng = test_seed();
  char *folder = test_folder(), *path = test_path(folder, "s.h5");
  static const int64_t counts[] = {1, 2, 3, 16, 17, 18, 33, 1000};
  for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
    int64_t T = 16, B = 3, count = counts[k], at = 1;
    int32_t *tokens = random_tokens(&rng, (size_t)count, 300);
    make_store(path, tokens, (size_t)count, 300);
    token_store *store;
    host_batch b;
    assert_ok(token_store_open(path, &store));
    assert_ok(host_batch_init(&b, B, T));
    int64_t windows = eval_windows(store, T);
    assert_int_equal(windows, count < 2 ? 0 : (count - 1 + T - 1) / T);
    for (int64_t first = 0; first < windows + B; first += B) { /* one batch beyond the end, too */
      assert_ok(eval_load(store, first, &b));
      for (int64_t i = 0; i < B * T; i++) {
        if (b.labels[i] < 0) {
          assert_int_equal(b.labels[i], -1);
          assert_int_equal(b.tokens[i], 0);
        } else {
          assert_int_equal(b.labels[i], tokens[at]);
          assert_int_equal(b.tokens[i], tokens[at - 1]);
          assert_int_equal((first * T + i), at - 1);
          at++;
        }
      }
      check_order(&b);
    }
    assert_int_equal(at, count < 2 ? 1 : count);
    host_batch_free(&b);
    token_store_close(store);
    free(tokens);
  }
  free(path);
  remove_folder(folder);
  (void)state;
}

static void too_small_a_store(void **state) {
  char *folder = test_folder(), *path = test_path(folder, "small.h5");
  int32_t tokens[17] = {0};
  token_store *store;
  sampler s;
  host_batch b;
  make_store(path, tokens, 16, 300);
  assert_ok(token_store_open(path, &store));
  assert_fails(STATUS_USER_ERROR, "small.h5", sampler_init(&s, store, 16, 1));
  assert_fails(STATUS_USER_ERROR, "16 tokens", sampler_init(&s, store, 16, 1));
  token_store_close(store);
  make_store(path, tokens, 17, 300); /* exactly one window */
  assert_ok(token_store_open(path, &store));
  assert_ok(sampler_init(&s, store, 16, 1));
  assert_int_equal(s.windows, 1);
  assert_ok(host_batch_init(&b, 2, 8));
  assert_fails(STATUS_FAILURE, "8 tokens a row", sampler_load(&s, 0, &b));
  host_batch_free(&b);
  assert_fails(STATUS_FAILURE, "not possible", host_batch_init(&b, 1 << 20, 1 << 20));
  assert_fails(STATUS_FAILURE, "not possible", host_batch_init(&b, 0, 8));
  token_store_close(store);
  free(path);
  remove_folder(folder);
  (void)state;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_window_once_an_epoch),
      cmocka_unit_test(seeds_and_epochs_give_other_orders),
      cmocka_unit_test(first_window_is_even_over_epochs),
      cmocka_unit_test(any_position_of_a_huge_store),
      cmocka_unit_test(batches_hold_the_windows),
      cmocka_unit_test(evaluation_predicts_every_token_once),
      cmocka_unit_test(too_small_a_store),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
