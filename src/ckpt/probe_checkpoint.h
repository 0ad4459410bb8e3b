/* What psann_probe does with a checkpoint. */
#ifndef PSANN_CKPT_PROBE_CHECKPOINT_H
#define PSANN_CKPT_PROBE_CHECKPOINT_H

#include "base/status.h"

/* Opens it and reads all that a reader may ask for, but no element of a tensor. */
status probe_checkpoint(const char *path);

#endif
