#include "report/run_figures.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "report/curves.h"
#include "report/numbers.h"

enum { MOST_BARS = 24 };

typedef struct {
  page *p;
  const run_data *r;
  axis_unit steps;
} context;

static double last_of(const run_series *s) {
  return s->n > 0 ? s->steps[s->n - 1] : 0;
}

static double largest_of(const run_series *s) {
  double largest = NAN;
  for (size_t i = 0; i < s->n; i++) {
    largest = isfinite(s->values[i]) ? fmax(largest, s->values[i]) : largest;
  }
  return largest;
}

static void add(plot *what, plot_kind kind, int colour, bool pale, const curve *c) {
  bool band = kind == PLOT_BAND;
  what->series[what->n_series++] = (plot_series){.kind = kind,
                                                 .colour = colour,
                                                 .pale = pale,
                                                 .x = c->x,
                                                 .y = band ? c->low : c->mean,
                                                 .y2 = band ? c->high : NULL,
                                                 .n = c->n};
}

/* A field as a curve in the figure's units. */
static status make(const context *x, run_field f, bool smooth, double factor, curve *c) {
  TRY(curve_make(&x->r->fields[f], smooth, c));
  curve_scale(c, x->steps.factor, factor);
  return STATUS_OK;
}

/* Every step in pale, the running mean in dark. */
static void add_steps(plot *what, int colour, curve *raw, const curve *smooth) {
  if (raw->thinned) {
    add(what, PLOT_BAND, colour, true, raw);
  } else {
    add(what, PLOT_LINE, colour, true, raw);
  }
  add(what, PLOT_LINE, colour, false, smooth);
}

static const char *pale_words(const curve *raw) {
  return raw->thinned ? "pale: range of the steps; dark: running mean" : "pale: every step; dark: running mean";
}

/* The highest value that a picture shows: lone peaks must not flatten the rest. 0: all of it. */
static double top_of(const run_series *s) {
  double median = run_series_median(s), largest = largest_of(s);
  return largest > 4 * median ? 4 * median : 0;
}

static void cut_words(html *caption, const run_series *s, double top) {
  size_t above = 0;
  for (size_t i = 0; i < s->n && top > 0; i++) {
    above += s->values[i] > top;
  }
  if (above > 0) {
    html_format(caption, " %zu value%s above the frame.", above, above == 1 ? " lies" : "s lie");
  }
}

static void figure(const context *x, plot *what, const char *title, html *caption) {
  what->x_label = x->steps.label;
  page_figure(x->p, what, title, caption->text != NULL ? caption->text : "");
  html_free(caption);
}

/* Loss or perplexity: of training and, where there is one, of validation. */
static status loss_figure(const context *x, run_field train, run_field val, bool log_y, const char *label,
                          const char *title) {
  const run_series *t = &x->r->fields[train], *v = &x->r->fields[val];
  if (!run_series_has_values(t)) {
    return STATUS_OK;
  }
  curve raw, smooth = {0}, held = {0};
  html caption = {0};
  plot what = {.y_label = label, .log_y = log_y};
  TRY(make(x, train, false, 1, &raw));
  status s = make(x, train, true, 1, &smooth);
  if (s == STATUS_OK && run_series_has_values(v)) {
    s = make(x, val, false, 1, &held);
  }
  if (s == STATUS_OK) {
    add_steps(&what, 0, &raw, &smooth);
    page_key(&caption, 0, false, "training");
    if (held.n > 0) {
      add(&what, PLOT_POINTS, 1, false, &held);
      page_key(&caption, 1, false, "validation");
    }
    html_format(&caption, "(%s)", pale_words(&raw));
    figure(x, &what, title, &caption);
  }
  curve_free(&raw);
  curve_free(&smooth);
  curve_free(&held);
  return s;
}

