/* The size of a micro-batch when the config leaves it open. It is part of a run's identity, so it follows from the
 * config alone: never from ranks or from the memory that happens to be free. */
#ifndef PSANN_TRAIN_MICRO_BATCH_H
#define PSANN_TRAIN_MICRO_BATCH_H

#include <stdint.h>

enum {
  MICRO_BATCH_TOKENS = 4096, /* enough rows for the matrix products, few enough for the caches */
  MICRO_BATCH_LEAST = 8,     /* micro-batches a step, so that up to as many ranks can share it */
};

/* Sequences of a micro-batch: the largest divisor s of batch_tokens / seq_len with s · seq_len ≤ MICRO_BATCH_TOKENS
 * that leaves MICRO_BATCH_LEAST micro-batches a step; 1 where no divisor does. batch_tokens is a multiple of seq_len.
 */
int64_t micro_batch_auto(int64_t batch_tokens, int64_t seq_len);

#endif
