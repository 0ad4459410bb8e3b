/* Parts of a loop that are issued alike every time round: directly the first time, while an engine still makes tables
 * and chooses plans; captured as a graph the second time; launched as that graph from then on. */
#ifndef PSANN_ENGINE_GRAPH_SET_H
#define PSANN_ENGINE_GRAPH_SET_H

#include "engine/engine.h"

typedef struct graph_set graph_set;

/* Issues part number `part` of what `context` has. */
typedef status (*graph_part)(void *context, int64_t part);

/* For parts 0 … parts − 1, of which those from a fixed number on are always issued directly: a graph takes memory. The
 * engine must outlive it, and its scratch must not be prepared again. */
status graph_set_create(engine *e, int64_t parts, graph_set **out);
void graph_set_destroy(graph_set *s); /* NULL: nothing */

/* *launched: it was launched as a graph from before, and `issue` was not called. */
status graph_set_run(graph_set *s, int64_t part, graph_part issue, void *context, bool *launched);

#endif
