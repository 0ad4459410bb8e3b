/* The CPU engine behind a wrapper that counts the memory it gave out and, when asked, claims a compute type narrower
 * than its state type, as GPU engines have: adamw then also fills a buffer of weights in fp32.
 */
#ifndef PSANN_TESTS_SHARD_WRAPPED_ENGINE_H
#define PSANN_TESTS_SHARD_WRAPPED_ENGINE_H

#include <stdbool.h>

#include "engine/engine.h"

typedef struct {
  engine base;
  engine *real;
  double bytes;       /* asked for so far, */
  double host_bytes;  /* by alloc_host */
  int64_t live;       /* buffers not yet freed */
  int64_t fail_after; /* allocations until one fails; −1: never */
} wrapped_engine;

/* `state` fp32 or fp64; `narrow`: compute is fp32 although state is fp64. */
status wrapped_engine_create(dtype state, bool narrow, wrapped_engine **out);
/* As its operation `destroy`. */
void wrapped_engine_destroy(wrapped_engine *w);

#endif
