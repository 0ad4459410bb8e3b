/* What psann_probe does with token stores and tokenizer models. */
#ifndef PSANN_DATA_PROBE_DATA_H
#define PSANN_DATA_PROBE_DATA_H

#include "base/status.h"

/* Opens it, reads the list of its sources, and makes its tokenizer; reads no token. */
status probe_store(const char *path);

/* A SentencePiece model in a file of its own. */
status probe_tokenizer(const char *path);

#endif
