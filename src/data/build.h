/* psann_data build: documents → tokenizer → token stores. */
#ifndef PSANN_DATA_BUILD_H
#define PSANN_DATA_BUILD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "data/holdout.h"
#include "data/input_reader.h"
#include "data/sentencepiece_train.h"

typedef struct {
  const char *tokenizer;      /* "bytes", "chars", "sentencepiece": made from the documents; NULL: `tokenizer_file` */
  const char *tokenizer_file; /* a token store or a SentencePiece model */
  const char *train_out, *val_out; /* val_out may be NULL */
  sentencepiece_options training;
  int64_t sample_bytes;
  holdout split;
  input_options reading;
  int jobs;
  bool force;
} build_options;

/* Reads `list` (finished) and writes the stores; prints what was made. */
status build_stores(input_list *list, const build_options *o);

#endif
