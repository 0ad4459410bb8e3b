/* Inside of the model: what a pass over the units consists of. A base is made of parts (attention, MLP, temporal
 * convolution); a part knows its tensors, its buffers, and the engine operations that make up its forward and its
 * backward.
 *
 * A norm belongs to the part that reads it, but it is computed by the operation before it, which is often the last of
 * the unit before: that operation gets a norm_spec with the weights and buffers of the next part.
 */
#ifndef PSANN_MODEL_PARTS_H
#define PSANN_MODEL_PARTS_H

#include "model/model.h"
#include "model/tensors.h"

/* Calls an operation with its arguments by name. */
#define ENGINE(e, op, ...) TRY((e)->ops->op((e), &(op##_args){__VA_ARGS__}))

/* ---- buffers ---- */

typedef struct {
  char what[32];
  void *at;
  size_t bytes;
  bool shared;
} plan_buffer;

/* Lists the buffers of a pass, and allocates them when there is an engine. */
typedef struct {
  engine *e; /* NULL: only count */
  dtype compute, state;
  int64_t rows; /* N */
  bool training;
  config_recompute recompute;
  bool fp8;                      /* the block's products may be in 8 bits */
  int64_t cached_rows, capacity; /* generation: rows of the batch and positions of the cache; 0: none */
  size_t bytes;
  plan_buffer *buffers;
  size_t n, room;
} buffer_plan;

/* A buffer of its own. */
status plan_take(buffer_plan *p, const char *what, dtype type, int64_t elements, void **out);

/* The buffer of that name that all blocks share. */
status plan_share(buffer_plan *p, const char *what, dtype type, int64_t elements, void **out);

/* What a block needs again in its backward: a buffer of its own when training and when no heavier recomputation than
 * `until` is on, otherwise shared. */
status plan_keep(buffer_plan *p, config_recompute until, const char *what, dtype type, int64_t elements, void **out);

/* Room for the largest magnitude of an operand, of its own; *out is NULL where products are in the compute type. */
status plan_amax(buffer_plan *p, const char *what, void **out);

void plan_release(buffer_plan *p);

/* ---- a pass and a block in it ---- */

typedef struct {
  const model *m;
  engine *e;
  int64_t B, T, N;
  bool training;
  config_recompute recompute;
  /* Generation: the first row of the cache that is fed, and the position of column 0 of each row. */
  bool cached;
  int64_t cache_row, capacity;
  const int32_t *past; /* in engine memory; NULL: 0 */
  /* Backward: c (N, D) gradient of the residual stream, c (N, D), c (N, max(3·D, M)). */
  void *dx, *dn, *wide;
  void *dx_amax; /* NULL: no block's products are in 8 bits */
} pass;

typedef struct {
  pass *p;
  int block;
  const unit *u;
  unit_weights w;
  void *grad;  /* backward: the unit's gradient */
  void *state; /* the base's record of this block */
  void *x;     /* c (N, D) input */
  void *y;     /* c (N, D) output; NULL while the forward is run again for the backward: the last product is left out */
  norm_spec next; /* of y */
} block_call;

static inline const void *weight_of(const block_call *c, const tensor *t) {
  if (t == NULL) {
    return NULL;
  }
  if (t->matrix) {
    return (const char *)c->w.matrices + (size_t)t->offset * dtype_size(c->p->e->compute);
  }
  return (const char *)c->w.vectors + (size_t)(t->offset - c->u->vectors) * dtype_size(c->p->e->state);
}

static inline void *grad_of(const block_call *c, const tensor *t) {
  return t != NULL && t->trainable ? (char *)c->grad + (size_t)t->offset * dtype_size(c->p->e->state) : NULL;
}

/* Where an operation may be dropped out: counted per layer. */
typedef enum { SITE_ATTENTION, SITE_ATTENTION_OUT, SITE_MLP_OUT, SITE_WAVE_OUT, SITES } dropout_site;

static inline dropout_spec dropout_at(const block_call *c, double p, dropout_site site) {
  return (dropout_spec){.p = c->p->training ? p : 0.0, .site = (uint32_t)(c->block * SITES + (int)site)};
}

/* The largest magnitude that has an operation make its product in 8 bits, which only training does; NULL otherwise. */
static inline void *for_products(const block_call *c, void *amax) {
  return c->p->training ? amax : NULL;
}

