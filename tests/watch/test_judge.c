/* Who is found dead, stopped or stuck, after how long, and what is said of it. */
#include <stdio.h>
#include <string.h>

#include "../base/test_support.h"
#include "watch/judge.h"

enum { RANKS = 4 };
static const double T = 100, NOW = 10000; /* the time-out; a rank is to be found after 75 s */

static rank_view views[RANKS];

/* All in the middle of a run, heard of and moving right now. */
static void all_well(void) {
  memset(views, 0, sizeof views);
  for (int r = 0; r < RANKS; r++) {
    views[r].rank = r;
    views[r].heard = views[r].moved = NOW;
    views[r].last = (activity){.phase = PHASE_PASS, .step = 12, .steps_begun = 12, .collectives = 40};
    snprintf(views[r].peer.host, sizeof views[r].peer.host, "host%d", r);
    views[r].peer.process.pid = 100 + r;
  }
}

static finding find(void) {
  return watch_judge(views, RANKS, true, NOW, T);
}

static void assert_found(finding_kind kind, int index) {
  finding f = find();
  assert_int_equal(f.kind, kind);
  if (kind != FINDING_NONE) {
    assert_int_equal(f.index, index);
  }
}

static void wait_in(int rank, const char *collective, double since) {
  views[rank].last.waiting = true;
  views[rank].moved = NOW - since;
  snprintf(views[rank].last.collective, sizeof views[rank].last.collective, "%s", collective);
}

static void test_silence(void **state) {
  (void)state;
  all_well();
  assert_found(FINDING_NONE, 0);
  views[2].heard = NOW - 74;
  assert_found(FINDING_NONE, 0);
  views[2].heard = NOW - 76;
  assert_found(FINDING_SILENT, 2);
  views[2].last.phase = PHASE_SAVE; /* no phase keeps the watchdog's own thread from speaking */
  assert_found(FINDING_SILENT, 2);
  views[2].ended = true;
  assert_found(FINDING_NONE, 0);
}

static void test_death_comes_first(void **state) {
  (void)state;
  all_well();
  views[0].heard = NOW - 90;
  views[3].closed = true;
  assert_found(FINDING_DIED, 3);
  views[3].ended = true; /* in order */
  assert_found(FINDING_SILENT, 0);
}

static void test_no_progress(void **state) {
  (void)state;
  for (phase p = 0; p < PHASES; p++) {
    bool may_last = p == PHASE_START || p == PHASE_SAVE || p == PHASE_RETURN || p == PHASE_END;
    double limit = 75 * (may_last ? WATCH_LONG : 1);
    all_well();
    views[1].last.phase = p;
    views[1].moved = NOW - (limit - 1);
    assert_found(FINDING_NONE, 0);
    views[1].moved = NOW - (limit + 1);
    assert_found(FINDING_STUCK, 1);
    views[1].last.waiting = true; /* for a busy one */
    assert_found(FINDING_NONE, 0);
  }
}

static void test_the_first_step_may_last(void **state) {
  (void)state;
  all_well();
  views[1].last.steps_begun = 1;
  views[1].moved = NOW - 75 * WATCH_LONG + 1;
  assert_found(FINDING_NONE, 0);
  views[1].last.steps_begun = 2;
  assert_found(FINDING_STUCK, 1);
}

static void test_all_wait(void **state) {
  (void)state;
  all_well();
  for (int r = 0; r < RANKS; r++) {
    wait_in(r, "all_gather", 80 + r);
  }
  assert_found(FINDING_ALL_WAIT, -1); /* nobody is behind */
  assert_true(find().seconds == 80);
  assert_int_equal(watch_judge(views, 2, false, NOW, T).kind, FINDING_NONE); /* the rest may be busy */
  views[2].last.collectives--;
  assert_found(FINDING_ALL_WAIT, 2);
  views[1].last.phase = PHASE_SAVE; /* it has longer */
  assert_found(FINDING_NONE, 0);
  views[1].last.phase = PHASE_PASS;
  views[3].last.waiting = false; /* busy, and not for too long */
  views[3].moved = NOW - 10;
  assert_found(FINDING_NONE, 0);
  views[3].moved = NOW - 80;
  assert_found(FINDING_STUCK, 3);
}

