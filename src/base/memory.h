/* Allocation that cannot be forgotten to be checked. */
#ifndef PSANN_BASE_MEMORY_H
#define PSANN_BASE_MEMORY_H

#include <stddef.h>

#include "base/status.h"

/* Allocates `count * size` zeroed bytes, overflow checked; the message names `what` and the size. *out is NULL on
 * failure. Free with free(). */
status memory_new(void *out, size_t count, size_t size, const char *what);

/* Grows *array (a pointer to a pointer) to hold at least `needed` elements, doubling; *capacity is updated. */
status memory_grow(void *array, size_t *capacity, size_t needed, size_t size, const char *what);

/* printf into fresh memory; the caller frees *out. */
status memory_format(char **out, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "12.3 GiB" into `text` (at least 32 bytes); returns text. */
const char *memory_text(double bytes, char *text);

#endif
