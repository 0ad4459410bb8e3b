/* The part of a page about one result of psann_bench or launch/tiny_corpus.sh. */
#ifndef PSANN_REPORT_BENCH_SECTION_H
#define PSANN_REPORT_BENCH_SECTION_H

#include "report/page.h"
#include "report/report_sources.h"

/* Heading; table of all rows and a figure of the speeds, or what validation_section.h has; machine and command. */
void bench_section(page *p, const bench_data *b);

#endif
