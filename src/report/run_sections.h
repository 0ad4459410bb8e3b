/* The parts of a page that tell about one run in words and tables. */
#ifndef PSANN_REPORT_RUN_SECTIONS_H
#define PSANN_REPORT_RUN_SECTIONS_H

#include "report/page.h"
#include "report/run_data.h"

/* "respsann, 1,234,567 parameters, 2 ranks, CPU fp32": into text. */
void run_line(const run_data *r, char *text, size_t room);

/* A paragraph and the key figures. */
void run_summary(page *p, const run_data *r);

/* Keys by section; what is not the default stands out. */
status run_configuration(page *p, const run_data *r);

/* system.json; also the "machine" of a benchmark. NULL: says that it is missing. */
void machine_table(page *p, const struct cJSON *system);

/* The command that is recorded there. */
void machine_command(page *p, const struct cJSON *system);

/* Commit and commands; nothing without a system.json. */
void run_commands(page *p, const run_data *r);

/* The same under a heading, with what else a repetition needs. */
void run_reproduction(page *p, const run_data *r);

#endif
