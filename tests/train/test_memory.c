/* The memory plan of a run against an emulated device: the CPU engine with an operation `memory` whose answers are set
 * here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "train/memory.h"
#include "unit.h"

static const double GIB = 1024.0 * 1024 * 1024;

static device_usage answer;

static status device_answer(engine *e, device_usage *out) {
  (void)e;
  *out = answer;
  return STATUS_OK;
}

#define GOOD(call)                                 \
  do {                                             \
    if ((call) != STATUS_OK) {                     \
      fail_msg("%s: %s", #call, status_message()); \
    }                                              \
  } while (0)

typedef struct {
  training t;
  dist d;
  engine_ops ops;
  train_request request;
} run;

/* A run of 256 sequences a step whose micro-batch is open. */
static void open_run(run *r, int64_t batch_tokens, const char *more) {
  char text[1024];
  snprintf(text, sizeof text,
           "[run]\ndir = never\ndevice = cpu\n[model]\nvocab_size = 1000\nd_model = 64\nn_layers = 4\nn_heads = 2\n"
           "d_mlp = 256\n[data]\ntrain = none\nseq_len = 128\n[train]\nmax_steps = 10\nbatch_tokens = %lld\n%s",
           (long long)batch_tokens, more);
  memset(r, 0, sizeof *r);
  dist_single(&r->d);
  training *t = &r->t;
  t->d = &r->d;
  t->request = &r->request;
  GOOD(config_new(&t->c));
  GOOD(config_read_text(t->c, text, "a test"));
  GOOD(config_resolve(t->c));
  t->c->parallel.strategy = STRATEGY_DDP;
  t->shard_ranks = 1;
  GOOD(model_create(&t->c->model, t->c->train.decay_exclude, &t->m));
  GOOD(engine_cpu_create(DTYPE_F32, 1, 1, &t->e));
  r->ops = *t->e->ops;
  r->ops.memory = device_answer;
  t->e->ops = &r->ops;
  answer = (device_usage){0};
}

static void close_run(run *r) {
  model_free(r->t.m);
  r->t.e->ops->destroy(r->t.e);
  config_free(r->t.c);
}

/* What the run needs on one rank with this micro-batch, and nothing for the device's own rows. */
static memory_plan plan_of(run *r, int64_t micro_batch) {
  run copy = *r;
  config c = *r->t.c;
  c.train.micro_batch = micro_batch;
  copy.ops.memory = NULL;
  r->t.e->ops = &copy.ops;
  copy.t.c = &c;
  copy.d.ranks = 1;
  copy.t.d = &copy.d;
  memory_plan_run(&copy.t);
  r->t.e->ops = &r->ops;
  return copy.t.plan;
}

static double planned(run *r, int64_t micro_batch) {
  memory_plan p = plan_of(r, micro_batch);
  return plan_total(&p);
}

static void test_largest_that_fits(void **state) {
  unsigned seed = (unsigned)time(NULL);
  print_message("seed %u\n", seed);
  srand(seed);
  run r;
  open_run(&r, 256 * 128, "");
  int sizes[64] = {0};
  for (int i = 0; i < 40; i++) {
    double left = planned(&r, 32) * (0.3 + rand() % 1000 / 1000.0), total = (left + 2 * GIB) * 32 / 31,
           room = total - memory_reserve(total);
    int64_t s = memory_micro_batch(&r.t, total);
    sizes[s]++;
    assert_true(256 % s == 0 && 256 / s >= 8);
    assert_true(planned(&r, s) <= room);
    assert_true(s == 32 || planned(&r, 2 * s) > room);
    /* whatever the ranks, the strategy, and what is free */
    r.d.ranks = r.d.local_ranks = 8;
    answer = (device_usage){.total = total, .taken = rand()};
    r.t.memory_available = rand();
    assert_int_equal(memory_micro_batch(&r.t, total), s);
    r.d.ranks = r.d.local_ranks = 1;
  }
  assert_true(sizes[32] > 0 && sizes[32] < 40); /* both limits were met */
  close_run(&r);
}

