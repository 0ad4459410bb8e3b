/* Metrics files: what a resume keeps, exact numbers, and a disk that is full for a while. */
#include <cjson/cJSON.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "report/metrics.h"
#include "unit.h"

enum { LIMIT = 1 << 24 };

static char folder[64];
static bool with_loss_scale;

static int make_folder(void **state) {
  strcpy(folder, "/tmp/psann_metrics_XXXXXX");
  return mkdtemp(folder) == NULL;
}

static char *path_of(const char *name) {
  static char path[128];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

static int remove_folder(void **state) {
  unlink(path_of("metrics.csv"));
  unlink(path_of("metrics.jsonl"));
  return rmdir(folder);
}

static char *content(const char *name) {
  char *data;
  size_t bytes;
  assert_int_equal(file_read(path_of(name), LIMIT, &data, &bytes), STATUS_OK);
  return data;
}

static double random_number(void) {
  return ldexp((double)rand() / RAND_MAX + (double)rand() / RAND_MAX * 1e-9, rand() % 60 - 30);
}

static metrics_row row_of(int64_t step) {
  return (metrics_row){.step = step,
                       .loss = random_number(),
                       .ppl = random_number(),
                       .lr = random_number(),
                       .grad_norm = random_number(),
                       .tok_s = random_number(),
                       .step_ms = random_number(),
                       .tokens = step * 1000,
                       .epoch = random_number(),
                       .skipped = step % 7 == 0,
                       .val_loss = step % 5 == 0 ? random_number() : NAN,
                       .val_ppl = step % 5 == 0 ? random_number() : NAN,
                       .val_bits_per_byte = NAN,
                       .loss_scale = NAN};
}

static metrics *opened(int64_t last_step) {
  metrics *m;
  assert_int_equal(metrics_open(folder, last_step, with_loss_scale, &m), STATUS_OK);
  return m;
}

/* Lines that hold steps first … last, one each, in order. */
static void check_steps(int64_t last) {
  char *json = content("metrics.jsonl"), *csv = content("metrics.csv");
  int64_t expected = 1;
  for (char *line = strtok(json, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    cJSON *object = cJSON_Parse(line);
    assert_non_null(object);
    if (cJSON_GetObjectItem(object, "event") == NULL) {
      assert_int_equal((int64_t)cJSON_GetObjectItem(object, "step")->valuedouble, expected);
      expected++;
    }
    cJSON_Delete(object);
  }
  assert_int_equal(expected, last + 1);
  expected = 0;
  for (char *line = strtok(csv, "\n"); line != NULL; line = strtok(NULL, "\n")) {
    assert_int_equal(expected == 0 ? strncmp(line, "step,", 5) : strtoll(line, NULL, 10) - expected, 0);
    expected++;
  }
  assert_int_equal(expected, last + 1);
  free(json);
  free(csv);
}

static void write_steps(metrics *m, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; step++) {
    metrics_row row = row_of(step);
    metrics_step(m, &row);
    if (step % 10 == 0) {
      metrics_event(m, step, "save", &(metrics_number){"seconds", 0.5}, 1, "a \"quoted\" %s", "message");
    }
  }
}

static void test_numbers_are_exact(void **state) {
  unsigned seed = (unsigned)time(NULL);
  print_message("seed %u\n", seed);
  srand(seed);
  metrics *m = opened(0);
  metrics_row rows[200];
  for (int i = 0; i < 200; i++) {
    rows[i] = row_of(i + 1);
    metrics_step(m, &rows[i]);
  }
  metrics_close(m);
  char *json = content("metrics.jsonl"), *csv = content("metrics.csv");
  int i = 0;
  for (char *line = strtok(json, "\n"); line != NULL; line = strtok(NULL, "\n"), i++) {
    cJSON *object = cJSON_Parse(line);
    assert_true(cJSON_GetObjectItem(object, "loss")->valuedouble == rows[i].loss);
    assert_true(cJSON_GetObjectItem(object, "grad_norm")->valuedouble == rows[i].grad_norm);
    assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItem(object, "skipped")), rows[i].skipped);
    assert_int_equal(cJSON_HasObjectItem(object, "val_loss"), (i + 1) % 5 == 0);
    cJSON_Delete(object);
  }
  assert_int_equal(i, 200);
  i = 0;
  strtok(csv, "\n");
  for (char *line = strtok(NULL, "\n"); line != NULL; line = strtok(NULL, "\n"), i++) {
    long long step;
    double loss, ppl, lr, norm;
    assert_int_equal(sscanf(line, "%lld,%lg,%lg,%lg,%lg", &step, &loss, &ppl, &lr, &norm), 5);
    assert_true(step == rows[i].step && loss == rows[i].loss && ppl == rows[i].ppl && lr == rows[i].lr &&
                norm == rows[i].grad_norm);
  }
  assert_int_equal(i, 200);
  free(json);
  free(csv);
}

