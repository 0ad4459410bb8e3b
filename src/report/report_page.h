/* The page about what was found: about a run when there is one and nothing else, otherwise about all of it. */
#ifndef PSANN_REPORT_REPORT_PAGE_H
#define PSANN_REPORT_REPORT_PAGE_H

#include "report/page.h"
#include "report/report_sources.h"

/* Fills an empty page; p->trouble says why pictures are missing, when they are. The caller frees it in any case.
 * `title` NULL: the name of the run, or of the first folder. */
status report_page(page *p, const report_sources *s, const char *title);

#endif
