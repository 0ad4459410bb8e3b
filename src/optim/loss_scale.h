/* The loss scale that a run begins, or goes on, with. How it moves from step to step: engine/loss_scale.h. */
#ifndef PSANN_OPTIM_LOSS_SCALE_H
#define PSANN_OPTIM_LOSS_SCALE_H

#include "config/config.h"
#include "engine/loss_scale.h"

/* Of a resolved config: train.loss_scale_init, or the fixed train.loss_scale; 1 where the precision is not fp16. */
loss_scaling loss_scaling_from(const config *c);

/* The same with scale and good steps where a checkpoint left them. A fixed scale stays what the config says, and a
 * dynamic one comes within the config's bounds. */
loss_scaling loss_scaling_resumed(const config *c, double scale, int64_t good_steps);

#endif
