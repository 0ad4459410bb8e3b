#include "report/report_page.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "report/bench_section.h"
#include "report/run_events.h"
#include "report/run_figures.h"
#include "report/run_sections.h"

/* One run. */

static void navigation(page *p, const run_data *r) {
  const struct {
    bool there;
    const char *anchor, *title;
  } places[] = {{true, "curves", "Curves"},
                {run_has_evaluations(r), "evaluations", "Evaluations"},
                {run_has_events(r), "events", "Events"},
                {true, "configuration", "Configuration"},
                {true, "machine", "Machine"},
                {true, "reproduction", "How to reproduce it"}};
  html_add(&p->h, "<nav aria-label=\"Sections\">");
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
    if (places[i].there) {
      html_format(&p->h, "<a href=\"#%s\">%s</a> ", places[i].anchor, places[i].title);
    }
  }
  html_add(&p->h, "</nav>\n");
}

static status run_page(page *p, const run_data *r, const char *title) {
  char line[512];
  run_line(r, line, sizeof line);
  page_begin(p, "Training run", title != NULL ? title : r->name, line);
  navigation(p, r);
  run_summary(p, r);
  page_section(p, "curves", "Curves");
  TRY(run_figures(p, r));
  run_evaluations(p, r);
  run_events(p, r);
  TRY(run_configuration(p, r));
  page_section(p, "machine", "Machine");
  machine_table(p, r->system);
  run_reproduction(p, r);
  page_end(p);
  return STATUS_OK;
}

/* Several. */

/* Name with the colour that its curves have. */
static void run_name(page *p, const run_data *r, size_t i) {
  page_key(&p->h, (int)(i % PLOT_COLOURS), i >= PLOT_COLOURS, r->name);
}

static void run_row(page *p, const run_data *r, size_t i) {
  char line[512];
  double step = NAN, lowest = run_series_lowest(&r->fields[RUN_VAL_LOSS], &step);
  html_add(&p->h, "<tr><td>");
  run_name(p, r, i);
  html_add(&p->h, "</td>");
  page_number_cell(p, (double)r->last_step);
  page_number_cell(p, run_series_last(&r->fields[RUN_LOSS]));
  page_number_cell(p, lowest);
  page_number_cell(p, isnan(lowest) ? NAN : exp(lowest));
  page_number_cell(p, step);
  page_number_cell(p, run_series_median(&r->fields[RUN_TOK_S]));
  run_line(r, line, sizeof line);
  page_long_cell(p, line);
  html_add(&p->h, "</tr>\n");
}

static void runs_table(page *p, const report_sources *s) {
  static const char *const columns[] = {"run",         "#steps",   "#training loss", "#best validation loss",
                                        "#perplexity", "#at step", "#median tok/s",  "what"};
  page_wide_table_begin(p, "Runs", columns, sizeof columns / sizeof columns[0]);
  for (size_t i = 0; i < s->n_runs; i++) {
    run_row(p, s->runs[i], i);
  }
  page_wide_table_end(p);
}

/* A key that run i has and no run before it, and that some run after it has with another value. A key without effect
 * under the others is not in the config, and so makes no difference. */
static bool differs(const report_sources *s, size_t i, const run_key *k) {
  bool other = false;
  for (size_t j = 0; j < s->n_runs; j++) {
    const char *value = run_config_value(s->runs[j], k->section, k->name);
    if (j < i && value != NULL) {
      return false;
    }
    other = other || (j > i && value != NULL && strcmp(value, k->value) != 0);
  }
  return other && !(strcmp(k->section, "run") == 0 && strcmp(k->name, "dir") == 0);
}

static const char *value_or_dash(const run_data *r, const run_key *k) {
  const char *value = run_config_value(r, k->section, k->name);
  return value != NULL ? value : "–";
}

