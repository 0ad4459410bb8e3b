/* How a unit's tensors come to lie in its buffer. A base adds tensors in the order that suits it; unit_layout puts
 * matrices first and vectors last, aligns groups, and cuts the whole into leaves.
 */
#ifndef PSANN_MODEL_TENSORS_H
#define PSANN_MODEL_TENSORS_H

#include "model/model.h"

typedef struct {
  tensor t;
  bool joins;       /* follows its predecessor without padding: same group */
  int64_t reserved; /* elements, at least t.count */
} table_entry;

/* The tensors of one unit before they are laid out. */
typedef struct {
  const char *prefix; /* "blocks.0." */
  table_entry *entries;
  size_t n, capacity;
} tensor_table;

void table_free(tensor_table *t);

/* Weight (out, in) of a linear layer, Xavier uniform. `joins`: part of the group of the matrix that was added before
 * it. */
status table_linear(tensor_table *t, const char *name, int64_t out, int64_t in, bool joins);

/* A matrix (rows, columns) whose rows are padded to `padded_rows`. */
status table_matrix(tensor_table *t, const char *name, int64_t rows, int64_t columns, int64_t padded_rows,
                    init_rule init);

status table_vector(tensor_table *t, const char *name, int64_t count, bool trainable, init_rule init);

/* A small tensor of three dimensions that lies among the vectors, in the state type. */
status table_cube(tensor_table *t, const char *name, const int64_t shape[3], init_rule init);

init_rule init_constant(double value);
init_rule init_normal(double deviation);
init_rule init_xavier(int64_t out, int64_t in);

/* Lays the table out as a unit named `name`. */
status unit_layout(const tensor_table *t, const char *name, unit *u);
void unit_free(unit *u);

/* The tensor named prefix + name of a unit, or NULL; `name` NULL gives NULL. */
const tensor *unit_tensor(const unit *u, const char *prefix, const char *name);

/* Clears `decay` of the tensors that the comma-separated patterns name (model_create has the rules). */
status decay_exclude_apply(const model *m, const char *patterns);

#endif
