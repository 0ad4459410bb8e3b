/* The order of training windows. Window w of a store covers tokens w·T … w·T + T (T + 1 tokens, stride T); there are
 * (tokens − 1) / T. Sequence number s of a job belongs to epoch s / windows and is window
 * permutation(seed, epoch)(s % windows): a keyed Feistel network with cycle walking, so any position is found in O(1),
 * on any rank, without state.
 */
#ifndef PSANN_DATA_SAMPLER_H
#define PSANN_DATA_SAMPLER_H

#include <stdint.h>

#include "base/status.h"
#include "data/token_store.h"

typedef struct {
  const token_store *store;
  int64_t T;
  int64_t windows;
  uint64_t seed;
} sampler;

/* A store with no whole window is a user error. */
status sampler_init(sampler *s, const token_store *store, int64_t T, uint64_t seed);

/* Window of job-wide sequence `sequence` ≥ 0. */
int64_t sampler_window(const sampler *s, int64_t sequence);

/* Host arrays of one micro-batch. */
typedef struct {
  int64_t B, T;
  int32_t *tokens;  /* (B·T) */
  int32_t *labels;  /* (B·T) */
  int32_t *order;   /* (B·T) rows sorted by (token, row) */
  int32_t *window;  /* scratch, T + 1 */
  int32_t *scratch; /* of the sort, B·T */
} host_batch;

status host_batch_init(host_batch *b, int64_t B, int64_t T);
void host_batch_free(host_batch *b);

/* Sequences first … first + B − 1. */
status sampler_load(const sampler *s, int64_t first, host_batch *b);

/* Fills `order` from `tokens`: rows sorted by (token, row). */
void host_batch_sort(host_batch *b);

/* Where a step's micro-batches come from: load(context, first, b) fills b with sequences first … first + B − 1 of the
 * job. */
typedef struct {
  status (*load)(const void *context, int64_t first, host_batch *b);
  const void *context;
} batch_source;

/* The windows of `s`, which must outlive the source. */
batch_source sampler_source(const sampler *s);

/* Evaluation in file order: rows hold windows first … first + B − 1 of the store, the last one cut at the store's end;
 * what doesn't exist has label −1 (token 0). Windows 0 … eval_windows − 1 predict every token of the store but the
 * first, each once.
 */
int64_t eval_windows(const token_store *store, int64_t T);
status eval_load(const token_store *store, int64_t first, host_batch *b);

#endif
