#include "report/plot.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/gnuplot.h"
#include "report/numbers.h"
#include "report/svg.h"

/* gnuplot numbers its symbols; 6 is the filled circle. */
const char plot_symbols[] =
    "<svg class=\"symbols\" aria-hidden=\"true\"><defs><circle id=\"gpPt6\" r=\"1\" "
    "fill=\"currentColor\" stroke=\"none\"/></defs></svg>\n";

/* Script. */

static void begin(FILE *f, int width, int height) {
  fprintf(f,
          "set encoding utf8\n"
          "set terminal svg size %d,%d dynamic noenhanced font 'sans-serif,12' linewidth 1\n"
          "set border 3 lw 0.7\nset tics nomirror out scale 0.5\nset grid ytics lt -1 lc rgb '" SVG_GRID_COLOUR
          "' lw 0.6\nunset key\n",
          width, height);
}

/* Distance of ticks: 1, 2 or 5 times a power of ten, so that an axis of this length has room for their numbers. */
static double tick_distance(double span, int pixels) {
  enum { PIXELS_A_TICK = 55 };
  double least = span * PIXELS_A_TICK / pixels, power = pow(10, floor(log10(least)));
  double ratio = least / power;
  return power * (ratio <= 1 ? 1 : ratio <= 2 ? 2 : ratio <= 5 ? 5 : 10);
}

/* What no run has would leave the axis no numbers. */
static bool drawn(const plot *p, double y) {
  return fabs(y) < 1e30 && (!p->log_y || y > 1e-30);
}

typedef struct {
  double low, high;
} extent;

static void widen(extent *e, double value) {
  e->low = fmin(e->low, value);
  e->high = fmax(e->high, value);
}

static extent extent_of(const plot *p) {
  extent e = {INFINITY, -INFINITY};
  for (int i = 0; i < p->n_series; i++) {
    const plot_series *s = &p->series[i];
    for (size_t k = 0; k < s->n; k++) {
      if (drawn(p, s->y[k])) {
        widen(&e, s->y[k]);
      }
      if (s->y2 != NULL && drawn(p, s->y2[k])) {
        widen(&e, s->y2[k]);
      }
    }
  }
  return e;
}

bool plot_has_points(const plot *p) {
  extent e = extent_of(p);
  return e.low <= e.high;
}

/* Ticks of a logarithmic axis: 1, 2, 5 times the powers of ten, or these alone where there are many. */
static void log_axis(FILE *f, extent e) {
  if (e.high < 2 * e.low) { /* room for a tick */
    e = (extent){e.low / 2, e.high * 2};
  }
  int first = (int)floor(log10(e.low)), last = (int)ceil(log10(e.high));
  double span = log10(e.high / e.low);
  const int between[] = {1, 2, 5};
  fprintf(f, "set logscale y\nset yrange [%.17g:%.17g]\nset ytics (", e.low / 1.05, e.high * 1.05);
  for (int k = first, n = 0; k <= last; k++) {
    for (int i = 0; i < (span < 2.5 ? 3 : 1); i++) {
      double tick = between[i] * pow(10, k);
      if (tick < e.low / 1.05 || tick > e.high * 1.05) {
        continue;
      }
      fprintf(f, tick >= 1e6 || tick < 1e-4 ? "%s'%.0e' %.17g" : "%s'%.15g' %.17g", n++ > 0 ? ", " : "", tick, tick);
    }
  }
  fputs(")\n", f);
}

static void step_axis(FILE *f, const plot *p, int width) {
  extent e = {INFINITY, -INFINITY};
  for (int i = 0; i < p->n_series; i++) {
    for (size_t k = 0; k < p->series[i].n; k++) {
      widen(&e, p->series[i].x[k]);
    }
  }
  if (e.high > e.low) {
    double low = e.low - e.high / 10 <= 0 ? 0 : e.low; /* 0 where the run begins near it */
    fprintf(f, "set xrange [%.17g:%.17g]\nset xtics %.17g\n", low, e.high, tick_distance(e.high - low, width));
  } else if (e.high == e.low) {
    fprintf(f, "set xrange [%.17g:%.17g]\nset xtics 1\n", e.low - 1, e.low + 1);
  }
}

static void axes(FILE *f, const plot *p, extent e) {
  fprintf(f, "set xlabel '%s' offset 0,0.3\nset ylabel '%s' offset 0.8,0\n", p->x_label, p->y_label);
  if (p->log_y) {
    log_axis(f, e);
  } else if (p->top > 0 || (p->from_zero && e.high > 0)) {
    fprintf(f, "set yrange [%s:%.17g]\n", p->from_zero && e.low >= 0 ? "0" : "*", p->top > 0 ? p->top : 1.05 * e.high);
  } else if (e.high > e.low) {
    double margin = 0.04 * (e.high - e.low);
    fprintf(f, "set yrange [%.17g:%.17g]\n", e.low - margin, e.high + margin);
  }
}

