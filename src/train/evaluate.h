/* Evaluation of a model on a token store, on all ranks: batches are fixed and dealt out to the ranks, sums come
 * together in batch order, so the result is the same, bit for bit, on any number of ranks. */
#ifndef PSANN_TRAIN_EVALUATE_H
#define PSANN_TRAIN_EVALUATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/token_store.h"
#include "dist/dist.h"
#include "model/model.h"

typedef struct {
  double loss;          /* mean −log p in nats over the predicted tokens */
  double ppl;           /* exp(loss) */
  double bits_per_byte; /* NaN when the store does not know its bytes */
  double accuracy;      /* share of tokens whose most probable prediction is right */
  int64_t tokens;       /* predicted */
  double seconds;
} evaluation_result;

typedef struct evaluation evaluation;

/* Evaluates `batches` batches of B sequences of T tokens, spread evenly over the store; 0 or more than there are: the
 * whole store, every token but the first. Allocates the buffers of a forward pass. Model, engine, source, ranks and
 * store must outlive it. */
status evaluation_create(const model *m, engine *e, weight_source *w, const dist *d, const token_store *store,
                         int64_t B, int64_t T, int64_t batches, evaluation **out);
void evaluation_free(evaluation *v);

/* Bytes that evaluation_create takes from the engine, scratch not counted. */
size_t evaluation_bytes(const model *m, const engine *e, int64_t B, int64_t T);

/* Collective: all ranks get the same result. `progress` (may be NULL) is called on every rank after each of its
 * batches. */
status evaluation_run(evaluation *v, evaluation_result *r, void (*progress)(int64_t done, int64_t of));

#endif
