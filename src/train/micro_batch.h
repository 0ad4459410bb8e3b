/* The size of a micro-batch when the config leaves it open. It is part of a run's identity, so on the CPU it follows
 * from the config alone, and on a GPU from the config and the memory that the device has: never from ranks or from the
 * memory that happens to be free. */
#ifndef PSANN_TRAIN_MICRO_BATCH_H
#define PSANN_TRAIN_MICRO_BATCH_H

#include <stdbool.h>
#include <stdint.h>

enum {
  MICRO_BATCH_TOKENS = 4096,        /* enough rows for the matrix products, few enough for the caches */
  MICRO_BATCH_LEAST = 8,            /* micro-batches a step, so that up to as many ranks can share it */
  MICRO_BATCH_GPU_TOKENS = 1 << 18, /* more rows make no product of a GPU faster */
};

/* Sequences of a micro-batch: the largest divisor s of batch_tokens / seq_len with s · seq_len ≤ MICRO_BATCH_TOKENS
 * that leaves MICRO_BATCH_LEAST micro-batches a step; 1 where no divisor does. batch_tokens is a multiple of seq_len.
 */
int64_t micro_batch_auto(int64_t batch_tokens, int64_t seq_len);

/* Whether a micro-batch of s sequences fits. */
typedef bool (*micro_batch_fits)(void *context, int64_t s);

/* For a GPU: the largest divisor s of batch_tokens / seq_len that fits, with s · seq_len ≤ MICRO_BATCH_GPU_TOKENS, that
 * leaves MICRO_BATCH_LEAST micro-batches a step. Where a divisor of those leaves a power of two of them, so that any
 * power of two of ranks gives the same bits, the largest such one; it is never less than half the largest of all. With
 * fewer sequences than MICRO_BATCH_LEAST, one each. 0: none fits. */
int64_t micro_batch_largest(int64_t batch_tokens, int64_t seq_len, micro_batch_fits fits, void *context);

#endif
