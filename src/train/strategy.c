#include "train/strategy.h"

#include "base/log.h"
#include "base/memory.h"
#include "train/memory.h"

/* By what a step costs beside the products: shard_optimizer updates a part of the state on each rank and hands round
 * weights in the compute type, behind the next forward pass; ddp updates all of it everywhere and hands round gradients
 * in fp32. shard_grad exchanges after every micro-batch; full_shard also gathers the weights twice for each. */
static const config_strategy by_speed[] = {STRATEGY_SHARD_OPTIMIZER, STRATEGY_SHARD_GRAD, STRATEGY_FULL_SHARD};
enum { CANDIDATES = sizeof by_speed / sizeof by_speed[0] };

static status plan_with(training *t, config_strategy strategy, bool *fits) {
  t->c->parallel.strategy = strategy;
  TRY(weight_store_shard_ranks(strategy, t->c->parallel.shard_ranks, t->d, &t->shard_ranks));
  memory_plan_run(t);
  int64_t short_somewhere;
  TRY(dist_max(t->d, !memory_fits(t), &short_somewhere));
  *fits = !short_somewhere;
  return STATUS_OK;
}

static void say(const training *t, double faster_needs, bool fits) {
  char needs[32], has[32], before[32];
  const char *name = config_strategy_name(t->c->parallel.strategy);
  memory_text(plan_total(&t->plan), needs);
  memory_text(t->memory_available, has);
  if (!fits) {
    log_line("strategy: %s, which takes the least, %s of %s a rank, and does not fit", name, needs, has);
  } else if (faster_needs > 0) {
    log_line("strategy: %s, the fastest that fits (%s of %s a rank; the next faster one needs %s)", name, needs, has,
             memory_text(faster_needs, before));
  } else {
    log_line("strategy: %s, the fastest (%s a rank)", name, needs);
  }
}

status strategy_resolve(training *t) {
  bool fits;
  if (t->c->parallel.strategy != STRATEGY_AUTO || t->d->ranks == 1) {
    config_strategy given = t->c->parallel.strategy;
    return plan_with(t, given == STRATEGY_AUTO ? STRATEGY_DDP : given, &fits);
  }
  double faster_needs = 0;
  for (int i = 0; i < CANDIDATES; i++) {
    TRY(plan_with(t, by_speed[i], &fits));
    if (fits || i + 1 == CANDIDATES) {
      break;
    }
    faster_needs = plan_total(&t->plan);
  }
  say(t, faster_needs, fits);
  return STATUS_OK;
}
