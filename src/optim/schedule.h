/* The learning rate over a run: linear warm-up, then half a cosine down to a floor. */
#ifndef PSANN_OPTIM_SCHEDULE_H
#define PSANN_OPTIM_SCHEDULE_H

#include <stdint.h>

#include "config/config.h"

typedef struct {
  double lr;            /* peak, reached by update W */
  double min_lr;        /* of update N and any after it */
  int64_t warmup_steps; /* W; 0: none */
  int64_t steps;        /* N */
} schedule;

/* Of a resolved config. */
schedule schedule_from(const config *c);

/* The rate of update `step`, counted from 1. With N ≤ W the run ends inside its warm-up; updates after W then use lr.
 */
double schedule_lr(const schedule *s, int64_t step);

#endif
