#include "report/run_sections.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/memory.h"
#include "config/config.h"
#include "report/numbers.h"
#include "report/shell_words.h"
#include "report/value_text.h"

static const run_event *last_event(const run_data *r, const char *kind) {
  for (size_t i = r->n_events; i > 0; i--) {
    if (strcmp(run_event_kind(&r->events[i - 1]), kind) == 0) {
      return &r->events[i - 1];
    }
  }
  return NULL;
}

/* A number of the run's last start; NaN: none. */
static double start_number(const run_data *r, const char *name) {
  const run_event *start = last_event(r, "start");
  return start != NULL ? json_get_number(start->line, name) : NAN;
}

void run_line(const run_data *r, char *text, size_t room) {
  char parameters[32];
  const char *base = run_config_value(r, "model", "base"), *engine = run_system_text(r, "engine");
  double n = start_number(r, "parameters"), ranks = json_get_number(r->system, "ranks");
  size_t used = (size_t)snprintf(text, room, "%.40s", base != NULL ? base : "training run");
  if (n > 0 && used < room) {
    used += (size_t)snprintf(text + used, room - used, ", %s parameters", number_grouped(llround(n), parameters));
  }
  if (ranks > 0 && used < room) {
    used += (size_t)snprintf(text + used, room - used, ", %.0f rank%s", ranks, ranks == 1 ? "" : "s");
  }
  if (engine != NULL && used < room) {
    snprintf(text + used, room - used, ", %.120s", engine);
  }
}

/* Summary. */

static void fact(page *p, const char *name, const char *value, const char *small) {
  html_format(&p->h, "<div><dt>%s</dt><dd>", name);
  html_text(&p->h, value);
  if (small[0] != 0) {
    html_add(&p->h, " <small>");
    html_text(&p->h, small);
    html_add(&p->h, "</small>");
  }
  html_add(&p->h, "</dd></div>\n");
}

static void number_fact(page *p, const char *name, double value, const char *small) {
  char text[32];
  if (!isnan(value)) {
    fact(p, name, number_short(value, text), small);
  }
}

/* How the run ended, by status.ini, and where there is none by the events. */
static void ending(html *h, const run_data *r) {
  const run_event *stop = last_event(r, "stop"), *start = last_event(r, "start");
  bool ended = stop != NULL && (start == NULL || stop > start);
  const char *state = r->state != NULL ? r->state : !ended ? "running" : "stopped";
  const char *why = r->reason != NULL ? r->reason : ended ? run_event_message(stop) : "";
  if (strcmp(state, "finished") == 0 || strcmp(why, "finished") == 0) {
    html_add(h, " The run finished.");
  } else if (strcmp(state, "running") == 0) {
    html_add(h, " The run has not ended, or was killed.");
  } else {
    html_add(h, strcmp(state, "failed") == 0 ? " <span class=\"bad\">The run failed</span>: "
                                             : " The run was stopped, and can go on: ");
    html_text(h, why);
    html_add(h, ".");
  }
}

static double total(const run_series *s) {
  double sum = 0;
  for (size_t i = 0; i < s->n; i++) {
    sum += isfinite(s->values[i]) ? s->values[i] : 0;
  }
  return sum;
}

static void paragraph(page *p, const run_data *r) {
  char steps[32], tokens[32], loss[32], best[32];
  double step = 0, lowest = run_series_lowest(&r->fields[RUN_VAL_LOSS], &step);
  double epochs = run_series_last(&r->fields[RUN_EPOCH]), seen = run_series_last(&r->fields[RUN_TOKENS]);
  html_add(&p->h, "<p>");
  html_format(&p->h, "After %s step%s", number_grouped(r->last_step, steps), r->last_step == 1 ? "" : "s");
  if (seen > 0) {
    html_format(&p->h, " (%s tokens, %.3g passes over the training store)", number_grouped(llround(seen), tokens),
                isnan(epochs) ? 0 : epochs);
  }
  html_format(&p->h, " the training loss was %s.", number_short(run_series_last(&r->fields[RUN_LOSS]), loss));
  if (!isnan(lowest)) {
    html_format(&p->h, " The lowest validation loss was %s, at step %s.", number_short(lowest, best),
                number_grouped(llround(step), steps));
  }
  ending(&p->h, r);
  if (r->unread > 0) {
    html_format(&p->h, " %zu line%s of metrics.jsonl could not be read and %s left out.", r->unread,
                r->unread == 1 ? "" : "s", r->unread == 1 ? "is" : "are");
  }
  html_add(&p->h, "</p>\n");
}

