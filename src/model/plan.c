#include "model/plan.h"

#include <string.h>

#include "base/log.h"
#include "base/memory.h"

double plan_flop_per_token(const model *m, int64_t T) {
  double multiplied = 0;
  for (int i = 1; i < m->n_units; i++) { /* unit 0 is looked up */
    for (int j = 0; j < m->units[i].n_tensors; j++) {
      const tensor *t = &m->units[i].tensors[j];
      multiplied += t->matrix ? (double)t->count : 0.0;
    }
  }
  const config_model *c = &m->config;
  return 6.0 * multiplied + 6.0 * (double)c->n_layers * (double)T * (double)c->d_model;
}

static void add_row(memory_plan *p, const char *what, double bytes, bool host) {
  for (int i = 0; i < p->n_rows; i++) {
    if (strcmp(p->rows[i].what, what) == 0 && p->rows[i].host == host) {
      p->rows[i].bytes += bytes;
      return;
    }
  }
  if (p->n_rows < PLAN_ROWS) {
    p->rows[p->n_rows++] = (plan_row){what, bytes, host};
    return;
  }
  p->rows[PLAN_ROWS - 1].what = "other";
  p->rows[PLAN_ROWS - 1].bytes += bytes;
}

void plan_add(memory_plan *p, const char *what, double bytes) {
  add_row(p, what, bytes, false);
}

void plan_add_host(memory_plan *p, const char *what, double bytes) {
  add_row(p, what, bytes, true);
}

void plan_all_one(memory_plan *p) {
  for (int i = 0; i < p->n_rows; i++) {
    p->rows[i].host = false;
  }
}

void plan_set(memory_plan *p, const char *what, double bytes) {
  for (int i = 0; i < p->n_rows; i++) {
    if (strcmp(p->rows[i].what, what) == 0) {
      p->rows[i].bytes = bytes;
      return;
    }
  }
  plan_add(p, what, bytes);
}

static double sum_of(const memory_plan *p, bool host) {
  double total = 0;
  for (int i = 0; i < p->n_rows; i++) {
    total += p->rows[i].host == host ? p->rows[i].bytes : 0;
  }
  return total;
}

double plan_total(const memory_plan *p) {
  return sum_of(p, false);
}

double plan_host(const memory_plan *p) {
  return sum_of(p, true);
}

static void print_row(const char *what, double bytes, double available) {
  char text[32], of[32];
  if (available > 0) {
    log_line("  %-28s %12s of %s", what, memory_text(bytes, text), memory_text(available, of));
  } else {
    log_line("  %-28s %12s", what, memory_text(bytes, text));
  }
}

static void print_rows(const memory_plan *p, bool host) {
  for (int i = 0; i < p->n_rows; i++) {
    if (p->rows[i].host == host) {
      print_row(p->rows[i].what, p->rows[i].bytes, 0);
    }
  }
}

void plan_print(const memory_plan *p, double available, double host_available) {
  log_line("memory of a rank:");
  print_rows(p, false);
  print_row("sum", plan_total(p), available);
  if (plan_host(p) > 0) {
    log_line("of the host's memory:");
    print_rows(p, true);
    print_row("sum", plan_host(p), host_available);
  }
}
