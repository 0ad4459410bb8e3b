/* What a kind of tokenizer supplies; tokenizer.c holds the table of them. */
#ifndef PSANN_DATA_TOKENIZER_KINDS_H
#define PSANN_DATA_TOKENIZER_KINDS_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/tokenizer.h"

struct tokenizer {
  const struct tokenizer_kind *kind;
  int64_t vocab_size;
  int32_t end_of_text;
  int32_t unknown;
  bool exact;
  void *model; /* (model_bytes) */
  size_t model_bytes;
  void *state; /* the kind's own */
};

typedef struct tokenizer_kind {
  const char *name;
  /* Makes `state` from the model and sets vocab_size, end_of_text, unknown and exact. */
  status (*open)(tokenizer *t);
  void (*close)(tokenizer *t);
  /* Appends the ids of a text. */
  status (*encode)(const tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count, size_t *capacity);
  /* Appends the bytes of one id (checked: 0 ≤ id < vocab_size, not end of text). */
  status (*append)(const tokenizer *t, int32_t id, char **text, size_t *bytes, size_t *capacity);
  /* The whole text is there: last corrections. May be NULL. */
  void (*finish)(const tokenizer *t, char *text, size_t *bytes);
} tokenizer_kind;

extern const tokenizer_kind tokenizer_bytes_kind;
extern const tokenizer_kind tokenizer_chars_kind;
extern const tokenizer_kind tokenizer_sentencepiece_kind;

/* Used by the kinds. */
status tokenizer_append_bytes(const void *data, size_t count, char **text, size_t *bytes, size_t *capacity);

#ifdef __cplusplus
}
#endif

#endif
