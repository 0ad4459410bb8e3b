/* The HDF5 file of a parity case: attributes as text, datasets as numbers. Every message names the file. */
#ifndef PSANN_CHECK_GOLDEN_FILE_H
#define PSANN_CHECK_GOLDEN_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

enum { GOLDEN_DIMS = 4 };

typedef struct golden_file golden_file;

status golden_file_open(const char *path, golden_file **out);
void golden_file_close(golden_file *f);
const char *golden_file_path(const golden_file *f);

/* Calls `each` for every attribute, its value written as a configuration file would have it: text, numbers, true or
 * false, a pair as "lo, hi" with none for NaN. */
status golden_file_attributes(golden_file *f, status (*each)(void *context, const char *name, const char *value),
                              void *context);

/* Calls `each` for every name in a group; a group that is not there has no names. */
status golden_file_names(golden_file *f, const char *group, status (*each)(void *context, const char *name),
                         void *context);

bool golden_file_has(golden_file *f, const char *dataset);

/* *dims ≤ GOLDEN_DIMS sizes; a scalar has none. */
status golden_file_shape(golden_file *f, const char *dataset, int *dims, int64_t shape[GOLDEN_DIMS]);

/* The whole dataset, which must hold `count` numbers. */
status golden_file_reals(golden_file *f, const char *dataset, int64_t count, double *values);
status golden_file_integers(golden_file *f, const char *dataset, int64_t count, int32_t *values);

#endif
