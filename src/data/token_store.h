/* Token stores: HDF5 files with `/tokens` (uint16 or uint32, contiguous, read with pread at its file offset),
 * `/documents` (uint64 start offsets), `/tokenizer/model`, `/sources`, and attributes; store_format.h lists them. Made
 * by psann_data; read here. Documents are always separated: each ends with the tokenizer's end-of-text token.
 */
#ifndef PSANN_DATA_TOKEN_STORE_H
#define PSANN_DATA_TOKEN_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  char *path;
  int64_t tokens;
  int64_t documents;
  int64_t vocab_size;
  int64_t text_bytes; /* raw UTF-8 bytes of all documents, separators not counted; 0: unknown (imported token shards) */
  int token_bytes;    /* 2 or 4 */
  int32_t end_of_text;  /* −1: none */
  char tokenizer[16];   /* "bytes", "chars", "sentencepiece", "external" */
  void *tokenizer_data; /* the tokenizer's model, tokenizer_bytes long */
  size_t tokenizer_bytes;
  char digest[33];           /* of the tokens */
  char tokenizer_digest[33]; /* of the tokenizer's name, vocabulary size, end of text and model */
  char documents_digest[33]; /* of the start offsets */
  int file;                  /* descriptor for pread */
  int64_t offset;            /* of /tokens in the file */
  int64_t documents_offset;  /* of /documents in the file */
} token_store;

/* Opens and checks: a missing, empty, truncated or foreign file is a user error that names it. Reads no tokens. */
status token_store_open(const char *path, token_store **out);
void token_store_close(token_store *s);

/* Tokens [first, first + count) as int32. A token ≥ vocab_size: an error that names position and value. */
status token_store_read(const token_store *s, int64_t first, int64_t count, int32_t *tokens);

/* Start offsets, in tokens, of documents [first, first + count). */
status token_store_documents(const token_store *s, int64_t first, int64_t count, uint64_t *starts);

/* Reads all tokens and all document starts: compares both with the stored digests, and checks that every token is in
 * the vocabulary and that every document but the last ends with end of text.
 */
status token_store_verify(const token_store *s);

#endif
