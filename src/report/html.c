#include "report/html.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/memory.h"
#include "data/utf8.h"

static void add_bytes(html *h, const char *data, size_t bytes) {
  if (h->failed || memory_grow(&h->text, &h->capacity, h->bytes + bytes + 1, 1, "the text of a report") != STATUS_OK) {
    h->failed = true;
    return;
  }
  memcpy(h->text + h->bytes, data, bytes);
  h->bytes += bytes;
  h->text[h->bytes] = 0;
}

void html_add(html *h, const char *markup) {
  add_bytes(h, markup, strlen(markup));
}

void html_format(html *h, const char *format, ...) {
  char *text = NULL;
  va_list args;
  va_start(args, format);
  int length = vasprintf(&text, format, args);
  va_end(args);
  if (length < 0) {
    h->failed = true;
    return;
  }
  add_bytes(h, text, (size_t)length);
  free(text);
}

static bool turns_direction(int32_t point) {
  return (point >= 0x202A && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069) || point == 0x200E ||
         point == 0x200F || point == 0x061C;
}

static bool shows(int32_t point) {
  bool control = (point < 0x20 && point != '\n' && point != '\t') || (point >= 0x7F && point < 0xA0);
  return point >= 0 && !control && !turns_direction(point);
}

static const char *escape_of(int32_t point) {
  switch (point) {
    case '&':
      return "&amp;";
    case '<':
      return "&lt;";
    case '>':
      return "&gt;";
    case '"':
      return "&quot;";
    case '\'':
      return "&#39;";
    default:
      return NULL;
  }
}

void html_text(html *h, const char *text) {
  size_t left = text != NULL ? strlen(text) : 0;
  while (left > 0) {
    size_t length;
    int32_t point = utf8_read(text, left, &length);
    const char *escape = escape_of(point);
    if (!shows(point)) {
      html_add(h, "\uFFFD");
    } else if (escape != NULL) {
      html_add(h, escape);
    } else {
      add_bytes(h, text, length);
    }
    text += length;
    left -= length;
  }
}

status html_write(const html *h, const char *path) {
  REQUIRE(!h->failed && h->text != NULL, "no memory for the report '%s'", path);
  return file_write_atomic(path, h->text, h->bytes);
}

void html_free(html *h) {
  free(h->text);
  *h = (html){0};
}
