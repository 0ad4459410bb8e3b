/* Every operation of engine.h as a function of a shape and options: random inputs, the call, and what its results may
 * differ by from those of another engine. For tests that hold engines against each other.
 */
#ifndef PSANN_TESTS_ENGINE_OPERATIONS_H
#define PSANN_TESTS_ENGINE_OPERATIONS_H

#include "trial.h"

/* Shape and options; an operation reads those that it knows. Fields as in the argument structs of engine.h. */
typedef struct {
  int64_t B, T, D, H, M, V, chunk;
  int64_t k, dilation; /* convolution */
  int64_t capacity;
  norm_kind norm;
  double dropout, label_smoothing;
  act_kind act;
  act_decay decay;
  bool bounds;                  /* of the activation's parameters */
  bool rope, alibi, sinusoidal; /* positions */
  bool past;                    /* rows that start at other positions than 0 */
  bool bias, alpha;
  bool causal, history;    /* convolution */
  bool keep;               /* z or c is kept; the backward is given a */
  bool in_place;           /* the result lies on its input, where engine.h allows it */
  bool frozen;             /* gradients that may be NULL are */
  bool fp8;                /* products in 8 bits; all sizes in multiples of 16 */
  bool beside;             /* other streams' work is to find room */
  bool quick;              /* under a slow tool too, large as it is */
  double first, grad_clip; /* AdamW: first element; finish_norm: clipping */
  bool infinite;           /* finish_norm: a gradient that is not finite */
} op_case;

typedef struct {
  const char *name;
  /* Runs the operation in a trial, whose reference ran before. */
  status (*run)(trial *t, const op_case *c);
} operation;

extern const operation op_embed_forward, op_embed_backward, op_norm_forward, op_norm_backward, op_qkv_forward,
    op_qkv_backward, op_attention_forward, op_attention_backward, op_attention_cached, op_out_forward, op_out_backward,
    op_up_forward, op_mlp_backward, op_conv_forward, op_conv_backward, op_head_train, op_head_eval, op_head_logits,
    op_add, op_leaf_squares, op_add_leaf_squares, op_finish_norm, op_adamw;

/* Limits for `prepare`, which serve any operation of this shape. */
engine_limits op_limits(const op_case *c);

/* "B 2, T 7, D 24 …" with the options that are on. */
void op_describe(const op_case *c, char *text, size_t size);

/* The state that operations find. */
extern const step_state op_step;

#endif
