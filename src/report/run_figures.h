/* The figures of one run, and of several over each other. A figure whose data a run has not is left out. */
#ifndef PSANN_REPORT_RUN_FIGURES_H
#define PSANN_REPORT_RUN_FIGURES_H

#include "report/page.h"
#include "report/run_data.h"

/* Loss, perplexity, learning rate, norm of the gradient, throughput, memory, step times over ranks, loss scale. */
status run_figures(page *p, const run_data *r);

/* Training loss, validation loss, throughput; run i has colour i, and dashes from the ninth on. */
status runs_figures(page *p, const run_data *const *runs, size_t n);

#endif
