/* Engine memory that exchanges read and write. Some transports reach it without a kernel where they allocate it
 * themselves (collectives.h). */
#ifndef PSANN_DIST_EXCHANGE_MEMORY_H
#define PSANN_DIST_EXCHANGE_MEMORY_H

#include "dist/collectives.h"

/* Zeroed. c: who will exchange it, or NULL. All ranks of c call in the same order with the same number of bytes. */
status exchange_alloc(collectives *c, engine *e, size_t bytes, const char *what, void **out);

/* What exchange_alloc gave for the same c; NULL: nothing happens. */
void exchange_free(collectives *c, engine *e, void *p);

#endif
