/* Checkpoints in the background: every rank copies what it saves into host memory, training goes on, the pieces travel
 * to rank 0 between steps, and a thread there writes the file of checkpoint_save, byte for byte. Rank 0 holds its own
 * copy and at most PIECE_LANES units' weights or moments beside it.
 *
 * All calls are collective and made by the main thread. While a save is under way, nothing else on rank 0 may call
 * HDF5.
 */
#ifndef PSANN_CKPT_WRITER_H
#define PSANN_CKPT_WRITER_H

#include "ckpt/checkpoint.h"

typedef struct checkpoint_writer checkpoint_writer;

/* What a writer saves, and where. All of it must outlive the writer. */
typedef struct {
  const char *folder;
  const config *c; /* checkpoint.keep_last, … */
  const model *m;
  weight_store *w;
  const token_store *tokenizer_of;
  const dist *d;
  void (*before_naming)(
      void *context); /* rank 0, on the thread that writes: the file is whole and is named next; may be NULL */
  void *context;
} checkpoint_writer_spec;

/* What became of a save. */
typedef struct {
  run_state state; /* that was saved; step −1: no save has ended */
  status result;   /* the same on all ranks; a failure's message is status_message() */
  double seconds;  /* from its start to its end, on this rank */
  double waited;   /* of these, what training waited, */
  double copied;   /* and of these for the copy; the rest is pushing, and waits for the end */
} checkpoint_outcome;

/* Bytes of host memory that a rank's copy takes when shard_ranks of the ranks save a share each, with what rank 0 needs
 * beside it. */
double checkpoint_copy_bytes(const model *m, int ranks, int shard_ranks);

/* `background`: the copy is allocated here. Where a rank has no memory for it, a line says so, and the writer is one
 * that saves in the foreground, unit by unit, as it does when `background` is false. */
status checkpoint_writer_create(const checkpoint_writer_spec *spec, bool background, checkpoint_writer **out);

/* Lets a save that needs no other rank any more finish, gives up any other. */
void checkpoint_writer_destroy(checkpoint_writer *b);

/* Starts a save; none may be under way. A failure here, or in the next function, is one of the ranks' communication;
 * what became of the save is told by the next function alone. */
status checkpoint_writer_start(checkpoint_writer *b, const run_state *state);

/* Moves pieces of the save under way, if there is one; to be called between steps. `wait`: until it has ended. */
status checkpoint_writer_advance(checkpoint_writer *b, bool wait, checkpoint_outcome *o);

/* The step of the save that is under way; −1: none. */
int64_t checkpoint_writer_busy(const checkpoint_writer *b);

#endif
