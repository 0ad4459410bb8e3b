/* A run from where it stands to its end: steps, evaluations, checkpoints, log, stop. */
#ifndef PSANN_TRAIN_LOOP_H
#define PSANN_TRAIN_LOOP_H

#include "train/setup.h"

/* Collective. Ends with STATUS_OK at max_steps, on a signal and at run.max_minutes (`started`: clock_seconds() of the
 * program's start), each time with a checkpoint of the last step. */
status train_loop(training *t, double started);

#endif
