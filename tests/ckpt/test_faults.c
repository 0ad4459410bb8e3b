/* Disks that fill up, folders that can't be written, stores that fail, and processes that are killed in the middle of a
 * save. */
#include <errno.h>
#include <fcntl.h>
#include <hdf5.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "fixture.h"

static uint64_t seed;
static int64_t handles_at_start;

static int no_handle_is_left(void **unused) {
  return fixture_handles() == handles_at_start ? 0 : -1;
}

/* Saves in a process of its own, after `prepare`; the exit code is the status, *message what status_message() said. */
static int save_apart(fixture *f, const char *folder, int64_t step, void (*prepare)(void *), void *context,
                      char message[4096]) {
  int channel[2];
  assert_int_equal(pipe(channel), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    close(channel[0]);
    prepare(context);
    status result = fixture_save(f, folder, step);
    const char *text = result == STATUS_OK ? "" : status_message();
    (void)!write(channel[1], text, strlen(text));
    close(channel[1]);
    exit(result); /* not _exit: what HDF5 does at exit must not fail either */
  }
  close(channel[1]);
  size_t used = 0;
  for (ssize_t got; used < 4095 && (got = read(channel[0], message + used, 4095 - used)) > 0;) {
    used += (size_t)got;
  }
  message[used] = '\0';
  close(channel[0]);
  int how;
  assert_int_equal(waitpid(child, &how, 0), child);
  if (!WIFEXITED(how)) {
    fail_msg("the save ended with signal %d", WTERMSIG(how));
  }
  return WEXITSTATUS(how);
}

static void limit_file_size(void *bytes) {
  struct rlimit limit = {*(rlim_t *)bytes, *(rlim_t *)bytes};
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

/* Writing fails at any byte: nothing is left over, the earlier file is whole, the message names the reason. */
static void a_write_that_fails_anywhere(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *first = fixture_path(folder, 1), message[4096], *newest;
  struct stat about;
  assert_ok(fixture_save(f, folder, 1));
  assert_int_equal(stat(first, &about), 0);
  fixture_fill(f);
  for (int i = 0; i < 40; i++) {
    rlim_t limit = i == 0   ? 0
                   : i == 1 ? (rlim_t)about.st_size - 1
                            : (rlim_t)(test_random(&seed) % (uint64_t)about.st_size);
    int code = save_apart(f, folder, 2, limit_file_size, &limit, message);
    assert_int_equal(code, STATUS_FAILURE);
    assert_non_null(strstr(message, strerror(EFBIG)));
    assert_non_null(strstr(message, "earlier checkpoints are whole"));
    assert_int_equal(fixture_count(folder), 2); /* the first file and latest */
  }
  rlim_t enough = (rlim_t)about.st_size * 2;
  assert_int_equal(save_apart(f, folder, 2, limit_file_size, &enough, message), STATUS_OK);
  unlink(first);
  assert_ok(checkpoint_newest(folder, &newest));
  assert_non_null(newest);
  free(newest);
  fixture_remove(folder);
  free(first);
  free(folder);
  fixture_free(f);
}

static void nothing(void *unused) {}

/* A small file system of its own; false where this process may not mount one. */
static bool mount_small(const char *folder, size_t bytes) {
  char options[64];
  snprintf(options, sizeof options, "size=%zu", bytes);
  return mount("none", folder, "tmpfs", 0, options) == 0;
}

static void a_full_disk(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 8);
  char *folder = test_folder(), *inner = NULL, *path, message[4096], *newest;
  size_t bytes;
  assert_ok(fixture_save(f, folder, 1));
  path = fixture_path(folder, 1);
  free(fixture_read_file(path, &bytes));
  fixture_remove(folder);
  assert_int_equal(mkdir(folder, 0700), 0);
  size_t room = bytes * 5 / 2 + (1 << 20);
  if (!mount_small(folder, room)) {
    fixture_remove(folder);
    free(path);
    free(folder);
    fixture_free(f);
    skip();
  }
  assert_true(asprintf(&inner, "%s/checkpoints", folder) > 0);
  int saved = 0, code = STATUS_OK, most = (int)(room / bytes);
  f->c->checkpoint.keep_last = most + 1;
  for (int64_t step = 1; step <= most + 1 && code == STATUS_OK; step++) {
    code = save_apart(f, inner, step, nothing, NULL, message);
    saved += code == STATUS_OK;
  }
  int left = fixture_count(inner);
  assert_ok(checkpoint_newest(inner, &newest));
  umount(folder);
  assert_int_equal(code, STATUS_FAILURE);
  assert_true(saved >= 1 && saved <= most);
  assert_int_equal(left, saved + 1);
  assert_non_null(newest);
  assert_non_null(strstr(message, "does not fit"));
  assert_non_null(strstr(message, inner));
  fixture_remove(folder);
  free(newest);
  free(inner);
  free(path);
  free(folder);
  fixture_free(f);
}

