#include "train/setup.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "dist/transport.h"
#include "engine/select.h"
#include "optim/loss_scale.h"
#include "optim/spikes.h"
#include "report/version.h"
#include "train/memory.h"
#include "train/micro_batch.h"
#include "train/plans.h"
#include "train/resume.h"
#include "train/strategy.h"
#include "watch/watchdog.h"

/* Config. */

static status fill_config(const train_request *request, config *c) {
  TRY(config_read(c, request->config));
  for (int i = 0; i < request->n_overrides; i++) {
    TRY(config_override(c, request->overrides[i]));
  }
  return config_resolve(c);
}

status training_config(const train_request *request, config **c) {
  TRY(config_new(c));
  status s = fill_config(request, *c);
  if (s != STATUS_OK) {
    config_free(*c);
    *c = NULL;
  }
  return s;
}

static status read_config(training *t) {
  TRY(training_config(t->request, &t->c));
  return training_resolve(t);
}

status training_resolve(training *t) {
  TRY(engine_resolve(&t->c->run.device, &t->c->train.precision));
  return transport_resolve(t->d, t->c->run.device, engine_gpus(), &t->c->parallel.transport);
}

/* All ranks must have the same values; the message names the first key that differs. */
static status compare_configs(const training *t) {
  char *text = NULL;
  status s = dist_agree(t->d, config_text(t->c, &text));
  if (s != STATUS_OK) {
    free(text);
    return s;
  }
  s = dist_same(t->d, "the configuration", text);
  free(text);
  if (s == STATUS_OK) {
    return s;
  }
  for (int i = 0; i < config_rows(); i++) {
    const char *section, *name;
    char *value = NULL, *what = NULL;
    TRY(config_row(t->c, i, &section, &name, &value, NULL));
    status made = memory_format(&what, "%s.%s", section, name);
    status same = made == STATUS_OK ? dist_same(t->d, what, value) : made;
    free(value);
    free(what);
    TRY(same);
  }
  return s;
}

/* Data. */

static status open_stores(void *context) {
  training *t = context;
  config *c = t->c;
  TRY(token_store_open(c->data.train, &t->train_store));
  if (c->data.val != NULL && c->data.val[0] != 0) {
    TRY(token_store_open(c->data.val, &t->val_store));
    if (strcmp(t->train_store->tokenizer_digest, t->val_store->tokenizer_digest) != 0) {
      USER_ERROR(
          "data.train '%s' and data.val '%s' were made with different tokenizers (%s, vocabulary %lld; %s, vocabulary "
          "%lld); make both with one "
          "psann_data run, or the second with the first one's tokenizer",
          c->data.train, c->data.val, t->train_store->tokenizer, (long long)t->train_store->vocab_size,
          t->val_store->tokenizer, (long long)t->val_store->vocab_size);
    }
  }
  if (c->model.vocab_size == 0) {
    c->model.vocab_size = t->train_store->vocab_size;
  }
  if (c->model.vocab_size < t->train_store->vocab_size) {
    USER_ERROR(
        "model.vocab_size = %lld is too small for the token store '%s', whose vocabulary has %lld tokens; leave the "
        "key out, or give at least %lld",
        (long long)c->model.vocab_size, c->data.train, (long long)t->train_store->vocab_size,
        (long long)t->train_store->vocab_size);
  }
  t->batches = sampler_source(&t->order);
  return sampler_init(&t->order, t->train_store, c->data.seq_len, (uint64_t)c->run.seed);
}

static status compare_stores(const training *t) {
  TRY(dist_same(t->d, "the tokens of data.train", t->train_store->digest));
  TRY(dist_same(t->d, "the tokenizer of data.train", t->train_store->tokenizer_digest));
  return dist_same(t->d, "the tokens of data.val", t->val_store != NULL ? t->val_store->digest : "");
}

/* Model and memory. */

