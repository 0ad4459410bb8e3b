/* Sequences of random tokens: what a measurement trains on in place of a token store. Sequence s is a window of one
 * pool of uniform draws, a function of the seed and s alone, so ranks agree on it, and the host does what it does for a
 * store: it copies and sorts. */
#ifndef PSANN_BENCH_RANDOM_TOKENS_H
#define PSANN_BENCH_RANDOM_TOKENS_H

#include "data/sampler.h"

typedef struct {
  int32_t *pool; /* (tokens) in [0, vocab_size) */
  int64_t tokens;
  uint64_t seed;
} random_tokens;

/* `longest`: tokens of the longest sequence that will be asked for. */
status random_tokens_create(int64_t vocab_size, int64_t longest, uint64_t seed, random_tokens *r);
void random_tokens_free(random_tokens *r);

/* `r` must outlive the source. */
batch_source random_tokens_source(const random_tokens *r);

#endif
