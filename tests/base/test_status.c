#include <pthread.h>

#include "test_support.h"

static status one(int value) {
  REQUIRE(value != 1, "value %d is one", value);
  if (value == 2) {
    USER_ERROR("value %d is two; use three", value);
  }
  return STATUS_OK;
}

static status outer(int value) {
  TRY(one(value));
  return STATUS_OK;
}

static void codes_and_messages(void **state) {
  (void)state;
  assert_int_equal(outer(3), STATUS_OK);
  assert_int_equal(outer(1), STATUS_FAILURE);
  assert_string_equal(status_message(), "value 1 is one");
  assert_non_null(strstr(status_place(), "test_status.c:"));
  assert_int_equal(outer(2), STATUS_USER_ERROR);
  assert_string_equal(status_message(), "value 2 is two; use three");
}

static void prefix_keeps_the_code(void **state) {
  (void)state;
  status code = outer(2);
  assert_int_equal(status_prefix(code, "reading %s", "a.ini"), STATUS_USER_ERROR);
  assert_string_equal(status_message(), "reading a.ini: value 2 is two; use three");
}

static void message_may_hold_the_last_one(void **state) {
  (void)state;
  assert_int_equal(outer(1), STATUS_FAILURE);
  status_set(STATUS_FAILURE, "../x/src/base/a.c", 7, "after: %s", status_message());
  assert_string_equal(status_message(), "after: value 1 is one");
  assert_string_equal(status_place(), "src/base/a.c:7");
}

static void long_messages_are_marked(void **state) {
  (void)state;
  char *text = malloc(10000);
  memset(text, 'x', 9999);
  text[9999] = '\0';
  status_set(STATUS_FAILURE, "a.c", 1, "%s", text);
  size_t length = strlen(status_message());
  assert_true(length < 9999);
  assert_string_equal(status_message() + length - 5, "[...]");
  status_prefix(STATUS_FAILURE, "%s", text);
  assert_string_equal(status_message() + strlen(status_message()) - 5, "[...]");
  free(text);
}

static void *fail_elsewhere(void *result) {
  *(int *)result = strcmp(status_message(), "") == 0;
  outer(2);
  return NULL;
}

static void threads_have_their_own(void **state) {
  (void)state;
  outer(1);
  pthread_t thread;
  int was_empty = 0;
  assert_int_equal(pthread_create(&thread, NULL, fail_elsewhere, &was_empty), 0);
  pthread_join(thread, NULL);
  assert_true(was_empty);
  assert_string_equal(status_message(), "value 1 is one");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(codes_and_messages),
      cmocka_unit_test(prefix_keeps_the_code),
      cmocka_unit_test(message_may_hold_the_last_one),
      cmocka_unit_test(long_messages_are_marked),
      cmocka_unit_test(threads_have_their_own),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
