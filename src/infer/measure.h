/* What psann_eval does: the figures of a checkpoint on a token store, on all ranks. */
#ifndef PSANN_INFER_MEASURE_H
#define PSANN_INFER_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "dist/dist.h"

typedef struct {
  const char *checkpoint; /* file or run folder */
  const char *store;
  const char *device;   /* NULL: the checkpoint's own */
  const char *strategy; /* NULL: auto */
  int64_t batches;      /* spread evenly over the store; 0: all of it */
  int64_t micro_batch;  /* sequences of a batch; 0: the training's */
  int64_t seq_len;      /* 0: the training's */
  bool json;
} measure_job;

/* Collective. Rank 0 writes to standard output. */
status measure_run(const measure_job *job, const dist *d);

#endif
