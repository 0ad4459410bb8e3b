/* Values of command-line options, read strictly: the whole text must be a number, in range. */
#ifndef PSANN_INFER_ARGUMENTS_H
#define PSANN_INFER_ARGUMENTS_H

#include <stdint.h>

#include "base/status.h"

/* "--max-tokens is '12x': …": a user error that names the option, the value, and the range. */
status argument_integer(const char *option, const char *text, int64_t lo, int64_t hi, int64_t *value);
status argument_number(const char *option, const char *text, double lo, double hi, double *value);

/* What getopt_long returned '?' or ':' for, as a user error; call with opterr = 0. `index` is optind after the failure.
 */
status argument_refused(const char *program, int code, int option, int index, char *const *argv);

#endif
