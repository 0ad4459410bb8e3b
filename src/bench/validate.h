/* psann_bench validate: the validation steps GPU-01 … GPU-08, each with a threshold. */
#ifndef PSANN_BENCH_VALIDATE_H
#define PSANN_BENCH_VALIDATE_H

#include "base/status.h"

/* Reads what stands after "validate" (argv[2] …) and does it; *print is a text to print instead. A failure when a step
 * fails, after all have run. This process must be alone: it starts ranks itself. */
status validate_command(int argc, char **argv, const char **print);

#endif
