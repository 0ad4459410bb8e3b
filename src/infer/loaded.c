#include "infer/loaded.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "dist/transport.h"
#include "engine/select.h"

typedef struct {
  const char *path;
  checkpoint **k;
} source;

static status open_checkpoint(void *context) {
  const source *s = context;
  return checkpoint_open(s->path, true, s->k);
}

static status make_model(loaded *l, const char *device, const char *strategy) {
  config *c = l->k->config;
  if (device != NULL) {
    TRY(config_set(c, "run", "device", device, "--device"));
  }
  TRY(config_set(c, "parallel", "strategy", strategy != NULL ? strategy : "auto", "--strategy"));
  TRY(model_create(&c->model, NULL, &l->m));
  TRY(checkpoint_fits(l->k, l->m));
  if (device != NULL || c->train.precision == PRECISION_FP8) {
    c->train.precision =
        PRECISION_AUTO; /* the file's weights are fp32: any device can compute with them; fp8 is for training */
  }
  TRY(engine_resolve(&c->run.device, &c->train.precision));
  c->parallel.transport = TRANSPORT_AUTO;
  TRY(transport_resolve(&l->d, c->run.device, engine_gpus(), &c->parallel.transport));
  return engine_create(c->run.device, c->train.precision, l->d.local_rank, (int)c->cpu.threads, (uint64_t)c->run.seed,
                       &l->e);
}

/* Without a word from the user: sharded where some rank's GPU has no room for all weights and as much again for the
 * rest. */
static status choose_strategy(loaded *l, config_strategy *strategy) {
  if (*strategy != STRATEGY_AUTO) {
    return STATUS_OK;
  }
  memory_plan whole = {0};
  weight_store_plan(l->m, l->e->compute, l->e->state, 1, 1, STRATEGY_DDP, OFFLOAD_NONE, 1, false, &whole);
  double room = l->e->host_memory ? INFINITY : engine_gpu_memory_free(l->d.local_rank);
  int64_t short_somewhere;
  TRY(dist_max(&l->d, 2 * plan_total(&whole) > room, &short_somewhere));
  *strategy = short_somewhere ? STRATEGY_FULL_SHARD : STRATEGY_DDP;
  return STATUS_OK;
}

static status fill_store(loaded *l) {
  config *c = l->k->config;
  int shard_ranks;
  TRY(dist_same(&l->d, "the engine", l->e->description)); /* ranks that round differently would draw different tokens */
  TRY(choose_strategy(l, &c->parallel.strategy));
  TRY(weight_store_shard_ranks(c->parallel.strategy, c->parallel.shard_ranks, &l->d, &shard_ranks));
  TRY(groups_create(&l->d, shard_ranks, c->parallel.transport, l->e, &l->groups));
  TRY(weight_store_create(l->m, l->e, &l->d, &l->groups, c->parallel.strategy, OFFLOAD_NONE, l->d.ranks,
                          (uint64_t)c->run.seed, false, &l->w));
  return checkpoint_load(l->k, l->m, l->w, false, &l->d);
}

status loaded_open(const char *path, const char *device, const char *strategy, const dist *d, loaded **out) {
  *out = NULL;
  loaded *l;
  TRY(memory_new(&l, 1, sizeof *l, "a loaded model"));
  l->d = *d;
  /* Filling is collective: no rank may enter it when another could not read its file. */
  source from = {.path = path, .k = &l->k};
  status result = dist_first_of_host(&l->d, open_checkpoint, &from);
  if (result == STATUS_OK) {
    result = dist_agree(&l->d, make_model(l, device, strategy));
  }
  if (result == STATUS_OK) {
    result = fill_store(l);
  }
  if (result != STATUS_OK) {
    loaded_close(l);
    return result;
  }
  *out = l;
  return STATUS_OK;
}

void loaded_close(loaded *l) {
  if (l == NULL) {
    return;
  }
  if (l->w != NULL) {
    weight_store_destroy(l->w);
  }
  groups_destroy(&l->groups);
  if (l->e != NULL) {
    l->e->ops->destroy(l->e);
  }
  model_free(l->m);
  checkpoint_close(l->k);
  free(l);
}

status loaded_tokenizer(const loaded *l, tokenizer **out) {
  const checkpoint *k = l->k;
  return tokenizer_create(k->tokenizer, k->tokenizer_data, k->tokenizer_bytes, k->vocab_size, k->end_of_text, out);
}

status loaded_fits_store(const loaded *l, const token_store *s) {
  const checkpoint *k = l->k;
  if (s->vocab_size != k->vocab_size) {
    USER_ERROR("%s has a vocabulary of %" PRId64 " tokens, but %s was trained with %" PRId64
               ": make the store with the checkpoint's tokenizer",
               s->path, s->vocab_size, k->path, k->vocab_size);
  }
  if (strcmp(s->tokenizer, k->tokenizer) != 0) {
    USER_ERROR(
        "%s was made with tokenizer '%s', but %s was trained with '%s': make the store with the checkpoint's tokenizer",
        s->path, s->tokenizer, k->path, k->tokenizer);
  }
  if (s->end_of_text != k->end_of_text) {
    USER_ERROR(
        "%s ends documents with token %d, but %s was trained with %d: make the store with the checkpoint's tokenizer",
        s->path, (int)s->end_of_text, k->path, (int)k->end_of_text);
  }
  if (s->tokenizer_bytes != k->tokenizer_bytes ||
      (s->tokenizer_bytes > 0 && memcmp(s->tokenizer_data, k->tokenizer_data, s->tokenizer_bytes) != 0)) {
    USER_ERROR(
        "%s was made with another '%s' model than %s was trained with (same size of vocabulary, other pieces): make "
        "the store with "
        "the checkpoint's tokenizer",
        s->path, s->tokenizer, k->path);
  }
  return STATUS_OK;
}
