/* Checkpoints: one HDF5 file per saved step, complete, atomic, verified, independent of ranks and strategy.
 *
 *   /model/<tensor>    fp32, logical shapes, the reference's names; tensors that don't learn stand there too
 *   /optim/m/<tensor>, /optim/v/<tensor>    of the tensors that learn
 *   /state             attributes: run_state
 *   /config            attributes: `ini`, the resolved config; `identity`, its identity keys, one a line; one per key
 *   /tokenizer         attributes: name, vocab_size, end_of_text; dataset `model` (bytes)
 *   /launch            attributes: ranks, hosts, host, strategy, version, saved (UTC); outside the digests
 *
 * Every dataset has an attribute `digest` (XXH3-128 of its bytes); the root has `digest_model`, `digest_optim`,
 * `digest_state`, `digest_config`, `digest_tokenizer`, and `digest`, made of those. The root digest covers what a run
 * is and where it is. Identity keys are those that a resume may not change, or only with a warning: model, seed,
 * precision, batch, learning rate and schedule. Paths, intervals, what is kept, max_steps and parallel.* are not among
 * them, nor are val_loss, best_val_loss and best_step in `digest_state`, since they depend on how often a run was
 * evaluated. Runs that differ in those alone have equal digests.
 *
 * The format is that of HDF5 1.8, whose checksums cover all structures and attributes; object times are off: the same
 * state gives the same bytes, /launch aside.
 *
 * Files are written under a temporary name, flushed, fsynced, read back and verified, renamed, and only then named by
 * `latest`. checkpoint_save makes training wait for that; writer.h has the same file written by a thread.
 */
#ifndef PSANN_CKPT_CHECKPOINT_H
#define PSANN_CKPT_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "config/config.h"
#include "data/token_store.h"
#include "model/model.h"
#include "shard/weight_store.h"

/* What a run is at besides weights and moments. Each field is an attribute of /state. */
typedef struct {
  int64_t step;      /* steps done */
  int64_t updates;   /* updates applied (steps − skipped) */
  int64_t sequences; /* sequences consumed: the data position */
  int64_t tokens;
  double loss_scale;   /* of the next step; 1 but for fp16 */
  int64_t good_steps;  /* in a row since the loss scale last changed; 0 but for fp16 */
  int64_t spike_count; /* finite steps seen by the watch for spikes; 0 where it is off */
  double spike_loss_level, spike_loss_mean, spike_loss_variance; /* its memory of them */
  double spike_norm_level, spike_norm_mean, spike_norm_variance;
  int64_t rollbacks;              /* since the run began: sequences is then ahead of step */
  double best_val_loss;           /* +inf: none yet */
  int64_t best_step;              /* −1: none */
  double val_loss;                /* of this checkpoint's step; NaN: not evaluated */
  char train_digest[DIGEST_TEXT]; /* of the training store's tokens */
  char plans_digest[DIGEST_TEXT]; /* of the plans of the matrix products; "" on engines that have no choice */
} run_state;

/* Collective; rank 0 writes <folder>/step_%08d.h5, names it in <folder>/latest, and in <folder>/best when state.step ==
 * state.best_step. Prunes by keep_last and keep_every; what `latest` and `best` name is never removed. A failure (full
 * disk, …) leaves no temporary file, nothing damaged under a final name, and all earlier files whole; all ranks get the
 * status. Temporary files of a killed run are removed. The engine's state type must be fp32. Rank 0 holds one unit at a
 * time. */
status checkpoint_save(const char *folder, const config *c, const model *m, weight_store *w, const run_state *state,
                       const token_store *tokenizer_of, const dist *d);

typedef struct checkpoint_parts checkpoint_parts; /* what stays open: record.h */

/* A checkpoint opened for reading. */
typedef struct {
  char *path;
  config *config; /* as saved, resolved */
  run_state state;
  char digest[DIGEST_TEXT];
  char tokenizer[16];
  void *tokenizer_data;
  size_t tokenizer_bytes;
  int64_t vocab_size;
  int32_t end_of_text;
  int64_t file; /* hid_t */
  checkpoint_parts *parts;
} checkpoint;

/* Opens, checks structure, and verifies all but the elements of tensors. `path` may be a file, or a run folder or its
 * checkpoints folder (then `best` is taken when `prefer_best` and there is one, otherwise `latest`). Missing, foreign
 * or damaged: a user error. */
status checkpoint_open(const char *path, bool prefer_best, checkpoint **out);
void checkpoint_close(checkpoint *k);

/* Verifies every digest. */
status checkpoint_verify(const checkpoint *k);

/* Prints step, config, tensors and digests through log_line. */
status checkpoint_describe(const checkpoint *k);

/* Whether the file has all weights of `m` in their shapes, and no others: what is not there needs no memory. A user
 * error that names the tensor. */
status checkpoint_fits(const checkpoint *k, const model *m);

/* Collective: fills the store from rank 0's file; `moments` false: weights alone. Every digest is verified on the way.
 * Shapes or names that don't fit: a user error that names the tensor. `k` is used on rank 0 only and may be NULL
 * elsewhere. */
status checkpoint_load(const checkpoint *k, const model *m, weight_store *w, bool moments, const dist *d);

/* The newest whole checkpoint of a folder: tries `latest`, then step files from the newest back; each damaged file is
 * named in a warning. *path is NULL when the folder holds none; a user error when it holds some and none is whole.
 * *path is the caller's. */
status checkpoint_newest(const char *folder, char **path);

/* Verifies both, compares by digest, prints which tensors and state fields differ and by how much (max abs, relative
 * L2). *same: the root digests are equal. */
status checkpoint_diff(const char *a, const char *b, bool *same);

/* Whether a run with config `now` may continue from `k`: keys that may not change are a user error naming both values,
 * others warn; so does another training store, but one with another tokenizer is a user error. `train` may be NULL. */
status checkpoint_compatible(const checkpoint *k, const config *now, const token_store *train);

#endif
