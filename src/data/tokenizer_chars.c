/* One token a character. The model: the known code points as 32-bit little-endian numbers, ascending. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/tokenizer_kinds.h"
#include "data/utf8.h"

enum { END_OF_TEXT, UNKNOWN, FIRST_CHARACTER };

typedef struct {
  int32_t *point; /* (vocab_size) of an id, from FIRST_CHARACTER on */
  int32_t *id;    /* (UTF8_LARGEST + 1) of a code point; UNKNOWN: not known */
} chars_state;

static bool valid(uint32_t point) {
  return point <= UTF8_LARGEST && (point < 0xD800 || point > 0xDFFF);
}

static status chars_open(tokenizer *t) {
  size_t known = t->model_bytes / 4;
  if (t->model_bytes % 4 != 0 || known > UTF8_LARGEST) {
    USER_ERROR(
        "a chars tokenizer's model has %zu bytes, which is not a list of characters; make the file that holds it again",
        t->model_bytes);
  }
  chars_state *c;
  TRY(memory_new(&c, 1, sizeof *c, "a chars tokenizer"));
  t->state = c;
  TRY(memory_new(&c->point, known + FIRST_CHARACTER, sizeof *c->point, "the characters of a tokenizer"));
  TRY(memory_new(&c->id, UTF8_LARGEST + 1, sizeof *c->id, "the characters of a tokenizer"));
  for (int32_t p = 0; p <= UTF8_LARGEST; p++) {
    c->id[p] = UNKNOWN;
  }
  int64_t last = -1;
  for (size_t i = 0; i < known; i++) {
    uint32_t point;
    memcpy(&point, (char *)t->model + 4 * i, 4);
    if (!valid(point) || (int64_t)point <= last) {
      USER_ERROR("a chars tokenizer's model is damaged: character %zu is U+%04" PRIX32
                 ", out of order or not a character; make the file that holds it again",
                 i, point);
    }
    last = point;
    c->point[i + FIRST_CHARACTER] = (int32_t)point;
    c->id[point] = (int32_t)i + FIRST_CHARACTER;
  }
  t->vocab_size = (int64_t)known + FIRST_CHARACTER;
  t->end_of_text = END_OF_TEXT;
  t->unknown = UNKNOWN;
  t->exact = true;
  return STATUS_OK;
}

static void chars_close(tokenizer *t) {
  chars_state *c = t->state;
  if (c != NULL) {
    free(c->point);
    free(c->id);
    free(c);
  }
}

static status chars_encode(const tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count,
                           size_t *capacity) {
  const chars_state *c = t->state;
  TRY(memory_grow(ids, capacity, *count + bytes, sizeof **ids, "the tokens of a text"));
  size_t length;
  for (size_t at = 0; at < bytes; at += length) {
    int32_t point = utf8_read(text + at, bytes - at, &length);
    (*ids)[(*count)++] = point < 0 ? UNKNOWN : c->id[point];
  }
  return STATUS_OK;
}

static status chars_append(const tokenizer *t, int32_t id, char **text, size_t *bytes, size_t *capacity) {
  const chars_state *c = t->state;
  char encoded[4];
  size_t length = utf8_write(id == UNKNOWN ? 0xFFFD : c->point[id], encoded);
  return tokenizer_append_bytes(encoded, length, text, bytes, capacity);
}

const tokenizer_kind tokenizer_chars_kind = {
    .name = "chars", .open = chars_open, .close = chars_close, .encode = chars_encode, .append = chars_append};
