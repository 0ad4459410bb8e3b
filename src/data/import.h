/* psann_data import: token shards that other programs made → token store. */
#ifndef PSANN_DATA_IMPORT_H
#define PSANN_DATA_IMPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  const char *out;
  const char *tokenizer_file; /* whose tokens they are, so that they can be decoded; NULL: not known ("external") */
  int64_t vocab_size;         /* without a tokenizer */
  int64_t end_of_text;        /* without a tokenizer; −1: the shards have none, so they are one document */
  bool raw_u16;               /* uint16, little-endian, without a header; otherwise llm.c's .bin of version 1 */
  bool force;
} import_options;

/* Joins the shards in the order given. Nothing is added: documents are what end of text separates, and the last one may
 * be cut where the shards end. A token outside the vocabulary, or a shard whose length and header disagree, is a user
 * error.
 */
status import_shards(const char *const *shards, size_t count, const import_options *o);

#endif
