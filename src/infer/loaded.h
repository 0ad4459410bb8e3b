/* A trained model out of a checkpoint, ready to compute on all ranks. */
#ifndef PSANN_INFER_LOADED_H
#define PSANN_INFER_LOADED_H

#include "ckpt/checkpoint.h"
#include "data/tokenizer.h"
#include "dist/dist.h"
#include "engine/engine.h"
#include "model/model.h"
#include "shard/weight_store.h"

typedef struct {
  checkpoint *k;
  model *m;
  engine *e;
  rank_groups groups;
  weight_store *w;
  dist d;
} loaded;

/* `path` is a checkpoint file or a run folder (the best checkpoint, when there is one). `device` is a value of
 * run.device, or NULL for the checkpoint's own; `strategy` one of parallel.strategy: those that shard weights let ranks
 * hold a model together that is too large for one. NULL or auto: whole weights on every rank where they fit, full_shard
 * otherwise. Collective over the ranks of `d`; every rank reads the file. */
status loaded_open(const char *path, const char *device, const char *strategy, const dist *d, loaded **out);
void loaded_close(loaded *l);

/* The tokenizer that the checkpoint carries. */
status loaded_tokenizer(const loaded *l, tokenizer **out);

/* A user error unless tokens of the store mean what they meant in training: same vocabulary size, end of text,
 * tokenizer. */
status loaded_fits_store(const loaded *l, const token_store *s);

#endif
