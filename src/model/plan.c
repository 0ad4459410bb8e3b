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

void plan_add(memory_plan *p, const char *what, double bytes) {
  for (int i = 0; i < p->n_rows; i++) {
    if (strcmp(p->rows[i].what, what) == 0) {
      p->rows[i].bytes += bytes;
      return;
    }
  }
  if (p->n_rows < PLAN_ROWS) {
    p->rows[p->n_rows++] = (plan_row){what, bytes};
    return;
  }
  p->rows[PLAN_ROWS - 1].what = "other";
  p->rows[PLAN_ROWS - 1].bytes += bytes;
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

double plan_total(const memory_plan *p) {
  double total = 0;
  for (int i = 0; i < p->n_rows; i++) {
    total += p->rows[i].bytes;
  }
  return total;
}

void plan_print(const memory_plan *p, double available) {
  char text[32], of[32];
  log_line("memory of a rank:");
  for (int i = 0; i < p->n_rows; i++) {
    log_line("  %-28s %12s", p->rows[i].what, memory_text(p->rows[i].bytes, text));
  }
  if (available > 0) {
    log_line("  %-28s %12s of %s", "sum", memory_text(plan_total(p), text), memory_text(available, of));
  } else {
    log_line("  %-28s %12s", "sum", memory_text(plan_total(p), text));
  }
}
