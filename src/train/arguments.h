/* The command line of psann_train. */
#ifndef PSANN_TRAIN_ARGUMENTS_H
#define PSANN_TRAIN_ARGUMENTS_H

#include <stdbool.h>

#include "train/setup.h"

/* --help, --help-config, --version: prints it and returns true. */
bool arguments_inform(int argc, char **argv);

/* `overrides` has room for argc pointers; the request points to it and to argv. */
status arguments_read(int argc, char **argv, char **overrides, train_request *r);

/* --value: prints the value, or the error. Needs no MPI. */
status arguments_print_value(const train_request *r);

#endif
