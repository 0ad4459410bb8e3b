/* What a report is about: runs, and results of psann_bench, found in folders. */
#ifndef PSANN_REPORT_REPORT_SOURCES_H
#define PSANN_REPORT_REPORT_SOURCES_H

#include "report/run_data.h"

typedef enum {
  RESULT_THROUGHPUT,  /* throughput.json of psann_bench throughput */
  RESULT_VALIDATION,  /* summary.json of psann_bench validate */
  RESULT_TINY_CORPUS, /* metrics.json of launch/tiny_corpus.sh */
  RESULT_KINDS
} result_kind;

typedef struct {
  char *path;
  result_kind kind;
  struct cJSON *root;
} bench_data;

typedef struct {
  char *name;      /* last part of the first folder's path */
  run_data **runs; /* in the order of their paths within each folder */
  size_t n_runs, runs_capacity;
  bench_data *benches;
  size_t n_benches, benches_capacity;
} report_sources;

/* Adds a run folder, or all run folders and results in a folder and below it (hidden folders and checkpoints are
 * passed over, and so are links). A user error when there are none. */
status report_sources_add(report_sources *s, const char *folder);

size_t report_sources_count(const report_sources *s, result_kind kind);

/* "2 runs, 1 benchmark, 1 validation": into text. */
void report_sources_line(const report_sources *s, char *text, size_t room);

void report_sources_free(report_sources *s);

#endif
