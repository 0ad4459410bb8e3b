/* Where a model's weights come from and its gradients go. The model asks unit by unit and knows nothing of ranks;
 * shard/ implements this table for each strategy.
 */
#ifndef PSANN_MODEL_WEIGHTS_H
#define PSANN_MODEL_WEIGHTS_H

#include "base/status.h"

/* A unit's weights in engine memory. Matrices are in the compute type and start at element 0 of the unit; vectors are
 * in the state type and start at element unit.vectors. */
typedef struct {
  const void *matrices;
  const void *vectors;
} unit_weights;

typedef struct weight_source weight_source;
struct weight_source {
  /* Weights of `unit`, valid until release; a unit may be gathered again. The store may start to fetch the unit that
   * follows in the direction of the pass (+1 forward, −1 backward, 0 no hint). */
  status (*gather)(weight_source *s, int unit, int direction, unit_weights *out);
  status (*release)(weight_source *s, int unit);
  /* Buffer (state type, unit.count elements, zero where no gradient is written) for this micro-batch's gradient of
   * `unit`. */
  status (*grad)(weight_source *s, int unit, void **out);
  /* The gradient of `unit` is complete for this micro-batch. */
  status (*grad_done)(weight_source *s, int unit);
};

#endif
