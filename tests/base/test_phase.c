/* Phases reach who listens, in order and nested; a phase that fails ends too. */
#include <string.h>

#include "base/phase.h"
#include "test_support.h"

static char seen[64];

static void begin(const char *name) {
  strcat(seen, name);
  strcat(seen, "(");
}

static void end(void) {
  strcat(seen, ")");
}

static status inner(status result) {
  TRY_PHASE("head", result);
  return STATUS_OK;
}

static status outer(status result) {
  TRY_PHASE("forward", inner(result));
  strcat(seen, " went on");
  return STATUS_OK;
}

static void test_nobody_listens(void **state) {
  (void)state;
  seen[0] = 0;
  assert_int_equal(outer(STATUS_FAILURE), STATUS_FAILURE);
  assert_string_equal(seen, "");
}

static void test_nested(void **state) {
  (void)state;
  phase_listen(begin, end);
  seen[0] = 0;
  assert_int_equal(outer(STATUS_OK), STATUS_OK);
  assert_string_equal(seen, "forward(head()) went on");
  seen[0] = 0;
  assert_int_equal(outer(STATUS_USER_ERROR), STATUS_USER_ERROR);
  assert_string_equal(seen, "forward(head())");
  phase_listen(NULL, NULL);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_nobody_listens), cmocka_unit_test(test_nested)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