static void test_values_that_are_not_finite(void **state) {
  metrics *m = opened(0);
  metrics_row row = row_of(1);
  row.loss = -NAN;
  row.ppl = INFINITY;
  metrics_step(m, &row);
  metrics_close(m);
  char *json = content("metrics.jsonl"), *csv = content("metrics.csv");
  cJSON *object = cJSON_Parse(json);
  assert_true(cJSON_IsNull(cJSON_GetObjectItem(object, "loss")));
  assert_true(cJSON_IsNull(cJSON_GetObjectItem(object, "ppl")));
  assert_non_null(strstr(csv, "\n1,nan,inf,"));
  cJSON_Delete(object);
  free(json);
  free(csv);
}

/* The files of an fp16 run, across a resume. */
static void test_loss_scale_column(void **state) {
  with_loss_scale = true;
  metrics *m = opened(0);
  metrics_row row = row_of(1);
  row.loss_scale = 65536;
  metrics_step(m, &row);
  row = row_of(2);
  metrics_step(m, &row);
  metrics_close(m);
  m = opened(1);
  row = row_of(2);
  row.loss_scale = 0x1p40;
  metrics_step(m, &row);
  metrics_close(m);
  with_loss_scale = false;
  char *json = content("metrics.jsonl"), *csv = content("metrics.csv");
  const char *ends[] = {",loss_scale", ",65536", ",1099511627776"};
  int i = 0;
  for (char *line = strtok(csv, "\n"); line != NULL; line = strtok(NULL, "\n"), i++) {
    assert_true(i < 3);
    assert_string_equal(line + strlen(line) - strlen(ends[i]), ends[i]);
  }
  assert_int_equal(i, 3);
  cJSON *object = cJSON_Parse(strtok(json, "\n"));
  assert_true(cJSON_GetObjectItem(object, "loss_scale")->valuedouble == 65536);
  cJSON_Delete(object);
  free(json);
  free(csv);
}

static void append(const char *name, const char *text) {
  FILE *f = fopen(path_of(name), "a");
  fputs(text, f);
  fclose(f);
}

static void test_resume_drops_later_and_torn_lines(void **state) {
  metrics *m = opened(0);
  write_steps(m, 1, 30);
  metrics_close(m);
  append("metrics.jsonl", "{\"step\":31,\"lo");
  append("metrics.csv", "31,0.5,");
  m = opened(20);
  write_steps(m, 21, 25);
  metrics_close(m);
  check_steps(25);
  char *json = content("metrics.jsonl");
  assert_non_null(strstr(json, "\"event\":\"save\",\"step\":20"));
  assert_null(strstr(json, "\"event\":\"save\",\"step\":30"));
  free(json);
  m = opened(0); /* a fresh start leaves nothing */
  write_steps(m, 1, 2);
  metrics_close(m);
  check_steps(2);
}

/* A limit on the size of files stands for a full disk: writes come back short, or fail. */
static void test_full_disk(void **state) {
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit before, tight;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  metrics *m = opened(0);
  write_steps(m, 1, 5);
  char *csv = content("metrics.csv");
  tight = (struct rlimit){strlen(csv) + 37, before.rlim_max};
  free(csv);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
  write_steps(m, 6, 15);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  csv = content("metrics.csv");
  assert_int_equal(csv[strlen(csv) - 1], '\n'); /* whole lines only */
  free(csv);
  write_steps(m, 16, 17);
  metrics_close(m);
  check_steps(17);
}

static void test_folder_that_is_missing(void **state) {
  metrics *m = NULL;
  assert_int_equal(metrics_open("/nonexistent/folder", 0, false, &m), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "/nonexistent/folder"));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_numbers_are_exact, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_values_that_are_not_finite, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_loss_scale_column, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_resume_drops_later_and_torn_lines, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_full_disk, make_folder, remove_folder),
      cmocka_unit_test(test_folder_that_is_missing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
