#include "report/run_events.h"

#include <string.h>

#include "base/json.h"
#include "report/value_text.h"

enum { ROWS = 40 }; /* of a table that stands open; the others are behind a click */

static void evaluation_row(page *p, const run_event *e, double best) {
  double loss = json_get_number(e->line, "val_loss");
  html_format(&p->h, "<tr%s>", loss == best ? " class=\"given\"" : "");
  page_number_cell(p, (double)e->step);
  page_number_cell(p, loss);
  page_number_cell(p, json_get_number(e->line, "val_ppl"));
  page_number_cell(p, json_get_number(e->line, "val_bits_per_byte"));
  page_number_cell(p, json_get_number(e->line, "val_accuracy"));
  page_number_cell(p, json_get_number(e->line, "seconds"));
  html_add(&p->h, "</tr>\n");
}

static void evaluation_table(page *p, const run_data *r, double best) {
  static const char *const columns[] = {"#step", "#loss", "#perplexity", "#bits per byte", "#accuracy", "#seconds"};
  page_wide_table_begin(p, "Evaluations", columns, 6);
  for (size_t i = 0; i < r->n_events; i++) {
    if (strcmp(run_event_kind(&r->events[i]), "evaluation") == 0) {
      evaluation_row(p, &r->events[i], best);
    }
  }
  page_wide_table_end(p);
}

static size_t count_events(const run_data *r, const char *kind) {
  size_t n = 0;
  for (size_t i = 0; i < r->n_events; i++) {
    n += strcmp(run_event_kind(&r->events[i]), kind) == 0;
  }
  return n;
}

bool run_has_evaluations(const run_data *r) {
  return count_events(r, "evaluation") > 0;
}

void run_evaluations(page *p, const run_data *r) {
  size_t n = count_events(r, "evaluation");
  if (n == 0) {
    return;
  }
  page_section(p, "evaluations", "Evaluations");
  if (n > ROWS) {
    html_format(&p->h, "<details><summary>All %zu evaluations; the best is bold.</summary>\n", n);
  }
  evaluation_table(p, r, run_series_lowest(&r->fields[RUN_VAL_LOSS], NULL));
  html_add(&p->h, n > ROWS ? "</details>\n" : "");
}

/* What belongs to an event beside its message: "seconds 0.5, loss_scale 65536". The plan has a figure. */
static void event_fields(html *h, const run_event *e) {
  static const char *const elsewhere[] = {"event", "step", "message"};
  bool first = true;
  for (const cJSON *item = e->line->child; item != NULL; item = item->next) {
    bool told = strncmp(item->string, "plan ", 5) == 0 || cJSON_IsNull(item);
    for (size_t i = 0; i < sizeof elsewhere / sizeof elsewhere[0]; i++) {
      told = told || strcmp(item->string, elsewhere[i]) == 0;
    }
    if (!told) {
      html_add(h, first ? "" : ", ");
      html_text(h, item->string);
      html_add(h, " ");
      value_text(h, item, true);
      first = false;
    }
  }
}

/* What every run has. Anything else, also what this program does not know, is out of the ordinary. */
static bool ordinary(const run_event *e) {
  static const char *const kinds[] = {"start", "save", "stop", "memory", "loss_scale"};
  bool is = false;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    is = is || strcmp(run_event_kind(e), kinds[i]) == 0;
  }
  return is;
}

static void event_row(page *p, const run_event *e) {
  html_add(&p->h, "<tr>");
  page_number_cell(p, (double)e->step);
  html_format(&p->h, "<td%s>", ordinary(e) ? "" : " class=\"bad\"");
  html_text(&p->h, run_event_kind(e));
  html_add(&p->h, "</td>");
  page_long_cell(p, run_event_message(e));
  html_add(&p->h, "<td class=\"long\">");
  event_fields(&p->h, e);
  html_add(&p->h, "</td></tr>\n");
}

/* Evaluations have a table, times of ranks a figure. */
static bool shown_elsewhere(const run_event *e) {
  return strcmp(run_event_kind(e), "evaluation") == 0 || strcmp(run_event_kind(e), "ranks") == 0;
}

static bool listed(const run_event *e, bool odd_alone) {
  return !shown_elsewhere(e) && !(odd_alone && ordinary(e));
}

static size_t count_listed(const run_data *r, bool odd_alone) {
  size_t n = 0;
  for (size_t i = 0; i < r->n_events; i++) {
    n += listed(&r->events[i], odd_alone);
  }
  return n;
}

/* The last `most` of them. */
static void event_table(page *p, const run_data *r, bool odd_alone, size_t most) {
  static const char *const columns[] = {"#step", "event", "message", "more"};
  size_t passed = 0, n = count_listed(r, odd_alone);
  page_wide_table_begin(p, odd_alone ? "Events out of the ordinary" : "Events", columns, 4);
  for (size_t i = 0; i < r->n_events; i++) {
    if (listed(&r->events[i], odd_alone) && ++passed + most > n) {
      event_row(p, &r->events[i]);
    }
  }
  page_wide_table_end(p);
  if (n > most) {
    html_format(&p->h, "<p>The %zu before these are in metrics.jsonl.</p>\n", n - most);
  }
}

/* "7 save, 1 start, 2 spike." in the order in which they first came. */
static void event_counts(page *p, const run_data *r) {
  enum { KINDS = 16 };
  const char *kinds[KINDS];
  size_t n = 0;
  html_add(&p->h, "<p>");
  for (size_t i = 0; i < r->n_events && n < KINDS; i++) {
    const char *kind = run_event_kind(&r->events[i]);
    bool known = shown_elsewhere(&r->events[i]);
    for (size_t k = 0; k < n && !known; k++) {
      known = strcmp(kinds[k], kind) == 0;
    }
    if (!known) {
      kinds[n++] = kind;
      html_format(&p->h, "%s%zu ", n > 1 ? ", " : "", count_events(r, kind));
      html_text(&p->h, kind);
    }
  }
  html_add(&p->h, ".</p>\n");
}

bool run_has_events(const run_data *r) {
  return count_listed(r, false) > 0;
}

void run_events(page *p, const run_data *r) {
  size_t n = count_listed(r, false), odd = count_listed(r, true);
  if (n == 0) {
    return;
  }
  page_section(p, "events", "Events");
  event_counts(p, r);
  if (n <= ROWS) {
    event_table(p, r, false, ROWS);
    return;
  }
  if (odd > 0) {
    event_table(p, r, true, ROWS);
  }
  html_format(&p->h, "<details><summary>All %zu events</summary>\n", n);
  event_table(p, r, false, 25 * (size_t)ROWS);
  html_add(&p->h, "</details>\n");
}