/* One field of every step. */
static status step_figure(const context *x, run_field f, int colour, double factor, plot what, const char *title,
                          const char *note) {
  const run_series *series = &x->r->fields[f];
  if (!run_series_has_values(series)) {
    return STATUS_OK;
  }
  curve raw, smooth = {0};
  html caption = {0};
  TRY(make(x, f, false, factor, &raw));
  status s = make(x, f, true, factor, &smooth);
  if (s == STATUS_OK) {
    double top = what.log_y ? 0 : top_of(series);
    what.top = factor * top;
    add_steps(&what, colour, &raw, &smooth);
    html_format(&caption, "%s%s.", note, pale_words(&raw));
    cut_words(&caption, series, top);
    figure(x, &what, title, &caption);
  }
  curve_free(&raw);
  curve_free(&smooth);
  return s;
}

/* One field as a plain line. */
static status line_figure(const context *x, run_field f, int colour, double factor, plot what, const char *title,
                          const char *note) {
  if (!run_series_has_values(&x->r->fields[f])) {
    return STATUS_OK;
  }
  curve c;
  html caption = {0};
  TRY(make(x, f, false, factor, &c));
  add(&what, PLOT_LINE, colour, false, &c);
  html_add(&caption, note);
  figure(x, &what, title, &caption);
  curve_free(&c);
  return STATUS_OK;
}

static bool needs_log(const run_series *s) {
  return largest_of(s) > 20 * run_series_lowest(s, NULL);
}

/* Which rank was the slowest most often. */
static void slowest_words(html *caption, const run_series *s) {
  enum { RANKS = 65536 };
  size_t *counts = NULL, known = 0, most = 0;
  if (s->n == 0 || memory_new(&counts, RANKS, sizeof *counts, "counts of ranks") != STATUS_OK) {
    return;
  }
  for (size_t i = 0; i < s->n; i++) {
    if (s->values[i] >= 0 && s->values[i] < RANKS) {
      size_t rank = (size_t)s->values[i];
      known++;
      counts[rank]++;
      most = counts[rank] > counts[most] ? rank : most;
    }
  }
  if (known > 0) {
    html_format(caption, " Rank %zu was the slowest most often: in %.0f %% of the steps that were looked at.", most,
                100.0 * (double)counts[most] / (double)known);
  }
  free(counts);
}

/* Slowest, middle and fastest rank of a step. */
static status ranks_figure(const context *x) {
  const run_series *least = &x->r->fields[RUN_RANK_MS_MIN], *most = &x->r->fields[RUN_RANK_MS_MAX];
  const run_series *median = &x->r->fields[RUN_RANK_MS_MEDIAN];
  if (!run_series_has_values(least) || !run_series_has_values(most) || least->n != most->n) {
    return STATUS_OK;
  }
  curve low, high = {0}, middle = {0};
  html caption = {0};
  double top = top_of(most);
  plot what = {.y_label = "milliseconds", .from_zero = true, .top = top};
  TRY(make(x, RUN_RANK_MS_MIN, false, 1, &low));
  status s = make(x, RUN_RANK_MS_MAX, false, 1, &high);
  if (s == STATUS_OK && run_series_has_values(median)) {
    s = make(x, RUN_RANK_MS_MEDIAN, true, 1, &middle);
  }
  if (s == STATUS_OK) {
    add(&what, PLOT_BAND, 5, true, &low);
    what.series[0].y2 = high.high;
    if (middle.n > 0) {
      add(&what, PLOT_LINE, 5, false, &middle);
    }
    html_add(&caption, middle.n > 0 ? "Line: the median rank; band: from the fastest to the slowest rank."
                                    : "From the fastest to the slowest rank.");
    slowest_words(&caption, &x->r->fields[RUN_SLOWEST]);
    cut_words(&caption, most, top);
    figure(x, &what, "Step time over the ranks", &caption);
  }
  curve_free(&low);
  curve_free(&high);
  curve_free(&middle);
  return s;
}

/* Memory: the plan's rows, their sum, and the peak that was measured. */

