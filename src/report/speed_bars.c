#include "report/speed_bars.h"

#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "report/curves.h"

void speed_bar(speed_bars *b, const char *name, double tok_s, int colour) {
  if (b->n == MOST_BARS || !(tok_s > 0 && tok_s < 1e30)) {
    return;
  }
  snprintf(b->names[b->n], BAR_NAME, "%s", name);
  b->values[b->n] = tok_s;
  b->colours[b->n++] = colour;
}

void speed_bars_figure(page *p, speed_bars *b, const char *caption) {
  const char *names[MOST_BARS];
  double largest = 0;
  for (int i = 0; i < b->n; i++) {
    names[i] = b->names[i];
    largest = fmax(largest, b->values[i]);
  }
  axis_unit unit = unit_of_speed(largest);
  for (int i = 0; i < b->n; i++) {
    b->values[i] *= unit.factor;
  }
  const plot_bars what = {.x_label = unit.label, .n = b->n, .names = names, .values = b->values, .colours = b->colours};
  if (b->n > 0) {
    page_bars(p, &what, "Throughput", caption);
    page_figures_end(p);
  }
}

const char *bench_text(const cJSON *row, const char *name) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, name));
  return text != NULL ? text : "";
}
