#include <math.h>

#include "base/clock.h"
#include "test_support.h"

static void clock_never_goes_back(void **state) {
  (void)state;
  double last = clock_seconds();
  for (int i = 0; i < 100000; i++) {
    double now = clock_seconds();
    assert_true(now >= last);
    last = now;
  }
  double before = clock_seconds();
  usleep(20000);
  double passed = clock_seconds() - before;
  assert_true(passed >= 0.019 && passed < 5);
}

static void texts(void **state) {
  (void)state;
  char text[32];
  int year, month, day, hour, minute, second, length = 0;
  clock_utc(text);
  assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2dZ%n", &year, &month, &day, &hour, &minute, &second, &length),
                   6);
  assert_int_equal(length, 20);
  assert_int_equal(strlen(text), 20);
  clock_stamp(text);
  assert_int_equal(sscanf(text, "%8d_%6d%n", &day, &second, &length), 2);
  assert_int_equal(length, 15);
  assert_int_equal(strlen(text), 15);
  clock_utc(text);
  assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d", &year, &month, &day, &hour), 4);
  assert_true(year > 2020 && month >= 1 && month <= 12 && day >= 1 && day <= 31);
  assert_string_equal(clock_duration(0, text), "0s");
  assert_string_equal(clock_duration(12.4, text), "12s");
  assert_string_equal(clock_duration(59.6, text), "1m00s");
  assert_string_equal(clock_duration(200, text), "3m20s");
  assert_string_equal(clock_duration(3599.7, text), "1h00m");
  assert_string_equal(clock_duration(3720, text), "1h02m");
  assert_string_equal(clock_duration(100 * 3600.0, text), "100h00m");
  assert_string_equal(clock_duration(-1, text), "?");
  assert_string_equal(clock_duration(NAN, text), "?");
  assert_string_equal(clock_duration(INFINITY, text), "?");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(clock_never_goes_back), cmocka_unit_test(texts)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
