/* Writes a token store of random bytes. usage: store_make FILE */
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "data/store_write.h"

static status make(const char *path) {
  tokenizer *t;
  store_writer *w;
  unsigned char bytes[5000];
  int32_t tokens[5001];
  if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes) {
    FAIL("no random bytes");
  }
  TRY(tokenizer_create("bytes", NULL, 0, 257, 256, &t));
  for (size_t i = 0; i < sizeof bytes; i++) {
    tokens[i] = bytes[i];
  }
  tokens[sizeof bytes] = 256;
  TRY(store_writer_open(path, t, &w));
  for (int document = 0; document < 3; document++) {
    TRY(store_writer_add(w, tokens, sizeof bytes + 1));
    TRY(store_writer_end_document(w, (int64_t)sizeof bytes));
  }
  TRY(store_writer_commit(w, NULL, 0));
  store_writer_close(w);
  tokenizer_free(t);
  return STATUS_OK;
}

int main(int argc, char **argv) {
  status result = argc == 2 ? make(argv[1]) : STATUS_USER_ERROR;
  if (result != STATUS_OK) {
    fprintf(stderr, "%s\n", status_message());
  }
  return result;
}