void run_summary(page *p, const run_data *r) {
  char duration[32], peak[32], at[48] = "";
  double step = NAN, lowest = run_series_lowest(&r->fields[RUN_VAL_LOSS], &step);
  double seconds = total(&r->fields[RUN_STEP_MS]) / 1000, bytes = run_series_last(&r->fields[RUN_PEAK_BYTES]);
  double skipped = total(&r->fields[RUN_SKIPPED]);
  if (r->steps == 0) {
    html_add(&p->h, "<p>The run has no step yet.</p>\n");
    return;
  }
  paragraph(p, r);
  snprintf(at, sizeof at, "at step %.0f", step);
  html_add(&p->h, "<dl class=\"facts\">\n");
  number_fact(p, "training loss", run_series_last(&r->fields[RUN_LOSS]), "");
  number_fact(p, "training perplexity", run_series_last(&r->fields[RUN_PPL]), "");
  number_fact(p, "best validation loss", lowest, at);
  number_fact(p, "best validation perplexity", run_series_lowest(&r->fields[RUN_VAL_PPL], NULL), "");
  number_fact(p, "bits per byte, best", run_series_lowest(&r->fields[RUN_VAL_BITS_PER_BYTE], NULL), "");
  number_fact(p, "median throughput", run_series_median(&r->fields[RUN_TOK_S]), "tok/s");
  number_fact(p, "median step", run_series_median(&r->fields[RUN_STEP_MS]), "ms");
  fact(p, "time in steps", clock_duration(seconds, duration), "");
  if (bytes > 0) {
    fact(p, "peak memory, rank 0", memory_text(bytes, peak), "");
  }
  if (skipped > 0) {
    number_fact(p, "skipped updates", skipped, "");
  }
  html_add(&p->h, "</dl>\n");
}

/* Configuration. */

/* Whether the table of keys has this one with another default. */
static bool differs_from_default(const config *defaults, const run_key *k) {
  for (int i = 0; i < config_rows(); i++) {
    const char *section, *name;
    char *value = NULL;
    bool differs = false;
    if (config_row(defaults, i, &section, &name, NULL, NULL) != STATUS_OK || strcmp(section, k->section) != 0 ||
        strcmp(name, k->name) != 0) {
      continue;
    }
    if (config_row(defaults, i, &section, &name, &value, NULL) == STATUS_OK) {
      differs = strcmp(value, k->value) != 0;
    }
    free(value);
    return differs;
  }
  return false;
}

static void key_row(page *p, const config *defaults, const run_key *k) {
  html_add(&p->h, differs_from_default(defaults, k) ? "<tr class=\"given\">" : "<tr>");
  html_add(&p->h, "<th scope=\"row\">");
  html_text(&p->h, k->name);
  html_add(&p->h, "</th><td>");
  html_text(&p->h, k->value);
  html_add(&p->h, "</td></tr>\n");
}

status run_configuration(page *p, const run_data *r) {
  config *defaults = NULL;
  page_section(p, "configuration", "Configuration");
  if (r->n_keys == 0) {
    html_add(&p->h, "<p>The run folder has no config.ini.</p>\n");
    return STATUS_OK;
  }
  TRY(config_new(&defaults));
  html_add(&p->h, "<p>Every key as it was resolved; what is not the default is bold.</p>\n<div class=\"columns\">\n");
  for (size_t i = 0; i < r->n_keys; i++) {
    if (i == 0 || strcmp(r->keys[i].section, r->keys[i - 1].section) != 0) {
      html_add(&p->h, i > 0 ? "</tbody></table></section>\n" : "");
      html_add(&p->h, "<section><h3>");
      html_text(&p->h, r->keys[i].section);
      html_add(&p->h, "</h3>\n<table class=\"pairs\"><tbody>\n");
    }
    key_row(p, defaults, &r->keys[i]);
  }
  html_add(&p->h, "</tbody></table></section>\n</div>\n");
  config_free(defaults);
  return STATUS_OK;
}

