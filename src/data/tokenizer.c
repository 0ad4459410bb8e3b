#include "data/tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "data/store_format.h"
#include "data/tokenizer_kinds.h"

static status external_open(tokenizer *t) {
  t->exact = false;
  return STATUS_OK;
}

static const tokenizer_kind external_kind = {.name = "external", .open = external_open};

static const tokenizer_kind *const kinds[] = {&tokenizer_bytes_kind, &tokenizer_chars_kind,
                                              &tokenizer_sentencepiece_kind, &external_kind};

static status fill(tokenizer *t, const char *name, const void *data, size_t bytes) {
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
    if (strcmp(name, kinds[i]->name) == 0) {
      t->kind = kinds[i];
    }
  }
  if (t->kind == NULL) {
    USER_ERROR("there is no tokenizer '%s'; known are bytes, chars, sentencepiece and external", name);
  }
  TRY(memory_new(&t->model, bytes, 1, "a tokenizer's model"));
  if (bytes > 0) {
    memcpy(t->model, data, bytes);
  }
  t->model_bytes = bytes;
  return t->kind->open(t);
}

status tokenizer_create(const char *name, const void *data, size_t bytes, int64_t vocab_size, int32_t end_of_text,
                        tokenizer **out) {
  *out = NULL;
  tokenizer *t;
  TRY(memory_new(&t, 1, sizeof *t, "a tokenizer"));
  t->vocab_size = vocab_size;
  t->end_of_text = end_of_text;
  t->unknown = -1;
  status s = fill(t, name, data, bytes);
  if (s == STATUS_OK && vocab_size != TOKENIZER_ANY_VOCAB &&
      (t->vocab_size != vocab_size || t->end_of_text != end_of_text)) {
    s = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                   "the %s tokenizer's model has %" PRId64 " tokens and end of text %" PRId32
                   ", but the file that holds it says %" PRId64 " and %" PRId32 "; make that file again",
                   name, t->vocab_size, t->end_of_text, vocab_size, end_of_text);
  }
  if (s != STATUS_OK) {
    tokenizer_free(t);
    return s;
  }
  *out = t;
  return STATUS_OK;
}

void tokenizer_free(tokenizer *t) {
  if (t == NULL) {
    return;
  }
  if (t->kind != NULL && t->kind->close != NULL) {
    t->kind->close(t);
  }
  free(t->model);
  free(t);
}

const char *tokenizer_name(const tokenizer *t) {
  return t->kind->name;
}

int64_t tokenizer_vocab(const tokenizer *t) {
  return t->vocab_size;
}

int32_t tokenizer_end_of_text(const tokenizer *t) {
  return t->end_of_text;
}

int32_t tokenizer_unknown(const tokenizer *t) {
  return t->unknown;
}

const void *tokenizer_model(const tokenizer *t, size_t *bytes) {
  *bytes = t->model_bytes;
  return t->model;
}

void tokenizer_digest(const tokenizer *t, char text[DIGEST_TEXT]) {
  store_tokenizer_digest(t->kind->name, t->vocab_size, t->end_of_text, t->model, t->model_bytes, text);
}

bool tokenizer_is_exact(const tokenizer *t) {
  return t->exact;
}

status tokenizer_encode(tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count, size_t *capacity) {
  if (t->kind->encode == NULL) {
    USER_ERROR(
        "the tokens were made by another program ('external'), so text can't be turned into them here; use a "
        "store whose tokenizer psann_data made or applied");
  }
  return t->kind->encode(t, text, bytes, ids, count, capacity);
}

status tokenizer_append_bytes(const void *data, size_t count, char **text, size_t *bytes, size_t *capacity) {
  TRY(memory_grow(text, capacity, *bytes + count + 1, 1, "a decoded text"));
  memcpy(*text + *bytes, data, count);
  *bytes += count;
  return STATUS_OK;
}

static status decode_all(tokenizer *t, const int32_t *ids, size_t count, char **text, size_t *bytes, size_t *capacity) {
  for (size_t i = 0; i < count; i++) {
    if (ids[i] < 0 || ids[i] >= t->vocab_size) {
      USER_ERROR("token %" PRId32 " is outside the %s tokenizer's vocabulary of %" PRId64
                 "; use the tokenizer that made it",
                 ids[i], t->kind->name, t->vocab_size);
    }
    if (ids[i] != t->end_of_text) {
      TRY(t->kind->append(t, ids[i], text, bytes, capacity));
    }
  }
  return tokenizer_append_bytes("", 0, text, bytes, capacity);
}

status tokenizer_decode(tokenizer *t, const int32_t *ids, size_t count, char **text, size_t *bytes) {
  size_t used = 0, capacity = 0;
  *text = NULL;
  if (t->kind->append == NULL) {
    USER_ERROR(
        "the tokens were made by another program ('external'), so they can't be turned into text here; use a "
        "store whose tokenizer psann_data made or applied");
  }
  status s = decode_all(t, ids, count, text, &used, &capacity);
  if (s != STATUS_OK) {
    free(*text);
    *text = NULL;
    return s;
  }
  if (t->kind->finish != NULL) {
    t->kind->finish(t, *text, &used);
  }
  (*text)[used] = '\0';
  if (bytes != NULL) {
    *bytes = used;
  }
  return STATUS_OK;
}
