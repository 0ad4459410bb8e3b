/* What a report is about: runs, and results of psann_bench, found in folders. */
#ifndef PSANN_REPORT_REPORT_SOURCES_H
#define PSANN_REPORT_REPORT_SOURCES_H

#include "report/run_data.h"

typedef struct {
  char *path; /* of a throughput.json, or of the summary.json of psann_bench validate */
  bool validation;
  struct cJSON *root;
} bench_data;

typedef struct {
  run_data **runs; /* in the order of their paths within each folder */
  size_t n_runs, runs_capacity;
  bench_data *benches;
  size_t n_benches, benches_capacity;
} report_sources;

/* Adds a run folder, or all run folders and results in a folder and below it (hidden folders and checkpoints are
 * passed over, and so are links to folders). A user error when there are none. */
status report_sources_add(report_sources *s, const char *folder);

void report_sources_free(report_sources *s);

#endif
