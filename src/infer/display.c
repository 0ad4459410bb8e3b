#include "infer/display.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/memory.h"
#include "data/utf8.h"

/* Whether `have` bytes are the beginning of a longer character. The smallest and the largest byte that can follow stand
 * for all: what may follow a first byte is a range that holds one of them. */
static bool goes_on(const char *start, size_t have) {
  const char fills[] = {(char)0x80, (char)0xBF};
  for (int i = 0; i < 2; i++) {
    char whole[4];
    size_t length;
    memset(whole, fills[i], sizeof whole);
    memcpy(whole, start, have);
    if (utf8_read(whole, sizeof whole, &length) >= 0 && length > have) {
      return true;
    }
  }
  return false;
}

size_t display_whole(const char *text, size_t bytes) {
  for (size_t back = bytes < 3 ? bytes : 3; back > 0; back--) {
    if (goes_on(text + bytes - back, back)) {
      return bytes - back;
    }
  }
  return bytes;
}

status display_clean(const char *text, size_t bytes, char **out) {
  char *clean;
  TRY(memory_new(&clean, bytes + 1, 3, "text in UTF-8"));
  size_t used = 0;
  for (size_t i = 0, length; i < bytes; i += length) {
    if (utf8_read(text + i, bytes - i, &length) > 0) {
      memcpy(clean + used, text + i, length);
      used += length;
    } else {
      memcpy(clean + used, "\xEF\xBF\xBD", 3);
      used += 3;
    }
  }
  clean[used] = 0;
  *out = clean;
  return STATUS_OK;
}
