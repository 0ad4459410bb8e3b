#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "base/file.h"
#include "base/memory.h"
#include "test_support.h"

static char *folder;

static char *path_of(const char *name) {
  char *path;
  assert_ok(file_join(&path, folder, name));
  return path;
}

static int make_folder(void **state) {
  (void)state;
  folder = test_folder();
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  char *command;
  assert_ok(memory_format(&command, "rm -rf '%s'", folder));
  int result = system(command);
  free(command);
  free(folder);
  return result;
}

static void write_and_read(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  char *path = path_of("a file é.bin");
  char *temporary;
  assert_ok(memory_format(&temporary, "%s.tmp", path));
  for (int round = 0; round < 10; round++) {
    size_t bytes = test_random(&seed) % (round < 2 ? 2 : 100000);
    char *data = malloc(bytes + 1);
    for (size_t i = 0; i < bytes; i++) {
      data[i] = (char)test_random(&seed);
    }
    assert_ok(file_write_atomic(path, data, bytes));
    assert_false(file_exists(temporary));
    char *read;
    size_t got;
    assert_ok(file_read(path, bytes, &read, &got));
    assert_int_equal(got, bytes);
    assert_memory_equal(read, data, bytes);
    assert_int_equal(read[bytes], 0);
    free(read);
    if (bytes > 0) {
      assert_fails(STATUS_USER_ERROR, path, file_read(path, bytes - 1, &read, &got));
      assert_null(read);
    }
    free(data);
  }
  free(temporary);
  free(path);
}

static void reads_what_has_no_size(void **state) {
  (void)state;
  char *data;
  size_t bytes;
  assert_ok(file_read("/proc/self/stat", 100000, &data, &bytes));
  assert_true(bytes > 10);
  assert_int_equal(strlen(data), bytes);
  free(data);
}

static void bad_paths(void **state) {
  (void)state;
  char *data;
  size_t bytes;
  char *missing = path_of("missing/file");
  assert_fails(STATUS_USER_ERROR, "No such file", file_read(missing, 10, &data, &bytes));
  assert_non_null(strstr(status_message(), missing));
  assert_fails(STATUS_USER_ERROR, "Is a directory", file_read(folder, 10, &data, &bytes));
  assert_fails(STATUS_USER_ERROR, missing, file_write_atomic(missing, "x", 1));
  assert_fails(STATUS_USER_ERROR, missing, file_commit(missing, "elsewhere"));
  uint64_t space;
  assert_fails(STATUS_USER_ERROR, missing, file_free_space(missing, &space));
  assert_ok(file_free_space(folder, &space));
  assert_true(space > 0);
  free(missing);
}

/* A write that fails half-way leaves the old content and no temporary file. */
static void failed_write_keeps_the_old(void **state) {
  (void)state;
  char *path = path_of("kept");
  char *temporary = path_of("kept.tmp");
  assert_ok(file_write_atomic(path, "old", 3));
  struct rlimit before;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
  struct rlimit small = {.rlim_cur = 4096, .rlim_max = before.rlim_max};
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  char *large = calloc(100000, 1);
  status result = file_write_atomic(path, large, 100000);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
  assert_int_equal(result, STATUS_FAILURE);
  assert_non_null(strstr(status_message(), path));
  free(large);
  assert_false(file_exists(temporary));
  char *data;
  size_t bytes;
  assert_ok(file_read(path, 100, &data, &bytes));
  assert_string_equal(data, "old");
  free(data);
  free(temporary);
  free(path);
}

static void full_disk(void **state) {
  (void)state;
  char *disk = path_of("disk"), *path = path_of("disk/full"), data[1 << 16] = {0};
  assert_ok(file_make_folder(disk));
  if (mount("none", disk, "tmpfs", 0, "size=8k") != 0) { /* only root can */
    free(disk);
    free(path);
    skip();
  }
  assert_int_equal(file_write_atomic(path, data, sizeof data), STATUS_FAILURE);
  bool said = strstr(status_message(), "No space left on device") != NULL &&
              strstr(status_message(), "free some space") != NULL;
  bool left = file_exists(path);
  umount(disk);
  rmdir(disk);
  assert_true(said);
  assert_false(left);
  free(disk);
  free(path);
}

