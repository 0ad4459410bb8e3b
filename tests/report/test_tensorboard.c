/* Event files, taken apart record by record: names, heads, what a step leaves, and a disk that is full for a while. */
#include <glob.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "../train/unit.h"
#include "base/file.h"
#include "report/tensorboard.h"
#include "report/tfevents.pb-c.h"
#include "report/tfrecord.h"

enum { LIMIT = 1 << 24, EVENTS = 256 };

static char folder[64];
static glob_t names; /* of the event files, sorted */

static int make_folder(void **state) {
  strcpy(folder, "/tmp/psann_events_XXXXXX");
  return mkdtemp(folder) == NULL;
}

static size_t find_files(void) {
  char pattern[128];
  snprintf(pattern, sizeof pattern, "%s/events.out.tfevents.*", folder);
  globfree(&names);
  return glob(pattern, 0, NULL, &names) == 0 ? names.gl_pathc : 0;
}

static int remove_folder(void **state) {
  for (size_t i = find_files(); i > 0; i--) {
    unlink(names.gl_pathv[i - 1]);
  }
  globfree(&names);
  return rmdir(folder);
}

typedef struct {
  Tensorboard__Event *events[EVENTS];
  int n;
} event_list;

/* Every record of a file; its checksums must hold, and nothing may follow the last one. */
static event_list read_events(const char *path) {
  event_list list = {.n = 0};
  char *data;
  size_t bytes, at = 0;
  assert_int_equal(file_read(path, LIMIT, &data, &bytes), STATUS_OK);
  while (at < bytes) {
    const uint8_t *record = (const uint8_t *)data + at;
    uint64_t length;
    uint32_t sums[2];
    assert_true(bytes - at >= TFRECORD_HEAD);
    memcpy(&length, record, 8);
    memcpy(&sums[0], record + 8, 4);
    assert_int_equal(sums[0], crc32c_masked(record, 8));
    assert_true(bytes - at >= TFRECORD_HEAD + length + TFRECORD_TAIL);
    memcpy(&sums[1], record + TFRECORD_HEAD + length, 4);
    assert_int_equal(sums[1], crc32c_masked(record + TFRECORD_HEAD, length));
    Tensorboard__Event *e = tensorboard__event__unpack(NULL, length, record + TFRECORD_HEAD);
    assert_non_null(e);
    assert_true(e->wall_time > 1.7e9 && list.n < EVENTS);
    list.events[list.n++] = e;
    at += TFRECORD_HEAD + length + TFRECORD_TAIL;
  }
  free(data);
  return list;
}

static void free_events(event_list *list) {
  for (int i = 0; i < list->n; i++) {
    tensorboard__event__free_unpacked(list->events[i], NULL);
  }
}

static double value_of(const Tensorboard__Event *e, const char *tag) {
  for (size_t i = 0; e->summary != NULL && i < e->summary->n_value; i++) {
    if (strcmp(e->summary->value[i]->tag, tag) == 0) {
      return e->summary->value[i]->simple_value;
    }
  }
  return NAN;
}

static metrics_row row_of(int64_t step) {
  return (metrics_row){.step = step,
                       .loss = 5 + 1.0 / (double)step,
                       .ppl = 2,
                       .lr = 1e-4,
                       .grad_norm = INFINITY,
                       .tok_s = 1e6,
                       .step_ms = 3.5,
                       .val_loss = step % 5 == 0 ? 4.5 : NAN,
                       .val_ppl = NAN,
                       .val_bits_per_byte = NAN,
                       .loss_scale = NAN};
}

static void write_steps(tensorboard *t, int64_t first, int64_t last) {
  for (int64_t step = first; step <= last; step++) {
    metrics_row row = row_of(step);
    tensorboard_step(t, &row);
  }
}

/* The file holds its head for a start after `last`, and steps first … last. */
static void check_file(const char *path, int64_t first, int64_t last) {
  event_list list = read_events(path);
  assert_int_equal(list.n, 2 + last - first + 1);
  assert_string_equal(list.events[0]->file_version, "brain.Event:2");
  assert_non_null(list.events[1]->session_log);
  assert_int_equal(list.events[1]->session_log->status, TENSORBOARD__SESSION_LOG__SESSION_STATUS__START);
  assert_int_equal(list.events[1]->step, first);
  for (int i = 2; i < list.n; i++) {
    const Tensorboard__Event *e = list.events[i];
    metrics_row row = row_of(first + i - 2);
    assert_int_equal(e->step, row.step);
    assert_true(value_of(e, "loss") == (double)(float)row.loss && value_of(e, "lr") == (double)(float)row.lr);
    assert_true(isinf(value_of(e, "grad_norm")) && value_of(e, "skipped") == 0);
    assert_int_equal(isnan(value_of(e, "val_loss")), row.step % 5 != 0);
    assert_int_equal(e->summary->n_value, row.step % 5 == 0 ? 8 : 7);
  }
  free_events(&list);
}

