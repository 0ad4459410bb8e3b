/* The benchmark folder of validation reports: throughput.csv and memory.json, with the reference's columns and keys
 * first and ours after them; throughput_all.csv, every measured row. */
#ifndef PSANN_BENCH_BUNDLE_H
#define PSANN_BENCH_BUNDLE_H

#include "base/status.h"

/* Gathers <reports>/gpu/<stamp>/summary.json, of all stamps in order or of one (`stamp` not NULL), into `out`, which is
 * made. Reports without GPU-03 or GPU-04 add nothing; a file without rows is not written. *found: how many reports had
 * any. */
status bundle_write(const char *reports, const char *stamp, const char *out, int *found);

/* psann_bench aggregate: reads what stands after "aggregate" (argv[2] …); *print is a text to print instead. */
status bundle_command(int argc, char **argv, const char **print);

#endif
