#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { MESSAGE_BYTES = 4096, PLACE_BYTES = 256 };

static _Thread_local char last_message[MESSAGE_BYTES];
static _Thread_local char last_place[PLACE_BYTES];

/* Marks a message that did not fit, so that nobody takes its end for the end of the sentence. */
static void keep(const char *text, int written) {
  static const char cut[] = " [...]";
  memcpy(last_message, text, MESSAGE_BYTES);
  last_message[MESSAGE_BYTES - 1] = '\0';
  if (written >= MESSAGE_BYTES) {
    memcpy(last_message + MESSAGE_BYTES - sizeof cut, cut, sizeof cut);
  }
}

/* The path as the repository names it, whatever the build folder. */
static const char *from_src(const char *file) {
  const char *place = file;
  for (const char *at = file; (at = strstr(at, "src/")) != NULL; at++) {
    place = at;
  }
  return place;
}

status status_set(status code, const char *file, int line, const char *format, ...) {
  /* By way of a second buffer: an argument may be the last message itself. */
  char text[MESSAGE_BYTES] = {0};
  va_list args;
  va_start(args, format);
  int written = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  keep(text, written);
  snprintf(last_place, sizeof last_place, "%s:%d", from_src(file), line);
  return code;
}

status status_prefix(status code, const char *format, ...) {
  char text[MESSAGE_BYTES] = {0};
  va_list args;
  va_start(args, format);
  int written = vsnprintf(text, sizeof text, format, args);
  va_end(args);
  if (written >= 0 && written < MESSAGE_BYTES) {
    int rest = snprintf(text + written, sizeof text - (size_t)written, ": %s", last_message);
    written += rest < 0 ? 0 : rest;
  }
  keep(text, written);
  return code;
}

const char *status_message(void) {
  return last_message;
}

const char *status_place(void) {
  return last_place;
}
