/* Fresh random inputs for the tests of this folder: values are a function of (seed, stream, index), so all ranks can
 * compute any of them.
 */
#ifndef PSANN_TESTS_SHARD_RANDOM_VALUES_H
#define PSANN_TESTS_SHARD_RANDOM_VALUES_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* From PSANN_TEST_SEED, or the clock. */
static inline uint64_t test_seed(void) {
  const char *given = getenv("PSANN_TEST_SEED");
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return given != NULL ? strtoull(given, NULL, 10) : (uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec;
}

/* A 64-bit mix in which every bit of the input reaches every bit of the output. */
static inline uint64_t random_mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

static inline uint64_t random_word(uint64_t seed, uint32_t stream, uint64_t index) {
  return random_mix(random_mix(seed + stream * 0x9E3779B97F4A7C15u) + index * 0xD1B54A32D192ED03u);
}

/* In (-1, 1), of very different magnitudes, so that the order of a sum shows in its bits. */
static inline double random_value(uint64_t seed, uint32_t stream, uint64_t index) {
  uint64_t x = random_word(seed, stream, index);
  return (double)((int64_t)x >> 11) * 0x1p-52 / (double)(1u << (x % 12));
}

/* In [lo, hi]. */
static inline int64_t random_between(uint64_t seed, uint32_t stream, uint64_t index, int64_t lo, int64_t hi) {
  return lo + (int64_t)(random_word(seed, stream, index) % (uint64_t)(hi - lo + 1));
}

#endif
