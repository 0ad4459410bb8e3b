/* One step of training: micro-batches, exchange, update. */
#ifndef PSANN_TRAIN_STEP_H
#define PSANN_TRAIN_STEP_H

#include "train/setup.h"

/* Issues step state.step + 1. The result of the step before, if it has not been read yet, is read while this one
 * computes and goes to *previous: nothing waits for the engine to run dry. previous->step is 0 when there was none. */
status train_step(training *t, step_outcome *previous);

/* Reads the result of the last issued step, for what needs it now: a checkpoint, a log line, a stop. outcome->step is 0
 * when it was read before. */
status train_collect(training *t, step_outcome *outcome);

#endif
