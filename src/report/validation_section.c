#include "report/validation_section.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "report/speed_bars.h"

/* The array or object under the key, NULL where there is none. */
static const cJSON *part_of(const cJSON *object, const char *name) {
  return cJSON_GetObjectItemCaseSensitive(object, name);
}

static void bytes_cell(page *p, double bytes) {
  char text[32];
  html_format(&p->h, "<td class=\"n\">%s</td>", bytes > 0 ? memory_text(bytes, text) : "");
}

/* "2.10 ×", empty where it is not known. */
static void ratio_cell(page *p, double ratio) {
  html_add(&p->h, "<td class=\"n\">");
  if (isfinite(ratio)) {
    html_format(&p->h, "%.2f ×", ratio);
  }
  html_add(&p->h, "</td>");
}

/* Steps. */

static bool is_verdict(const cJSON *step, const char *verdict) {
  return strcmp(bench_text(step, "verdict"), verdict) == 0;
}

static void step_counts(page *p, const cJSON *results) {
  int passed = 0, failed = 0, skipped = 0;
  const cJSON *step;
  cJSON_ArrayForEach(step, results) {
    passed += is_verdict(step, "pass");
    failed += is_verdict(step, "fail");
    skipped += is_verdict(step, "skipped");
  }
  html_format(&p->h, "<p>%d passed, <span%s>%d failed</span>, %d skipped.</p>\n", passed,
              failed > 0 ? " class=\"bad\"" : "", failed, skipped);
}

/* Verdict, threshold, figure, or the reason why there is none. */
static void step_row(page *p, const cJSON *step) {
  const char *figure = bench_text(step, "figure"), *left_out = bench_text(step, "left_out");
  html_add(&p->h, "<tr>");
  page_cell(p, step->string);
  html_add(&p->h, is_verdict(step, "pass")   ? "<td class=\"good\">"
                  : is_verdict(step, "fail") ? "<td class=\"bad\">"
                                             : "<td>");
  html_text(&p->h, bench_text(step, "verdict"));
  html_add(&p->h, "</td>");
  page_long_cell(p, bench_text(step, "threshold"));
  html_add(&p->h, "<td class=\"long\">");
  html_text(&p->h, figure[0] != 0 ? figure : bench_text(step, "reason"));
  if (left_out[0] != 0) {
    html_add(&p->h, " <small>(");
    html_text(&p->h, left_out);
    html_add(&p->h, ")</small>");
  }
  html_add(&p->h, "</td></tr>\n");
}

static void step_table(page *p, const cJSON *results) {
  static const char *const columns[] = {"step", "verdict", "threshold", "figure"};
  const cJSON *step;
  page_wide_table_begin(p, "Steps", columns, sizeof columns / sizeof columns[0]);
  cJSON_ArrayForEach(step, results) {
    if (step->string != NULL) {
      step_row(p, step);
    }
  }
  page_wide_table_end(p);
}

/* Speed. */

static void speed_row(page *p, const cJSON *row, speed_bars *bars) {
  static const char *const texts[] = {"base", "mode", "precision"};
  char name[BAR_NAME];
  double B = json_get_number(row, "B"), T = json_get_number(row, "T"), speed = json_get_number(row, "tokens_per_s");
  double published = json_get_number(row, "published_tokens_per_s");
  bool trains = strcmp(bench_text(row, "mode"), "train") == 0;
  bool as_published = !trains && strcmp(bench_text(row, "precision"), "fp32") == 0;
  html_add(&p->h, "<tr>");
  for (int i = 0; i < 3; i++) {
    page_cell(p, bench_text(row, texts[i]));
  }
  page_number_cell(p, B);
  page_number_cell(p, T);
  page_number_cell(p, speed);
  page_number_cell(p, published);
  ratio_cell(p, json_get_number(row, "ratio"));
  bytes_cell(p, json_get_number(row, "peak_bytes"));
  html_add(&p->h, "</tr>\n");
  snprintf(name, sizeof name, "%.16s %.10s %.8s %.0fx%.0f", bench_text(row, "base"), bench_text(row, "mode"),
           bench_text(row, "precision"), B, T);
  speed_bar(bars, name, speed, trains ? 0 : 1);
  if (as_published) {
    speed_bar(bars, "published", published, 7);
  }
}