/* Weights that no single device holds: half of it is left to activations. */
static void test_model_for_more_ranks(void **state) {
  run r;
  open_run(&r, 256 * 128, "");
  double total = 2.2 * GIB;
  memory_plan weights = {0};
  weight_store_plan(r.t.m, DTYPE_F32, DTYPE_F32, 1, 1, STRATEGY_DDP, OFFLOAD_NONE, 8, true, &weights);
  while (memory_reserve(total) + plan_total(&weights) * 0.9 < total) {
    total -= 1e6;
  }
  int64_t s = memory_micro_batch(&r.t, total);
  double most = (total - memory_reserve(total)) / 2;
  memory_plan of_s = {0};
  weight_store_plan(r.t.m, DTYPE_F32, DTYPE_F32, 1, 1, STRATEGY_DDP, OFFLOAD_NONE, 256 / s, true, &of_s);
  assert_true(s == 1 || planned(&r, s) - plan_total(&of_s) <= most);
  close_run(&r);
}

static void test_resolved_once(void **state) {
  run r;
  open_run(&r, 256 * 128, "");
  answer = (device_usage){.total = 100 * GIB};
  GOOD(memory_resolve_micro_batch(&r.t));
  assert_int_equal(r.t.c->train.micro_batch, 32);
  answer.total = 2.1 * GIB;
  GOOD(memory_resolve_micro_batch(&r.t));
  assert_int_equal(r.t.c->train.micro_batch, 32); /* it is given now */
  close_run(&r);
}

static void test_message_says_what_fits(void **state) {
  run r;
  open_run(&r, 256 * 128, "micro_batch = 32\n");
  memory_plan_run(&r.t);
  r.t.memory_available = plan_total(&r.t.plan);
  GOOD(memory_check(&r.t));
  r.t.memory_available -= 1;
  assert_int_equal(memory_check(&r.t), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "train.micro_batch = 32 with train.recompute = cheap would fit"));
  r.t.c->train.recompute = RECOMPUTE_BLOCK;
  memory_plan_run(&r.t);
  r.t.memory_available = plan_total(&r.t.plan) - 1;
  assert_int_equal(memory_check(&r.t), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "train.micro_batch = 16 with train.recompute = block would fit"));
  r.t.memory_available = 1000;
  assert_int_equal(memory_check(&r.t), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "not even one sequence"));
  close_run(&r);
}

static double row(const memory_plan *p, const char *what) {
  for (int i = 0; i < p->n_rows; i++) {
    if (strcmp(p->rows[i].what, what) == 0) {
      return p->rows[i].bytes;
    }
  }
  return NAN;
}

static char *content(const char *folder, const char *name) {
  char *path, *text;
  size_t bytes;
  GOOD(file_join(&path, folder, name));
  GOOD(file_read(path, 1 << 20, &text, &bytes));
  free(path);
  return text;
}

