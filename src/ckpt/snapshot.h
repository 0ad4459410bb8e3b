/* A copy, in host memory, of what this rank saves of weights and moments: training goes on while it is written. */
#ifndef PSANN_CKPT_SNAPSHOT_H
#define PSANN_CKPT_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "shard/weight_store.h"

typedef struct {
  weight_store *w;
  int64_t *first, *count; /* by unit: this rank's elements */
  float **values;         /* by part (write.h): fp32 (count of its unit) */
  void *block;            /* all of them */
  size_t bytes;
} snapshot;

/* Allocates; not collective. A failure when there is no such memory. */
status snapshot_create(weight_store *w, snapshot **out);
void snapshot_free(snapshot *s);

/* Not collective. Weights and moments as of this call; waits for the engine. */
status snapshot_take(snapshot *s);

#endif
