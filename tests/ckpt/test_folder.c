/* The folder of checkpoints: latest, best, pruning, falling back. */
#include <hdf5.h>
#include <math.h>
#include <sys/stat.h>

#include "ckpt/folder.h"
#include "fixture.h"

static uint64_t seed;
static int64_t handles_at_start;

static int no_handle_is_left(void **unused) {
  return fixture_handles() == handles_at_start ? 0 : -1;
}

static bool there(const char *folder, const char *name) {
  char path[4096];
  struct stat about;
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return stat(path, &about) == 0;
}

static bool step_there(const char *folder, int64_t step) {
  char name[STEP_NAME];
  return there(folder, ckpt_step_name(step, name));
}

static void names(void **unused) {
  char name[STEP_NAME];
  assert_string_equal(ckpt_step_name(1000, name), "step_00001000.h5");
  assert_string_equal(ckpt_step_name(INT64_C(123456789012), name), "step_123456789012.h5");
  assert_string_equal(ckpt_temporary_name(1, name), ".step_00000001.h5.tmp");
  char *folder = test_folder();
  static const char *const files[] = {"step_00000010.h5",
                                      "step_123456789.h5",
                                      "step_00000002.h5",
                                      "step_2.h5",
                                      "step_000000002.h5",
                                      "xstep_00000002.h5",
                                      "step_00000002.h5x",
                                      "step_-0000002.h5",
                                      ".step_00000003.h5.tmp",
                                      "step_.h5",
                                      "latest"};
  for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, files[i]);
    fixture_write_file(path, "x", 1);
  }
  int64_t *steps;
  size_t count;
  assert_ok(ckpt_list_steps(folder, &steps, &count));
  assert_int_equal(count, 3);
  assert_int_equal(steps[0], 2);
  assert_int_equal(steps[1], 10);
  assert_int_equal(steps[2], 123456789);
  free(steps);
  assert_ok(ckpt_remove_leftovers(folder));
  assert_int_equal(fixture_count(folder), (int)(sizeof files / sizeof files[0]) - 1);
  assert_false(there(folder, ".step_00000003.h5.tmp"));
  fixture_remove(folder);
  assert_ok(ckpt_list_steps(folder, &steps, &count));
  assert_int_equal(count, 0);
  free(folder);
}

static void pruning(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder();
  int64_t keep_last = 1 + (int64_t)(test_random(&seed) % 3), keep_every = 4, best = 3;
  f->c->checkpoint.keep_last = keep_last;
  f->c->checkpoint.keep_every = keep_every;
  f->c->checkpoint.interval = 1;
  f->state.best_step = best;
  for (int64_t step = 1; step <= 11; step++) {
    assert_ok(fixture_save(f, folder, step));
    for (int64_t s = 1; s <= step; s++) {
      bool kept = s > step - keep_last || s % keep_every == 0 || s == best;
      assert_int_equal(step_there(folder, s), kept);
    }
  }
  int64_t named;
  assert_ok(ckpt_named_step(folder, "latest", &named));
  assert_int_equal(named, 11);
  assert_ok(ckpt_named_step(folder, "best", &named));
  assert_int_equal(named, best);
  checkpoint *k;
  assert_ok(checkpoint_open(folder, true, &k));
  assert_int_equal(k->state.step, best);
  checkpoint_close(k);

  /* A run that goes on from an earlier checkpoint: `latest` is not the highest step, and later files stay. */
  assert_ok(fixture_save(f, folder, 5));
  assert_true(step_there(folder, 11));
  assert_ok(checkpoint_open(folder, false, &k));
  assert_int_equal(k->state.step, 5);
  checkpoint_close(k);
  assert_ok(fixture_save(f, folder, 6));
  assert_true(step_there(folder, 6));
  assert_int_equal(step_there(folder, 5), keep_last > 1);
  assert_true(step_there(folder, 11));
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

static void run_folder_and_its_checkpoints(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), inner[4096];
  checkpoint *k;
  snprintf(inner, sizeof inner, "%s/checkpoints", folder);
  assert_ok(fixture_save(f, inner, 4));
  assert_ok(checkpoint_open(folder, false, &k));
  assert_int_equal(k->state.step, 4);
  checkpoint_close(k);
  assert_ok(checkpoint_open(inner, false, &k));
  checkpoint_close(k);
  fixture_remove(inner);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

typedef struct {
  const char *folder;
  char *path;
  status result;
} newest;

static void find_newest(void *context) {
  newest *n = context;
  n->result = checkpoint_newest(n->folder, &n->path);
}

/* Turns a bit of the first tensor, wherever it lies. */
static void damage(const fixture *f, const char *folder, int64_t step) {
  char *path = fixture_path(folder, step);
  size_t bytes;
  unsigned char *data = fixture_read_file(path, &bytes);
  unsigned char *at = memmem(data, bytes, f->values[0][0], 4 * sizeof(float));
  assert_non_null(at);
  *at ^= 0x10;
  fixture_write_file(path, data, bytes);
  free(data);
  free(path);
}

static void falling_back(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *text;
  f->c->checkpoint.keep_last = 10;
  newest n = {.folder = folder};
  text = fixture_output(find_newest, &n);
  assert_int_equal(n.result, STATUS_OK);
  assert_null(n.path);
  assert_string_equal(text, "");
  free(text);
  for (int64_t step = 10; step <= 40; step += 10) {
    assert_ok(fixture_save(f, folder, step));
  }
  text = fixture_output(find_newest, &n);
  char *expected = fixture_path(folder, 40);
  assert_string_equal(n.path, expected);
  assert_string_equal(text, "");
  free(expected);
  free(text);
  free(n.path);

  damage(f, folder, 40);
  char *cut = fixture_path(folder, 30);
  assert_int_equal(truncate(cut, 5000), 0);
  text = fixture_output(find_newest, &n);
  assert_int_equal(n.result, STATUS_OK);
  expected = fixture_path(folder, 20);
  assert_string_equal(n.path, expected);
  assert_non_null(strstr(text, "step_00000040.h5 is damaged"));
  assert_non_null(strstr(text, "step_00000030.h5 is damaged"));
  assert_non_null(strstr(text, "the newest whole checkpoint is"));
  free(expected);
  free(text);
  free(n.path);
  free(cut);

  char latest[4096];
  snprintf(latest, sizeof latest, "%s/latest", folder);
  fixture_write_file(latest, "rubbish", 7);
  text = fixture_output(find_newest, &n);
  assert_int_equal(n.result, STATUS_OK);
  assert_non_null(n.path);
  assert_non_null(strstr(text, "rubbish"));
  free(text);
  free(n.path);

  damage(f, folder, 20);
  damage(f, folder, 10);
  text = fixture_output(find_newest, &n);
  assert_int_equal(n.result, STATUS_USER_ERROR);
  assert_null(n.path);
  assert_non_null(strstr(status_message(), "none of the 4 checkpoints"));
  free(text);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(names),
      cmocka_unit_test(pruning),
      cmocka_unit_test(run_folder_and_its_checkpoints),
      cmocka_unit_test(falling_back),
  };
  seed = test_seed();
  H5open();
  handles_at_start = fixture_handles();
  return cmocka_run_group_tests_name("folder", tests, NULL, no_handle_is_left);
}
