/* A PSANN language model: its units and tensors, their initial values, and the order of the forward and backward
 * passes.
 *
 * A model is an ordered list of units: `embed`, `blocks.0` … `blocks.L-1`, `head` (final norm and lm_head). A unit owns
 * its tensors in one flat buffer of UNIT_LEAVES equal leaves; a shard is whole leaves. Tensor names and logical shapes
 * are those of a reference state dict, so checkpoints can be exchanged tensor by tensor. Inside a unit matrices come
 * first, vectors and scalars last; a group (q, k, v are one) starts on a multiple of 256 elements and has no padding
 * inside; lm_head's rows are padded to a multiple of 128.
 */
#ifndef PSANN_MODEL_MODEL_H
#define PSANN_MODEL_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "config/config.h"
#include "engine/engine.h"
#include "model/weights.h"

enum {
  UNIT_LEAVES = 256, /* leaves of a unit */
  GROUP_ALIGN = 256, /* elements: 256 bytes in the narrowest type */
  LEAF_ALIGN = 64,   /* elements of a leaf are a multiple of it */
  VOCAB_ALIGN = 128, /* rows of lm_head */
  TENSOR_NAME = 96,
};

typedef enum { INIT_CONSTANT, INIT_NORMAL, INIT_UNIFORM, INIT_SINE } init_kind;

/* How a tensor starts. Element e of a tensor is a function of (seed, name, e) alone. */
typedef struct {
  init_kind kind;
  double value;  /* constant: the value; normal: the standard deviation; uniform: the bound b of U(−b, b); sine: the
                    wanted effective value */
  double spread; /* sine: standard deviation over features */
  config_pair range; /* sine: one uniform draw for the tensor; NaN: off */
} init_rule;

typedef struct {
  char name[TENSOR_NAME]; /* "blocks.0.attn.q_proj.weight" */
  int dims;
  int64_t shape[3];
  int64_t offset; /* elements from the unit's start */
  int64_t count;  /* logical elements, without padding */
  bool matrix;    /* compute type; otherwise state type */
  bool trainable; /* false: frozen, or not used by this configuration */
  bool decay;
  init_rule init;
} tensor;

typedef struct {
  char name[32];
  tensor *tensors;
  int n_tensors;
  int64_t vectors; /* first element of the vectors */
  int64_t leaf;    /* elements of a leaf */
  int64_t count;   /* UNIT_LEAVES · leaf */
  optim_run *runs; /* for AdamW: one run per tensor */
  int64_t n_runs;
} unit;

typedef struct model_base model_base; /* model/bases.h */

typedef struct {
  config_model config;
  const model_base *base;
  int64_t vocab_padded; /* Vp */
  unit *units;
  int n_units;        /* L + 2 */
  int64_t parameters; /* logical elements of all tensors */
} model;

/* Builds the tables for a resolved config (vocab_size > 0). `decay_exclude`: comma-separated tensor-name patterns
 * (fnmatch) or the words `vectors` (every tensor of one dimension), `embed`; NULL or empty: every tensor decays. A
 * pattern that matches nothing is a user error. */
status model_create(const config_model *c, const char *decay_exclude, model **out);
void model_free(model *m);

/* The tensor of that name, or NULL; *unit_index is set when not NULL. */
const tensor *model_tensor(const model *m, const char *name, int *unit_index);

/* Elements of the largest unit. */
int64_t model_largest_unit(const model *m);

/* Initial values of elements [first, first + count) of a unit, padding included (zero). */
status model_initial(const model *m, int unit_index, uint64_t seed, int64_t first, int64_t count, float *values);

/* The same bits on `threads` threads: values are counted, so any split gives them. */
status model_initial_parallel(const model *m, int unit_index, uint64_t seed, int64_t first, int64_t count, int threads,
                              float *values);

/* A micro-batch in engine memory. */
typedef struct {
  const int32_t *tokens; /* (N) */
  const int32_t *labels; /* (N); −1: masked (evaluation only) */
  const int32_t *order;  /* (N) rows sorted by (token, row); training only */
} model_batch;

typedef struct {
  int64_t B, T;
  config_recompute recompute;
  double label_smoothing;
  bool training; /* false: forward only, far fewer buffers */
  bool fp8;      /* products of the inner blocks in 8 bits while training; for an engine with `fp8` */
} run_spec;

/* Buffers of a pass of fixed shape. */
typedef struct model_run model_run;

status model_run_create(const model *m, engine *e, const run_spec *spec, model_run **out);
void model_run_free(model_run *r);
/* The shapes that a pass of B sequences of T asks of the engine, with the rows of a loss chunk (a function of B·T and
 * the vocabulary alone). model_run_create and model_cache_create call engine.prepare with theirs; plans give them to
 * engine.scratch_bytes. */
void model_limits(const model *m, const engine *e, int64_t B, int64_t T, engine_limits *limits);

/* Bytes that model_run_create takes from the engine, scratch not counted. */
size_t model_run_bytes(const model *m, dtype compute, dtype state, const run_spec *spec);

/* Forward and backward of one micro-batch; gradients go to the source, the loss to *loss (engine memory). */
status model_train(model_run *r, weight_source *w, const model_batch *batch, double *loss);

/* Forward; sums (engine memory): 3 doubles as in head_eval_args. */
status model_eval(model_run *r, weight_source *w, const model_batch *batch, double *sums);

/* Forward; logits in engine memory, state type, (B·T, V). */
status model_logits(model_run *r, weight_source *w, const int32_t *tokens, void *logits);

/* Forward, embedding to logits, for measuring; logits in engine memory, compute type, (rows, vocab_padded). Every logit
 * is written once: all rows by one product when rows ≥ B·T, otherwise `rows` at a time, each chunk over the one before.
 */
status model_forward(model_run *r, weight_source *w, const int32_t *tokens, void *logits, int64_t rows);

/* Generation: keys and values of B rows of at most `capacity` positions, and what the temporal convolution needs of its
 * past. */
typedef struct model_cache model_cache;

status model_cache_create(const model *m, engine *e, int64_t B, int64_t capacity, model_cache **out);
void model_cache_free(model_cache *k);

/* Appends T tokens (engine memory, (B, T)) to every row and gives the logits of the last position, state type, (B, V)
 * in engine memory. Row b's tokens stand at positions past[b] … past[b] + T − 1 (host memory; the caller adds T
 * afterwards). With `row` ≥ 0 only that row is fed (tokens (1, T), logits (1, V)): how prompts of different length
 * enter a batch. `same` padding of the temporal convolution can't be cached: a user error. */
status model_decode(model_cache *k, weight_source *w, int64_t row, int64_t T, const int32_t *tokens,
                    const int32_t *past, void *logits);

#endif
