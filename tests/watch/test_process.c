/* Other processes: what becomes of them is seen, and only the one that is meant is killed. */
#include <signal.h>
#include <sys/wait.h>

#include "../base/test_support.h"
#include "watch/process.h"

/* A child that says who it is and then sleeps. */
static pid_t start_child(process_id *id) {
  int ends[2];
  assert_int_equal(pipe(ends), 0);
  pid_t child = fork();
  assert_true(child >= 0);
  if (child == 0) {
    process_id me = process_self();
    ssize_t ignored = write(ends[1], &me, sizeof me);
    (void)ignored;
    pause();
    _exit(0);
  }
  assert_int_equal(read(ends[0], id, sizeof *id), sizeof *id);
  close(ends[0]);
  close(ends[1]);
  assert_int_equal(id->pid, child);
  return child;
}

static void await(const process_id *id, process_state expected) {
  for (int i = 0; i < 10000 && process_look(id) != expected; i++) {
    usleep(1000);
  }
  assert_int_equal(process_look(id), expected);
}

static void test_states(void **state) {
  (void)state;
  process_id me = process_self(), id;
  assert_int_equal(me.pid, getpid());
  assert_true(me.started > 0);
  assert_int_equal(process_look(&me), PROCESS_RUNS);
  pid_t child = start_child(&id);
  assert_int_equal(process_look(&id), PROCESS_RUNS);
  kill(child, SIGSTOP);
  await(&id, PROCESS_STOPPED);
  process_kill(&id);        /* a stopped one dies too */
  await(&id, PROCESS_GONE); /* a zombie */
  int how = 0;
  assert_int_equal(waitpid(child, &how, 0), child);
  assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
  assert_int_equal(process_look(&id), PROCESS_GONE);
  process_kill(&id);
}

/* The number is taken by a process that started at another time: that one is let be. */
static void test_another_with_the_number(void **state) {
  (void)state;
  process_id id;
  pid_t child = start_child(&id);
  process_id earlier = {.pid = id.pid, .started = id.started - 1}, unknown = {.pid = id.pid, .started = 0};
  const process_id nobody[] = {{.pid = 0}, {.pid = -1}, {.pid = 1}};
  assert_int_equal(process_look(&earlier), PROCESS_GONE);
  process_kill(&earlier);
  process_kill(&unknown);
  for (size_t i = 0; i < sizeof nobody / sizeof nobody[0]; i++) {
    process_kill(&nobody[i]);
  }
  usleep(20000);
  assert_int_equal(process_look(&id), PROCESS_RUNS);
  process_kill(&id);
  int how = 0;
  waitpid(child, &how, 0);
  assert_true(WIFSIGNALED(how));
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_states), cmocka_unit_test(test_another_with_the_number)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