typedef struct {
  int n;
  const char *names[MOST_BARS];
  double values[MOST_BARS];
  int colours[MOST_BARS];
} bars;

static void add_bar(bars *b, const char *name, double value, int colour) {
  if (b->n < MOST_BARS && value > 0 && value < 1e30) {
    b->names[b->n] = name;
    b->values[b->n] = value;
    b->colours[b->n++] = colour;
  }
}

/* The plan as the last start has it. */
static double add_plan(bars *b, const run_data *r) {
  static const char prefix[] = "plan ";
  double sum = 0;
  for (size_t i = r->n_events; i > 0 && b->n == 0; i--) {
    for (const cJSON *item = r->events[i - 1].line->child; item != NULL; item = item->next) {
      bool row = strcmp(run_event_kind(&r->events[i - 1]), "start") == 0 && item->string != NULL &&
                 strncmp(item->string, prefix, strlen(prefix)) == 0 && cJSON_IsNumber(item) && b->n < MOST_BARS - 2;
      if (row) {
        add_bar(b, item->string + strlen(prefix), item->valuedouble, 0);
        sum += item->valuedouble;
      }
    }
  }
  return sum;
}

/* As a GPU reported it, which counts its context, or the peak that the run saw. */
static double measured_memory(const run_data *r) {
  double reported = NAN;
  for (size_t i = 0; i < r->n_events; i++) {
    double bytes = json_get_number(r->events[i].line, "reported_bytes");
    reported = isnan(bytes) ? reported : bytes;
  }
  return isnan(reported) ? largest_of(&r->fields[RUN_PEAK_BYTES]) : reported;
}

static void memory_figure(const context *x) {
  bars b = {0};
  double sum = add_plan(&b, x->r), peak = measured_memory(x->r);
  bool planned = b.n > 0;
  add_bar(&b, "sum of the plan", sum, 2);
  add_bar(&b, "measured peak", peak, 1);
  if (b.n == 0) {
    return;
  }
  axis_unit unit = unit_of_bytes(fmax(sum, isfinite(peak) ? peak : 0));
  for (int i = 0; i < b.n; i++) {
    b.values[i] *= unit.factor;
  }
  const plot_bars what = {.x_label = unit.label, .n = b.n, .names = b.names, .values = b.values, .colours = b.colours};
  page_bars(x->p, &what, "Memory of a rank",
            !planned ? "What rank 0 took at most."
            : isfinite(peak)
                ? "What the plan laid out, and what rank 0 took at most: the process on a CPU, what the driver gave on "
                  "a GPU."
                : "What the plan laid out.");
}

status run_figures(page *p, const run_data *r) {
  const run_series *loss = &r->fields[RUN_LOSS], *norm = &r->fields[RUN_GRAD_NORM], *speed = &r->fields[RUN_TOK_S];
  context x = {.p = p, .r = r, .steps = unit_of_steps(last_of(loss))};
  axis_unit rate = unit_of_rate(largest_of(&r->fields[RUN_LR]));
  axis_unit tokens = unit_of_speed(largest_of(speed));
  TRY(loss_figure(&x, RUN_LOSS, RUN_VAL_LOSS, false, "loss (nats per token)", "Loss"));
  TRY(loss_figure(&x, RUN_PPL, RUN_VAL_PPL, needs_log(&r->fields[RUN_PPL]), "perplexity", "Perplexity"));
  TRY(line_figure(&x, RUN_LR, 2, rate.factor, (plot){.y_label = rate.label, .from_zero = true}, "Learning rate",
                  "That each update used."));
  TRY(step_figure(&x, RUN_GRAD_NORM, 3, 1, (plot){.y_label = "norm", .log_y = needs_log(norm), .from_zero = true},
                  "Norm of the gradient", "Before clipping; "));
  TRY(step_figure(&x, RUN_TOK_S, 0, tokens.factor, (plot){.y_label = tokens.label, .from_zero = true}, "Throughput",
                  "All ranks, without evaluations and checkpoints; "));
  TRY(ranks_figure(&x));
  TRY(line_figure(&x, RUN_LOSS_SCALE, 4, 1, (plot){.y_label = "factor", .log_y = true}, "Loss scale",
                  "What gradients were multiplied with."));
  memory_figure(&x);
  page_figures_end(p);
  return STATUS_OK;
}

