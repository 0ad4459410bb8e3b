/* The part of a page about one result of psann_bench throughput or validate. */
#ifndef PSANN_REPORT_BENCH_SECTION_H
#define PSANN_REPORT_BENCH_SECTION_H

#include "report/page.h"
#include "report/report_sources.h"

/* Heading; table of all rows and a figure of the speeds, or table of the steps with their verdicts; machine and
 * command. */
void bench_section(page *p, const bench_data *b);

#endif
