/* Takes a tokenizer from a file. */
#ifndef PSANN_DATA_TOKENIZER_FILE_H
#define PSANN_DATA_TOKENIZER_FILE_H

#include "base/status.h"
#include "data/token_store.h"
#include "data/tokenizer.h"

/* From a token store (its tokenizer), or from a SentencePiece .model file. */
status tokenizer_from_file(const char *path, tokenizer **out);

status tokenizer_of_store(const token_store *s, tokenizer **out);

#endif
