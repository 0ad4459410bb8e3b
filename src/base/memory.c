#include "base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

status memory_new(void *out, size_t count, size_t size, const char *what) {
  void *memory = NULL;
  memcpy(out, &memory, sizeof memory);
  /* PTRDIFF_MAX: the largest object whose pointers can be subtracted. */
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX) {
    FAIL("%s would need %zu times %zu bytes, more than an address can name; make it smaller", what, count, size);
  }
  memory = calloc(bytes > 0 ? bytes : 1, 1);
  if (memory == NULL) {
    char text[32];
    FAIL("out of memory: %s needs %s; make it smaller or use a machine with more memory", what,
         memory_text((double)bytes, text));
  }
  memcpy(out, &memory, sizeof memory);
  return STATUS_OK;
}

status memory_grow(void *array, size_t *capacity, size_t needed, size_t size, const char *what) {
  if (needed <= *capacity) {
    return STATUS_OK;
  }
  size_t grown = *capacity < 16 ? 16 : *capacity;
  while (grown < needed) {
    if (__builtin_mul_overflow(grown, (size_t)2, &grown)) {
      grown = needed;
    }
  }
  size_t bytes;
  if (__builtin_mul_overflow(grown, size, &bytes) || bytes > PTRDIFF_MAX) {
    FAIL("%s would need %zu times %zu bytes, more than an address can name; make it smaller", what, grown, size);
  }
  void *old;
  memcpy(&old, array, sizeof old);
  void *memory = realloc(old, bytes > 0 ? bytes : 1);
  if (memory == NULL) {
    char text[32];
    FAIL("out of memory: %s needs %s; make it smaller or use a machine with more memory", what,
         memory_text((double)bytes, text));
  }
  memcpy(array, &memory, sizeof memory);
  *capacity = grown;
  return STATUS_OK;
}

status memory_format(char **out, const char *format, ...) {
  *out = NULL;
  va_list args;
  va_start(args, format);
  char *text = NULL;
  int written = vasprintf(&text, format, args);
  va_end(args);
  if (written < 0) {
    FAIL("out of memory: cannot build a text of the form '%s'", format);
  }
  *out = text;
  return STATUS_OK;
}

const char *memory_text(double bytes, char *text) {
  static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  enum { N_UNITS = sizeof units / sizeof units[0] };
  int unit = 0;
  /* 1023.95 would print as "1024.0". */
  while (unit + 1 < N_UNITS && (bytes >= 1023.95 || bytes <= -1023.95)) {
    bytes /= 1024.0;
    unit++;
  }
  snprintf(text, 32, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return text;
}
