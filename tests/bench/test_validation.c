/* The parts of a validation: verdicts, programs that are started, columns of metrics, published figures, and the
 * comparison of precisions, which on the CPU can compare fp32 with itself. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "bench/child.h"
#include "base/json.h"
#include "bench/published.h"
#include "bench/steps.h"

static char folder[] = "/tmp/psann_validation.XXXXXX";

#define GOOD(call)                                 \
  do {                                             \
    if ((call) != STATUS_OK) {                     \
      fail_msg("%s: %s", #call, status_message()); \
    }                                              \
  } while (0)

static const char *text_of(const cJSON *o, const char *key) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(o, key));
  return text != NULL ? text : "";
}

static char *path_of(const char *name) {
  char *path;
  GOOD(file_join(&path, folder, name));
  return path;
}

static void verdicts(void **state) {
  (void)state;
  cJSON *o = cJSON_CreateObject();
  judge(o, true, "at least 1", "%d", 2);
  assert_string_equal(text_of(o, "status"), "ok");
  judge(o, false, "at most 3", "%d", 4);
  judge(o, true, "odd", "%d", 5); /* does not mend what failed */
  assert_string_equal(text_of(o, "status"), "failed");
  assert_string_equal(text_of(o, "verdict"), "fail");
  assert_string_equal(text_of(o, "threshold"), "at least 1; at most 3; odd");
  assert_string_equal(text_of(o, "figure"), "2; 4; 5");
  judge_error(o, "broken");
  assert_string_equal(text_of(o, "status"), "error");
  assert_string_equal(text_of(o, "verdict"), "fail");
  assert_string_equal(text_of(o, "reason"), "broken");
  cJSON_Delete(o);
  o = cJSON_CreateObject();
  judge_skipped(o, "no GPU");
  assert_string_equal(text_of(o, "verdict"), "skipped");
  json_number(o, "x", NAN);
  assert_true(cJSON_IsNull(cJSON_GetObjectItem(o, "x")));
  assert_true(isnan(json_get_number(o, "x")));
  cJSON_Delete(o);
}

static void children(void **state) {
  (void)state;
  char *log = path_of("child.log"), line[64];
  int code;
  const char *const says[] = {"sh", "-c", "echo first; echo last >&2; exit 7", NULL};
  GOOD(child_run(says, log, 60, &code));
  assert_int_equal(code, 7);
  child_last_line(log, line, sizeof line);
  assert_string_equal(line, "last");
  assert_int_equal(child_expect(says, log, 60), STATUS_FAILURE);
  assert_non_null(strstr(status_message(), "sh ended with 7: last"));
  const char *const explains[] = {"sh", "-c", "echo 'p: error: why' >&2; echo 'a note' >&2; exit 1", NULL};
  assert_int_equal(child_expect(explains, log, 60), STATUS_FAILURE);
  assert_non_null(strstr(status_message(), "ended with 1: why"));
  const char *const killed[] = {"sh", "-c", "kill -9 $$", NULL};
  GOOD(child_run(killed, log, 60, &code));
  assert_int_equal(code, 128 + 9);
  const char *const good[] = {"true", NULL};
  GOOD(child_expect(good, log, 60));
  const char *const missing[] = {"psann_no_such_program", NULL};
  assert_int_equal(child_run(missing, log, 60, &code), STATUS_FAILURE);
  assert_non_null(strstr(status_message(), "psann_no_such_program"));
  const char *const slow[] = {"sleep", "600", NULL};
  double start = clock_seconds();
  assert_int_equal(child_run(slow, log, 0.2, &code), STATUS_FAILURE);
  assert_non_null(strstr(status_message(), "took longer"));
  assert_true(clock_seconds() - start < 60);
  free(log);
}

static void columns(void **state) {
  (void)state;
  static const char table[] = "step,loss,val_loss\n1,2.5,\n2,nan,1e-3\n";
  char *path = path_of("metrics.csv");
  double *values;
  int64_t n;
  GOOD(file_write_atomic(path, table, strlen(table)));
  GOOD(run_column(folder, "loss", &values, &n));
  assert_int_equal(n, 2);
  assert_true(values[0] == 2.5 && isnan(values[1]));
  free(values);
  GOOD(run_column(folder, "val_loss", &values, &n));
  assert_true(isnan(values[0]) && values[1] == 1e-3);
  free(values);
  assert_int_equal(run_column(folder, "los", &values, &n), STATUS_FAILURE);
  assert_null(values);
  free(path);
}

static void published(void **state) {
  (void)state;
  assert_true(published_forward("respsann", 32, 4096) == 614749.6);
  assert_true(published_forward("waveresnet", 64, 4096) == 612338.0);
  assert_true(isnan(published_forward("respsann", 16, 4096)));
  assert_true(isnan(published_forward("transformer", 32, 4096)));
}

/* fp32 with itself: no difference, which it can't be unless weights and place in the data were taken over. */
static void precisions(void **state) {
  (void)state;
  char *text = path_of("text.txt");
  FILE *f = fopen(text, "w");
  for (int i = 0; i < 3000; i++) {
    fprintf(f, "line %d of %d\n\n", i, i * i);
  }
  fclose(f);
  const validation_options o = {.device = "cpu", .text = text, .out = folder};
  validation v;
  GOOD(validation_open(&o, &v));
  free(v.programs); /* psann_data is not beside a test */
  v.programs = strdup(getenv("PSANN_PROGRAMS"));
  cJSON *result = cJSON_CreateObject();
  GOOD(validation_compare_precisions(&v, "fp32", result));
  assert_string_equal(text_of(result, "verdict"), "pass");
  assert_true(json_get_number(result, "rel_diff") == 0);
  assert_true(json_get_number(result, "fp32_loss") < 5); /* of 5.55: trained weights */
  assert_true(json_get_number(result, "fp32_loss") == json_get_number(result, "amp_loss"));
  cJSON_Delete(result);
  validation_close(&v);
  free(text);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(verdicts), cmocka_unit_test(children), cmocka_unit_test(columns),
                                     cmocka_unit_test(published), cmocka_unit_test(precisions)};
  if (mkdtemp(folder) == NULL) {
    return 1;
  }
  int failed = cmocka_run_group_tests(tests, NULL, NULL);
  const char *const remove[] = {"rm", "-rf", folder, NULL};
  int code;
  return child_run(remove, "/dev/null", 60, &code) != STATUS_OK || failed;
}
