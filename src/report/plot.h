/* Pictures: a description in numbers, drawn by gnuplot, as SVG to stand in a page. Colours are the page's custom
 * properties (--s1 … --s8, --grid) and currentColor, so that one picture serves light and dark. */
#ifndef PSANN_REPORT_PLOT_H
#define PSANN_REPORT_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"

enum { PLOT_COLOURS = 8, PLOT_SERIES = 64 };

typedef enum {
  PLOT_LINE,
  PLOT_BAND,   /* between y and y2 */
  PLOT_POINTS, /* a line with its points */
} plot_kind;

/* x, y, y2 (n each) belong to whoever made them; a y that is not finite is a gap. */
typedef struct {
  plot_kind kind;
  int colour; /* 0 … PLOT_COLOURS − 1 */
  bool pale, dashed;
  const double *x, *y, *y2; /* y2: PLOT_BAND alone */
  size_t n;
} plot_series;

typedef struct {
  const char *x_label, *y_label; /* constants of the program */
  bool log_y;                    /* y ≤ 0 is then a gap */
  bool from_zero;                /* the y axis begins at 0 */
  double top;                    /* where the y axis ends; 0: at the largest value */
  int n_series;
  plot_series series[PLOT_SERIES];
} plot;

/* Horizontal bars with a name before and the number behind each. What is not a letter, digit, space or one of "-_.,+"
 * in a name is shown as "_". */
typedef struct {
  const char *x_label;
  int n;
  const char *const *names;
  const double *values;
  const int *colours;
} plot_bars;

/* Whether there is anything to draw. */
bool plot_has_points(const plot *p);

/* Draws `p`, which has something to draw, width × height in CSS pixels; *svg is freshly allocated. A failure says why
 * in a sentence: when gnuplot is not installed, how to get it. */
status plot_svg(const plot *p, int width, int height, char **svg);
status plot_bars_svg(const plot_bars *b, int width, int height, char **svg);

/* What the pictures of a page refer to; stands once in it. */
extern const char plot_symbols[];

#endif
