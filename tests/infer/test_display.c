/* Where text may be cut, and what becomes of bytes that are no UTF-8. */
#include <stdlib.h>
#include <string.h>

#include "infer/display.h"
#include "unit.h"

static void test_whole(void **state) {
  static const struct {
    const char *text;
    size_t whole;
  } cases[] = {
      {"", 0},          {"abc", 3},          {"a\xC3", 1},         {"a\xC3\xA9", 3},        {"\xE2\x82", 0},
      {"\xE2", 0},      {"\xE2\x82\xAC", 3}, {"x\xF0\x9F\x98", 1}, {"\xF0\x9F\x98\x80", 4}, {"\xF0\x9F\x98\x80\xF0", 4},
      {"a\x80\x80", 3},                                       /* no character: nothing to wait for */
      {"\xFF", 1},      {"\xC0", 1},         {"\xE0\x80", 2}, /* overlong: nothing can complete it */
      {"\xED\xA0", 2},                                        /* a surrogate */
  };
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    size_t whole = display_whole(cases[i].text, strlen(cases[i].text));
    if (whole != cases[i].whole) {
      fail_msg("case %zu: %zu, not %zu", i, whole, cases[i].whole);
    }
  }
}

static void clean(const char *text, size_t bytes, const char *wanted) {
  char *out;
  assert_int_equal(display_clean(text, bytes, &out), STATUS_OK);
  assert_string_equal(out, wanted);
  free(out);
}

static void test_clean(void **state) {
  clean("", 0, "");
  clean("caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80", 14, "caf\xC3\xA9 \xE2\x82\xAC \xF0\x9F\x98\x80");
  clean("a\xFFz", 3, "a\xEF\xBF\xBDz");
  clean("a\0z", 3, "a\xEF\xBF\xBDz");
  clean("\xE2\x82", 2, "\xEF\xBF\xBD\xEF\xBF\xBD");
  clean("\xE2\x82x", 3, "\xEF\xBF\xBD\xEF\xBF\xBDx");
  clean("\xC0\xAF", 2, "\xEF\xBF\xBD\xEF\xBF\xBD");
  clean("\xF4\x90\x80\x80", 4, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_whole), cmocka_unit_test(test_clean)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
