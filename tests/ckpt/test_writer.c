/* Checkpoints that a thread writes: the same file as in the foreground, whatever training does meanwhile, and failures
 * that are told whenever they become known. System calls go wrong on demand (faulty_calls.h). */
#include <errno.h>
#include <hdf5.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "faulty_calls.h"
#include "fixture.h"

static uint64_t seed;
static int64_t handles_at_start;

static int no_handle_is_left(void **unused) {
  return fixture_handles() == handles_at_start ? 0 : -1;
}

static int start_without_faults(void **unused) {
  faulty_calls_set("");
  return 0;
}

/* Until the save under way has ended; *looks: how often it had not. */
static checkpoint_outcome outcome_of(checkpoint_writer *writer, bool wait, int *looks) {
  checkpoint_outcome o;
  double start = clock_seconds();
  for (*looks = 0;; ++*looks) {
    assert_ok(checkpoint_writer_advance(writer, wait, &o));
    if (o.state.step >= 0) {
      assert_int_equal(checkpoint_writer_busy(writer), -1);
      return o;
    }
    assert_false(wait);
    assert_true(clock_seconds() - start < 60);
    usleep(1000);
  }
}

static void assert_saved(checkpoint_writer *writer) {
  int looks;
  checkpoint_outcome o = outcome_of(writer, true, &looks);
  if (o.result != STATUS_OK) {
    fail_msg("%s", status_message());
  }
}

/* Bytes that differ: all that may is the time of saving and its checksum. */
static void assert_same_file(const char *a, const char *b) {
  size_t bytes_a, bytes_b, differ = 0;
  unsigned char *x = fixture_read_file(a, &bytes_a), *y = fixture_read_file(b, &bytes_b);
  assert_int_equal(bytes_a, bytes_b);
  for (size_t i = 0; i < bytes_a; i++) {
    differ += x[i] != y[i];
  }
  assert_true(differ <= strlen("2026-01-31T12:34:56Z") + 4);
  free(x);
  free(y);
}

static void assert_holds(const fixture *f, const char *path, int64_t step) {
  fixture *g = fixture_like(f);
  checkpoint *k;
  assert_ok(checkpoint_open(path, false, &k));
  assert_int_equal(k->state.step, step);
  assert_ok(checkpoint_load(k, g->m, &g->w, true, &g->d));
  fixture_assert_same(f, g, true);
  checkpoint_close(k);
  fixture_free(g);
}

static void the_file_of_the_foreground(void **unused) {
  for (int i = 0; i < 5; i++) {
    fixture *f = fixture_new(test_random(&seed), 1 + i % 2);
    char *one = test_folder(), *other = test_folder();
    char *path = fixture_path(one, 7), *path_of_other = fixture_path(other, 7);
    assert_ok(fixture_save(f, one, 7));
    checkpoint_writer *writer = fixture_writer(f, other, true);
    fixture_start(f, writer, 7);
    assert_saved(writer);
    assert_same_file(path, path_of_other);
    assert_int_equal(fixture_count(other), 2); /* the file and latest */
    checkpoint_writer_destroy(writer);
    fixture_remove(one);
    fixture_remove(other);
    free(one);
    free(other);
    free(path);
    free(path_of_other);
    fixture_free(f);
  }
}

