/* What psann_bench validate and launch/tiny_corpus.sh found, beside what was published. */
#ifndef PSANN_REPORT_VALIDATION_SECTION_H
#define PSANN_REPORT_VALIDATION_SECTION_H

#include <cjson/cJSON.h>

#include "report/page.h"

/* How many steps passed; steps with verdict, threshold and figure; speeds beside the published ones; memory with and
 * without recompute; the text that was written. `summary`: the whole of summary.json. */
void validation_tables(page *p, const cJSON *summary);

/* `metrics`: the whole of metrics.json. */
void tiny_corpus_tables(page *p, const cJSON *metrics);

#endif