static tensorboard *opened(int64_t last_step, const char *host) {
  tensorboard *t = NULL;
  tensorboard_open(folder, last_step, host, &t);
  assert_non_null(t);
  return t;
}

/* Launches within one second, on hosts whose names sort the other way round. */
static void test_each_launch_has_a_later_file(void **state) {
  const char *hosts[] = {"zeus", "hera", "a/b", "ares"};
  char *first = NULL, *again = NULL;
  size_t bytes, bytes_again;
  for (int i = 0; i < 4; i++) {
    tensorboard *t = opened(10 * i, hosts[i]);
    write_steps(t, 10 * i + 1, 10 * i + 12);
    tensorboard_close(t);
    assert_int_equal(find_files(), i + 1);
    check_file(names.gl_pathv[i], 10 * i + 1, 10 * i + 12);
    assert_non_null(strstr(names.gl_pathv[i], i == 2 ? "a_b" : hosts[i]));
    if (i == 0) {
      assert_int_equal(file_read(names.gl_pathv[0], LIMIT, &first, &bytes), STATUS_OK);
    }
  }
  assert_int_equal(file_read(names.gl_pathv[0], LIMIT, &again, &bytes_again), STATUS_OK);
  assert_true(bytes == bytes_again && memcmp(first, again, bytes) == 0);
  free(first);
  free(again);
}

static void test_further_numbers(void **state) {
  tensorboard *t = opened(0, "host");
  const metrics_number numbers[] = {{"val_accuracy", 0.25}, {"peak_bytes", NAN}, {"third", 3}};
  tensorboard_numbers(t, 7, numbers, 3);
  tensorboard_numbers(t, 8, numbers + 1, 1); /* nothing to say */
  tensorboard_flush(t);
  assert_int_equal(find_files(), 1);
  event_list list = read_events(names.gl_pathv[0]);
  assert_int_equal(list.n, 3);
  assert_int_equal(list.events[2]->step, 7);
  assert_int_equal(list.events[2]->summary->n_value, 2);
  assert_true(value_of(list.events[2], "val_accuracy") == 0.25 && value_of(list.events[2], "third") == 3);
  free_events(&list);
  tensorboard_close(t);
}

/* A run that goes back within a launch says so where it does. */
static void test_going_back(void **state) {
  tensorboard *t = opened(0, "host");
  write_steps(t, 1, 9);
  tensorboard_go_back(t, 5);
  tensorboard_go_back(NULL, 5);
  write_steps(t, 6, 8);
  tensorboard_close(t);
  assert_int_equal(find_files(), 1);
  event_list list = read_events(names.gl_pathv[0]);
  assert_int_equal(list.n, 2 + 9 + 1 + 3);
  assert_non_null(list.events[11]->session_log);
  assert_int_equal(list.events[11]->session_log->status, TENSORBOARD__SESSION_LOG__SESSION_STATUS__START);
  assert_int_equal(list.events[11]->step, 6);
  assert_int_equal(list.events[12]->step, 6);
  free_events(&list);
}

/* A limit on the size of files stands for a full disk: writes come back short, or fail. */
static void test_full_disk(void **state) {
  signal(SIGXFSZ, SIG_IGN);
  struct rlimit before;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  tensorboard *t = opened(0, "host");
  write_steps(t, 1, 5);
  tensorboard_flush(t);
  assert_int_equal(find_files(), 1);
  char *data;
  size_t bytes;
  assert_int_equal(file_read(names.gl_pathv[0], LIMIT, &data, &bytes), STATUS_OK);
  free(data);
  struct rlimit tight = {bytes + 37, before.rlim_max};
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
  write_steps(t, 6, 9);
  tensorboard_flush(t);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  check_file(names.gl_pathv[0], 1, 5); /* whole records only */
  write_steps(t, 10, 12);
  tensorboard_close(t);
  check_file(names.gl_pathv[0], 1, 12);
}

static void test_folder_that_is_missing(void **state) {
  tensorboard *t = NULL;
  tensorboard_open("/nonexistent/folder", 0, "host", &t);
  assert_null(t);
  write_steps(t, 1, 2);
  tensorboard_numbers(t, 2, &(metrics_number){"peak_bytes", 1}, 1);
  tensorboard_flush(t);
  tensorboard_close(t);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup_teardown(test_each_launch_has_a_later_file, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_further_numbers, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_going_back, make_folder, remove_folder),
      cmocka_unit_test_setup_teardown(test_full_disk, make_folder, remove_folder),
      cmocka_unit_test(test_folder_that_is_missing),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
