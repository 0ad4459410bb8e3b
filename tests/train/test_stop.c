/* Signals: the first asks, a SIGINT after it ends the process at once. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"
#include "watch/stop.h"

/* Exit code of a child that gets the signals one after the other, then ends with 7 if `expected` was asked for. */
static int child(const int *signals, int count, int expected) {
  pid_t pid = fork();
  if (pid == 0) {
    if (stop_install(false) != STATUS_OK || stop_requested() != 0) {
      _exit(1);
    }
    for (int i = 0; i < count; i++) {
      raise(signals[i]);
    }
    _exit(stop_requested() == expected ? 7 : 8);
  }
  int result;
  waitpid(pid, &result, 0);
  return WIFEXITED(result) ? WEXITSTATUS(result) : -WTERMSIG(result);
}

static void test_first_signal_asks(void **state) {
  const int signals[] = {SIGINT, SIGTERM, SIGUSR1, SIGHUP};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(child(&signals[i], 1, signals[i]), 7);
  }
  assert_int_equal(child(NULL, 0, 0), 7);
}

static void test_second_interrupt_ends_at_once(void **state) {
  assert_int_equal(child((int[]){SIGINT, SIGINT}, 2, SIGINT), STOP_EXIT_CODE);
  assert_int_equal(child((int[]){SIGTERM, SIGINT}, 2, SIGTERM), STOP_EXIT_CODE);
}

static void test_other_signals_ask_once(void **state) {
  assert_int_equal(child((int[]){SIGTERM, SIGTERM, SIGUSR1, SIGHUP}, 4, SIGTERM), 7);
  assert_int_equal(child((int[]){SIGPIPE}, 1, 0), 7); /* a closed pipe is no request */
}

static void test_nohup_stays(void **state) {
  signal(SIGHUP, SIG_IGN);
  assert_int_equal(child((int[]){SIGHUP}, 1, 0), 7);
  signal(SIGHUP, SIG_DFL);
}

int main(void) {
  signal(SIGHUP, SIG_DFL); /* the tests may have been started with nohup */
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_first_signal_asks),
                                     cmocka_unit_test(test_second_interrupt_ends_at_once),
                                     cmocka_unit_test(test_other_signals_ask_once), cmocka_unit_test(test_nohup_stays)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
