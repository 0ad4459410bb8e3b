/* plans_share on an emulated engine with a choice: what goes into the digest, and that ranks without work get it too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"
#include "train/plans.h"
#include "unit.h"

#define GOOD(call)                                 \
  do {                                             \
    if ((call) != STATUS_OK) {                     \
      fail_msg("%s: %s", #call, status_message()); \
    }                                              \
  } while (0)

/* The engine's table: "<shape> <algorithm> <rate>" a line; a run uses the shape "D<width>". */
static char table[1024];
static int64_t width;
static int timed; /* shapes that were not in the table */

static bool has_shape(int64_t D) {
  char shape[32];
  snprintf(shape, sizeof shape, "D%lld ", (long long)D);
  return strstr(table, shape) != NULL;
}

static status tune(engine *e, const engine_limits *limits) {
  (void)e;
  width = limits->D;
  if (!has_shape(width)) {
    timed++;
    snprintf(table + strlen(table), sizeof table - strlen(table), "D%lld algorithm%lld %d\n", (long long)width,
             (long long)width % 7, 100 + timed);
  }
  return STATUS_OK;
}

static status plans(engine *e, char **text) {
  (void)e;
  return memory_format(text, "%s", table);
}

static status used_plans(engine *e, char **text) {
  (void)e;
  return memory_format(text, "D%lld algorithm%lld\n", (long long)width, (long long)width % 7);
}

static status read_plans(engine *e, const char *text, const char *origin) {
  (void)e, (void)origin;
  snprintf(table, sizeof table, "%s", text);
  return STATUS_OK;
}

static void test_digest(void **state) {
  static const engine_ops ops = {.tune = tune, .plans = plans, .used_plans = used_plans, .read_plans = read_plans};
  engine e = {.ops = &ops};
  dist d;
  dist_single(&d);
  char path[] = "/tmp/psann_plans_XXXXXX", first[DIGEST_TEXT], again[DIGEST_TEXT], other[DIGEST_TEXT];
  int file = mkstemp(path);
  assert_true(file >= 0);
  close(file);
  GOOD(plans_share(&d, &e, &(engine_limits){.D = 10}, path, first));
  GOOD(plans_share(&d, &e, &(engine_limits){.D = 11}, path, other));
  table[0] = 0; /* another process: the file has both shapes, and another rate changes nothing */
  GOOD(plans_share(&d, &e, &(engine_limits){.D = 10}, path, again));
  assert_int_equal(timed, 2);
  assert_string_equal(first, again);
  assert_string_not_equal(first, other);
  assert_int_equal(strlen(first), DIGEST_TEXT - 1);
  unlink(path);
}

static void test_no_choice(void **state) {
  static const engine_ops none = {0};
  engine e = {.ops = &none};
  dist d;
  dist_single(&d);
  char used[DIGEST_TEXT] = "old";
  GOOD(plans_share(&d, &e, &(engine_limits){.D = 10}, "auto", used));
  assert_string_equal(used, "");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_digest), cmocka_unit_test(test_no_choice)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
