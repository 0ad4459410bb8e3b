/* Escaping: whatever the text, the markup stays ours and the bytes are UTF-8. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../train/unit.h"
#include "data/utf8.h"
#include "report/html.h"
#include "report/numbers.h"
#include "report/shell_words.h"

static void check(const char *text, const char *wanted) {
  html h = {0};
  html_text(&h, text);
  assert_string_equal(h.text != NULL ? h.text : "", wanted);
  html_free(&h);
}

static void test_escapes(void **state) {
  check("<script>alert('x & \"y\"')</script>", "&lt;script&gt;alert(&#39;x &amp; &quot;y&quot;&#39;)&lt;/script&gt;");
  check("täglich 日本 🙂\n\tnew", "täglich 日本 🙂\n\tnew");
  check("a\x1b[31mb\x7f", "a\uFFFD[31mb\uFFFD");
  check("cut \xe6\x97", "cut \uFFFD\uFFFD");
  check("\xff\xc0\xaf", "\uFFFD\uFFFD\uFFFD");
  check("gpj.\u202Eexe\u2066", "gpj.\uFFFDexe\uFFFD");
  check("", "");
  check(NULL, "");
}

static void test_random_bytes(void **state) {
  unsigned seed = (unsigned)time(NULL);
  print_message("seed %u\n", seed);
  srand(seed);
  for (int round = 0; round < 2000; round++) {
    char text[64];
    size_t n = (size_t)rand() % (sizeof text - 1);
    for (size_t i = 0; i < n; i++) {
      text[i] = (char)(1 + rand() % 255);
    }
    text[n] = 0;
    html h = {0};
    html_text(&h, text);
    for (size_t at = 0, length; at < h.bytes; at += length) {
      int32_t point = utf8_read(h.text + at, h.bytes - at, &length);
      assert_true(point >= 0 && point != '<' && point != '>' && point != '"' && point != '\'');
    }
    html_free(&h);
  }
}

static void test_grows(void **state) {
  html h = {0};
  for (int i = 0; i < 10000; i++) {
    html_add(&h, "<i>");
    html_format(&h, "%d", i);
    html_text(&h, "&");
  }
  assert_false(h.failed);
  assert_int_equal(h.bytes, strlen(h.text));
  assert_memory_equal(h.text, "<i>0&amp;<i>1&amp;", 17);
  html_free(&h);
}

static void test_words_of_a_shell(void **state) {
  char line[64] = "";
  shell_add_word(line, sizeof line, "run.dir=a/b");
  shell_add_word(line, sizeof line, "it's $HOME");
  shell_add_word(line, sizeof line, "");
  assert_string_equal(line, " run.dir=a/b 'it'\\''s $HOME' ''");
  for (int i = 0; i < 40; i++) { /* cut off, never past the end */
    shell_add_word(line, sizeof line, i % 2 ? "x y z" : "''''''''''''''''''''''");
    assert_true(strlen(line) < sizeof line);
  }
}

static void test_numbers(void **state) {
  char text[32];
  assert_string_equal(number_short(1234567.2, text), "1,234,567");
  assert_string_equal(number_short(100, text), "100");
  assert_string_equal(number_short(0.25, text), "0.2500");
  assert_string_equal(number_short(4e-5, text), "4e-05");
  assert_string_equal(number_short(1e300, text), "1e+300");
  assert_string_equal(number_short(3.14159, text), "3.142");
  assert_string_equal(number_grouped(-1234, text), "-1,234");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_escapes), cmocka_unit_test(test_random_bytes),     cmocka_unit_test(test_grows),
      cmocka_unit_test(test_numbers), cmocka_unit_test(test_words_of_a_shell),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
