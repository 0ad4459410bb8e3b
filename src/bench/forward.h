/* Forward alone, embedding to logits: weights without moments, a pass without a backward, and a buffer for logits. */
#ifndef PSANN_BENCH_FORWARD_H
#define PSANN_BENCH_FORWARD_H

#include "train/setup.h"

typedef struct {
  int64_t rows; /* that the logits' buffer holds: all B·T, or a chunk that is used again */
  void *logits; /* c (rows, vocab_padded), engine memory */
} forward_pass;

/* Replaces t->plan, which training_build made for training, by what forward takes, and decides on f->rows: all rows
 * when they fit on every rank, otherwise those of a chunk of the loss. Collective. */
status forward_plan(training *t, forward_pass *f);

/* Exchange, plans of the matrix products, weights and buffers, into the fields of t that training_close frees.
 * Collective.
 */
status forward_allocate(training *t, forward_pass *f);

/* Logits of one micro-batch. */
status forward_step(training *t, forward_pass *f);

/* Mean −log p of `labels` (host memory, B·T) over the last rows of the last micro-batch, from the logits that are in
 * the buffer: near the logarithm of the vocabulary for untrained weights. */
status forward_loss(training *t, const forward_pass *f, const int32_t *labels, double *loss);

/* Before training_close. */
void forward_free(training *t, forward_pass *f);

#endif
