/* Checksums against published values, and the framing of records. */
#include <string.h>

#include "../train/unit.h"
#include "report/tfrecord.h"

/* RFC 3720, B.4, and the check value of the CRC catalogue. */
static void test_known_checksums(void **state) {
  uint8_t bytes[32];
  assert_int_equal(crc32c("123456789", 9), 0xE3069283);
  assert_int_equal(crc32c("", 0), 0);
  memset(bytes, 0, sizeof bytes);
  assert_int_equal(crc32c(bytes, 32), 0x8A9136AA);
  memset(bytes, 255, sizeof bytes);
  assert_int_equal(crc32c(bytes, 32), 0x62A8AB43);
  for (int i = 0; i < 32; i++) {
    bytes[i] = (uint8_t)i;
  }
  assert_int_equal(crc32c(bytes, 32), 0x46DD794E);
  for (int i = 0; i < 32; i++) {
    bytes[i] = (uint8_t)(31 - i);
  }
  assert_int_equal(crc32c(bytes, 32), 0x113FDB5C);
}

/* The mask undone gives the checksum again. */
static void test_mask(void **state) {
  uint32_t rotated = crc32c_masked("123456789", 9) - 0xA282EAD8U;
  assert_int_equal((rotated >> 17) | (rotated << 15), 0xE3069283);
}

static uint32_t word(const uint8_t *p) {
  return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void test_frame(void **state) {
  enum { BYTES = 300 };
  uint8_t record[TFRECORD_HEAD + BYTES + TFRECORD_TAIL + 1];
  memset(record, 7, sizeof record);
  tfrecord_frame(record, BYTES);
  const uint8_t length[8] = {BYTES & 255, BYTES >> 8};
  assert_memory_equal(record, length, 8);
  assert_int_equal(word(record + 8), crc32c_masked(length, 8));
  assert_int_equal(word(record + TFRECORD_HEAD + BYTES), crc32c_masked(record + TFRECORD_HEAD, BYTES));
  for (int i = 0; i < BYTES; i++) {
    assert_int_equal(record[TFRECORD_HEAD + i], 7);
  }
  assert_int_equal(record[sizeof record - 1], 7);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_known_checksums),
      cmocka_unit_test(test_mask),
      cmocka_unit_test(test_frame),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