/* Machine. */

static void machine_row(page *p, const cJSON *item) {
  if (cJSON_IsNull(item) || ((cJSON_IsArray(item) || cJSON_IsObject(item)) && item->child == NULL)) {
    return;
  }
  html_add(&p->h, "<tr><th scope=\"row\">");
  html_text(&p->h, item->string);
  html_add(&p->h, "</th><td>");
  value_text(&p->h, item, false);
  html_add(&p->h, "</td></tr>\n");
}

void machine_table(page *p, const cJSON *system) {
  if (system == NULL) {
    html_add(&p->h, "<p>There is no description of the machine (system.json).</p>\n");
    return;
  }
  page_table_begin(p, "pairs machine");
  for (const cJSON *item = system->child; item != NULL; item = item->next) {
    machine_row(p, item);
  }
  page_table_end(p);
}

/* How to make it again. */

enum { COMMAND = 16384 };

/* " mpirun -np N" where there were several ranks. */
static void add_ranks(const cJSON *system, char *line) {
  double ranks = json_get_number(system, "ranks");
  line[0] = 0;
  if (ranks > 1) {
    snprintf(line, COMMAND, " mpirun -np %.0f", ranks);
  }
}

static void command_of(const cJSON *system, char *line) {
  const cJSON *command = cJSON_GetObjectItemCaseSensitive(system, "command"), *word;
  add_ranks(system, line);
  cJSON_ArrayForEach(word, command) {
    shell_add_word(line, COMMAND, cJSON_IsString(word) ? word->valuestring : "");
  }
}

void machine_command(page *p, const cJSON *system) {
  char *line = NULL;
  if (memory_new(&line, COMMAND, 1, "a command line") == STATUS_OK) {
    command_of(system, line);
    page_commands(p, line[0] != 0 ? line + 1 : "(not recorded)");
  }
  free(line);
}

/* The same from the folder's own config, which has every key. */
static void command_from_folder(const run_data *r, char *line) {
  char *path = NULL;
  add_ranks(r->system, line);
  shell_add_word(line, COMMAND, "psann_train");
  if (memory_format(&path, "%s/config.ini", r->folder) == STATUS_OK) {
    shell_add_word(line, COMMAND, path);
  }
  shell_add_word(line, COMMAND, "run.dir=runs/again");
  free(path);
}

void run_commands(page *p, const run_data *r) {
  char *line = NULL;
  const char *commit = run_system_text(r, "commit"), *version = run_system_text(r, "version");
  bool dirty = commit != NULL && strstr(commit, "-dirty") != NULL;
  if (r->system == NULL) {
    return;
  }
  html_add(&p->h, "<p>Made by psann ");
  html_text(&p->h, version);
  html_add(&p->h, ", commit <code>");
  html_text(&p->h, commit);
  html_add(&p->h, dirty ? "</code>; the source had changes that are not in that commit" : "</code>");
  html_add(&p->h,
           ". The command of the last launch, and one that starts the run anew from the resolved configuration:</p>\n");
  if (memory_new(&line, COMMAND, 1, "a command line") == STATUS_OK) {
    html_add(&p->h, "<pre>");
    command_of(r->system, line);
    html_text(&p->h, line[0] != 0 ? line + 1 : "(not recorded)");
    html_add(&p->h, "\n");
    command_from_folder(r, line);
    html_text(&p->h, line + 1);
    html_add(&p->h, "</pre>\n");
  }
  free(line);
}

void run_reproduction(page *p, const run_data *r) {
  page_section(p, "reproduction", "How to reproduce it");
  if (r->system == NULL) {
    machine_table(p, NULL);
    return;
  }
  run_commands(p, r);
  html_add(&p->h,
           "<p>On the same kind of processor or GPU, with the same token stores, losses, weights and moments are equal "
           "bit for bit, also on another number of ranks when it and the micro-batches per rank are powers of two. "
           "<code>psann_check diff</code> compares two runs.</p>\n");
}
