/* The checkpoints of a training loop: when they are waited for, what is said of them, and how many failures are
 * outlived. All ranks get the same status of a save and so decide alike. */
#ifndef PSANN_TRAIN_SAVES_H
#define PSANN_TRAIN_SAVES_H

#include "train/setup.h"

typedef struct {
  training *t;
  int64_t failures;   /* in a row */
  int64_t saved_step; /* of the newest checkpoint that is known to be written; first_step before that */
  int64_t best_step;  /* what the file `best` names; −1: nothing */
  double best_val_loss;
} saves;

saves saves_begin(training *t);

/* This step's validation loss becomes the run's best one if it is lower. */
void saves_judge(training *t);

/* Starts the checkpoint of this step; waits for the one under way, if there is one. `last`: the run ends with it, so
 * it is waited for as well, and its failure is the run's. More than checkpoint.max_failures failures in a row: a
 * failure. Collective. */
status saves_start(saves *s, bool last);

/* Between steps: moves the checkpoint under way on, and hears whether it is written. */
status saves_advance(saves *s);

/* Until none is under way. */
status saves_wait(saves *s);

#endif
