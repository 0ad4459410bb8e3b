#include "data/probe_data.h"

#include <stddef.h>

#include "data/show.h"
#include "data/token_store.h"
#include "data/tokenizer_file.h"

status probe_store(const char *path) {
  token_store *s;
  tokenizer *t;
  TRY(show_info(path, false));
  TRY(token_store_open(path, &s));
  /* Training does without the tokenizer; whoever uses it hears what is wrong with it. */
  if (tokenizer_of_store(s, &t) == STATUS_OK) {
    tokenizer_free(t);
  }
  token_store_close(s);
  return STATUS_OK;
}

status probe_tokenizer(const char *path) {
  tokenizer *t;
  TRY(tokenizer_from_file(path, &t));
  tokenizer_free(t);
  return STATUS_OK;
}
