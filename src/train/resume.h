/* Where a run starts from: a fresh state, or a checkpoint. */
#ifndef PSANN_TRAIN_RESUME_H
#define PSANN_TRAIN_RESUME_H

#include "train/setup.h"

/* Collective. Rank 0 makes and locks the run folder, opens log.txt, and opens the checkpoint that run.resume asks for;
 * all ranks learn the state to start from. Takes a micro-batch of `auto` from the checkpoint. With plan_only a fresh
 * start. */
status resume_find(training *t);

/* Collective: whether the config may continue from that checkpoint. */
status resume_check(training *t);

/* Collective: weights and moments of the checkpoint into the weight store. */
status resume_load(training *t);

#endif