static void data(FILE *f, const plot *p, int number) {
  const plot_series *s = &p->series[number];
  fprintf(f, "$d%d << EOD\n", number);
  for (size_t k = 0; k < s->n; k++) {
    double y = drawn(p, s->y[k]) ? s->y[k] : NAN;
    if (s->kind == PLOT_BAND) {
      double y2 = drawn(p, s->y2[k]) ? s->y2[k] : NAN;
      if (isnan(y) || isnan(y2)) {
        fputs("\n", f); /* a band ends here, and another begins */
      } else {
        fprintf(f, "%.10g %.10g %.10g\n", s->x[k], y, y2);
      }
    } else if (isnan(y)) {
      fprintf(f, "%.10g NaN\n", s->x[k]);
    } else {
      fprintf(f, "%.10g %.10g\n", s->x[k], y);
    }
  }
  fputs("EOD\n", f);
}

static void draw_series(FILE *f, const plot *p, int number) {
  const plot_series *s = &p->series[number];
  fprintf(f, "%s$d%d ", number > 0 ? ", " : "plot ", number);
  if (s->kind == PLOT_BAND) {
    fprintf(f, "using 1:2:3 with filledcurves fs solid 0.22 noborder");
  } else {
    fprintf(f, "using 1:2 with %s lw %s%s", s->kind == PLOT_POINTS || s->n == 1 ? "linespoints pt 7 ps 0.35" : "lines",
            s->pale ? "0.6" : "1.4", s->dashed ? " dt 2" : "");
  }
  fprintf(f, " lc rgb '" SVG_SERIES_COLOUR "'", s->colour % PLOT_COLOURS + 1);
}

static status finish(FILE *script, const char *label, char **svg) {
  char *output = NULL;
  TRY(gnuplot_run(script, &output));
  status s = svg_clean(output, label, svg);
  free(output);
  return s;
}

status plot_svg(const plot *p, int width, int height, char **svg) {
  *svg = NULL;
  extent e = extent_of(p);
  REQUIRE(e.low <= e.high, "there is nothing to draw for %s", p->y_label);
  FILE *f;
  TRY(gnuplot_script(&f));
  begin(f, width, height);
  axes(f, p, e);
  step_axis(f, p, width);
  for (int i = 0; i < p->n_series; i++) {
    data(f, p, i);
  }
  for (int i = 0; i < p->n_series; i++) {
    draw_series(f, p, i);
  }
  fputs("\n", f);
  return finish(f, p->y_label, svg);
}

/* At most `letters` of it, the last of them an ellipsis where there are more. */
static void bar_name(FILE *f, const char *name, int letters) {
  for (int i = 0; name[i] != 0; i++) {
    if (i == letters - 1 && name[i + 1] != 0) {
      fputs("…", f);
      return;
    }
    fputc(isalnum((unsigned char)name[i]) || strchr(" -_.,+", name[i]) != NULL ? name[i] : '_', f);
  }
}

/* Where a bar ends and what is written behind it. */
static void bar_data(FILE *f, const plot_bars *b) {
  char text[32];
  fputs("$d << EOD\n", f);
  for (int i = 0; i < b->n; i++) {
    fprintf(f, "0 %d 0 %.10g %g %g %d \"%s\"\n", -i, b->values[i], -i - 0.34, -i + 0.34,
            b->colours[i] % PLOT_COLOURS + 1, number_short(b->values[i], text));
  }
  fputs("EOD\n", f);
}

status plot_bars_svg(const plot_bars *b, int width, int height, char **svg) {
  /* Pixels: of a letter, of the number behind a bar, of the longest bar at least, beside the names, right of it all.
   * gnuplot's own margins take letters for wider than they are. */
  enum { LETTER = 7, NUMBER = 48, LEAST = 42, BESIDE = 8, RIGHT = 10 };
  const int letters = (width - NUMBER - LEAST - BESIDE - RIGHT) / LETTER;
  *svg = NULL;
  double most = 0, names = 0;
  FILE *f;
  TRY(gnuplot_script(&f));
  begin(f, width, height);
  fputs("set ytics scale 0 (", f);
  for (int i = 0; i < b->n; i++) {
    most = fmax(most, b->values[i]);
    names = fmax(names, fmin((double)strlen(b->names[i]), letters));
    fprintf(f, "%s'", i > 0 ? ", " : "");
    bar_name(f, b->names[i], letters);
    fprintf(f, "' %d", -i);
  }
  most = most > 0 ? most : 1;
  double left = LETTER * names + BESIDE, room = width - left - RIGHT, end = most * room / (room - NUMBER);
  fprintf(f,
          ")\nunset grid\nset grid xtics lt -1 lc rgb '" SVG_GRID_COLOUR
          "' lw 0.6\nset border 2 lw 0.7\nset bmargin 3.2\nset lmargin at screen %.4f\nset rmargin at screen %.4f\n",
          left / width, 1.0 - (double)RIGHT / width);
  fprintf(f,
          "set label 1 '%s' at graph 1,character 0.8 right\n" /* in the middle it may not fit */
          "set xrange [0:%.17g]\nset yrange [%g:0.6]\nset xtics %.17g\nset style fill solid 0.85 noborder\n",
          b->x_label, end, 0.4 - b->n, tick_distance(end, (int)room));
  bar_data(f, b);
  fputs("plot $d using 1:2:3:4:5:6:7 with boxxyerror lc rgb variable, $d using 4:2:8 with labels left offset 0.4,0\n",
        f);
  return finish(f, b->x_label, svg);
}
