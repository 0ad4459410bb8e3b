/* Programs that a measurement starts: one after another, with an end to waiting. */
#ifndef PSANN_BENCH_CHILD_H
#define PSANN_BENCH_CHILD_H

#include "base/status.h"

/* The folder that this program's file is in: where the others of the build lie. *out is the caller's. */
status child_programs(char **out);

/* Runs argv[0] (looked for on PATH when it has no '/') with argv (NULL at the end); what it writes to standard output
 * and standard error is appended to the file `log`. *code is its exit code, 128 + the signal that ended it. A program
 * that takes longer than `limit` seconds is ended: a failure. So is one that can't be started. */
status child_run(const char *const argv[], const char *log, double limit, int *code);

/* The same, and an exit code other than 0 is a failure with the log's last line. */
status child_expect(const char *const argv[], const char *log, double limit);

/* The last line of the file that holds anything, without colours and line ends; "" when there is none. */
void child_last_line(const char *log, char *line, int room);

#endif
