/* system.json of a validation: the keys of the reference, and those of a run's. */
#ifndef PSANN_BENCH_VALIDATE_SYSTEM_H
#define PSANN_BENCH_VALIDATE_SYSTEM_H

#include "bench/validation.h"

/* Writes <reports>/system.json; *out is the same object, the caller's. */
status validate_system(const validation *v, cJSON **out);

#endif
