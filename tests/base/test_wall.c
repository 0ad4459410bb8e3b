/* The wall in front of files from elsewhere: what the probe does, this process outlives and tells in one sentence. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/wall.h"
#include "test_support.h"

static char *folder, *probe, *file, *calls;

/* A probe that is a script; each call adds a line to `calls`. */
static void set_probe(const char *body) {
  FILE *out = fopen(probe, "w");
  assert_non_null(out);
  fprintf(out, "#!/bin/sh\necho x >>'%s'\n%s\n", calls, body);
  assert_int_equal(fclose(out), 0);
  assert_int_equal(chmod(probe, 0700), 0);
}

static int called(void) {
  struct stat about;
  return stat(calls, &about) == 0 ? (int)(about.st_size / 2) : 0;
}

/* Another file than all before. */
static void new_file(void) {
  static int64_t size;
  unlink(file);
  int handle = open(file, O_WRONLY | O_CREAT | O_EXCL, 0600);
  assert_true(handle >= 0);
  assert_int_equal(ftruncate(handle, ++size), 0);
  close(handle);
}

static void refused(const char *body, const char *part) {
  int descriptors = dup(0);
  new_file();
  set_probe(body);
  for (int kind = 0; kind < WALL_KINDS; kind++) {
    assert_fails(STATUS_USER_ERROR, part, wall_check((wall_kind)kind, file));
    assert_non_null(strstr(status_message(), file));
    assert_null(strchr(status_message(), '\n'));
  }
  close(descriptors);
  assert_int_equal(dup(0), descriptors); /* nothing stays open */
  close(descriptors);
}

static void a_probe_that_dies(void **unused) {
  refused("kill -SEGV $$", "is damaged: the process that looked at it first was ended by signal 11");
  refused("kill -ABRT $$", "signal 6");
  refused("kill -KILL $$", "signal 9");
  refused("kill -XCPU $$", "processor time");
  refused("exit 0", "is damaged: the process that looked at it first ended without an answer");
  refused("exit 2", "without an answer");
  refused("printf 'psann_probe\\n0'", "without an answer");
  refused("printf 'psann_probe\\n7\\n\\n'", "without an answer");
  refused("printf '0\\n\\n'", "without an answer");
  refused("head -c 100000 /dev/zero", "without an answer");
  refused("exec >&-; kill -SEGV $$", "signal 11");
}

static void a_probe_that_hangs(void **unused) {
  wall_patience(0.3);
  double started = clock_seconds();
  refused("exec sleep 1000", "did not come to an end in time");
  refused("exec >&-; exec sleep 1000", "is damaged"); /* after the answer's end */
  refused("trap '' TERM INT HUP; while :; do :; done", "in time");
  assert_true(clock_seconds() - started < 60);
  wall_patience(60);
}

static void what_a_probe_says(void **unused) {
  new_file();
  set_probe("printf 'psann_probe\\n2\\nit is %s, a %s; give another\\n' \"$2\" \"$1\"");
  char expected[4096];
  snprintf(expected, sizeof expected, "it is %s, a tokenizer; give another", file);
  assert_int_equal(wall_check(WALL_TOKENIZER, file), STATUS_USER_ERROR);
  assert_string_equal(status_message(), expected);
  set_probe("printf 'psann_probe\\n1\\nno memory\\n'");
  assert_fails(STATUS_FAILURE, "no memory", wall_check(WALL_STORE, file));
}

/* A good file is looked at once; a change, or another file in its place, makes it foreign again. */
static void looked_at_once(void **unused) {
  new_file();
  set_probe("printf 'psann_probe\\n0\\n\\n'");
  int before = called();
  assert_ok(wall_check(WALL_STORE, file));
  assert_ok(wall_check(WALL_STORE, file));
  assert_int_equal(called(), before + 1);
  assert_int_equal(truncate(file, 100), 0);
  assert_ok(wall_check(WALL_STORE, file));
  assert_int_equal(called(), before + 2);
  new_file();
  assert_ok(wall_check(WALL_STORE, file));
  assert_int_equal(called(), before + 3);
  new_file();
  wall_know(file);
  assert_ok(wall_check(WALL_STORE, file));
  assert_int_equal(called(), before + 3);
  new_file();
  wall_lower(true);
  assert_ok(wall_check(WALL_STORE, file));
  wall_lower(false);
  assert_int_equal(called(), before + 3);
  /* What is no file is for the reader to refuse, and is not waited for. */
  unlink(file);
  assert_ok(wall_check(WALL_STORE, file));
  assert_int_equal(mkfifo(file, 0600), 0);
  assert_ok(wall_check(WALL_STORE, file));
  assert_ok(wall_check(WALL_STORE, folder));
  assert_int_equal(called(), before + 3);
}

/* Neither files, nor environment, nor signals of this process. */
static void what_a_probe_gets(void **unused) {
  new_file();
  setenv("OMPI_COMM_WORLD_RANK", "3", 1);
  setenv("PMIX_RANK", "3", 1);
  setenv("LD_PRELOAD_NOT", "x", 1);
  int descriptors[8];
  for (int i = 0; i < 8; i += 2) {
    assert_int_equal(pipe(descriptors + i), 0); /* without close-on-exec */
  }
  sigset_t all, before;
  sigfillset(&all);
  sigprocmask(SIG_BLOCK, &all, &before);
  signal(SIGSEGV, SIG_IGN);
  set_probe(
      "[ \"$(ls /proc/$$/fd | wc -l)\" -le 8 ] || exit 3\n" /* 0, 1, 2, the script, pipes of the shell's own, for a moment with both ends */
      "env | grep -E 'OMPI|PMIX|LD_PRELOAD' >/dev/null && exit 4\n"
      "grep -E 'SigBlk:.*[1-9a-f]' /proc/self/status >/dev/null && exit 5\n"
      "printf 'psann_probe\\n0\\n\\n'");
  status s = wall_check(WALL_CHECKPOINT, file);
  signal(SIGSEGV, SIG_DFL);
  sigprocmask(SIG_SETMASK, &before, NULL);
  assert_ok(s);
  for (int i = 0; i < 8; i++) {
    close(descriptors[i]);
  }
  signal(SIGCHLD, SIG_IGN); /* children that nobody can wait for */
  new_file();
  s = wall_check(WALL_CHECKPOINT, file);
  signal(SIGCHLD, SIG_DFL);
  assert_ok(s);
}

static int begin(void **unused) {
  folder = test_folder();
  assert_true(asprintf(&probe, "%s/probe ü", folder) > 0 && asprintf(&file, "%s/-a file ü.h5", folder) > 0 &&
              asprintf(&calls, "%s/calls", folder) > 0);
  set_probe("");
  return setenv("PSANN_PROBE", probe, 1);
}

static int end(void **unused) {
  unlink(probe);
  unlink(file);
  unlink(calls);
  rmdir(folder);
  free(probe);
  free(file);
  free(calls);
  free(folder);
  return 0;
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_probe_that_dies), cmocka_unit_test(a_probe_that_hangs), cmocka_unit_test(what_a_probe_says),
      cmocka_unit_test(looked_at_once),    cmocka_unit_test(what_a_probe_gets),
  };
  return cmocka_run_group_tests_name("wall", tests, begin, end);
}
