#include "report/curves.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { POINTS = 280, WINDOWS = 30 };

/* Sums and counts of the finite values before each place. */
typedef struct {
  double *sum, *count; /* n + 1 */
} prefix;

static status prefix_make(const run_series *s, prefix *p) {
  *p = (prefix){0};
  TRY(memory_new(&p->sum, s->n + 1, sizeof *p->sum, "a running mean"));
  TRY(memory_new(&p->count, s->n + 1, sizeof *p->count, "a running mean"));
  for (size_t i = 0; i < s->n; i++) {
    bool finite = isfinite(s->values[i]);
    p->sum[i + 1] = p->sum[i] + (finite ? s->values[i] : 0);
    p->count[i + 1] = p->count[i] + finite;
  }
  return STATUS_OK;
}

static double mean_of(const prefix *p, size_t from, size_t to) {
  double count = p->count[to] - p->count[from];
  return count > 0 ? (p->sum[to] - p->sum[from]) / count : NAN;
}

/* The mean over up to half · 2 + 1 values around i; fewer towards the ends, the same number on both sides. */
static double mean_around(const prefix *p, size_t n, size_t i, size_t half) {
  size_t reach = half < i ? half : i;
  reach = reach < n - 1 - i ? reach : n - 1 - i;
  return mean_of(p, i - reach, i + reach + 1);
}

/* The range also covers the value before, so that the bands of neighbours meet. */
static void point(const run_series *s, const prefix *p, size_t from, size_t to, bool smooth, curve *c) {
  size_t middle = from + (to - from) / 2, k = c->n++;
  bool any = p->count[to] > p->count[from];
  c->x[k] = s->steps[middle];
  c->low[k] = c->high[k] = NAN;
  for (size_t i = from - (c->thinned && from > 0); any && i < to; i++) {
    if (isfinite(s->values[i])) {
      c->low[k] = fmin(c->low[k], s->values[i]); /* of a number and NaN: the number */
      c->high[k] = fmax(c->high[k], s->values[i]);
    }
  }
  c->mean[k] = !any ? NAN : smooth ? mean_around(p, s->n, middle, s->n / (2 * (size_t)WINDOWS)) : mean_of(p, from, to);
}

static status fill(const run_series *s, bool smooth, curve *c) {
  size_t points = s->n < POINTS ? s->n : POINTS;
  prefix p;
  status made = prefix_make(s, &p);
  double **const columns[] = {&c->x, &c->mean, &c->low, &c->high};
  for (int i = 0; i < 4 && made == STATUS_OK; i++) {
    made = memory_new(columns[i], points, sizeof(double), "a curve");
  }
  for (size_t k = 0; k < points && made == STATUS_OK; k++) {
    point(s, &p, s->n * k / points, s->n * (k + 1) / points, smooth, c);
  }
  free(p.sum);
  free(p.count);
  return made;
}

status curve_make(const run_series *s, bool smooth, curve *c) {
  *c = (curve){.thinned = s->n > POINTS};
  status made = s->n > 0 ? fill(s, smooth, c) : STATUS_OK;
  if (made != STATUS_OK) {
    curve_free(c);
  }
  return made;
}

void curve_free(curve *c) {
  free(c->x);
  free(c->mean);
  free(c->low);
  free(c->high);
  *c = (curve){0};
}

void curve_scale(curve *c, double x_factor, double y_factor) {
  for (size_t i = 0; i < c->n; i++) {
    c->x[i] *= x_factor;
    c->mean[i] *= y_factor;
    c->low[i] *= y_factor;
    c->high[i] *= y_factor;
  }
}

axis_unit unit_of_steps(double last_step) {
  return last_step >= 2e6   ? (axis_unit){1e-6, "million steps"}
         : last_step >= 5e4 ? (axis_unit){1e-3, "thousand steps"}
                            : (axis_unit){1, "step"};
}

axis_unit unit_of_speed(double largest) {
  return largest >= 2e6   ? (axis_unit){1e-6, "million tokens per second"}
         : largest >= 1e4 ? (axis_unit){1e-3, "thousand tokens per second"}
                          : (axis_unit){1, "tokens per second"};
}

axis_unit unit_of_bytes(double largest) {
  const double mib = 1 << 20, gib = 1 << 30;
  return largest >= gib ? (axis_unit){1 / gib, "GiB"} : (axis_unit){1 / mib, "MiB"};
}

axis_unit unit_of_rate(double largest) {
  static const axis_unit units[] = {{1e1, "learning rate (units of 0.1)"},  {1e2, "learning rate (units of 10⁻²)"},
                                    {1e3, "learning rate (units of 10⁻³)"}, {1e4, "learning rate (units of 10⁻⁴)"},
                                    {1e5, "learning rate (units of 10⁻⁵)"}, {1e6, "learning rate (units of 10⁻⁶)"},
                                    {1e7, "learning rate (units of 10⁻⁷)"}};
  const int n = sizeof units / sizeof units[0];
  int i = largest > 0 ? (int)ceil(-log10(largest)) - 1 : 0;
  return largest >= 1 ? (axis_unit){1, "learning rate"} : units[i < 0 ? 0 : i >= n ? n - 1 : i];
}
