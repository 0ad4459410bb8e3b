/* Messages between two watchdogs: whole or not at all, however the bytes arrive, whatever they are. */
#include <string.h>
#include <sys/socket.h>

#include "../base/test_support.h"
#include "watch/wire.h"

static wire a, b;
static message got;

static void connect_wires(void) {
  int ends[2];
  assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  wire_open(&a, ends[0]);
  wire_open(&b, ends[1]);
}

static void test_messages(void **state) {
  (void)state;
  char long_text[2 * MESSAGE_BYTES];
  memset(long_text, 'x', sizeof long_text);
  connect_wires();
  assert_int_equal(wire_receive(&b, &got), WIRE_NOTHING);
  assert_true(wire_send(&a, MESSAGE_FAULT, "it broke", 8));
  assert_true(wire_send(&a, MESSAGE_END, NULL, 0));
  assert_true(wire_send(&a, MESSAGE_FAULT, long_text, sizeof long_text));
  assert_int_equal(wire_receive(&b, &got), WIRE_MESSAGE);
  assert_true(got.type == MESSAGE_FAULT && got.bytes == 8 && memcmp(got.payload, "it broke", 8) == 0);
  assert_int_equal(wire_receive(&b, &got), WIRE_MESSAGE);
  assert_true(got.type == MESSAGE_END && got.bytes == 0);
  assert_int_equal(wire_receive(&b, &got), WIRE_MESSAGE);
  assert_int_equal(got.bytes, MESSAGE_BYTES);
  for (int type = 0; type < MESSAGE_TYPES; type++) {
    assert_true(wire_send(&a, (message_type)type, &type, sizeof type));
    assert_int_equal(wire_receive(&b, &got), WIRE_MESSAGE);
    assert_int_equal(got.type, type);
  }
  assert_int_equal(wire_receive(&b, &got), WIRE_NOTHING);
  wire_close(&a);
  assert_int_equal(wire_receive(&b, &got), WIRE_CLOSED);
  wire_close(&b);
  assert_int_equal(wire_receive(&b, &got), WIRE_CLOSED);
  assert_false(wire_send(&b, MESSAGE_BEAT, NULL, 0));
}

static void test_bytes_one_by_one(void **state) {
  (void)state;
  connect_wires();
  const uint32_t header[2] = {MESSAGE_BEAT, 5};
  char bytes[13];
  memcpy(bytes, header, 8);
  memcpy(bytes + 8, "hello", 5);
  for (size_t i = 0; i < sizeof bytes; i++) {
    assert_int_equal(wire_receive(&b, &got), WIRE_NOTHING);
    assert_int_equal(send(a.socket, bytes + i, 1, 0), 1);
  }
  assert_int_equal(wire_receive(&b, &got), WIRE_MESSAGE);
  assert_true(got.bytes == 5 && memcmp(got.payload, "hello", 5) == 0);
  wire_close(&a);
  wire_close(&b);
}

static void test_nonsense_closes(void **state) {
  (void)state;
  const uint32_t headers[][2] = {{MESSAGE_TYPES, 0}, {MESSAGE_BEAT, MESSAGE_BYTES + 1}, {UINT32_MAX, UINT32_MAX}};
  for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
    connect_wires();
    assert_int_equal(send(a.socket, headers[i], sizeof headers[i], 0), sizeof headers[i]);
    assert_int_equal(wire_receive(&b, &got), WIRE_CLOSED);
    wire_close(&a);
    wire_close(&b);
  }
}

/* Somebody who does not read: sends never wait, and what came through is whole and in order. */
static void test_a_full_way(void **state) {
  (void)state;
  connect_wires();
  int sent = 0, taken = 0;
  for (int i = 0; i < 100000 && sent == i; i++) {
    int numbers[MESSAGE_BYTES / sizeof(int)] = {i};
    sent += wire_send(&a, MESSAGE_BEAT, numbers, sizeof numbers);
  }
  assert_true(sent > 10 && sent < 100000);
  assert_false(wire_flush(&a));
  do {
    while (wire_receive(&b, &got) == WIRE_MESSAGE) {
      int number;
      memcpy(&number, got.payload, sizeof number);
      assert_int_equal(number, taken++);
    }
  } while (!wire_flush(&a) || taken < sent);
  assert_int_equal(taken, sent);
  wire_close(&a);
  wire_close(&b);
}

/* A last word is read even when its sender had something unread as it closed. */
static void test_last_words_arrive(void **state) {
  (void)state;
  connect_wires();
  for (int i = 0; i < 8; i++) {
    assert_true(wire_send(&b, MESSAGE_BEAT, "unread", 6));
  }
  assert_true(wire_send(&a, MESSAGE_END, NULL, 0));
  wire_close(&a);
  assert_int_equal(wire_receive(&b, &got), WIRE_MESSAGE);
  assert_int_equal(got.type, MESSAGE_END);
  wire_close(&b);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_messages),          cmocka_unit_test(test_bytes_one_by_one),
      cmocka_unit_test(test_nonsense_closes),   cmocka_unit_test(test_a_full_way),
      cmocka_unit_test(test_last_words_arrive),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
