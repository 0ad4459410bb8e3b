/* Fresh random inputs for the tests of this folder: values are a function of (seed, stream, index), so all ranks can
 * compute any of them. */
#ifndef PSANN_TESTS_SHARD_RANDOM_VALUES_H
#define PSANN_TESTS_SHARD_RANDOM_VALUES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/philox.h"

/* From PSANN_TEST_SEED, or the clock. */
static inline uint64_t test_seed(void) {
  const char *given = getenv("PSANN_TEST_SEED");
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return given != NULL ? strtoull(given, NULL, 10) : (uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec;
}

static inline uint32_t random_word(uint64_t seed, uint32_t stream, uint64_t index) {
  return philox(seed, PHILOX_SAMPLING, (uint32_t)index, (uint32_t)(index >> 32), stream, 0).x[0];
}

/* In [-1, 1), of very different magnitudes, so that the order of a sum shows in its bits. */
static inline double random_value(uint64_t seed, uint32_t stream, uint64_t index) {
  philox_block b = philox(seed, PHILOX_SAMPLING, (uint32_t)index, (uint32_t)(index >> 32), stream, 1);
  double x = 2 * philox_uniform53(b.x[0], b.x[1]) - 1;
  return x / (double)(1u << (b.x[2] % 12));
}

/* In [lo, hi]. */
static inline int64_t random_between(uint64_t seed, uint32_t stream, uint64_t index, int64_t lo, int64_t hi) {
  return lo + (int64_t)(random_word(seed, stream, index) % (uint32_t)(hi - lo + 1));
}

#endif
