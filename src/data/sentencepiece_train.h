/* Training of a SentencePiece model on lines of text held in memory. */
#ifndef PSANN_DATA_SENTENCEPIECE_TRAIN_H
#define PSANN_DATA_SENTENCEPIECE_TRAIN_H

#ifdef __cplusplus
extern "C" {
#endif

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* The trainer's threads: their number is part of the result (partial sums), so it is not that of the machine's cores.
 */
enum { SENTENCEPIECE_THREADS = 16, SENTENCEPIECE_LINE = 4096, SENTENCEPIECE_SMALLEST_VOCAB = 270 };

typedef struct {
  int64_t vocab_size;
  const char *model_type;    /* "unigram" or "bpe" */
  double character_coverage; /* (0, 1]: the share of the sample's characters that get tokens of their own */
} sentencepiece_options;

/* Lines without their newline, none longer than SENTENCEPIECE_LINE bytes: line i is text[ends[i−1]] … text[ends[i] −
 * 1]. *model is freshly allocated. The model has exactly vocab_size tokens: 0 is end of text, 1 unknown, then "\n",
 * "\t" and the 256 bytes; it doesn't normalise. A vocabulary that the sample can't fill, or that doesn't hold its
 * characters, is a user error.
 */
status sentencepiece_train(const char *text, const size_t *ends, size_t lines, const sentencepiece_options *options,
                           char **model, size_t *bytes);

#ifdef __cplusplus
}
#endif

#endif
