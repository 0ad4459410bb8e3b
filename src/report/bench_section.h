/* The part of a page about one result of psann_bench throughput. */
#ifndef PSANN_REPORT_BENCH_SECTION_H
#define PSANN_REPORT_BENCH_SECTION_H

#include "report/page.h"
#include "report/report_sources.h"

/* Heading, table of all rows, a figure of the speeds, the machine, and the command. */
void bench_section(page *p, const bench_data *b);

#endif