static status build_model(training *t) {
  const config *c = t->c;
  t->rate = schedule_from(c);
  t->update = update_from(c);
  if (c->model.base == BASE_WAVERESNET && c->model.wave_interleave && c->model.wave_padding == PADDING_SAME) {
    log_warning(
        "model.wave_padding = same lets every position see the future: the losses and perplexities of this run say "
        "nothing about a language model");
  }
  TRY(model_create(&c->model, c->train.decay_exclude, &t->m));
  return engine_create(c->run.device, c->train.precision, engine_gpus() > 0 ? t->d->local_rank % engine_gpus() : 0,
                       (int)c->cpu.threads, (uint64_t)c->run.seed, &t->e);
}

static run_spec training_spec(const training *t) {
  return (run_spec){.B = t->c->train.micro_batch,
                    .T = t->c->data.seq_len,
                    .recompute = t->c->train.recompute,
                    .label_smoothing = t->c->train.label_smoothing,
                    .training = true,
                    .fp8 = t->e->fp8};
}

static size_t batch_bytes(const training *t) {
  return (size_t)(t->c->train.micro_batch * t->c->data.seq_len) * sizeof(int32_t);
}

double training_memory_available(const training *t) {
  if (t->c->run.device != DEVICE_CUDA) {
    return t->machine.memory_available / t->d->local_ranks;
  }
  int sharing = (t->d->local_ranks + engine_gpus() - 1) / engine_gpus();
  return engine_gpu_memory_free(t->d->local_rank % engine_gpus()) / sharing;
}

static status check_ranks(const training *t) {
  if (t->micro_batches < t->d->ranks) {
    USER_ERROR(
        "a step has %lld micro-batches of %lld × %lld tokens, too few for %d ranks; start at most %lld ranks, raise "
        "train.batch_tokens (%lld), or "
        "lower train.micro_batch",
        (long long)t->micro_batches, (long long)t->c->train.micro_batch, (long long)t->c->data.seq_len, t->d->ranks,
        (long long)t->micro_batches, (long long)t->c->train.batch_tokens);
  }
  return STATUS_OK;
}

/* Before anything is made on them: bits and speed are those of one kind of GPU. */
static status check_gpus(const training *t) {
  if (t->c->run.device != DEVICE_CUDA) {
    return STATUS_OK;
  }
  gpu_facts gpu;
  engine_gpu_facts(t->d->local_rank % engine_gpus(), &gpu);
  return dist_alike(t->d, "the GPU", gpu.name,
                    "choose hosts, or CUDA_VISIBLE_DEVICES, so that all ranks have the same kind");
}

status training_build(training *t) {
  TRY(check_gpus(t));
  TRY(dist_agree(t->d, build_model(t)));
  TRY(dist_same(t->d, "the engine", t->e->description)); /* unlike processors round differently */
  TRY(memory_resolve_micro_batch(t));
  t->micro_batches = training_batch(t) / t->c->train.micro_batch;
  TRY(check_ranks(t));
  return strategy_resolve(t);
}

/* Whether host memory has room for the copies that checkpoints in the background are written from. On the CPU they are
 * part of the plan. */
static status plan_checkpoints(training *t) {
  bool cpu = t->c->run.device != DEVICE_CUDA;
  double copy = checkpoint_copy_bytes(t->m, t->d->ranks, t->shard_ranks);
  double room = t->machine.memory_available / t->d->local_ranks - (cpu ? plan_total(&t->plan) : plan_host(&t->plan));
  bool fits = t->machine.memory_available <= 0 || copy <= room;
  int64_t lacking;
  TRY(dist_max(t->d, !fits, &lacking));
  t->background = t->c->checkpoint.background && !lacking;
  if (t->background && cpu) {
    plan_add(&t->plan, "copy for checkpoints", copy);
  }
  return STATUS_OK;
}

status training_open(training *t, const train_request *request, const dist *d) {
  memset(t, 0, sizeof *t);
  t->request = request;
  t->d = d;
  t->lock = -1;
  system_read(&t->machine);
  TRY(dist_agree(d, read_config(t)));
  TRY(dist_same(d, "the version of psann_train", version_text()));
  TRY(compare_configs(t));
  if (!request->plan_only) {
    activity_hold_from_environment(d->rank);
    TRY(watch_start(d, (double)t->c->watch.timeout_s));
  }
  activity_enter(PHASE_START);
  TRY(dist_first_of_host(d, open_stores, t));
  TRY(compare_stores(t));
  TRY(resume_find(t));
  if (t->c->train.micro_batch == 0 && t->first_step > 0) { /* the checkpoint's batch is another: refused below */
    t->c->train.micro_batch = micro_batch_auto(t->c->train.batch_tokens, t->c->data.seq_len);
  }
  TRY(resume_check(t));
  bool gpu = t->c->run.device == DEVICE_CUDA;
  gauge_start(&t->gauge, gpu, gpu ? t->d->local_rank % engine_gpus() : 0); /* before the engine is made */
  TRY(training_build(t));
  return plan_checkpoints(t);
}