/* Several runs. */

typedef struct {
  page *p;
  const run_data *const *runs;
  size_t n;
  axis_unit steps;
} several;

/* The runs' names and colours, where they are few enough for a caption. */
static void overlay_caption(const several *x, const char *words, int drawn, size_t with_values, html *caption) {
  for (size_t i = 0; i < x->n && x->n <= PLOT_COLOURS; i++) {
    page_key(caption, (int)i, false, x->runs[i]->name);
  }
  html_add(caption, words);
  if (x->n > PLOT_COLOURS) {
    html_add(caption, " Colours are those of the table of runs.");
  }
  if ((size_t)drawn < with_values) {
    html_format(caption, " The first %d of %zu runs.", drawn, with_values);
  }
}

static status overlay(const several *x, run_field f, double factor, plot what, const char *title, const char *words) {
  curve *curves = NULL;
  html caption = {0};
  size_t with_values = 0;
  status s = memory_new(&curves, x->n, sizeof *curves, "the curves of runs");
  for (size_t i = 0; i < x->n && s == STATUS_OK; i++) {
    const run_series *values = &x->runs[i]->fields[f];
    bool points = f == RUN_VAL_LOSS;
    if (!run_series_has_values(values) || ++with_values > PLOT_SERIES) {
      continue;
    }
    s = curve_make(values, !points, &curves[i]);
    curve_scale(&curves[i], x->steps.factor, factor);
    add(&what, points ? PLOT_POINTS : PLOT_LINE, (int)(i % PLOT_COLOURS), false, &curves[i]);
    what.series[what.n_series - 1].dashed = i >= PLOT_COLOURS;
  }
  if (s == STATUS_OK && what.n_series > 0) {
    what.x_label = x->steps.label;
    overlay_caption(x, words, what.n_series, with_values, &caption);
    page_figure(x->p, &what, title, caption.text);
  }
  html_free(&caption);
  for (size_t i = 0; i < x->n && curves != NULL; i++) {
    curve_free(&curves[i]);
  }
  free(curves);
  return s;
}

static double largest_in(const run_data *const *runs, size_t n, run_field f) {
  double largest = NAN;
  for (size_t i = 0; i < n; i++) {
    largest = fmax(largest, largest_of(&runs[i]->fields[f]));
  }
  return largest;
}

status runs_figures(page *p, const run_data *const *runs, size_t n) {
  double last = 0;
  for (size_t i = 0; i < n; i++) {
    last = fmax(last, last_of(&runs[i]->fields[RUN_LOSS]));
  }
  const several x = {p, runs, n, unit_of_steps(last)};
  axis_unit tokens = unit_of_speed(largest_in(runs, n, RUN_TOK_S));
  TRY(overlay(&x, RUN_LOSS, 1, (plot){.y_label = "loss (nats per token)"}, "Training loss", "Running means."));
  TRY(overlay(&x, RUN_VAL_LOSS, 1, (plot){.y_label = "loss (nats per token)"}, "Validation loss", "Every evaluation."));
  TRY(overlay(&x, RUN_GRAD_NORM, 1, (plot){.y_label = "norm", .log_y = true}, "Norm of the gradient",
              "Before clipping; running means."));
  TRY(overlay(&x, RUN_TOK_S, tokens.factor, (plot){.y_label = tokens.label, .from_zero = true}, "Throughput",
              "Running means, without evaluations and checkpoints."));
  page_figures_end(p);
  return STATUS_OK;
}
