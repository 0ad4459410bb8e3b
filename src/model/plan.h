/* The memory plan and the count of operations, before anything is allocated. */
#ifndef PSANN_MODEL_PLAN_H
#define PSANN_MODEL_PLAN_H

#include "model/model.h"

/* Training FLOP per token with the causal count of attention: 6·N + 6·L·T·D, N = elements of all matrices that multiply
 * (the lookup of the embedding is not counted). Forward only: a third. */
double plan_flop_per_token(const model *m, int64_t T);

enum { PLAN_ROWS = 24 };

typedef struct {
  const char *what;
  double bytes;
  bool host; /* in the host's memory, beside the engine's */
} plan_row;

typedef struct {
  plan_row rows[PLAN_ROWS];
  int n_rows;
} memory_plan;

void plan_add(memory_plan *p, const char *what, double bytes);
void plan_add_host(memory_plan *p, const char *what, double bytes);
/* Engine memory is the host's: there is no other to tell it from. */
void plan_all_one(memory_plan *p);
/* Replaces the row, or adds it. */
void plan_set(memory_plan *p, const char *what, double bytes);
/* Of the rows of engine memory; of those of the host's. */
double plan_total(const memory_plan *p);
double plan_host(const memory_plan *p);

/* Prints the table through log_line. available: to a rank, of either kind; 0: not known. */
void plan_print(const memory_plan *p, double available, double host_available);

#endif
