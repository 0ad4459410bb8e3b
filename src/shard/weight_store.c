/* The strategies by name, and what concerns all of them before one is chosen. */
#include "shard/weight_store.h"

#include <stdio.h>

#include "shard/strategies.h"

sharding strategy_sharding(config_strategy strategy, int shard_ranks) {
  static const sharding rows[] = {
      [STRATEGY_SHARD_OPTIMIZER] = {.state = true},
      [STRATEGY_SHARD_GRAD] = {.state = true, .gradients = true},
      [STRATEGY_FULL_SHARD] = {.state = true, .gradients = true, .weights = true},
      [STRATEGY_HYBRID] = {.state = true, .gradients = true, .weights = true},
  };
  static const sharding none = {false};
  return shard_ranks == 1 ? none : rows[strategy];
}

status weight_store_shard_ranks(config_strategy strategy, int64_t shard_ranks, const dist *d, int *out) {
  *out = d->ranks;
  if (strategy != STRATEGY_HYBRID || d->ranks == 1) {
    return STATUS_OK;
  }
  int64_t wanted = shard_ranks > 0 ? shard_ranks : d->local_ranks;
  if (shard_ranks == 0 && d->ranks % d->hosts != 0) {
    USER_ERROR(
        "parallel.strategy = hybrid shards inside each host, but %d ranks are not equal on %d hosts; start as many on "
        "each, or set parallel.shard_ranks",
        d->ranks, d->hosts);
  }
  if (wanted < 2 || d->ranks % wanted != 0) {
    USER_ERROR(
        "parallel.strategy = hybrid with shards of %lld ranks (%s): %d ranks can't be cut so; set parallel.shard_ranks "
        "to a divisor of the number of ranks that is at least 2, or use ddp",
        (long long)wanted, shard_ranks > 0 ? "parallel.shard_ranks" : "those of a host", d->ranks);
  }
  *out = (int)wanted;
  return STATUS_OK;
}

/* Without training there is no state to offload. */
static sharding sharding_with(config_strategy strategy, int shard_ranks, config_offload offload, bool training) {
  sharding shards = strategy_sharding(strategy, shard_ranks);
  shards.offload = training && offload == OFFLOAD_OPTIMIZER;
  return shards;
}

status weight_store_create(const model *m, engine *e, const dist *d, const rank_groups *g, config_strategy strategy,
                           config_offload offload, int64_t micro_batches, uint64_t seed, bool training,
                           weight_store **out) {
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
  const rank_groups *groups = d->ranks > 1 ? g : NULL;
  REQUIRE(d->ranks == 1 || (groups != NULL && groups->shard.ranks * groups->replicas.ranks == d->ranks),
          "%d ranks need groups that cover them", d->ranks);
  sharding shards = sharding_with(strategy, groups == NULL ? 1 : groups->shard.ranks, offload, training);
  return store_create(m, e, d, groups, shards, micro_batches, seed, training, out);
}

void weight_store_destroy(weight_store *s) {
  if (s != NULL) {
    s->ops->destroy(s);
  }
}

void weight_store_plan(const model *m, dtype compute, dtype state, int ranks, int shard_ranks, config_strategy strategy,
                       config_offload offload, int64_t micro_batches, bool training, memory_plan *p) {
  sharding shards = sharding_with(strategy, shard_ranks, offload, training);
  store_plan(m, compute, state, shard_ranks, ranks, shards, micro_batches, training, p);
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