status training_check_memory(training *t) {
  return dist_agree(t->d, memory_check(t));
}

/* Weights and buffers. */

static status allocate(training *t) {
  const config *c = t->c;
  run_spec spec = training_spec(t);
  TRY(weight_store_create(t->m, t->e, t->d, &t->groups, c->parallel.strategy, c->parallel.offload, t->micro_batches,
                          (uint64_t)c->run.seed, true, &t->w));
  TRY(model_run_create(t->m, t->e, &spec, &t->pass));
  TRY(host_batch_init(&t->host, spec.B, spec.T));
  TRY(t->e->ops->alloc(t->e, batch_bytes(t), "tokens", &t->tokens));
  TRY(t->e->ops->alloc(t->e, batch_bytes(t), "labels", &t->labels));
  TRY(t->e->ops->alloc(t->e, batch_bytes(t), "order of rows", &t->rows));
  size_t losses = (size_t)t->w->ops->local_micro_batches(t->w) * sizeof(double);
  TRY(t->e->ops->alloc(t->e, losses, "losses", (void **)&t->losses));
  if (c->train.graphs) {
    TRY(graph_set_create(t->e, t->w->ops->local_micro_batches(t->w) + 1, &t->graphs));
  }
  if (t->val_store != NULL) {
    TRY(evaluation_create(t->m, t->e, &t->w->source, t->d, t->val_store, spec.B, spec.T, c->eval.batches, &t->eval));
  }
  return STATUS_OK;
}

/* From here on the engine keeps loss scale and watch for spikes; the state has what a checkpoint needs. */
status training_set_engine_state(training *t) {
  loss_scaling s = loss_scaling_resumed(t->c, t->state.loss_scale, t->state.good_steps);
  t->state.loss_scale = s.scale;
  t->state.good_steps = s.good_steps;
  const run_state *r = &t->state;
  spike_watch w = spike_watch_resumed(
      t->c, r->spike_count, (spike_statistic){r->spike_loss_level, r->spike_loss_mean, r->spike_loss_variance},
      (spike_statistic){r->spike_norm_level, r->spike_norm_mean, r->spike_norm_variance});
  TRY(t->e->ops->set_spike_watch(t->e, &w));
  return t->e->ops->set_loss_scale(t->e, &s);
}

static status write_config(const training *t) {
  char *text = NULL, *path = NULL;
  status s = config_text(t->c, &text);
  if (s == STATUS_OK) {
    s = file_join(&path, t->c->run.dir, "config.ini");
  }
  if (s == STATUS_OK) {
    s = file_write_atomic(path, text, strlen(text));
  }
  free(text);
  free(path);
  return s;
}

status training_write_system(const training *t) {
  char *path = NULL;
  TRY(file_join(&path, t->c->run.dir, "system.json"));
  status s = system_write(path, &t->machine, t->d, t->e->description, t->request->argc, t->request->argv);
  free(path);
  return s;
}

static status open_files(training *t) {
  if (t->d->rank != 0) {
    return STATUS_OK;
  }
  TRY(write_config(t));
  TRY(training_write_system(t));
  if (t->c->log.tensorboard) {
    tensorboard_open(t->c->run.dir, t->state.step, t->d->host, &t->tensorboard);
  }
  TRY(metrics_open(t->c->run.dir, t->state.step, t->c->train.precision == PRECISION_FP16, &t->metrics));
  return training_mark(t, RUN_RUNNING, t->resumed_from != NULL ? t->resumed_from : "");
}