static void become_nobody(void *unused) {
  if (geteuid() == 0) {
    assert_int_equal(setgid(65534), 0);
    assert_int_equal(setuid(65534), 0);
  }
}

static void a_folder_that_is_read_only(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1);
  char *folder = test_folder(), *inner = NULL, message[4096];
  assert_true(asprintf(&inner, "%s/checkpoints", folder) > 0);
  assert_ok(fixture_save(f, inner, 1));
  chmod(inner, 0555);
  chmod(folder, 0555);
  assert_int_equal(save_apart(f, inner, 2, become_nobody, NULL, message), STATUS_FAILURE);
  assert_non_null(strstr(message, strerror(EACCES)));
  assert_non_null(strstr(message, inner));
  assert_int_equal(fixture_count(inner), 2);
  chmod(folder, 0755);
  chmod(inner, 0755);
  fixture_remove(inner);
  fixture_write_file(inner, "a file in the folder's place", 10);
  assert_fails(STATUS_USER_ERROR, inner, fixture_save(f, inner, 2));
  fixture_remove(folder);
  free(inner);
  free(folder);
  fixture_free(f);
}

static void a_store_that_fails(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 1), *g = fixture_like(f);
  char *folder = test_folder();
  checkpoint *k;
  int calls = 3 * f->m->n_units;
  assert_ok(fixture_save(f, folder, 1));
  for (int i = 0; i < calls; i++) {
    f->fail_after = i;
    assert_fails(STATUS_FAILURE, "the store gives up", fixture_save(f, folder, 2));
    assert_int_equal(fixture_count(folder), 2);
  }
  assert_ok(checkpoint_open(folder, false, &k));
  g->fail_after = (int)(test_random(&seed) % (uint64_t)calls);
  assert_fails(STATUS_FAILURE, "the store gives up", checkpoint_load(k, g->m, &g->w, true, &g->d));
  checkpoint_close(k);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
  fixture_free(g);
}

/* kill -9 at any moment of a long series of saves: what stands under final names is whole, and the next save tidies up.
 */
static void killed_at_any_moment(void **unused) {
  fixture *f = fixture_new(test_random(&seed), 6);
  char *folder = test_folder();
  f->c->checkpoint.keep_last = 3;
  int64_t step = 1;
  int leftovers = 0;
  assert_ok(fixture_save(f, folder, step));
  double start = clock_seconds();
  assert_ok(fixture_save(f, folder, step));
  uint64_t save_us = (uint64_t)(1e6 * (clock_seconds() - start)) + 1;
  for (int i = 0; i < 25; i++) {
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
      for (int64_t s = step + 1;; s++) {
        fixture_save(f, folder, s);
      }
    }
    usleep((useconds_t)(test_random(&seed) % (4 * save_us)));
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    char *newest;
    checkpoint *k;
    assert_ok(checkpoint_newest(folder, &newest));
    assert_non_null(newest);
    assert_ok(checkpoint_open(newest, false, &k));
    assert_true(k->state.step >= step);
    fixture *g = fixture_like(f);
    assert_ok(checkpoint_load(k, g->m, &g->w, true, &g->d));
    fixture_assert_same(f, g, true);
    fixture_free(g);
    step = k->state.step;
    checkpoint_close(k);
    free(newest);
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s/.step_%08lld.h5.tmp", folder, (long long)step + 1);
    leftovers += access(temporary, F_OK) == 0;
  }
  assert_true(step > 1);
  print_message("%d of 25 kills left a temporary file; step %lld\n", leftovers, (long long)step);
  assert_ok(fixture_save(f, folder, step + 5));
  char command[4200];
  snprintf(command, sizeof command, "test -z \"$(find '%s' -name '.step*')\"", folder);
  assert_int_equal(system(command), 0);
  fixture_remove(folder);
  free(folder);
  fixture_free(f);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_write_that_fails_anywhere), cmocka_unit_test(a_full_disk),
      cmocka_unit_test(a_folder_that_is_read_only),  cmocka_unit_test(a_store_that_fails),
      cmocka_unit_test(killed_at_any_moment),
  };
  seed = test_seed();
  H5open();
  handles_at_start = fixture_handles();
  return cmocka_run_group_tests_name("faults", tests, NULL, no_handle_is_left);
}
