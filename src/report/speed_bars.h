/* A figure of measured speeds, and what tables of benchmarks share. */
#ifndef PSANN_REPORT_SPEED_BARS_H
#define PSANN_REPORT_SPEED_BARS_H

#include <cjson/cJSON.h>

#include "report/page.h"

enum { MOST_BARS = 40, BAR_NAME = 96 };

typedef struct {
  int n;
  char names[MOST_BARS][BAR_NAME];
  double values[MOST_BARS]; /* tokens a second */
  int colours[MOST_BARS];
} speed_bars;

/* Adds a bar, unless the speed is not known or there are too many; the name is copied. */
void speed_bar(speed_bars *b, const char *name, double tok_s, int colour);

/* The figure "Throughput"; nothing where there is no bar. */
void speed_bars_figure(page *p, speed_bars *b, const char *caption);

/* The text under the key; "" where there is none. */
const char *bench_text(const cJSON *row, const char *name);

#endif
