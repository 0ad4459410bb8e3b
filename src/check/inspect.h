/* Looking at files: everything is verified, then described through log_line. */
#ifndef PSANN_CHECK_INSPECT_H
#define PSANN_CHECK_INSPECT_H

#include "base/status.h"

/* A checkpoint: a file, or a run folder for its last one. Damage is a user error. */
status inspect_checkpoint(const char *path);

/* A token store. Damage is a user error. */
status inspect_store(const char *path);

#endif
