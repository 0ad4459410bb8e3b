/* How the watchdog ends a job whose exchange has failed: with a sentence and a failure, in time, also where giving up
 * the exchange never returns, and without a word more from the main thread. Starts itself under mpirun.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../base/test_support.h"
#include "base/activity.h"
#include "base/clock.h"
#include "watch/watchdog.h"

static const char *self;

/* The job. */

static atomic_bool given_up;

static status fails(collectives *c) {
  if (c->d->rank == 0) {
    FAIL("the network is gone");
  }
  return STATUS_OK;
}

/* As on a GPU: what waits for the exchange is let go, and freeing its memory waits without end. */
static void hangs(collectives *c) {
  (void)c;
  atomic_store(&given_up, true);
  for (;;) {
    pause();
  }
}

static int run_rank(int argc, char **argv) {
  static const collectives_ops ops = {.check = fails, .abort = hangs};
  dist d;
  if (dist_start(&argc, &argv, &d) != STATUS_OK || watch_start(&d, 4) != STATUS_OK) {
    return 9;
  }
  collectives c = {.ops = &ops, .d = &d};
  watch_exchange(&c, NULL);
  activity_wait("the step on the device");
  double start = clock_seconds();
  while (!atomic_load(&given_up) && clock_seconds() - start < 60) {
    usleep(1000);
  }
  activity_waited();
  fprintf(stderr, "the main thread went on\n");
  sleep(60);
  return 9;
}

/* The test. */

static void test_exchange_that_cannot_be_given_up(void **state) {
  (void)state;
  static char command[4096], out[1 << 16];
  snprintf(command, sizeof command, "exec mpirun --oversubscribe -np 2 '%s' rank 2>&1", self);
  double start = clock_seconds();
  FILE *job = popen(command, "r");
  assert_non_null(job);
  size_t length = fread(out, 1, sizeof out - 1, job);
  out[length] = '\0';
  int code = pclose(job);
  print_message("%s", out);
  assert_true(WIFEXITED(code));
  assert_int_equal(WEXITSTATUS(code), STATUS_FAILURE); /* by its own hand, not by the alarm's */
  assert_true(clock_seconds() - start < 30);
  assert_non_null(strstr(out, "error: rank 0 of 2"));
  assert_non_null(strstr(out, "the network is gone"));
  assert_null(strstr(out, "went on"));
}

/* In a process of its own. */
static void test_end_that_hangs(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    watch_end_within(1, STATUS_USER_ERROR);
    sleep(60);
    sleep(60);
    _exit(9);
  }
  int code;
  assert_int_equal(waitpid(child, &code, 0), child);
  assert_true(WIFEXITED(code));
  assert_int_equal(WEXITSTATUS(code), STATUS_USER_ERROR);
}

int main(int argc, char **argv) {
  self = argv[0];
  if (argc > 1 && strcmp(argv[1], "rank") == 0) {
    return run_rank(argc, argv);
  }
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_exchange_that_cannot_be_given_up),
                                     cmocka_unit_test(test_end_that_hangs)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
