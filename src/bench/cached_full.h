/* Generation with a key-value cache against computing the whole text anew. */
#ifndef PSANN_BENCH_CACHED_FULL_H
#define PSANN_BENCH_CACHED_FULL_H

#include "infer/loaded.h"

typedef struct {
  int64_t positions;     /* compared */
  double largest;        /* |cached − full| over all logits, as a share of the largest |full| */
  int64_t equal_choices; /* positions where the most probable token is the same */
  bool finite;           /* all logits of both */
} cached_full;

/* Feeds the text ids (n tokens) token by token to a cache and at once to a whole pass, and compares the logits of
 * every position. */
status cached_full_compare(loaded *l, const int32_t *ids, int64_t n, cached_full *r);

#endif
