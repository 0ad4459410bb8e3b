#include "report/bench_section.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/curves.h"
#include "report/run_sections.h"
#include "report/shell_words.h"

enum { MOST_BARS = 32, NAME = 96 };

static const char *text_of(const cJSON *row, const char *name) {
  const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(row, name));
  return text != NULL ? text : "";
}

static void share_cell(page *p, double share) {
  html_add(&p->h, "<td class=\"n\">");
  if (share > 0) {
    html_format(&p->h, "%.1f", 100 * share);
  }
  html_add(&p->h, "</td>");
}

static void result_row(page *p, const cJSON *row) {
  char memory[32];
  static const char *const texts[] = {"model", "mode", "precision", "strategy"};
  double peak = run_number(row, "peak_bytes");
  html_add(&p->h, "<tr>");
  for (int i = 0; i < 4; i++) {
    page_cell(p, text_of(row, texts[i]));
  }
  page_number_cell(p, run_number(row, "ranks"));
  page_number_cell(p, run_number(row, "micro_batch"));
  page_number_cell(p, run_number(row, "seq_len"));
  if (text_of(row, "error")[0] != 0) {
    html_add(&p->h, "<td colspan=\"7\" class=\"bad\">");
    html_text(&p->h, text_of(row, "error"));
    html_add(&p->h, "</td></tr>\n");
    return;
  }
  page_number_cell(p, run_number(row, "tok_s"));
  page_number_cell(p, run_number(row, "ms"));
  share_cell(p, run_number(row, "mfu"));
  share_cell(p, run_number(row, "mfu_full"));
  html_format(&p->h, "<td class=\"n\">%s</td>", peak > 0 ? memory_text(peak, memory) : "");
  page_number_cell(p, run_number(row, "power_w"));
  page_number_cell(p, run_number(row, "loss"));
  html_add(&p->h, "</tr>\n");
}

static void result_table(page *p, const cJSON *results) {
  static const char *const columns[] = {"model",  "mode", "precision", "strategy", "#ranks", "#B",     "#T",
                                        "#tok/s", "#ms",  "#MFU %",    "#full %",  "#peak",  "#watts", "#loss"};
  const cJSON *row;
  page_wide_table_begin(p, "Throughput", columns, sizeof columns / sizeof columns[0]);
  cJSON_ArrayForEach(row, results) {
    result_row(p, row);
  }
  page_wide_table_end(p);
}

static void speed_figure(page *p, const cJSON *results) {
  char text[MOST_BARS][NAME];
  const char *names[MOST_BARS];
  double values[MOST_BARS], largest = 0;
  int colours[MOST_BARS], n = 0;
  const cJSON *row;
  cJSON_ArrayForEach(row, results) {
    double speed = run_number(row, "tok_s");
    if (n == MOST_BARS || !(speed > 0)) {
      continue;
    }
    snprintf(text[n], NAME, "%.24s %.10s %.8s", text_of(row, "model"), text_of(row, "mode"), text_of(row, "precision"));
    names[n] = text[n];
    colours[n] = strcmp(text_of(row, "mode"), "train") == 0 ? 0 : 1;
    largest = fmax(largest, speed);
    values[n++] = speed;
  }
  axis_unit unit = unit_of_speed(largest);
  for (int i = 0; i < n; i++) {
    values[i] *= unit.factor;
  }
  if (n > 0) {
    const plot_bars what = {.x_label = unit.label, .n = n, .names = names, .values = values, .colours = colours};
    page_bars(p, &what, "Throughput", "All ranks; the median of the timings.");
    page_figures_end(p);
  }
}

static void command(page *p, const cJSON *machine) {
  enum { ROOM = 8192 };
  const cJSON *words = cJSON_GetObjectItemCaseSensitive(machine, "command"), *word;
  char *line = NULL;
  if (memory_new(&line, ROOM, 1, "a command line") != STATUS_OK) {
    return;
  }
  double ranks = run_number(machine, "ranks");
  if (ranks > 1) {
    snprintf(line, ROOM, " mpirun -np %.0f", ranks);
  }
  cJSON_ArrayForEach(word, words) {
    shell_add_word(line, ROOM, cJSON_IsString(word) ? word->valuestring : "");
  }
  page_commands(p, line[0] != 0 ? line + 1 : "(not recorded)");
  free(line);
}

/* A step of a validation: verdict, threshold, figure, or the reason why there is none. */
static void step_row(page *p, const cJSON *step) {
  const char *verdict = text_of(step, "verdict"), *figure = text_of(step, "figure");
  bool passed = strcmp(verdict, "pass") == 0, failed = strcmp(verdict, "fail") == 0;
  html_add(&p->h, "<tr>");
  page_cell(p, step->string);
  html_add(&p->h, passed ? "<td class=\"good\">" : failed ? "<td class=\"bad\">" : "<td>");
  html_text(&p->h, verdict);
  html_add(&p->h, "</td>");
  page_long_cell(p, text_of(step, "threshold"));
  page_long_cell(p, figure[0] != 0 ? figure : text_of(step, "reason"));
  html_add(&p->h, "</tr>\n");
}

static void step_table(page *p, const cJSON *results) {
  static const char *const columns[] = {"step", "verdict", "threshold", "figure"};
  const cJSON *step;
  page_wide_table_begin(p, "Validation", columns, 4);
  cJSON_ArrayForEach(step, results) {
    step_row(p, step);
  }
  page_wide_table_end(p);
}

void bench_section(page *p, const bench_data *b) {
  const cJSON *results = cJSON_GetObjectItemCaseSensitive(b->root, "results");
  const cJSON *machine = cJSON_GetObjectItemCaseSensitive(b->root, b->validation ? "system" : "machine");
  html_add(&p->h, "<h3>");
  html_text(&p->h, b->path);
  html_add(&p->h, "</h3>\n");
  if (b->validation) {
    step_table(p, results);
  } else {
    result_table(p, results);
    speed_figure(p, results);
  }
  html_add(&p->h, "<details><summary>Machine and command</summary>\n");
  command(p, machine);
  machine_table(p, machine);
  html_add(&p->h, "</details>\n");
}
