/* The table of bases. A base is one file that defines one or more rows, and its rows in bases.c. */
#ifndef PSANN_MODEL_BASES_H
#define PSANN_MODEL_BASES_H

#include "model/parts.h"

struct model_base {
  const char *name;      /* as in the configuration */
  norm_names final_norm; /* of the unit `head` */
  size_t state_bytes;    /* the base's record of a block: its parts */
  /* User errors of options that the base can't serve. */
  status (*check)(const config_model *c);
  /* Tensors of one block. */
  status (*tensors)(tensor_table *t, const config_model *c);
  /* Fills the record of a block: tensors and buffers. */
  status (*bind)(void *state, buffer_plan *p, const model *m, const unit *u, const char *prefix, int block);
  /* The norm that stands at the block's entrance; the operation before the block computes it. */
  const norm_part *(*entrance)(const void *state);
  /* The entrance's norm is there; leaves c->y and the norm that follows. */
  status (*forward)(const block_call *c);
  /* Brings back what `cheap` or `block` recomputation did not keep. */
  status (*again)(const block_call *c);
  /* p->dx: gradient of the block's output in, of its input out. */
  status (*backward)(const block_call *c);
  /* Generation: row `row` of the cache starts a new text. */
  status (*forget)(const block_call *c, int64_t row);
  /* Generation is possible; otherwise a user error. */
  status (*check_cache)(const config_model *c);
};

/* The base of that name, or NULL. */
const model_base *model_base_find(const char *name);

#endif
