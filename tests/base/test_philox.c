#include <math.h>

#include "base/philox.h"
#include "test_support.h"

/* The seed that gives the key (k0, k1) under a purpose. */
static uint64_t seed_of(uint32_t k0, uint32_t k1, philox_purpose purpose) {
  return (uint64_t)(k1 ^ ((uint32_t)purpose * 0x9E3779B9u)) << 32 | k0;
}

/* Known answers of Philox4x32-10 that its authors publish with the algorithm. */
static void known_answers(void **state) {
  (void)state;
  static const struct {
    uint32_t counter[4], key[2], answer[4];
  } cases[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    for (int purpose = PHILOX_WEIGHTS; purpose <= PHILOX_SAMPLING; purpose++) {
      const uint32_t *c = cases[i].counter;
      uint64_t seed = seed_of(cases[i].key[0], cases[i].key[1], (philox_purpose)purpose);
      philox_block b = philox(seed, (philox_purpose)purpose, c[0], c[1], c[2], c[3]);
      assert_memory_equal(b.x, cases[i].answer, sizeof b.x);
    }
  }
}

static void purposes_and_counters_differ(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  philox_block a = philox(seed, PHILOX_WEIGHTS, 1, 2, 3, 4);
  philox_block b = philox(seed, PHILOX_DROPOUT, 1, 2, 3, 4);
  philox_block c = philox(seed, PHILOX_WEIGHTS, 1, 2, 3, 5);
  philox_block d = philox(seed + 1, PHILOX_WEIGHTS, 1, 2, 3, 4);
  assert_memory_not_equal(a.x, b.x, sizeof a.x);
  assert_memory_not_equal(a.x, c.x, sizeof a.x);
  assert_memory_not_equal(a.x, d.x, sizeof a.x);
}

/* Mean and variance of a uniform variable within six standard errors. */
static void uniform_is_uniform(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  enum { N = 400000 };
  double sum[2] = {0};
  double squares[2] = {0};
  for (uint32_t i = 0; i < N; i++) {
    philox_block b = philox(seed, PHILOX_SAMPLING, i, 0, 0, 0);
    double u[2] = {(double)philox_uniform(b.x[0]), philox_uniform53(b.x[1], b.x[2])};
    assert_true(u[0] >= 0 && u[0] < 1 && u[1] > 0 && u[1] < 1);
    for (int k = 0; k < 2; k++) {
      sum[k] += u[k];
      squares[k] += u[k] * u[k];
    }
  }
  for (int k = 0; k < 2; k++) {
    double mean = sum[k] / N;
    double second = squares[k] / N;
    assert_true(fabs(mean - 0.5) < 6 * sqrt(1.0 / 12 / N));
    assert_true(fabs(second - 1.0 / 3) < 6 * sqrt(4.0 / 45 / N));
  }
  assert_true(philox_uniform(0xffffffffu) < 1.0f);
  assert_true(philox_uniform53(0xffffffffu, 0xffffffffu) < 1.0);
  assert_true(philox_uniform53(0, 0) > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(known_answers),
      cmocka_unit_test(purposes_and_counters_differ),
      cmocka_unit_test(uniform_is_uniform),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
