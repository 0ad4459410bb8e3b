#include "report/tfrecord.h"

/* One byte at a time through this table. A record is some hundred bytes, so more speed would not show. */
static void make_table(uint32_t table[256]) {
  enum { POLYNOMIAL = 0x82F63B78 }; /* reflected */
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; bit++) {
      c = (c & 1) != 0 ? (c >> 1) ^ (uint32_t)POLYNOMIAL : c >> 1;
    }
    table[i] = c;
  }
}

uint32_t crc32c(const void *data, size_t bytes) {
  static uint32_t table[256]; /* table[1] is not 0 once it is made */
  if (table[1] == 0) {
    make_table(table);
  }
  uint32_t c = UINT32_MAX;
  for (const uint8_t *p = data; bytes > 0; bytes--, p++) {
    c = table[(c ^ *p) & 255] ^ (c >> 8);
  }
  return ~c;
}

uint32_t crc32c_masked(const void *data, size_t bytes) {
  uint32_t c = crc32c(data, bytes);
  return ((c >> 15) | (c << 17)) + 0xA282EAD8U;
}

static void put(uint8_t *out, uint64_t value, int bytes) {
  for (int i = 0; i < bytes; i++) {
    out[i] = (uint8_t)(value >> (8 * i));
  }
}

void tfrecord_frame(uint8_t *record, size_t bytes) {
  put(record, bytes, 8);
  put(record + 8, crc32c_masked(record, 8), 4);
  put(record + TFRECORD_HEAD + bytes, crc32c_masked(record + TFRECORD_HEAD, bytes), TFRECORD_TAIL);
}
