#include "base/memory.h"
#include "test_support.h"

static void new_is_zeroed(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  size_t count = 1 + test_random(&seed) % 5000;
  int *numbers;
  assert_ok(memory_new(&numbers, count, sizeof *numbers, "numbers"));
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(numbers[i], 0);
  }
  free(numbers);
  assert_ok(memory_new(&numbers, 0, sizeof *numbers, "nothing"));
  assert_non_null(numbers);
  free(numbers);
}

static void too_much_is_a_failure(void **state) {
  (void)state;
  char *p = (char *)1;
  assert_fails(STATUS_FAILURE, "the table", memory_new(&p, SIZE_MAX / 2, 4, "the table"));
  assert_null(p);
#ifndef __SANITIZE_ADDRESS__ /* which ends the program rather than return NULL */
  p = (char *)1;
  assert_fails(STATUS_FAILURE, "out of memory: the table", memory_new(&p, PTRDIFF_MAX, 1, "the table"));
  assert_null(p);
#endif
  size_t capacity = 0;
  p = NULL;
  assert_fails(STATUS_FAILURE, "the list", memory_grow(&p, &capacity, SIZE_MAX / 2, 8, "the list"));
  assert_int_equal(capacity, 0);
  assert_null(p);
}

static void grow_keeps_what_is_there(void **state) {
  (void)state;
  uint64_t seed = test_seed();
  uint64_t at = seed;
  uint64_t *list = NULL;
  size_t capacity = 0;
  size_t count = 1000 + test_random(&seed) % 1000;
  at = seed;
  for (size_t i = 0; i < count; i++) {
    assert_ok(memory_grow(&list, &capacity, i + 1, sizeof *list, "list"));
    assert_true(capacity >= i + 1);
    list[i] = test_random(&at);
  }
  assert_true(capacity < 2 * count + 16);
  at = seed;
  for (size_t i = 0; i < count; i++) {
    assert_true(list[i] == test_random(&at));
  }
  free(list);
}

static void texts(void **state) {
  (void)state;
  char *text;
  assert_ok(memory_format(&text, "%s-%d", "step", 12));
  assert_string_equal(text, "step-12");
  free(text);
  char t[32];
  assert_string_equal(memory_text(0, t), "0 B");
  assert_string_equal(memory_text(1023, t), "1023 B");
  assert_string_equal(memory_text(1024, t), "1.0 KiB");
  assert_string_equal(memory_text(1048575, t), "1.0 MiB");
  assert_string_equal(memory_text(12.3 * 1073741824.0, t), "12.3 GiB");
  assert_string_equal(memory_text(1.5 * 1152921504606846976.0, t), "1.5 EiB");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(new_is_zeroed),
      cmocka_unit_test(too_much_is_a_failure),
      cmocka_unit_test(grow_keeps_what_is_there),
      cmocka_unit_test(texts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