/* Another user of a shared folder puts a link, a pipe or a file of their own where we write. */
static void planted(void **state) {
  (void)state;
  char *victim = path_of("victim"), *path = path_of("planted"), *temporary = path_of("planted.tmp"), *data;
  size_t bytes;
  int handle;
  struct stat about;
  mode_t before = umask(027);
  assert_ok(file_write_atomic(victim, "mine", 4));
  assert_int_equal(symlink(victim, temporary), 0);
  assert_ok(file_write_atomic(path, "data", 4));
  assert_int_equal(lstat(path, &about), 0);
  assert_true(S_ISREG(about.st_mode));
  assert_int_equal(about.st_mode & 0777, 0640); /* the user's umask */
  assert_int_equal(mkfifo(temporary, 0666), 0);
  assert_ok(file_write_atomic(path, "more", 4));
  umask(before);

  unlink(path);
  assert_int_equal(symlink(victim, path), 0);
  assert_fails(STATUS_USER_ERROR, "is a symbolic link", file_open_append(path, &handle));
  assert_int_equal(handle, -1);
  assert_fails(STATUS_USER_ERROR, "planted", file_lock(path, &handle));
  assert_ok(file_write_atomic(path, "data", 4)); /* takes the link's place */
  assert_int_equal(lstat(path, &about), 0);
  assert_true(S_ISREG(about.st_mode));
  unlink(path);
  assert_int_equal(symlink("/nonexistent/place", path), 0);
  assert_fails(STATUS_USER_ERROR, "is a symbolic link", file_open_append(path, &handle));
  unlink(path);

  assert_ok(file_read(victim, 100, &data, &bytes));
  assert_string_equal(data, "mine");
  free(data);
  free(victim);
  free(path);
  free(temporary);
}

/* Pipes and devices in the place of files: told at once, though nobody writes to them. */
static void no_files(void **state) {
  (void)state;
  char *pipe = path_of("a pipe"), *data;
  size_t bytes;
  int handle;
  assert_int_equal(mkfifo(pipe, 0600), 0);
  alarm(20);
  assert_fails(STATUS_USER_ERROR, "is a pipe, not a file", file_read(pipe, 100, &data, &bytes));
  assert_null(data);
  assert_fails(STATUS_USER_ERROR, "is a pipe, not a file", file_open_read(pipe, &handle));
  assert_fails(STATUS_USER_ERROR, "is no file", file_open_append(pipe, &handle));
  assert_fails(STATUS_USER_ERROR, "is a device, not a file", file_read("/dev/zero", 100, &data, &bytes));
  assert_fails(STATUS_USER_ERROR, "is no file", file_open_append("/dev/null", &handle));
  alarm(0);
  unlink(pipe);
  free(pipe);
}

static void folders(void **state) {
  (void)state;
  char *deep = path_of("a/b//c/d");
  char *file = path_of("plain");
  char *below = path_of("plain/x");
  assert_ok(file_make_folder(deep));
  assert_true(file_is_folder(deep));
  assert_ok(file_make_folder(deep));
  assert_ok(file_make_folder("/"));
  assert_ok(file_make_folder("."));
  assert_ok(file_write_atomic(file, "", 0));
  assert_true(file_exists(file));
  assert_false(file_is_folder(file));
  assert_fails(STATUS_USER_ERROR, "a file of that name", file_make_folder(file));
  assert_fails(STATUS_USER_ERROR, "plain", file_make_folder(below));
  assert_fails(STATUS_USER_ERROR, "without a name", file_make_folder(""));
  free(deep);
  free(file);
  free(below);
}

static void joins(void **state) {
  (void)state;
  char *path;
  assert_ok(file_join(&path, "runs", "a.h5"));
  assert_string_equal(path, "runs/a.h5");
  free(path);
  assert_ok(file_join(&path, "runs/", "a.h5"));
  assert_string_equal(path, "runs/a.h5");
  free(path);
  assert_ok(file_join(&path, "", "a.h5"));
  assert_string_equal(path, "a.h5");
  free(path);
}

/* Another process holds the lock: its pid and host are in the message; its death frees the lock. */
static void locks(void **state) {
  (void)state;
  char *path = path_of("lock");
  char host[256] = "";
  gethostname(host, sizeof host - 1);
  int ready[2];
  assert_int_equal(pipe(ready), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    int handle;
    char answer = file_lock(path, &handle) == STATUS_OK ? 'y' : 'n';
    (void)!write(ready[1], &answer, 1);
    pause();
    _exit(0);
  }
  char answer = 0;
  assert_int_equal(read(ready[0], &answer, 1), 1);
  assert_int_equal(answer, 'y');
  int handle;
  char holder[600];
  snprintf(holder, sizeof holder, "process %ld on %s", (long)child, host);
  assert_fails(STATUS_USER_ERROR, holder, file_lock(path, &handle));
  assert_non_null(strstr(status_message(), path));
  assert_int_equal(handle, -1);
  kill(child, SIGKILL);
  waitpid(child, NULL, 0);
  assert_ok(file_lock(path, &handle));
  int second;
  assert_fails(STATUS_USER_ERROR, path, file_lock(path, &second));
  file_unlock(handle);
  assert_ok(file_lock(path, &second));
  file_unlock(second);
  file_unlock(-1);
  close(ready[0]);
  close(ready[1]);
  free(path);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(write_and_read), cmocka_unit_test(reads_what_has_no_size),
      cmocka_unit_test(bad_paths),      cmocka_unit_test(failed_write_keeps_the_old),
      cmocka_unit_test(full_disk),      cmocka_unit_test(folders),
      cmocka_unit_test(planted),        cmocka_unit_test(no_files),
      cmocka_unit_test(joins),          cmocka_unit_test(locks),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
