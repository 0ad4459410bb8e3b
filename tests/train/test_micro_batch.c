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

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_definition), cmocka_unit_test(test_known)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
