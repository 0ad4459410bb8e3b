/* What cmocka needs before it, and random numbers for tests whose seed is printed. */
#ifndef TESTS_BASE_TEST_SUPPORT_H
#define TESTS_BASE_TEST_SUPPORT_H

/* cmocka needs the four before it. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/status.h"

#define assert_ok(call)                                     \
  do {                                                      \
    if ((call) != STATUS_OK) {                              \
      fail_msg("%s: %s", status_place(), status_message()); \
    }                                                       \
  } while (0)

/* The call must fail with `code` and a message that holds `part`. */
#define assert_fails(code, part, call)                                  \
  do {                                                                  \
    assert_int_equal((call), (code));                                   \
    if (strstr(status_message(), (part)) == NULL) {                     \
      fail_msg("'%s' does not contain '%s'", status_message(), (part)); \
    }                                                                   \
  } while (0)

/* splitmix64 */
static inline uint64_t test_random(uint64_t *state) {
  uint64_t z = (*state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

/* A fresh seed, or the one in TEST_SEED; printed, so that a failure can be repeated. */
static inline uint64_t test_seed(void) {
  const char *given = getenv("TEST_SEED");
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  uint64_t seed = given != NULL ? strtoull(given, NULL, 10)
                                : (uint64_t)now.tv_sec * 1000003u + (uint64_t)now.tv_nsec + (uint64_t)getpid();
  print_message("TEST_SEED=%llu\n", (unsigned long long)seed);
  return seed;
}

/* A fresh folder under TMPDIR; the caller frees the name. */
static inline char *test_folder(void) {
  const char *root = getenv("TMPDIR");
  char *name = NULL;
  assert_true(asprintf(&name, "%s/psann-test-XXXXXX", root != NULL ? root : "/tmp") > 0);
  assert_non_null(mkdtemp(name));
  return name;
}

#endif