static status difference_table(page *p, const report_sources *s, const run_key *const *keys, size_t n) {
  const char **columns = NULL;
  char **names = NULL;
  status made = memory_new(&columns, n + 1, sizeof *columns, "a table");
  made = made == STATUS_OK ? memory_new(&names, n, sizeof *names, "a table") : made;
  for (size_t k = 0; k < n && made == STATUS_OK; k++) {
    made = memory_format(&names[k], "%s.%s", keys[k]->section, keys[k]->name);
    columns[k + 1] = names[k];
  }
  if (made == STATUS_OK) {
    columns[0] = "run";
    page_wide_table_begin(p, "Differences of the configurations", columns, (int)n + 1);
    for (size_t i = 0; i < s->n_runs; i++) {
      html_add(&p->h, "<tr><td>");
      run_name(p, s->runs[i], i);
      html_add(&p->h, "</td>");
      for (size_t k = 0; k < n; k++) {
        page_cell(p, value_or_dash(s->runs[i], keys[k]));
      }
      html_add(&p->h, "</tr>\n");
    }
    page_wide_table_end(p);
  }
  for (size_t k = 0; k < n && names != NULL; k++) {
    free(names[k]);
  }
  free(names);
  free(columns);
  return made;
}

static status differences(page *p, const report_sources *s) {
  const run_key **keys = NULL;
  size_t n = 0, capacity = 0;
  status made = STATUS_OK;
  for (size_t i = 0; i < s->n_runs; i++) {
    for (size_t k = 0; k < s->runs[i]->n_keys && made == STATUS_OK; k++) {
      if (differs(s, i, &s->runs[i]->keys[k])) {
        made = memory_grow(&keys, &capacity, n + 1, sizeof *keys, "keys that differ");
        if (made == STATUS_OK) {
          keys[n++] = &s->runs[i]->keys[k];
        }
      }
    }
  }
  page_section(p, "differences", "How the configurations differ");
  if (n == 0) {
    html_add(&p->h, "<p>Not at all, but for run.dir.</p>\n");
  } else if (made == STATUS_OK) {
    made = difference_table(p, s, keys, n);
  }
  free(keys);
  return made;
}

static void run_details(page *p, const report_sources *s) {
  page_section(p, "details", "Each run");
  for (size_t i = 0; i < s->n_runs; i++) {
    const run_data *r = s->runs[i];
    html_add(&p->h, "<details><summary>");
    run_name(p, r, i);
    html_add(&p->h, "</summary>\n");
    run_summary(p, r);
    html_add(&p->h, "<h3>Machine</h3>\n");
    machine_table(p, r->system);
    run_commands(p, r);
    html_add(&p->h, "</details>\n");
  }
}

static status runs_part(page *p, const report_sources *s) {
  page_section(p, "runs", "Runs");
  runs_table(p, s);
  TRY(runs_figures(p, (const run_data *const *)s->runs, s->n_runs));
  if (s->n_runs > 1) {
    TRY(differences(p, s));
  }
  run_details(p, s);
  return STATUS_OK;
}

static void results_part(page *p, const report_sources *s, result_kind kind, const char *anchor, const char *title) {
  if (report_sources_count(s, kind) > 0) {
    page_section(p, anchor, title);
  }
  for (size_t i = 0; i < s->n_benches; i++) {
    if (s->benches[i].kind == kind) {
      bench_section(p, &s->benches[i]);
    }
  }
}

static status bundle_page(page *p, const report_sources *s, const char *title) {
  char line[128];
  report_sources_line(s, line, sizeof line);
  page_begin(p, "Report", title != NULL ? title : s->name, line);
  results_part(p, s, RESULT_VALIDATION, "validation", "Validation");
  results_part(p, s, RESULT_THROUGHPUT, "benchmarks", "Benchmarks");
  results_part(p, s, RESULT_TINY_CORPUS, "tiny_corpus", "Tiny corpus");
  if (s->n_runs > 0) {
    TRY(runs_part(p, s));
  }
  page_end(p);
  return STATUS_OK;
}

status report_page(page *p, const report_sources *s, const char *title) {
  return s->n_runs == 1 && s->n_benches == 0 ? run_page(p, s->runs[0], title) : bundle_page(p, s, title);
}
