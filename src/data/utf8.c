#include "data/utf8.h"

int32_t utf8_read(const char *text, size_t bytes, size_t *length) {
  const unsigned char *u = (const unsigned char *)text;
  *length = 1;
  if (u[0] < 0x80) {
    return u[0];
  }
  size_t more = u[0] >= 0xF0 ? 3 : u[0] >= 0xE0 ? 2 : 1;
  if (u[0] < 0xC2 || u[0] > 0xF4 || more >= bytes) {
    return -1;
  }
  int32_t point = u[0] & (0x3F >> more);
  for (size_t i = 1; i <= more; i++) {
    if ((u[i] & 0xC0) != 0x80) {
      return -1;
    }
    point = point << 6 | (u[i] & 0x3F);
  }
  static const int32_t smallest[] = {0, 0x80, 0x800, 0x10000};
  if (point < smallest[more] || point > UTF8_LARGEST || (point >= 0xD800 && point <= 0xDFFF)) {
    return -1;
  }
  *length = more + 1;
  return point;
}

size_t utf8_write(int32_t point, char text[4]) {
  if (point < 0x80) {
    text[0] = (char)point;
    return 1;
  }
  size_t more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
  static const int lead[] = {0, 0xC0, 0xE0, 0xF0};
  for (size_t i = more; i > 0; i--) {
    text[i] = (char)(0x80 | (point & 0x3F));
    point >>= 6;
  }
  text[0] = (char)(lead[more] | point);
  return more + 1;
}
