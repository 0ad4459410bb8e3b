/* What watchers see of the main thread: progress, nested waits, and another thread that it leans on. */
#include <pthread.h>
#include <sys/wait.h>

#include "base/activity.h"
#include "base/clock.h"
#include "test_support.h"

static void test_progress(void **state) {
  (void)state;
  activity before = activity_now();
  activity_enter(PHASE_LOAD);
  activity_step(7);
  activity_tick();
  activity after = activity_now();
  assert_int_equal(after.phase, PHASE_LOAD);
  assert_int_equal(after.step, 7);
  assert_int_equal(after.steps_begun, before.steps_begun + 1);
  assert_int_equal(after.progress, before.progress + 3);
  assert_false(after.waiting);
}

static void test_waits(void **state) {
  (void)state;
  activity before = activity_now();
  double seconds = activity_waiting_seconds();
  activity_wait("outer");
  activity_wait("inner");
  usleep(20000);
  activity_waited();
  activity inside = activity_now();
  assert_true(inside.waiting); /* the inner one's end is not the outer one's */
  assert_string_equal(inside.collective, "outer");
  assert_int_equal(inside.collectives, before.collectives + 1);
  activity_waited();
  activity after = activity_now();
  assert_false(after.waiting);
  assert_int_equal(after.progress, before.progress + 2); /* into it and out of it */
  double spent = activity_waiting_seconds() - seconds;
  assert_true(spent >= 0.02 && spent < 10);
}

static void *tick(void *unused) {
  activity_tick();
  return unused;
}

static int64_t progress_of_thread(void) {
  int64_t before = activity_now().progress;
  pthread_t thread;
  assert_int_equal(pthread_create(&thread, NULL, tick, NULL), 0);
  pthread_join(thread, NULL);
  return activity_now().progress - before;
}

static void test_other_threads(void **state) {
  (void)state;
  assert_int_equal(progress_of_thread(), 0); /* a thread that works hides no main thread that hangs */
  activity before = activity_now();
  activity_lean();
  assert_int_equal(progress_of_thread(), 1);
  int64_t leaning = activity_now().progress;
  activity_wait("a look at the others"); /* while it leans, waits are no progress, and others wait for it */
  assert_false(activity_now().waiting);
  activity_waited();
  assert_int_equal(activity_now().progress, leaning);
  assert_int_equal(activity_now().collectives, before.collectives + 1);
  activity_stand();
  assert_int_equal(progress_of_thread(), 0);
}

static void test_words(void **state) {
  (void)state;
  for (int p = 0; p < PHASES; p++) {
    assert_true(strlen(phase_name(p)) > 0 && strcmp(phase_name(p), "an unknown phase") != 0);
  }
  assert_string_equal(phase_name(PHASES), "an unknown phase"); /* from another rank's message */
}

/* None of them holds this process. */
static void test_holds_that_are_none(void **state) {
  (void)state;
  const char *const values[] = {"", "0:pass", "0:nothing:1", "x:pass:1", "0:pass:1:stay", "1:pass:1"};
  for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
    setenv("PSANN_DEBUG_HOLD", values[i], 1);
    activity_hold_from_environment(0);
    activity_step(1);
    for (int p = 0; p < PHASES; p++) {
      activity_enter(p);
    }
  }
}

static void *halt_main(void *unused) {
  activity_halt();
  activity_tick(); /* this thread goes on */
  int64_t before = activity_now().progress;
  usleep(50000);
  _exit(activity_now().progress == before ? 0 : 1);
  return unused;
}

/* In a process of its own, which the other thread ends. */
static void test_halt(void **state) {
  (void)state;
  pid_t child = fork();
  if (child == 0) {
    pthread_t thread;
    double start = clock_seconds();
    pthread_create(&thread, NULL, halt_main, NULL);
    while (clock_seconds() - start < 20) {
      activity_tick();
    }
    _exit(2);
  }
  int code;
  assert_int_equal(waitpid(child, &code, 0), child);
  assert_true(WIFEXITED(code));
  assert_int_equal(WEXITSTATUS(code), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_progress),
      cmocka_unit_test(test_waits),
      cmocka_unit_test(test_words),
      cmocka_unit_test(test_other_threads),
      cmocka_unit_test(test_holds_that_are_none),
      cmocka_unit_test(test_halt),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