/* Whether the block's forward is being run again, or was run to keep what its backward needs. */
static inline bool keeps(const block_call *c) {
  return c->p->training && (c->p->recompute != RECOMPUTE_BLOCK || c->y == NULL);
}

/* ---- norm ---- */

typedef struct {
  norm_kind kind;
  const char *scale, *bias; /* tensor names in the unit */
} norm_names;

typedef struct {
  norm_kind kind;
  const tensor *scale, *bias;
  void *y, *y_amax, *stats;
} norm_part;

status norm_tensors(tensor_table *t, const norm_names *names, int64_t D, bool trainable);
/* operand: products read its output, which may then be in 8 bits. */
status norm_bind(norm_part *n, buffer_plan *p, const unit *u, const char *prefix, const norm_names *names, int64_t D,
                 const char *role, bool operand);
/* `u`, `w`: the unit that owns the norm's tensors. */
norm_spec norm_next(const norm_part *n, const engine *e, const unit *u, const unit_weights *w);
status norm_again(const block_call *c, const norm_part *n, const void *x);
/* dx = dresidual + gradient of the norm at x. */
status norm_part_backward(const block_call *c, const norm_part *n, const void *x, const void *dy, const void *dresidual,
                          void *dx);

/* ---- activation ---- */

typedef struct {
  act_spec spec; /* without the weights */
  const tensor *amplitude, *frequency, *damping;
} act_part;

status act_tensors(tensor_table *t, const char *prefix, const config_model *c, int64_t features);
status act_bind(act_part *a, const unit *u, const char *prefix, const char *act_prefix, const config_model *c);
act_spec act_weights(const block_call *c, const act_part *a);
act_grads act_gradients(const block_call *c, const act_part *a);

/* ---- attention ---- */

typedef struct {
  norm_part norm;
  const tensor *q, *o;
  void *qkv, *context, *context_amax, *lse;
  void *keys, *values; /* c (rows, H, capacity, h) */
} attention_part;

status attention_tensors(tensor_table *t, const config_model *c);
status attention_bind(attention_part *a, buffer_plan *p, const model *m, const unit *u, const char *prefix,
                      const norm_names *norm);
/* y = x + attention(norm(x)), then `next`; y NULL: no further than the attention. */
status attention_part_forward(const block_call *c, const attention_part *a, const void *x, void *y, norm_spec next);
/* p->dx: gradient of y in, of x out. */
status attention_part_backward(const block_call *c, const attention_part *a, const void *x);

/* ---- MLP ---- */

typedef struct {
  const char *fc1, *fc2; /* "mlp.fc1": the names of the layers */
  const char *act;       /* "mlp.act" */
  const char *alpha;     /* NULL: none */
} mlp_names;

typedef struct {
  norm_part norm;
  act_part act;
  const tensor *w1, *b1, *w2, *b2, *alpha;
  void *z, *a, *a_amax;
} mlp_part;

status mlp_tensors(tensor_table *t, const config_model *c, const mlp_names *names);
status mlp_bind(mlp_part *s, buffer_plan *p, const model *m, const unit *u, const char *prefix, const mlp_names *names,
                const norm_names *norm);
/* y = x + alpha · MLP(norm(x)), then `next`; y NULL: no further than the activation. */
status mlp_part_forward(const block_call *c, const mlp_part *s, const void *x, void *y, norm_spec next);
status mlp_part_backward(const block_call *c, const mlp_part *s, const void *x);

/* ---- temporal convolution ---- */

typedef struct {
  norm_part norm;
  act_part act;
  const tensor *kernel, *weight, *bias;
  int64_t taps, dilation, reach; /* reach: rows of the past that the convolution sees */
  void *near_taps;               /* s (D, taps) generation: the kernel's last taps, when not all are in reach */
  void *conv, *a;
  void *history, *shifted; /* c (rows, reach, D) */
} wave_part;

status wave_tensors(tensor_table *t, const config_model *c);
status wave_bind(wave_part *s, buffer_plan *p, const model *m, const unit *u, const char *prefix, int block);
/* y = x + projection(act(convolution(norm(x)))), then `next`; y NULL: no further than the activation. */
status wave_part_forward(const block_call *c, const wave_part *s, const void *x, void *y, norm_spec next);
status wave_part_again(const block_call *c, const wave_part *s, const void *x);
status wave_part_backward(const block_call *c, const wave_part *s, const void *x);
/* Generation: forgets the past of the pass's rows that start a text. */
status wave_part_forget(const block_call *c, const wave_part *s, int64_t row);

#endif