status training_connect(training *t, const engine_limits *limits) {
  TRY(dist_agree(t->d, groups_create(t->d, t->shard_ranks, t->c->parallel.transport, t->e, &t->groups)));
  watch_exchange(t->groups.in_shard, t->groups.in_replicas);
  if (t->groups.in_shard != NULL) {
    log_line("exchange  %s", t->groups.in_shard->description);
  }
  if (t->d->ranks > 1 && t->c->parallel.transport == TRANSPORT_NCCL) {
    memory_measured(t, memory_rows[MEMORY_NCCL]);
  }
  TRY(plans_share(t->d, t->e, limits, t->c->gemm.plans, t->plans_digest));
  memory_measured(t, memory_rows[MEMORY_KERNELS]);
  return STATUS_OK;
}

status training_allocate(training *t) {
  run_spec spec = training_spec(t);
  engine_limits limits;
  model_limits(t->m, t->e, spec.B, spec.T, &limits);
  TRY(training_connect(t, &limits));
  return dist_agree(t->d, allocate(t));
}

/* Another table may mean other algorithms, and so other last bits. */
static void adopt_plans(training *t) {
  char *saved = t->state.plans_digest;
  if (t->first_step > 0 && saved[0] != 0 && t->plans_digest[0] != 0 && strcmp(saved, t->plans_digest) != 0) {
    log_warning(
        "the plans of the matrix products are others than those of the checkpoint (%s there, %s here): from step %lld "
        "on the run's last bits are those of the new ones; gemm.plans = PATH names the table of the run's first launch",
        saved, t->plans_digest, (long long)t->first_step + 1);
  }
  memcpy(saved, t->plans_digest, sizeof t->state.plans_digest);
}

static void sync_metrics(void *context) {
  metrics_sync(((training *)context)->metrics);
}

static status make_writer(training *t) {
  const checkpoint_writer_spec spec = {.folder = t->checkpoints,
                                       .c = t->c,
                                       .m = t->m,
                                       .w = t->w,
                                       .tokenizer_of = t->train_store,
                                       .d = t->d,
                                       .before_naming = sync_metrics,
                                       .context = t};
  if (t->c->checkpoint.background && !t->background) {
    char text[32];
    log_line("checkpoints are written in the foreground: not every rank has the %s of host memory for a copy",
             memory_text(checkpoint_copy_bytes(t->m, t->d->ranks, t->shard_ranks), text));
  }
  return checkpoint_writer_create(&spec, t->background, &t->writer);
}

status training_start(training *t) {
  TRY(training_allocate(t));
  TRY(resume_load(t));
  adopt_plans(t);
  TRY(dist_agree(t->d, training_set_engine_state(t)));
  TRY(dist_agree(t->d, open_files(t)));
  return make_writer(t);
}

status training_mark(const training *t, run_mark_state state, const char *reason) {
  if (t->metrics == NULL) {
    return STATUS_OK;
  }
  const run_mark mark = {.state = state, .step = t->state.step, .max_steps = training_steps(t), .reason = reason};
  return run_mark_write(t->c->run.dir, &mark);
}

void training_close(training *t) {
  checkpoint_writer_destroy(t->writer); /* before what a save under way still reads */
  metrics_close(t->metrics);
  tensorboard_close(t->tensorboard);
  evaluation_free(t->eval);
  graph_set_destroy(t->graphs);
  if (t->e != NULL) {
    t->e->ops->free(t->e, t->losses);
    t->e->ops->free(t->e, t->rows);
    t->e->ops->free(t->e, t->labels);
    t->e->ops->free(t->e, t->tokens);
  }
  host_batch_free(&t->host);
  model_run_free(t->pass);
  weight_store_destroy(t->w);
  watch_exchange(NULL, NULL);
  groups_destroy(&t->groups);
  model_free(t->m);
  if (t->e != NULL) {
    t->e->ops->destroy(t->e);
  }
  if (t->from != NULL) {
    checkpoint_close(t->from);
  }
  token_store_close(t->train_store);
  token_store_close(t->val_store);
  config_free(t->c);
  free(t->resumed_from);
  free(t->checkpoints);
  if (t->lock >= 0) { /* this rank opened the run folder, and its log with it */
    file_unlock(t->lock);
    log_close_file();
  }
  memset(t, 0, sizeof *t);
  t->lock = -1;
}
