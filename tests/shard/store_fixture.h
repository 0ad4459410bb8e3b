/* What the tests of the weight store share: a small model, made-up gradients and losses, a function of (step,
 * micro-batch, element), and steps with them on the ranks of the job or on one.
 */
#ifndef PSANN_TESTS_SHARD_STORE_FIXTURE_H
#define PSANN_TESTS_SHARD_STORE_FIXTURE_H

#include "base/digest.h"
#include "ranks_main.h"
#include "shard/weight_store.h"
#include "wrapped_engine.h"

enum { STORE_STEPS = 5, STORE_STRATEGIES = 5 };

/* Of this process; store_main fills it. */
extern struct store_job {
  dist d, alone;
  uint64_t seed;
  model *m;
} job;

extern const config_strategy store_strategies[STORE_STRATEGIES];

/* What a run is, and what a comparison of two runs varies. */
typedef struct {
  config_strategy strategy; /* of several ranks */
  dtype state;
  bool narrow;
  int64_t n;
  double grad_clip;
  int bad_step;  /* step of a bad micro-batch, from 1; 0: none */
  bool bad_loss; /* its loss is infinite; otherwise one gradient is NaN */
  config_offload offload;
  uint64_t deferred; /* the engine runs as a GPU would, in the order of this seed; 0: at once */
} store_case;

typedef struct {
  wrapped_engine *e;
  engine *used; /* e, or what defers its operations */
  rank_groups g;
  weight_store *w;
  step_result results[STORE_STEPS + 1];
  int64_t updates;
} store_run;

/* Fails the test with the status's message and the rank. */
void ok(status s);

void put(void *p, dtype type, int64_t i, double x);
double get(const void *p, dtype type, int64_t i);

bool power_of_two(int64_t x);

double made_up_loss(const store_case *k, int step, int64_t micro_batch);
double made_up_gradient(int step, int64_t micro_batch, int unit_index, int64_t element);

/* Whether the ranks can be cut so; ranks of a shard then. */
bool strategy_offered(config_strategy strategy);
int shard_ranks(const dist *ranks, config_strategy strategy);

/* The test with every strategy that is offered. */
void with_each_strategy(void (*test)(config_strategy strategy));

/* Collective over `ranks`. stop: nothing of the engine's memory is left. */
void store_start(const store_case *k, const dist *ranks, store_run *r);
void store_step(const store_case *k, store_run *r, int step);
void store_stop(store_run *r);

/* This rank's weights as the model sees them. */
void store_digest(store_run *r, char text[DIGEST_TEXT]);

/* A unit's numbers of a kind, in the run's state type, on rank 0; the caller frees on all. */
void *store_read(store_run *r, int u, state_kind what);

/* The main of such a test, under mpirun or alone. */
int store_main(int argc, char **argv, const char *name, const struct CMUnitTest *tests, size_t n);
#define STORE_MAIN(tests) store_main(argc, argv, #tests, tests, sizeof(tests) / sizeof((tests)[0]))

#endif
