/* status.ini: what a launcher reads in it, whatever the reason holds. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report/run_mark.h"
#include "unit.h"

static char folder[64];

static int make_folder(void **state) {
  strcpy(folder, "/tmp/psann_mark_XXXXXX");
  return mkdtemp(folder) == NULL;
}

static char *path(void) {
  static char text[128];
  snprintf(text, sizeof text, "%s/status.ini", folder);
  return text;
}

static int remove_folder(void **state) {
  unlink(path());
  return rmdir(folder);
}

/* The value of a line "key = value", as a shell would cut it out; the text stays with this function. */
static const char *value(const char *key) {
  static char line[4096];
  FILE *f = fopen(path(), "r");
  assert_non_null(f);
  size_t length = strlen(key);
  const char *found = NULL;
  while (found == NULL && fgets(line, sizeof line, f) != NULL) {
    line[strcspn(line, "\n")] = 0;
    if (strncmp(line, key, length) == 0 && strncmp(line + length, " = ", 3) == 0) {
      found = line + length + 3;
    }
  }
  fclose(f);
  return found;
}

static void test_values(void **state) {
  static const char *const words[] = {"running", "finished", "stopped", "failed"};
  for (int i = RUN_RUNNING; i <= RUN_FAILED; i++) {
    const run_mark m = {.state = (run_mark_state)i, .step = 7 + i, .max_steps = 1000, .reason = "signal SIGUSR1"};
    assert_int_equal(run_mark_write(folder, &m), STATUS_OK);
    assert_string_equal(value("state"), words[i]);
    assert_int_equal(atoi(value("step")), 7 + i);
    assert_int_equal(atoi(value("max_steps")), 1000);
    assert_string_equal(value("reason"), "signal SIGUSR1");
    assert_int_equal(strlen(value("time")), strlen("2026-01-31T12:34:56Z"));
  }
}

/* A message of several lines must not pass for lines of the file. */
static void test_reason_is_one_line(void **state) {
  const run_mark m = {.state = RUN_FAILED, .max_steps = 1, .reason = "a\nstate = finished\r\nb"};
  assert_int_equal(run_mark_write(folder, &m), STATUS_OK);
  assert_string_equal(value("state"), "failed");
  assert_string_equal(value("reason"), "a state = finished  b");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_values), cmocka_unit_test(test_reason_is_one_line)};
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
