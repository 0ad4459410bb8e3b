/* The order of a pass over the units, shared by training, evaluation and generation. */
#ifndef PSANN_MODEL_PASS_H
#define PSANN_MODEL_PASS_H

#include "model/bases.h"

/* The buffers and records of a pass of fixed shape. */
typedef struct {
  pass p;
  buffer_plan plan;
  char *states; /* (L, base->state_bytes) */
  void **x;     /* (L + 1) residual stream before each block and at the end; all the same when not training */
  norm_part final;
  bool inner_fp8; /* inner blocks' products in 8 bits: the first block and the last, where rounding hurts most, never */
} pass_buffers;

/* `plan` says for which engine (or NULL: only count), rows and purpose. On failure everything is released. */
status pass_create(pass_buffers *b, const model *m, const buffer_plan *plan);
void pass_free(pass_buffers *b);

/* A call of the block or the head (block = L), with nothing but its constants filled in. */
block_call pass_call(pass_buffers *b, int block);

/* Forward to the final norm's output, b->final.y. The weights of the head are in *head and still gathered. */
status pass_forward(pass_buffers *b, weight_source *w, const int32_t *tokens, unit_weights *head);

/* Backward of blocks and embedding; p.dx holds the gradient of x[L]. `tokens`, `order`: as in model_batch. */
status pass_backward(pass_buffers *b, weight_source *w, const int32_t *tokens, const int32_t *order);

/* The unit's gradient goes to the weight store, which may start its exchange. */
status pass_grad_done(weight_source *w, int unit_index);

#endif
