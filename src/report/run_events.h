/* Evaluations of a run, and what else happened. */
#ifndef PSANN_REPORT_RUN_EVENTS_H
#define PSANN_REPORT_RUN_EVENTS_H

#include "report/page.h"
#include "report/run_data.h"

/* Sections, which are there when there is something to tell. */
bool run_has_evaluations(const run_data *r);
bool run_has_events(const run_data *r);
void run_evaluations(page *p, const run_data *r);

/* Counts by kind, and the events in the order of the file: of many, those out of the ordinary, and all behind a click.
 */
void run_events(page *p, const run_data *r);

#endif
