/* Documents into token stores, on several threads. The stores' bytes depend on the documents alone, not on the number
 * of threads. */
#ifndef PSANN_DATA_TOKENIZE_H
#define PSANN_DATA_TOKENIZE_H

#include <stdint.h>

#include "base/status.h"
#include "data/holdout.h"
#include "data/input_reader.h"
#include "data/store_write.h"
#include "data/tokenizer.h"

typedef struct {
  int64_t bad_lines;                  /* JSON lines skipped as bad */
  int64_t unknown_train, unknown_val; /* tokens that are the tokenizer's unknown */
  double seconds;
} tokenize_counts;

/* Reads all documents, adds end of text to each, and writes those held out to `val` (NULL when the split holds none
 * out) and the others to `train`. Memory: a few MiB a job.
 */
status tokenize(input_list *list, const input_options *options, const holdout *split, tokenizer *t, int jobs,
                store_writer *train, store_writer *val, tokenize_counts *counts);

#endif
