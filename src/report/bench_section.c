#include "report/bench_section.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/memory.h"
#include "report/run_sections.h"
#include "report/speed_bars.h"
#include "report/validation_section.h"

static void share_cell(page *p, double share) {
  html_add(&p->h, "<td class=\"n\">");
  if (share > 0) {
    html_format(&p->h, "%.1f", 100 * share);
  }
  html_add(&p->h, "</td>");
}

static void result_row(page *p, const cJSON *row) {
  char memory[32], strategy[48];
  static const char *const texts[] = {"model", "mode", "precision"};
  double peak = json_get_number(row, "peak_bytes");
  html_add(&p->h, "<tr>");
  for (int i = 0; i < 3; i++) {
    page_cell(p, bench_text(row, texts[i]));
  }
  snprintf(strategy, sizeof strategy, "%.32s%s", bench_text(row, "strategy"),
           strcmp(bench_text(row, "offload"), "optimizer") == 0 ? ", offload" : "");
  page_cell(p, strategy);
  page_number_cell(p, json_get_number(row, "ranks"));
  page_number_cell(p, json_get_number(row, "micro_batch"));
  page_number_cell(p, json_get_number(row, "seq_len"));
  if (bench_text(row, "error")[0] != 0) {
    html_add(&p->h, "<td colspan=\"7\" class=\"bad\">");
    html_text(&p->h, bench_text(row, "error"));
    html_add(&p->h, "</td></tr>\n");
    return;
  }
  page_number_cell(p, json_get_number(row, "tok_s"));
  page_number_cell(p, json_get_number(row, "ms"));
  share_cell(p, json_get_number(row, "mfu"));
  share_cell(p, json_get_number(row, "mfu_full"));
  html_format(&p->h, "<td class=\"n\">%s</td>", peak > 0 ? memory_text(peak, memory) : "");
  page_number_cell(p, json_get_number(row, "power_w"));
  page_number_cell(p, json_get_number(row, "loss"));
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
  speed_bars bars = {0};
  char name[BAR_NAME];
  const cJSON *row;
  cJSON_ArrayForEach(row, results) {
    const char *mode = bench_text(row, "mode");
    snprintf(name, sizeof name, "%.24s %.10s %.8s", bench_text(row, "model"), mode, bench_text(row, "precision"));
    speed_bar(&bars, name, json_get_number(row, "tok_s"), strcmp(mode, "train") == 0 ? 0 : 1);
  }
  speed_bars_figure(p, &bars, "All ranks; the median of the timings.");
}

void bench_section(page *p, const bench_data *b) {
  const cJSON *machine = cJSON_GetObjectItemCaseSensitive(b->root, b->kind == RESULT_VALIDATION ? "system" : "machine");
  html_add(&p->h, "<h3>");
  html_text(&p->h, b->path);
  html_add(&p->h, "</h3>\n");
  if (b->kind == RESULT_TINY_CORPUS) { /* its run has a machine */
    tiny_corpus_tables(p, b->root);
    return;
  }
  if (b->kind == RESULT_VALIDATION) {
    validation_tables(p, b->root);
  } else {
    const cJSON *results = cJSON_GetObjectItemCaseSensitive(b->root, "results");
    result_table(p, results);
    speed_figure(p, results);
  }
  html_add(&p->h, "<details><summary>Machine and command</summary>\n");
  machine_command(p, machine);
  machine_table(p, machine);
  html_add(&p->h, "</details>\n");
}
