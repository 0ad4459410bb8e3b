/* Series of a run, thinned and smoothed for a picture that is some hundred pixels wide. */
#ifndef PSANN_REPORT_CURVES_H
#define PSANN_REPORT_CURVES_H

#include "report/plot.h"
#include "report/run_data.h"

/* n points: the step, the running mean around it, and the least and greatest value of the steps that it stands for. */
typedef struct {
  size_t n;
  double *x, *mean, *low, *high;
  bool thinned; /* a point stands for more than one step */
} curve;

/* Values that are not finite are left out of means; a point without any is a gap. `smooth`: the mean runs over a
 * thirtieth of the run; otherwise over what the point stands for. */
status curve_make(const run_series *s, bool smooth, curve *c);
void curve_free(curve *c);

/* A measure in which an axis has short numbers. */
typedef struct {
  double factor; /* value · factor is what the axis shows */
  const char *label;
} axis_unit;

axis_unit unit_of_steps(double last_step);
axis_unit unit_of_speed(double largest);
axis_unit unit_of_bytes(double largest);
axis_unit unit_of_rate(double largest); /* a learning rate */

/* Multiplies x, and mean, low, high. */
void curve_scale(curve *c, double x_factor, double y_factor);

#endif