/* The rows of the device follow its answers, and the comparison says how far the plan is off. */
static void test_device_rows(void **state) {
  run r;
  training *t = &r.t;
  open_run(&r, 256 * 128, "micro_batch = 8\n");
  char folder[] = "/tmp/psann_memory_XXXXXX";
  assert_non_null(mkdtemp(folder));
  free(t->c->run.dir);
  t->c->run.dir = strdup(folder);
  GOOD(metrics_open(folder, 0, false, &t->metrics));
  double own = planned(&r, 8);
  answer = (device_usage){.total = 80 * GIB, .taken = 700e6, .fixed = 200e6};
  memory_plan_run(t);
  assert_true(row(&t->plan, "workspace of the libraries") == 200e6);
  assert_true(row(&t->plan, "context of the GPU") == 500e6);
  assert_true(row(&t->plan, memory_rows[MEMORY_KERNELS]) > 0 && isnan(row(&t->plan, memory_rows[MEMORY_NCCL])));
  answer.taken = 1000e6;
  memory_measured(t, memory_rows[MEMORY_NCCL]);
  answer.taken = 1030e6;
  memory_measured(t, memory_rows[MEMORY_KERNELS]);
  assert_true(row(&t->plan, memory_rows[MEMORY_NCCL]) == 300e6 && row(&t->plan, memory_rows[MEMORY_KERNELS]) == 30e6);
  assert_true(fabs(plan_total(&t->plan) - own - 1030e6) < 1);

  answer.taken = (own + 1030e6) * 1.02;
  memory_compare(t);
  assert_true(t->machine.memory_planned == plan_total(&t->plan) && t->machine.memory_reported == answer.taken);
  answer.taken = 2 * (own + 1030e6);
  memory_compare(t);
  metrics_close(t->metrics);
  char *events = content(folder, "metrics.jsonl"), *machine = content(folder, "system.json");
  const char *second = strchr(events, '\n');
  assert_non_null(strstr(events, "\"memory\""));
  assert_non_null(second);
  assert_null(memmem(events, (size_t)(second - events), "the plan is off", 15));
  assert_non_null(strstr(second, "the plan is off"));
  assert_non_null(strstr(machine, "gpu_memory_planned_bytes"));
  assert_non_null(strstr(machine, "gpu_memory_reported_bytes"));
  free(events);
  free(machine);
  char command[128];
  snprintf(command, sizeof command, "rm -r %s", folder);
  assert_int_equal(system(command), 0);
  close_run(&r);
}

/* The state of a run whose device has memory of its own moves into rows of the host's; on the CPU it only changes its
 * place. What the host has is checked, and a smaller sum on the device admits a larger micro-batch. */
static void test_offload(void **state) {
  run plain, offloaded;
  open_run(&plain, 256 * 128, "micro_batch = 8\n");
  open_run(&offloaded, 256 * 128, "micro_batch = 8\n[parallel]\noffload = optimizer\n");
  training *t = &offloaded.t;
  double moments = 0;
  for (int u = 0; u < t->m->n_units; u++) {
    moments += 8.0 * (double)t->m->units[u].count;
  }
  memory_plan without = plan_of(&plain, 8), with = plan_of(&offloaded, 8);
  double on_the_way = row(&with, "state on its way");
  assert_true(row(&without, "moments") == moments && isnan(row(&without, "state on its way")));
  assert_true(on_the_way > 0 && plan_total(&with) == plan_total(&without) + on_the_way && plan_host(&with) == 0);

  plain.t.e->host_memory = t->e->host_memory = false; /* as on a GPU in fp32 */
  with = plan_of(&offloaded, 8);
  assert_true(plan_total(&with) == plan_total(&without) - moments + on_the_way);
  assert_true(plan_host(&with) == moments && planned(&plain, 8) == plan_total(&without));
  t->plan = with;
  t->memory_available = plan_total(&with);
  t->host_available = moments;
  assert_true(memory_fits(t));
  GOOD(memory_check(t));
  t->host_available -= 1;
  assert_false(memory_fits(t));
  assert_int_equal(memory_check(t), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "of the host's memory but has"));
  assert_non_null(strstr(status_message(), "parallel.offload = none"));
  t->host_available = 0; /* not known */
  GOOD(memory_check(t));
  t->machine.memory_available = 12e9;
  offloaded.d.local_ranks = 3;
  memory_plan_run(t);
  assert_true(t->host_available == 4e9);
  offloaded.d.local_ranks = 1;

  int larger = 0;
  for (int i = 1; i <= 40; i++) {
    double total = (plan_total(&without) * i / 10 + 2 * GIB) * 32 / 31;
    int64_t here = memory_micro_batch(&plain.t, total), there = memory_micro_batch(t, total);
    larger += there > here;
  }
  assert_true(larger > 0);

  memory_plan_run(&plain.t);
  plain.t.memory_available = 1000;
  assert_int_equal(memory_check(&plain.t), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "parallel.offload = optimizer moves"));
  close_run(&plain);
  close_run(&offloaded);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_largest_that_fits), cmocka_unit_test(test_model_for_more_ranks),
      cmocka_unit_test(test_resolved_once),     cmocka_unit_test(test_message_says_what_fits),
      cmocka_unit_test(test_device_rows),       cmocka_unit_test(test_offload)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
