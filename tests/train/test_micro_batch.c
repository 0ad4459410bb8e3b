/* The automatic micro-batch against its definition, on random runs. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "train/micro_batch.h"
#include "unit.h"

/* By trying all. */
static int64_t by_definition(int64_t sequences, int64_t seq_len) {
  int64_t best = 1;
  for (int64_t s = 1; s <= sequences; s++) {
    if (sequences % s == 0 && s * seq_len <= MICRO_BATCH_TOKENS && sequences / s >= MICRO_BATCH_LEAST) {
      best = s;
    }
  }
  return best;
}

static void test_definition(void **state) {
  unsigned seed = (unsigned)time(NULL);
  print_message("seed %u\n", seed);
  srand(seed);
  for (int i = 0; i < 3000; i++) {
    int64_t seq_len = 1 + rand() % (i % 2 ? 64 : 6000);
    int64_t sequences = 1 + rand() % 2000;
    assert_int_equal(micro_batch_auto(sequences * seq_len, seq_len), by_definition(sequences, seq_len));
  }
}

static void test_known(void **state) {
  assert_int_equal(micro_batch_auto(131072, 1024), 4);   /* 128 sequences: 4096 tokens, 32 of them */
  assert_int_equal(micro_batch_auto(16384, 128), 16);    /* 8 micro-batches */
  assert_int_equal(micro_batch_auto(8 * 8192, 8192), 1); /* longer than 4096 tokens */
  assert_int_equal(micro_batch_auto(7 * 32, 32), 1);     /* fewer than 8 sequences: one each */
  assert_int_equal(micro_batch_auto(17 * 32, 32), 1);    /* a prime number of sequences */
}

/* Memory of a micro-batch of s sequences: activations, and gradients for each level of the tree. */
typedef struct {
  double memory, weights, gradients, sequence;
  int64_t sequences;
} device;

static double levels(int64_t n) {
  double count = 1;
  while (n > 1) {
    n /= 2;
    count++;
  }
  return count;
}

static bool fits(void *context, int64_t s) {
  const device *g = context;
  return g->weights + g->gradients * levels(g->sequences / s) + g->sequence * (double)s <= g->memory;
}

static int64_t largest_by_definition(device *g, int64_t seq_len, bool powers) {
  int64_t best = 0;
  for (int64_t s = 1; s <= g->sequences; s++) {
    int64_t n = g->sequences / s;
    bool allowed = s == 1 || (n >= MICRO_BATCH_LEAST && s * seq_len <= MICRO_BATCH_GPU_TOKENS);
    if (g->sequences % s == 0 && allowed && (!powers || (n & (n - 1)) == 0) && fits(g, s)) {
      best = s;
    }
  }
  return best;
}

static void test_device(void **state) {
  unsigned seed = (unsigned)time(NULL);
  print_message("seed %u\n", seed);
  srand(seed);
  int none = 0, odd = 0;
  for (int i = 0; i < 3000; i++) {
    int64_t seq_len = 1 << rand() % 14, sequences = i % 3 ? 1 << rand() % 12 : 1 + rand() % 3000;
    device g = {.memory = 80,
                .weights = rand() % 40,
                .gradients = rand() % 8,
                .sequence = rand() % 3000 / 1000.0,
                .sequences = sequences};
    int64_t powers = largest_by_definition(&g, seq_len, true), all = largest_by_definition(&g, seq_len, false);
    assert_int_equal(micro_batch_largest(sequences * seq_len, seq_len, fits, &g), powers > 0 ? powers : all);
    none += all == 0;
    odd += powers == 0 && all > 0;
  }
  assert_true(none > 0 && odd > 0); /* both ends were met */
}

static void test_known_devices(void **state) {
  device g = {.memory = 80, .sequence = 1};
  const struct {
    int64_t sequences, seq_len, expected;
  } cases[] = {{512, 1024, 64},  /* 8 micro-batches */
               {4096, 1024, 64}, /* what fits, and a power of two */
               {8 * 96, 64, 48}, /* 96 = S/8 doesn't fit */
               {8 * 83, 64, 8},  /* 83 doesn't fit, and no smaller power of two is left: 83 micro-batches */
               {7, 64, 1},       {1 << 16, 8192, 32}}; /* 2^18 rows are enough */
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    g.sequences = cases[i].sequences;
    assert_int_equal(micro_batch_largest(g.sequences * cases[i].seq_len, cases[i].seq_len, fits, &g),
                     cases[i].expected);
  }
  g.sequence = 100;
  assert_int_equal(micro_batch_largest(g.sequences * 64, 64, fits, &g), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition), cmocka_unit_test(test_known),
                                     cmocka_unit_test(test_device), cmocka_unit_test(test_known_devices)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
