#include "bench/exchange.h"

#include <cjson/cJSON.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "dist/exchange_memory.h"
#include "dist/groups.h"
#include "dist/transport.h"
#include "engine/select.h"
#include "infer/arguments.h"
#include "report/version.h"
#include "shard/layout.h"

static const char USAGE[] =
    "usage: mpirun -np N psann_bench exchange [option…]\n"
    "\n"
    "Times the exchanges that training is made of, among all ranks: all_gather, all_to_all, and where NCCL adds for a\n"
    "pair of GPUs (several hosts, or no copy engines) that sum. Bytes are those of the whole buffer.\n"
    "\n"
    "  --sizes LIST     MiB (1,16,64,256)\n"
    "  --device D       auto, cpu, cuda (auto)\n"
    "  --transport T    auto, mpi, nccl (auto)\n"
    "  --out FILE       the figures as JSON\n"
    "  --help\n";

static const struct option OPTIONS[] = {{"sizes", required_argument, NULL, 's'},
                                        {"device", required_argument, NULL, 'd'},
                                        {"transport", required_argument, NULL, 't'},
                                        {"out", required_argument, NULL, 'o'},
                                        {"help", no_argument, NULL, 'h'},
                                        {NULL, 0, NULL, 0}};

static status set_sizes(exchange_job *job, char *list) {
  job->n_sizes = 0;
  char *rest = NULL;
  for (char *word = strtok_r(list, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
    if (job->n_sizes == EXCHANGE_SIZES) {
      USER_ERROR("--sizes names more than %d sizes; measure them in several runs", EXCHANGE_SIZES);
    }
    TRY(argument_integer("--sizes", word, 1, 1 << 20, &job->mib[job->n_sizes++]));
  }
  if (job->n_sizes == 0) {
    USER_ERROR("--sizes is empty; give MiB, separated by commas");
  }
  return STATUS_OK;
}

status exchange_arguments(int argc, char **argv, exchange_job *job, const char **print) {
  *job = (exchange_job){.mib = {1, 16, 64, 256}, .n_sizes = 4, .device = "auto", .transport = "auto"};
  *print = NULL;
  opterr = 0;
  optind = 2;
  for (int option; (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
    switch (option) {
      case 's':
        TRY(set_sizes(job, optarg));
        break;
      case 'd':
        job->device = optarg;
        break;
      case 't':
        job->transport = optarg;
        break;
      case 'o':
        job->out = optarg;
        break;
      case 'h':
        *print = USAGE;
        return STATUS_OK;
      default:
        return argument_refused("psann_bench exchange", option, optopt, optind, argv);
    }
  }
  if (optind < argc) {
    USER_ERROR("psann_bench exchange takes options only, not '%s'", argv[optind]);
  }
  return STATUS_OK;
}

typedef struct {
  const dist *d;
  engine *e;
  rank_groups g;
  int64_t starts[1025]; /* of the size at hand, in elements */
  void *buffer, *other;
  cJSON *results; /* rank 0 */
} exchange;

typedef status (*exchange_call)(exchange *x);

static status call_all_gather(exchange *x) {
  const char *own = (const char *)x->buffer + (size_t)x->starts[x->d->rank] * sizeof(float);
  return x->g.in_shard->ops->all_gather(x->g.in_shard, own, x->buffer, DTYPE_F32, x->starts);
}

static status call_all_to_all(exchange *x) {
  return x->g.in_shard->ops->all_to_all(x->g.in_shard, x->buffer, DTYPE_F32, x->starts, x->other);
}

static status call_reduce_pair(exchange *x) {
  return x->g.in_shard->ops->reduce_pair(x->g.in_shard, x->buffer, DTYPE_F32, x->starts, x->other);
}

static status finish(exchange *x) {
  TRY(x->g.in_shard->ops->wait(x->g.in_shard));
  return x->e->ops->synchronize(x->e);
}

/* Median over a few rounds of the mean seconds of a call, of the slowest rank. */
static status time_calls(exchange *x, exchange_call call, int calls, double *seconds) {
  enum { ROUNDS = 5 };
  int64_t sorted[ROUNDS];
  TRY(call(x));
  TRY(finish(x));
  for (int round = 0; round < ROUNDS; round++) {
    TRY(dist_barrier(x->d));
    double start = clock_seconds();
    for (int i = 0; i < calls; i++) {
      TRY(call(x));
    }
    TRY(finish(x));
    int64_t mine = (int64_t)(1e9 * (clock_seconds() - start) / calls), slowest;
    TRY(dist_max(x->d, mine, &slowest));
    int at = round;
    for (; at > 0 && sorted[at - 1] > slowest; at--) {
      sorted[at] = sorted[at - 1];
    }
    sorted[at] = slowest;
  }
  *seconds = 1e-9 * (double)sorted[ROUNDS / 2];
  return STATUS_OK;
}

static status measure(exchange *x, const char *name, exchange_call call, int64_t mib) {
  enum { MOVED_MIB = 512, MOST_CALLS = 64 };
  int64_t wanted = MOVED_MIB / mib;
  int calls = wanted < 1 ? 1 : wanted > MOST_CALLS ? MOST_CALLS : (int)wanted;
  double seconds, bytes = (double)mib * 1048576;
  TRY(time_calls(x, call, calls, &seconds));
  if (x->d->rank != 0) {
    return STATUS_OK;
  }
  log_line("%-12s %8lld MiB %10.3f ms %9.2f GB/s", name, (long long)mib, 1000 * seconds, bytes / seconds * 1e-9);
  cJSON *row = cJSON_CreateObject();
  REQUIRE(row != NULL && cJSON_AddItemToArray(x->results, row), "no memory for the figures");
  cJSON_AddStringToObject(row, "exchange", name);
  cJSON_AddNumberToObject(row, "bytes", bytes);
  cJSON_AddNumberToObject(row, "ms", 1000 * seconds);
  cJSON_AddNumberToObject(row, "gb_s", bytes / seconds * 1e-9);
  return STATUS_OK;
}

static status measure_size(exchange *x, int64_t mib) {
  for (int r = 0; r <= x->d->ranks; r++) {
    x->starts[r] = partition_start(mib * 1048576 / (int64_t)sizeof(float), x->d->ranks, r);
  }
  TRY(measure(x, "all_gather", call_all_gather, mib));
  TRY(measure(x, "all_to_all", call_all_to_all, mib));
  bool pairs = x->g.in_shard->ops->reduce_pair != NULL && x->d->ranks == 2;
  return pairs ? measure(x, "reduce_pair", call_reduce_pair, mib) : STATUS_OK;
}

static status set_up(exchange *x, const exchange_job *job, config *c) {
  TRY(config_set(c, "run", "device", job->device, "--device"));
  TRY(config_set(c, "parallel", "transport", job->transport, "--transport"));
  if (x->d->ranks < 2 || x->d->ranks > 1024) {
    USER_ERROR("an exchange needs 2 to 1024 ranks, not %d; start with mpirun -np N", x->d->ranks);
  }
  c->train.precision = PRECISION_FP32;
  TRY(engine_resolve(&c->run.device, &c->train.precision));
  TRY(transport_resolve(x->d, c->run.device, engine_gpus(), &c->parallel.transport));
  int number = c->run.device == DEVICE_CUDA ? x->d->local_rank % engine_gpus() : 0;
  return engine_create(c->run.device, c->train.precision, number, 1, 0, &x->e);
}

static status allocate(exchange *x, const exchange_job *job) {
  int64_t largest = 0;
  for (int i = 0; i < job->n_sizes; i++) {
    largest = job->mib[i] > largest ? job->mib[i] : largest;
  }
  size_t bytes = (size_t)largest * 1048576 + (size_t)x->d->ranks * sizeof(float); /* uneven slices */
  TRY(exchange_alloc(x->g.in_shard, x->e, bytes, "a buffer", &x->buffer));
  return exchange_alloc(x->g.in_shard, x->e, bytes, "a buffer", &x->other);
}

static status write_figures(const exchange *x, const char *path) {
  cJSON *root = cJSON_CreateObject();
  REQUIRE(root != NULL, "no memory for '%s'", path);
  cJSON_AddNumberToObject(root, "ranks", x->d->ranks);
  cJSON_AddNumberToObject(root, "hosts", x->d->hosts);
  cJSON_AddStringToObject(root, "transport", x->g.in_shard->description);
  cJSON_AddStringToObject(root, "engine", x->e->description);
  cJSON_AddStringToObject(root, "commit", version_commit());
  cJSON_AddItemReferenceToObject(root, "results", x->results);
  status s = json_write(path, root);
  cJSON_Delete(root);
  return s;
}

static status run(exchange *x, const exchange_job *job, config *c) {
  const dist *d = x->d;
  TRY(dist_agree(d, set_up(x, job, c)));
  TRY(groups_create(d, d->ranks, c->parallel.transport, x->e, &x->g));
  TRY(dist_agree(d, allocate(x, job)));
  x->results = d->rank == 0 ? cJSON_CreateArray() : NULL;
  if (d->rank == 0) {
    log_line("%d ranks on %d host%s, %s", d->ranks, d->hosts, d->hosts == 1 ? "" : "s", x->g.in_shard->description);
  }
  for (int i = 0; i < job->n_sizes; i++) {
    TRY(measure_size(x, job->mib[i]));
  }
  return dist_agree(d, d->rank == 0 && job->out != NULL ? write_figures(x, job->out) : STATUS_OK);
}

status exchange_run(const exchange_job *job, const dist *d) {
  exchange x = {.d = d};
  config *c = NULL;
  TRY(config_new(&c));
  status s = run(&x, job, c);
  config_free(c);
  cJSON_Delete(x.results);
  if (s != STATUS_OK) {
    return s; /* the program ends; to free anything could wait for an exchange that never ends */
  }
  exchange_free(x.g.in_shard, x.e, x.buffer);
  exchange_free(x.g.in_shard, x.e, x.other);
  groups_destroy(&x.g);
  x.e->ops->destroy(x.e);
  return s;
}