/* On GPUs the hosts of well ranks stand still too, behind full queues, and in no order that beats could tell. */
static void test_the_first_that_hangs(void **state) {
  (void)state;
  all_well();
  for (int r = 0; r < RANKS; r++) {
    views[r].moved = NOW - 80 - r;
    views[r].last.collectives = r == 1 ? 39 : 45 + r;
  }
  assert_found(FINDING_STUCK, 1);
  views[1].last.collectives = 45;
  assert_found(FINDING_STUCK, 1); /* as few as rank 0, and longer */
  views[3].heard = NOW - 80;
  assert_found(FINDING_SILENT, 3);
  views[2].heard = NOW - 81;
  assert_found(FINDING_SILENT, 2);
}

static const char *sentence(bool stopped) {
  static char text[1024];
  finding f = find();
  return watch_sentence(&f, views, RANKS, stopped, text, sizeof text);
}

static void test_sentences(void **state) {
  (void)state;
  const char *end = "; the job ends, and goes on from its last checkpoint when it is started again";
  char expected[512];
  all_well();
  views[1].closed = true;
  wait_in(0, "all_gather", 1);
  wait_in(3, "all_gather", 1);
  snprintf(expected, sizeof expected,
           "rank 1 on host1 (process 101) died: step 12, forward and backward; ranks 0, 3 wait in all_gather%s", end);
  assert_string_equal(sentence(false), expected);

  all_well();
  views[2].heard = NOW - 80;
  wait_in(2, "all_to_all", 80);
  snprintf(
      expected, sizeof expected,
      "rank 2 on host2 (process 102) is stopped, without a sign of life for 80.0 s: step 12, forward and backward, in "
      "all_to_all%s",
      end);
  assert_string_equal(sentence(true), expected);
  assert_non_null(strstr(sentence(false), "does not answer, without a sign of life for 80.0 s"));

  all_well();
  views[0].moved = NOW - 80;
  wait_in(1, "barrier", 80);
  assert_non_null(strstr(sentence(false), "rank 0 on host0 (process 100) hangs, without progress for 80.0 s"));
  assert_non_null(strstr(sentence(false), "; rank 1 waits in barrier;"));

  for (int r = 0; r < RANKS; r++) {
    wait_in(r, "all_gather", 80);
  }
  assert_non_null(strstr(sentence(false), "no rank has made progress for 80.0 s, though all are alike far (step 12"));
  assert_non_null(strstr(sentence(false), "ranks 0, 1, 2, 3 wait in all_gather"));
  views[3].last.collectives = 39;
  assert_non_null(strstr(sentence(false), "rank 3 on host3 (process 103) is furthest behind"));
}

/* Many ranks, long names, and a text that is too small: cut, never written past. */
static void test_sentences_are_bounded(void **state) {
  (void)state;
  enum { MANY = 300 };
  static rank_view many[MANY];
  for (int r = 0; r < MANY; r++) {
    many[r] = (rank_view){.rank = 1000000 + r, .heard = NOW, .moved = NOW, .last = {.waiting = r > 0, .phase = 99}};
    memset(many[r].peer.host, 'h', sizeof many[r].peer.host - 1);
    memset(many[r].last.collective, 'c', sizeof many[r].last.collective - 1);
  }
  many[0].closed = true;
  finding f = watch_judge(many, MANY, true, NOW, T);
  for (size_t size = 1; size < 600; size++) {
    char text[601];
    memset(text, '#', sizeof text);
    watch_sentence(&f, many, MANY, false, text, size);
    assert_true(strlen(text) < size);
    assert_int_equal(text[size], '#');
  }
  char text[1024];
  assert_non_null(strstr(watch_sentence(&f, many, MANY, false, text, sizeof text), " and 291 more wait in "));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_silence),
      cmocka_unit_test(test_death_comes_first),
      cmocka_unit_test(test_no_progress),
      cmocka_unit_test(test_the_first_step_may_last),
      cmocka_unit_test(test_the_first_that_hangs),
      cmocka_unit_test(test_all_wait),
      cmocka_unit_test(test_sentences),
      cmocka_unit_test(test_sentences_are_bounded),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
