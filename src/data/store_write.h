/* Writes a token store as a stream, in bounded memory: tokens and document starts go to nameless files beside the
 * store, then, when their number is known, into contiguous arrays of "<path>.tmp", which is sealed, flushed and
 * renamed. Whatever fails, nothing half-written stands under the final name.
 */
#ifndef PSANN_DATA_STORE_WRITE_H
#define PSANN_DATA_STORE_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"
#include "data/tokenizer.h"

typedef struct store_writer store_writer;

/* A file that the tokens come from. */
typedef struct {
  char *path; /* as the user named it */
  int64_t bytes;
  char digest[DIGEST_TEXT];
} store_source;

/* Whether a store may be made at `path`: the folder is there, and the name is free, or is a file and `force`. Otherwise
 * a user error. */
status store_writer_check(const char *path, bool force);

/* `t` must outlive the writer. */
status store_writer_open(const char *path, const tokenizer *t, store_writer **out);

status store_writer_add(store_writer *w, const int32_t *tokens, size_t count);

/* The tokens since the last call are a document, made of `text_bytes` bytes of text; end of text is among the tokens.
 * Without tokens: nothing happens.
 */
status store_writer_end_document(store_writer *w, int64_t text_bytes);

/* So far. */
int64_t store_writer_tokens(const store_writer *w);
int64_t store_writer_documents(const store_writer *w);
int64_t store_writer_text_bytes(const store_writer *w);

/* Writes the store, replacing what stands at its path. A store without documents is a user error. */
status store_writer_commit(store_writer *w, const store_source *sources, size_t source_count);

/* Frees; without a commit, leaves no trace. NULL is fine. */
void store_writer_close(store_writer *w);

#endif