static void speeds(page *p, const cJSON *rows) {
  static const char *const columns[] = {"base",   "mode",       "precision", "#B",   "#T",
                                        "#tok/s", "#published", "#ratio",    "#peak"};
  speed_bars bars = {0};
  const cJSON *row;
  if (cJSON_GetArraySize(rows) == 0) {
    return;
  }
  html_add(&p->h, "<p>Speed. The published figures are those of the forward pass in fp32, whatever the row.</p>\n");
  page_wide_table_begin(p, "Speed", columns, sizeof columns / sizeof columns[0]);
  cJSON_ArrayForEach(row, rows) {
    speed_row(p, row, &bars);
  }
  page_wide_table_end(p);
  speed_bars_figure(p, &bars, "Forward, training, and in grey what was published.");
}

/* Memory. */

static void memory_row(page *p, const cJSON *shape) {
  char name[96];
  const cJSON *model = part_of(shape, "model"), *without = part_of(shape, "none"), *with = part_of(shape, "block");
  snprintf(name, sizeof name, "%.24s, D %.0f, L %.0f", bench_text(model, "base"), json_get_number(model, "d_model"),
           json_get_number(model, "n_layers"));
  html_add(&p->h, "<tr>");
  page_cell(p, name);
  page_cell(p, bench_text(shape, "precision"));
  page_number_cell(p, json_get_number(shape, "B"));
  page_number_cell(p, json_get_number(shape, "T"));
  bytes_cell(p, json_get_number(without, "planned_bytes"));
  bytes_cell(p, json_get_number(with, "planned_bytes"));
  bytes_cell(p, json_get_number(without, "peak_bytes"));
  bytes_cell(p, json_get_number(with, "peak_bytes"));
  ratio_cell(p, json_get_number(shape, "memory_ratio"));
  ratio_cell(p, json_get_number(shape, "time_ratio"));
  html_add(&p->h, "</tr>\n");
}

static void memory(page *p, const cJSON *shapes) {
  static const char *const columns[] = {
      "model",   "precision", "#B", "#T", "#plan", "#plan, recomputing", "#measured", "#measured, recomputing",
      "#memory", "#time"};
  const cJSON *shape;
  if (cJSON_GetArraySize(shapes) == 0) {
    return;
  }
  html_add(&p->h, "<p>Memory and time with recompute, against without.</p>\n");
  page_wide_table_begin(p, "Memory", columns, sizeof columns / sizeof columns[0]);
  cJSON_ArrayForEach(shape, shapes) {
    memory_row(p, shape);
  }
  page_wide_table_end(p);
}

void validation_tables(page *p, const cJSON *summary) {
  const cJSON *results = part_of(summary, "results");
  const char *sample = bench_text(part_of(results, "GPU-07"), "sample");
  step_counts(p, results);
  step_table(p, results);
  speeds(p, part_of(part_of(results, "GPU-03"), "rows"));
  memory(p, part_of(part_of(results, "GPU-04"), "shapes"));
  if (sample[0] != 0) {
    html_add(&p->h, "<p>Text that the model wrote:</p>\n");
    page_commands(p, sample);
  }
}

/* The tiny corpus. */

static void figure_row(page *p, const char *name, double here, double published) {
  if (isnan(here)) {
    return;
  }
  html_add(&p->h, "<tr>");
  page_cell(p, name);
  page_number_cell(p, here);
  page_number_cell(p, published);
  ratio_cell(p, here / published);
  html_add(&p->h, "</tr>\n");
}

void tiny_corpus_tables(page *p, const cJSON *metrics) {
  static const char *const columns[] = {"figure", "#here", "#published", "#ratio"};
  static const struct {
    const char *key, *name;
  } figures[] = {{"val_ppl", "validation perplexity"},
                 {"val_loss", "validation loss"},
                 {"val_bits_per_byte", "validation bits per byte"},
                 {"val_accuracy", "validation accuracy"},
                 {"train_loss_final", "last training loss"},
                 {"tokens_per_s", "tokens per second"}};
  const cJSON *published = part_of(metrics, "published"), *step;
  page_wide_table_begin(p, "Figures", columns, sizeof columns / sizeof columns[0]);
  for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
    figure_row(p, figures[i].name, json_get_number(metrics, figures[i].key),
               json_get_number(published, figures[i].key));
  }
  cJSON_ArrayForEach(step, part_of(metrics, "loss_by_step")) {
    char name[64];
    if (step->string != NULL && cJSON_IsNumber(step)) {
      snprintf(name, sizeof name, "training loss, step %.24s", step->string);
      figure_row(p, name, step->valuedouble, json_get_number(part_of(published, "loss_by_step"), step->string));
    }
  }
  page_wide_table_end(p);
  html_add(&p->h, "<p>");
  html_text(&p->h, bench_text(metrics, "note"));
  html_add(&p->h, "</p>\n");
}
