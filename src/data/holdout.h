/* Which documents are held out for validation. */
#ifndef PSANN_DATA_HOLDOUT_H
#define PSANN_DATA_HOLDOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "data/input_reader.h"

typedef struct {
  double fraction; /* of the documents; 0: none but the files given as validation */
  uint64_t seed;
} holdout;

/* Of a document's first segment: whether it is for validation. A hash of the text decides, so equal documents go the
 * same way, and adding documents moves no other.
 */
bool holdout_takes(const holdout *h, const input_segment *first);

#endif
