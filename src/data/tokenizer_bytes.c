/* One token a byte. */
#include <stddef.h>

#include "base/memory.h"
#include "data/tokenizer_kinds.h"

static status bytes_open(tokenizer *t) {
  t->vocab_size = 257;
  t->end_of_text = 256;
  t->exact = true;
  return STATUS_OK;
}

static status bytes_encode(const tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count,
                           size_t *capacity) {
  TRY(memory_grow(ids, capacity, *count + bytes, sizeof **ids, "the tokens of a text"));
  for (size_t i = 0; i < bytes; i++) {
    (*ids)[*count + i] = (unsigned char)text[i];
  }
  *count += bytes;
  return STATUS_OK;
}

static status bytes_append(const tokenizer *t, int32_t id, char **text, size_t *bytes, size_t *capacity) {
  char byte = (char)id;
  return tokenizer_append_bytes(&byte, 1, text, bytes, capacity);
}

const tokenizer_kind tokenizer_bytes_kind = {
    .name = "bytes", .open = bytes_open, .encode = bytes_encode, .append = bytes_append};
