/* JSON objects and files. */
#ifndef PSANN_BASE_JSON_H
#define PSANN_BASE_JSON_H

#include <cjson/cJSON.h>

#include "base/status.h"

/* A number, or null when it is not finite. */
void json_number(cJSON *o, const char *key, double value);

/* The number under the key; NaN when there is none. */
double json_get_number(const cJSON *o, const char *key);

/* Writes the file anew, atomically. */
status json_write(const char *path, const cJSON *o);

/* Reads a file; what is not JSON is a user error that names it. *out is the caller's. */
status json_read(const char *path, cJSON **out);

#endif
