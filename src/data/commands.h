/* The commands of psann_data: each reads its arguments (those after its name), checks them, and works. */
#ifndef PSANN_DATA_COMMANDS_H
#define PSANN_DATA_COMMANDS_H

#include "base/status.h"

status command_build(int argc, char *const *argv);
status command_import(int argc, char *const *argv);
status command_info(int argc, char *const *argv);
status command_decode(int argc, char *const *argv);

#endif