/* Training's next steps write weights, moments and state while the disk is slow; none of it gets into the file. */
static void training_goes_on(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *kept = test_folder(), *path = fixture_path(folder, 1), *same = fixture_path(kept, 1);
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  assert_ok(fixture_save(f, kept, 1));
  faulty_calls_set("pwrite:1:0:slow=3,fsync:1:0:slow=100");
  double start = clock_seconds();
  fixture_start(f, writer, 1);
  double copied = clock_seconds() - start;
  assert_int_equal(checkpoint_writer_busy(writer), 1);
  assert_fails(STATUS_FAILURE, "begins before", checkpoint_writer_start(writer, &f->state));
  fixture_fill(f);
  f->state.tokens++;
  int looks;
  checkpoint_outcome o = outcome_of(writer, false, &looks);
  assert_int_equal(o.result, STATUS_OK);
  assert_int_equal(o.state.step, 1);
  assert_true(looks > 10);
  assert_true(o.waited >= copied && o.waited < o.seconds);
  assert_true(o.seconds > 0.2);
  assert_same_file(path, same);
  /* The next one has what training made of it. */
  faulty_calls_set("");
  fixture_start(f, writer, 2);
  assert_saved(writer);
  free(path);
  path = fixture_path(folder, 2);
  assert_holds(f, path, 2);
  checkpoint_writer_destroy(writer);
  fixture_remove(folder);
  fixture_remove(kept);
  free(folder);
  free(kept);
  free(path);
  free(same);
  fixture_free(f);
}

/* Whatever goes wrong: the reason is told, earlier files are whole, nothing is left over, and the next save is well. */
static void every_call_may_fail(void **unused) {
  static const struct {
    const char *call, *what;
    int error;
  } faults[] = {{"open", "EROFS", EROFS},    {"open", "EACCES", EACCES},   {"pwrite", "ENOSPC", ENOSPC},
                {"pwrite", "EIO", EIO},      {"pwrite", "EDQUOT", EDQUOT}, {"fsync", "EIO", EIO},
                {"fsync", "ENOSPC", ENOSPC}, {"rename", "EIO", EIO},       {"rename", "EACCES", EACCES},
                {"pread", "EIO", 0},         {"data", "flip", 0}};
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *first = fixture_path(folder, 1), text[80];
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  fixture_start(f, writer, 1);
  faulty_calls_set("");
  assert_saved(writer);
  f->c->checkpoint.keep_last = 1;
  for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
    bool reads = strcmp(faults[i].call, "pread") == 0 || strcmp(faults[i].call, "data") == 0;
    long at = reads ? 1 + (long)(test_random(&seed) % 3) : 1, all;
    snprintf(text, sizeof text, "%s:%ld:1:%s", faults[i].call, at, faults[i].what);
    faulty_calls_set(text);
    fixture_start(f, writer, 2);
    int looks;
    checkpoint_outcome o = outcome_of(writer, true, &looks);
    if (o.result == STATUS_OK || faulty_calls_wrong(&all) == 0) {
      fail_msg("%s: the save ended well", text);
    }
    if (faults[i].error != 0 && strstr(status_message(), strerror(faults[i].error)) == NULL) {
      fail_msg("%s: %s", text, status_message());
    }
    assert_non_null(strstr(status_message(), folder));
    assert_int_equal(fixture_count(folder), 2);
    faulty_calls_set("");
    assert_holds(f, first, 1);
  }
  fixture_fill(f);
  fixture_start(f, writer, 2);
  assert_saved(writer);
  free(first);
  first = fixture_path(folder, 2);
  assert_holds(f, first, 2);
  assert_int_equal(fixture_count(folder), 2); /* the first was pruned */
  checkpoint_writer_destroy(writer);
  fixture_remove(folder);
  free(folder);
  free(first);
  fixture_free(f);
}

static void short_writes_and_reads(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *path = fixture_path(folder, 3);
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  long all;
  faulty_calls_set("pwrite:1:0:short,pread:1:0:short");
  fixture_start(f, writer, 3);
  assert_saved(writer);
  assert_true(faulty_calls_wrong(&all) > 10);
  faulty_calls_set("");
  assert_holds(f, path, 3);
  checkpoint_writer_destroy(writer);
  fixture_remove(folder);
  free(folder);
  free(path);
  fixture_free(f);
}

