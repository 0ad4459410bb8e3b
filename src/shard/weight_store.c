/* The strategies by name, and what concerns all of them before one is chosen. */
#include "shard/weight_store.h"

#include <stdio.h>

#include "shard/replicated.h"

status weight_store_create(const model *m, engine *e, const dist *d, collectives *c, config_strategy strategy,
                           int64_t micro_batches, uint64_t seed, bool training, weight_store **out) {
  *out = NULL;
  if (training) {
    REQUIRE(micro_batches >= 1, "a step of %lld micro-batches", (long long)micro_batches);
    if (micro_batches < d->ranks) {
      USER_ERROR(
          "a step has %lld micro-batches (train.batch_tokens / (train.micro_batch · data.seq_len)), too few for %d "
          "ranks; start at most %lld "
          "ranks, raise train.batch_tokens, or lower train.micro_batch",
          (long long)micro_batches, d->ranks, (long long)micro_batches);
    }
  }
  switch (strategy) {
    case STRATEGY_AUTO:
    case STRATEGY_DDP:
      return replicated_create(m, e, d, c, micro_batches, seed, training, out);
  }
  FAIL("parallel.strategy %d doesn't exist", (int)strategy);
}

void weight_store_destroy(weight_store *s) {
  if (s != NULL) {
    s->ops->destroy(s);
  }
}

void weight_store_plan(const model *m, dtype compute, dtype state, int ranks, config_strategy strategy,
                       int64_t micro_batches, bool training, memory_plan *p) {
  switch (strategy) {
    case STRATEGY_AUTO:
    case STRATEGY_DDP:
      replicated_plan(m, compute, state, ranks, -1, micro_batches, training, p);
      return;
  }
}

static bool power_of_two(int64_t x) {
  return x > 0 && (x & (x - 1)) == 0;
}

const char *weight_store_identity(int ranks, int64_t micro_batches) {
  static _Thread_local char text[256];
  if (power_of_two(ranks) && power_of_two(micro_batches) && micro_batches >= ranks) {
    return "";
  }
  if (power_of_two(micro_batches)) {
    snprintf(text, sizeof text,
             "%d ranks are no power of two: the last bits of this run belong to %d ranks; 1, 2, 4 … ranks share theirs",
             ranks, ranks);
  } else {
    snprintf(text, sizeof text,
             "%lld micro-batches a step are no power of two: the last bits of this run belong to %d rank%s",
             (long long)micro_batches, ranks, ranks == 1 ? "" : "s");
  }
  return text;
}
