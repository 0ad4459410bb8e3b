/* What psann_probe does with a parity case. */
#ifndef PSANN_CHECK_PROBE_GOLDEN_H
#define PSANN_CHECK_PROBE_GOLDEN_H

#include "base/status.h"

/* Reads the whole file: attributes and every number. */
status probe_golden(const char *path);

#endif