/* A run that ends by a failure of its own: the save that needs nothing of it any more is finished. */
static void a_writer_that_is_closed_early(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *path = fixture_path(folder, 5);
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  faulty_calls_set("pwrite:1:0:slow=2");
  fixture_start(f, writer, 5);
  checkpoint_writer_destroy(writer);
  faulty_calls_set("");
  assert_holds(f, path, 5);
  assert_int_equal(fixture_count(folder), 2);
  writer = fixture_writer(f, folder, true); /* and one that never saved */
  checkpoint_writer_destroy(writer);
  fixture_remove(folder);
  free(folder);
  free(path);
  fixture_free(f);
}

static void a_damaged_newest_is_passed_over(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *older = fixture_path(folder, 1), *newer = fixture_path(folder, 2), *newest;
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  for (int64_t step = 1; step <= 2; step++) {
    fixture_start(f, writer, step);
    assert_saved(writer);
  }
  size_t bytes;
  unsigned char *data = fixture_read_file(newer, &bytes);
  fixture_write_file(newer, data, bytes / 2);
  assert_ok(checkpoint_newest(folder, &newest));
  assert_string_equal(newest, older);
  free(newest);
  free(data);
  checkpoint_writer_destroy(writer);
  fixture_remove(folder);
  free(folder);
  free(older);
  free(newer);
  fixture_free(f);
}

/* Saves by a writer that found no memory for its copy, in a process of its own. */
static int save_without_memory(fixture *f, const char *folder) {
  struct rlimit limit;
  FILE *in = fopen("/proc/self/statm", "r");
  long pages;
  if (in == NULL || fscanf(in, "%ld", &pages) != 1 || getrlimit(RLIMIT_AS, &limit) != 0) {
    return 10;
  }
  fclose(in);
  rlim_t before = limit.rlim_cur;
  limit.rlim_cur = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + ((rlim_t)checkpoint_copy_bytes(f->m, 1, 1) / 2);
  if (setrlimit(RLIMIT_AS, &limit) != 0) {
    return 11;
  }
  checkpoint_writer *writer = fixture_writer(f, folder, true);
  limit.rlim_cur = before;
  if (setrlimit(RLIMIT_AS, &limit) != 0) {
    return 12;
  }
  fixture_start(f, writer, 4);
  int waits = checkpoint_writer_busy(writer) < 0; /* it has ended: training waited */
  assert_saved(writer);
  checkpoint_writer_destroy(writer);
  return waits ? 0 : 13;
}

static void no_memory_for_the_copy(void **unused) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  skip(); /* they need address space of their own */
#endif
  fixture *f = fixture_new(test_random(&seed), 8);
  char *folder = test_folder(), *path = fixture_path(folder, 4), line[256] = "";
  int channel[2], how;
  assert_int_equal(pipe(channel), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    dup2(channel[1], STDOUT_FILENO);
    exit(save_without_memory(f, folder));
  }
  close(channel[1]);
  FILE *said = fdopen(channel[0], "r");
  assert_non_null(fgets(line, sizeof line, said));
  fclose(said);
  assert_int_equal(waitpid(child, &how, 0), child);
  assert_true(WIFEXITED(how));
  assert_int_equal(WEXITSTATUS(how), 0);
  assert_non_null(strstr(line, "written in the foreground: out of memory"));
  assert_holds(f, path, 4);
  fixture_remove(folder);
  free(folder);
  free(path);
  fixture_free(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test_setup(the_file_of_the_foreground, start_without_faults),
      cmocka_unit_test_setup(training_goes_on, start_without_faults),
      cmocka_unit_test_setup(every_call_may_fail, start_without_faults),
      cmocka_unit_test_setup(short_writes_and_reads, start_without_faults),
      cmocka_unit_test_setup(a_writer_that_is_closed_early, start_without_faults),
      cmocka_unit_test_setup(a_damaged_newest_is_passed_over, start_without_faults),
      cmocka_unit_test_setup(no_memory_for_the_copy, start_without_faults),
  };
  seed = test_seed();
  H5open();
  handles_at_start = fixture_handles();
  return cmocka_run_group_tests_name("writer", tests, NULL, no_handle_is_left);
}
