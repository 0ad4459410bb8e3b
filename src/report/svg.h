/* SVG that gnuplot wrote, made fit to stand in a page. */
#ifndef PSANN_REPORT_SVG_H
#define PSANN_REPORT_SVG_H

#include "base/status.h"

/* Colours for gnuplot that stand for custom properties of the page: of series 1, 2, … --s1, --s2, …; of grids --grid.
 */
#define SVG_SERIES_COLOUR "#0000%02x"
#define SVG_GRID_COLOUR "#0000ff"

/* The picture alone, with `label` for those who don't see it: the page's colours, nothing with a name of its own or
 * that a browser would show as a hint, no empty groups. *svg is freshly allocated. */
status svg_clean(const char *output, const char *label, char **svg);

#endif
