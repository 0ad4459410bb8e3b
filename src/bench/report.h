/* What a measurement leaves: a table on the console, and throughput.json, written anew after each row so that a run
 * that is killed keeps what it has measured. */
#ifndef PSANN_BENCH_REPORT_H
#define PSANN_BENCH_REPORT_H

#include "bench/machine_peak.h"
#include "bench/measure.h"

typedef struct {
  char *path;         /* of throughput.json; NULL on ranks other than 0, which write nothing */
  struct cJSON *root; /* cJSON */
} bench_report;

/* Makes `folder`, or reports/benchmarks/<UTC stamp> when it is NULL, and the head of the file. The other ranks get a
 * report that does nothing. */
status report_open(const char *folder, const dist *d, const system_facts *machine, const machine_peak *peak,
                   const bench_length *l, int argc, char **argv, bench_report *r);
status report_add(bench_report *r, const bench_row *row);
void report_close(bench_report *r);

/* One row: a few figures, or why there are none. */
void report_line(const bench_row *row);

/* All rows. */
void report_table(const bench_row *rows, int n);

#endif
