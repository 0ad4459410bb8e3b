/* The weight store: who holds which weights, gradients and moments, and in which order gradients are summed. It hides
 * parallelism from the model (weights.h) and from the step. strategies.h says what each strategy shards.
 *
 * The step's gradient is the sum over micro-batches 0 … n−1 as leaves of one tree, merged as a binary counter merges:
 * equal levels meet, what is left folds from the right. With R ranks and R, n/R powers of two the tree, and so every
 * bit, is the same for any R. docs/design.md has the argument.
 */
#ifndef PSANN_SHARD_WEIGHT_STORE_H
#define PSANN_SHARD_WEIGHT_STORE_H

#include "dist/groups.h"
#include "model/model.h"
#include "model/plan.h"

typedef enum { STATE_WEIGHTS, STATE_M, STATE_V, STATE_GRADS } state_kind;

typedef struct {
  double beta1, beta2, eps, weight_decay, grad_clip;
} update_spec;

typedef struct weight_store weight_store;

typedef struct {
  void (*destroy)(weight_store *s);
  /* A step: begin(0), micro-batches, finish. begin_micro_batch tells which of the step's n micro-batches this rank
   * computes as its j-th. */
  int64_t (*local_micro_batches)(const weight_store *s);
  int64_t (*micro_batch)(const weight_store *s, int64_t j);
  status (*begin_micro_batch)(weight_store *s, int64_t j);
  /* losses: engine memory, local_micro_batches doubles. Completes the exchange, squared norms and losses over all ranks
   * in index order, clip, AdamW, and makes the new weights available. The engine's step_result holds what happened. */
  status (*finish)(weight_store *s, const double *losses, const update_spec *u);
  /* Whether part j of a step is issued alike every time and to STREAM_MAIN alone, so that it may be launched as a
   * graph: the j-th micro-batch from begin_micro_batch on, or finish, with j = local_micro_batches. After such a launch
   * `repeated` notes what issuing the part would have noted. */
  bool (*repeats)(const weight_store *s, int64_t j);
  status (*repeated)(weight_store *s, int64_t j);
  /* Collective. A unit's whole state (logical layout of the unit, unit.count elements) as fp32, or fp64 when the
   * engine's state type is; `values` (host memory) is filled on rank 0 only and may be NULL elsewhere. STATE_GRADS: the
   * last step's summed gradient. */
  status (*read)(weight_store *s, int unit, state_kind what, void *values);
  /* Elements [first, first + count) of a unit whose state this rank saves: the ranks' ranges cover a unit once and
   * without gaps, in order of rank; some may be empty. */
  void (*own)(const weight_store *s, int unit, int64_t *first, int64_t *count);
  /* Not collective. Starts the copy of this rank's own range of a unit's state to host memory (count elements of the
   * state type); it is there after engine.synchronize, and shows the state as of this call's place in STREAM_MAIN. */
  status (*read_own)(weight_store *s, int unit, state_kind what, void *values);
  /* Collective; rank 0's `values` are used. */
  status (*write)(weight_store *s, int unit, state_kind what, const void *values);
} weight_store_ops;

struct weight_store {
  weight_source source; /* first member: what the model sees */
  const weight_store_ops *ops;
  const model *m;
  engine *e;
  const dist *d;
  const rank_groups *g;  /* NULL on one rank */
  int64_t micro_batches; /* n */
};

/* How many ranks hold one copy of the state together: all, but for hybrid, where it is `shard_ranks`, or the ranks of a
 * host when that is 0. A user error when ranks can't be cut so. */
status weight_store_shard_ranks(config_strategy strategy, int64_t shard_ranks, const dist *d, int *out);

/* Takes `strategy` (auto is ddp), allocates, and fills the weights with their initial values from `seed`. `g`, cut as
 * weight_store_shard_ranks says, must outlive the store; NULL on one rank. `training` false: weights alone. `offload`
 * says where moments lie, and master weights that are apart from what the model reads. A user error when a rank would
 * have no micro-batch. */
status weight_store_create(const model *m, engine *e, const dist *d, const rank_groups *g, config_strategy strategy,
                           config_offload offload, int64_t micro_batches, uint64_t seed, bool training,
                           weight_store **out);
void weight_store_destroy(weight_store *s);

/* What the rank with the most would hold, without allocating. */
void weight_store_plan(const model *m, dtype compute, dtype state, int ranks, int shard_ranks, config_strategy strategy,
                       config_offload offload, int64_t micro_batches, bool training, memory_plan *p);

/* "" when the run's bits are the same on any number of ranks, otherwise a sentence on what they depend on. */
const char *weight_store_identity(int ranks, int64_t micro_batches);

#endif
