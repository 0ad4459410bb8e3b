/* gnuplot as a program. */
#ifndef PSANN_REPORT_GNUPLOT_H
#define PSANN_REPORT_GNUPLOT_H

#include <stdio.h>

#include "base/status.h"

/* A file in memory for a script. */
status gnuplot_script(FILE **out);

/* Runs the script, which it closes; *output is what gnuplot wrote (freshly allocated). No start-up file of the user's
 * is read. */
status gnuplot_run(FILE *script, char **output);

#endif
