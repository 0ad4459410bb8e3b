/* A parity case as it stands in its file: model, optimizer run, batches. */
#ifndef PSANN_CHECK_GOLDEN_CASE_H
#define PSANN_CHECK_GOLDEN_CASE_H

#include "check/golden_file.h"
#include "config/config.h"
#include "model/model.h"

typedef struct {
  char name[64];                /* of the file, without folder and suffix */
  char base[32];                /* as the file has it */
  bool offered;                 /* the base is in the table of bases; nothing below is set otherwise */
  config *c;                    /* [model] and [train] */
  int64_t steps, micro_batches; /* updates of the run, batches of an update */
  int64_t B, T;
  int32_t *tokens, *labels; /* (steps · micro_batches, B, T) */
  model *m;
} golden_case;

status golden_case_read(golden_file *f, golden_case *k);
void golden_case_free(golden_case *k);

/* Fills the logical elements of a unit (in the unit's layout, the rest zero) from datasets <group>/<tensor>. A tensor
 * whose dataset has another shape or is missing: a user error, unless `missing_frozen` and the tensor does not learn;
 * *found says which tensors were there when not NULL. */
status golden_case_unit(golden_file *f, const golden_case *k, const char *group, int unit_index, bool missing_frozen,
                        double *values, bool *found);

/* A user error when the group has a dataset that is no tensor of the model. */
status golden_case_no_others(golden_file *f, const golden_case *k, const char *group);

#endif
