#include "data/tokenizer_file.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/wall.h"
#include "data/store_format.h"
#include "data/store_seal.h"

status tokenizer_of_store(const token_store *s, tokenizer **out) {
  status result =
      tokenizer_create(s->tokenizer, s->tokenizer_data, s->tokenizer_bytes, s->vocab_size, s->end_of_text, out);
  return result == STATUS_OK ? result : status_prefix(result, "'%s'", s->path);
}

static status from_store(const char *path, tokenizer **out) {
  token_store *s;
  TRY(token_store_open(path, &s));
  status result = STATUS_OK;
  if (strcmp(s->tokenizer, "external") == 0) {
    result =
        status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                   "the token store '%s' was imported without a tokenizer, so text can't be encoded with it; name a "
                   "store that psann_data built",
                   path);
  } else {
    result = tokenizer_of_store(s, out);
  }
  token_store_close(s);
  return result;
}

status tokenizer_from_file(const char *path, tokenizer **out) {
  char *data;
  size_t bytes;
  *out = NULL;
  if (file_is_folder(path)) {
    USER_ERROR("'%s' is a folder, not a tokenizer; name a token store or a SentencePiece .model file", path);
  }
  if (store_seal_starts(path)) {
    return from_store(path, out);
  }
  TRY(wall_check(WALL_TOKENIZER, path));
  TRY(file_read(path, STORE_MODEL_LIMIT, &data, &bytes));
  status s = tokenizer_create("sentencepiece", data, bytes, TOKENIZER_ANY_VOCAB, 0, out);
  free(data);
  return s == STATUS_OK ? s : status_prefix(s, "'%s' is neither a token store nor a usable SentencePiece model", path);
}
