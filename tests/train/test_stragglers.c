/* Which rank is the slow one, and when that is worth a line. */
#include <stdlib.h>
#include <string.h>

#include "train/stragglers.h"
#include "unit.h"

static void test_slowest(void **state) {
  (void)state;
  static const struct {
    int ranks;
    double busy[6];
    int slowest;
    double least, median, most;
    bool slow;
  } cases[] = {
      {2, {10, 10}, 0, 10, 10, 10, false},
      {2, {10, 12}, 1, 10, 11, 12, false},
      {2, {14, 10}, 0, 10, 12, 14, true},
      {3, {10, 20, 11}, 1, 10, 11, 20, true},
      {4, {10, 11, 12, 13}, 3, 10, 11.5, 13, false},
      {5, {1, 2, 3, 4, 3.4}, 3, 1, 3, 4, true},
      {6, {9, 9, 9, 9, 9, 0}, 0, 0, 9, 9, false},
      {1, {5}, 0, 5, 5, 5, false},
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    metrics_ranks r;
    bool slow = stragglers_slowest(cases[i].busy, cases[i].ranks, &r);
    assert_int_equal(slow, cases[i].slow);
    assert_int_equal(r.slowest, cases[i].slowest);
    assert_true(r.least == cases[i].least && r.median == cases[i].median && r.most == cases[i].most);
  }
}

/* What the gathers of `steps` steps have brought since the last report. */
static void steps(stragglers *s, double slow_rank_s, int64_t steps) {
  for (int r = 0; r < s->d->ranks; r++) {
    s->busy[r] = (r == 2 ? slow_rank_s : 0.1) * (double)steps;
    s->waiting[r] = 0.01 * (double)steps;
  }
  s->steps = steps;
}

/* Three reports in a row, over half a minute and more; told once, and anew when it comes back. */
static void test_warning(void **state) {
  (void)state;
  enum { RANKS = 4 };
  const dist d = {.rank = 0, .ranks = RANKS};
  double busy[RANKS] = {0}, waiting[RANKS] = {0};
  char hosts[RANKS][RANK_HOST] = {"a", "b", "c", "d"};
  stragglers s = {.d = &d, .busy = busy, .waiting = waiting, .hosts = hosts, .slow = -1};
  static const struct {
    double now, seconds;
    bool told;
  } reports[] = {
      {0, 0.2, false}, {10, 0.2, false}, {20, 0.2, false}, {29, 0.2, false}, {31, 0.2, true},
      {41, 0.2, true}, {51, 0.1, false}, {61, 0.2, false}, {95, 0.2, false}, {99, 0.2, true},
  };
  for (size_t i = 0; i < sizeof reports / sizeof reports[0]; i++) {
    steps(&s, reports[i].seconds, 5);
    stragglers_report(&s, NULL, 10, reports[i].now);
    assert_int_equal(s.told, reports[i].told);
    assert_true(s.steps == 0 && busy[2] == 0 && waiting[0] == 0); /* the next report begins anew */
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_slowest), cmocka_unit_test(test_warning)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
