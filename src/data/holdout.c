#include "data/holdout.h"

#include <xxhash.h>

bool holdout_takes(const holdout *h, const input_segment *first) {
  if (first->role == INPUT_VALIDATION) {
    return true;
  }
  uint64_t hash = XXH3_64bits_withSeed(first->text, first->bytes, h->seed);
  return (double)(hash >> 11) * 0x1p-53 < h->fraction;
}
