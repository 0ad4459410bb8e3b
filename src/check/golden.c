#include "check/golden.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "check/golden_case.h"
#include "check/golden_file.h"
#include "engine/select.h"
#include "optim/schedule.h"
#include "optim/update.h"
#include "shard/weight_store.h"

/* Largest error that passes. */
typedef struct {
  double logits, gradients, run, parameters; /* 0: not compared */
  double cancelling; /* gradients of scalars and of the sine's vectors, whose terms cancel */
  double relu;       /* gradients of a model with ReLU, whose kink moves */
  double floor;      /* a gradient's error is taken relative to at least this share of the whole gradient's norm */
} limits;

static const limits limits_fp64 = {1e-6, 1e-5, 1e-6, 1e-5, 1e-5, 1e-5, 0};
static const limits limits_fp32 = {1e-5, 1e-4, 1e-4, 1e-3, 1e-4, 1e-4, 0};
static const limits limits_half = {3e-2, 5e-2, 2e-2, 0, 1e-1, 2e-1, 3e-3};
static const double fp16_loss_scale = 128;
static const double limit_rate = 1e-9; /* the schedule is computed in fp64 whatever the precision */

typedef struct {
  double error; /* NaN once any was */
  char where[TENSOR_NAME];
} worst;

typedef struct {
  worst logits, loss, gradients, run, norm, rate, parameters;
} outcome;

/* Everything that a case holds in memory. */
typedef struct {
  golden_file *f;
  golden_case k;
  engine *e;
  weight_store *store;
  model_run *run;
  int32_t *tokens, *labels, *order; /* (B·T) in engine memory */
  double *losses;                   /* (micro_batches) in engine memory */
  void *logits;                     /* s (B·T, V) in engine memory */
  config_device device;
  config_precision precision;
  const limits *limit;
  double least_norm; /* below it a gradient's size doesn't count in its error */
  int32_t *sorted;                  /* (B·T) in host memory */
  outcome out;
} trial;

/* ---- comparison ---- */

/* ‖ours − golden‖₂ / max(‖golden‖₂, least); for a golden norm under 1e-12 and no `least`: ‖ours‖₂. */
static double relative_error(const double *ours, const double *golden, int64_t n, double least) {
  double difference = 0, size = 0, own = 0;
  for (int64_t i = 0; i < n; i++) {
    difference += (ours[i] - golden[i]) * (ours[i] - golden[i]);
    size += golden[i] * golden[i];
    own += ours[i] * ours[i];
  }
  if (size < 1e-24 && least == 0) {
    return sqrt(own);
  }
  return sqrt(difference) / fmax(sqrt(size), least);
}

static void note(worst *w, double error, const char *where) {
  if (isnan(w->error) || error <= w->error) {
    return;
  }
  w->error = error;
  snprintf(w->where, sizeof(w->where), "%s", where);
}

static bool sine_vector(const tensor *x) {
  size_t n = strlen(x->name);
  return n > 3 && x->name[n - 3] == '.' && x->name[n - 2] == '_' && strchr("Afd", x->name[n - 1]) != NULL;
}

static double gradient_limit(const trial *t, const tensor *x) {
  double limit = x->count == 1 || sine_vector(x) ? t->limit->cancelling : t->limit->gradients;
  return t->k.c->model.mlp_activation == ACTIVATION_RELU && limit < t->limit->relu ? t->limit->relu : limit;
}

/* Compares a unit's tensors in `ours` with those of a group of the file. */
static status compare_unit(trial *t, const char *group, int unit_index, const double *ours, double *golden, worst *w) {
  const unit *u = &t->k.m->units[unit_index];
  bool *found = NULL;
  TRY(memory_new(&found, (size_t)u->n_tensors, sizeof(bool), "tensors of a parity case"));
  bool gradients = strcmp(group, "grads") == 0;
  status result = golden_case_unit(t->f, &t->k, group, unit_index, gradients, golden, found);
  for (int i = 0; result == STATUS_OK && i < u->n_tensors; i++) {
    const tensor *x = &u->tensors[i];
    if (found[i]) {
      double error = relative_error(ours + x->offset, golden + x->offset, x->count, gradients ? t->least_norm : 0);
      note(w, gradients ? error * t->limit->gradients / gradient_limit(t, x) : error, x->name);
    }
  }
  free(found);
  return result;
}

/* ---- data in and out of the engine ---- */

static double loss_scale(const trial *t) { return t->precision == PRECISION_FP16 ? fp16_loss_scale : 1; }

static void to_real(dtype type, const void *from, double *to, int64_t n) {
  for (int64_t i = 0; i < n; i++) {
    to[i] = type == DTYPE_F64 ? ((const double *)from)[i] : (double)((const float *)from)[i];
  }
}

/* Reads or writes a unit through a buffer of the store's type. */
static status read_unit(trial *t, int unit_index, state_kind what, double *values) {
  int64_t n = t->k.m->units[unit_index].count;
  void *raw = NULL;
  TRY(memory_new(&raw, (size_t)n, dtype_size(t->e->state), "state of a unit"));
  status result = t->store->ops->read(t->store, unit_index, what, raw);
  if (result == STATUS_OK) {
    to_real(t->e->state, raw, values, n);
  }
  for (int64_t i = 0; what == STATE_GRADS && i < n; i++) {
    values[i] /= loss_scale(t);
  }
  free(raw);
  return result;
}

static status write_unit(trial *t, int unit_index, double *values) {
  int64_t n = t->k.m->units[unit_index].count;
  if (t->e->state == DTYPE_F64) {
    return t->store->ops->write(t->store, unit_index, STATE_WEIGHTS, values);
  }
  float *raw = NULL;
  TRY(memory_new(&raw, (size_t)n, sizeof(float), "state of a unit"));
  for (int64_t i = 0; i < n; i++) {
    raw[i] = (float)values[i];
  }
  status result = t->store->ops->write(t->store, unit_index, STATE_WEIGHTS, raw);
  free(raw);
  return result;
}

/* Row numbers sorted by (token, row). */
static void sort_rows(const int32_t *tokens, int64_t rows, int64_t V, int32_t *order) {
  int64_t at = 0;
  for (int64_t v = 0; v < V; v++) {
    for (int64_t i = 0; i < rows; i++) {
      if (tokens[i] == v) {
        order[at++] = (int32_t)i;
      }
    }
  }
}

static status load_batch(trial *t, int64_t batch) {
  const golden_case *k = &t->k;
  int64_t rows = k->B * k->T;
  size_t bytes = (size_t)rows * sizeof(int32_t);
  const engine_ops *ops = t->e->ops;
  sort_rows(k->tokens + batch * rows, rows, k->c->model.vocab_size, t->sorted);
  TRY(ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, t->tokens, k->tokens + batch * rows, bytes));
  TRY(ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, t->labels, k->labels + batch * rows, bytes));
  TRY(ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, t->order, t->sorted, bytes));
  return ops->synchronize(t->e);
}

/* ---- the parts of a case ---- */

static status make_store(trial *t, int64_t micro_batches) {
  static const dist alone = {.rank = 0, .ranks = 1, .local_rank = 0, .local_ranks = 1, .hosts = 1, .host = "localhost"};
  const golden_case *k = &t->k;
  weight_store_destroy(t->store);
  t->store = NULL;
  TRY(weight_store_create(k->m, t->e, &alone, NULL, STRATEGY_DDP, OFFLOAD_NONE, micro_batches, 0, true, &t->store));
  for (int i = 0; i < k->m->n_units; i++) {
    double *values = NULL;
    TRY(memory_new(&values, (size_t)k->m->units[i].count, sizeof(double), "parameters of a unit"));
    status result = golden_case_unit(t->f, k, "params", i, false, values, NULL);
    if (result == STATUS_OK) {
      result = write_unit(t, i, values);
    }
    free(values);
    TRY(result);
  }
  return STATUS_OK;
}

static status check_logits(trial *t) {
  const golden_case *k = &t->k;
  int64_t n = k->B * k->T * k->c->model.vocab_size;
  void *raw = NULL;
  double *ours = NULL, *golden = NULL;
  status result = memory_new(&raw, (size_t)n, dtype_size(t->e->state), "logits");
  if (result == STATUS_OK) {
    result = memory_new(&ours, (size_t)n, sizeof(double), "logits");
  }
  if (result == STATUS_OK) {
    result = memory_new(&golden, (size_t)n, sizeof(double), "logits");
  }
  if (result == STATUS_OK) {
    result = golden_file_reals(t->f, "logits", n, golden);
  }
  if (result == STATUS_OK) {
    result = model_logits(t->run, &t->store->source, t->tokens, t->logits);
  }
  if (result == STATUS_OK) {
    result = t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_HOST, raw, t->logits, (size_t)n * dtype_size(t->e->state));
  }
  if (result == STATUS_OK) {
    result = t->e->ops->synchronize(t->e);
  }
  if (result == STATUS_OK) {
    to_real(t->e->state, raw, ours, n);
    note(&t->out.logits, relative_error(ours, golden, n, 0), "");
  }
  free(raw);
  free(ours);
  free(golden);
  return result;
}

/* One update with rate `lr` over the step's batches. */
static status update(trial *t, int64_t step, double lr, const update_spec *u, step_result *result) {
  weight_store *s = t->store;
  const golden_case *k = &t->k;
  for (int64_t j = 0; j < s->ops->local_micro_batches(s); j++) {
    int64_t batch = (step - 1) * s->micro_batches + s->ops->micro_batch(s, j);
    step_state state = {.step = step,
                        .updates = step - 1,
                        .first_sequence = batch * k->B,
                        .lr = lr,
                        .loss_scale = loss_scale(t),
                        .micro_batches = (double)s->micro_batches};
    TRY(t->e->ops->set_step(t->e, &state));
    TRY(load_batch(t, batch));
    TRY(s->ops->begin_micro_batch(s, j));
    model_batch b = {.tokens = t->tokens, .labels = t->labels, .order = t->order};
    TRY(model_train(t->run, &s->source, &b, t->losses + j));
  }
  TRY(s->ops->finish(s, t->losses, u));
  return t->e->ops->get_result(t->e, result);
}

static status compare_units(trial *t, const char *group, state_kind what, worst *w) {
  TRY(golden_case_no_others(t->f, &t->k, group));
  for (int i = 0; i < t->k.m->n_units; i++) {
    size_t n = (size_t)t->k.m->units[i].count;
    double *ours = NULL, *golden = NULL;
    status result = memory_new(&ours, n, sizeof(double), "tensors of a unit");
    if (result == STATUS_OK) {
      result = memory_new(&golden, n, sizeof(double), "tensors of a unit");
    }
    if (result == STATUS_OK) {
      result = read_unit(t, i, what, ours);
    }
    if (result == STATUS_OK) {
      result = compare_unit(t, group, i, ours, golden, w);
    }
    free(ours);
    free(golden);
    TRY(result);
  }
  return STATUS_OK;
}

static status first_norm(trial *t, double *norm) {
  double *norms;
  TRY(memory_new(&norms, (size_t)t->k.steps, sizeof *norms, "gradient norms"));
  status result = golden_file_reals(t->f, "train/grad_norm", t->k.steps, norms);
  *norm = norms[0];
  free(norms);
  return result;
}

/* Batch 0: loss and gradients, through an update that a rate of 0 makes void. */
static status check_batch(trial *t) {
  update_spec u = update_from(t->k.c);
  step_result result;
  double golden, norm = 0;
  TRY(golden_file_reals(t->f, "loss", 1, &golden));
  TRY(first_norm(t, &norm));
  TRY(update(t, 1, 0.0, &u, &result));
  note(&t->out.loss, relative_error(&result.loss, &golden, 1, 0), "");
  t->least_norm = t->limit->floor * norm;
  return compare_units(t, "grads", STATE_GRADS, &t->out.gradients);
}

static status check_series(trial *t, const char *dataset, const double *ours, double *golden, worst *w) {
  TRY(golden_file_reals(t->f, dataset, t->k.steps, golden));
  note(w, relative_error(ours, golden, t->k.steps, 0), "");
  return STATUS_OK;
}

static status run_updates(trial *t, double *losses, double *norms, double *rates, double *golden) {
  update_spec u = update_from(t->k.c);
  schedule rate = {
      .lr = t->k.c->train.lr, .min_lr = 0, .warmup_steps = t->k.c->train.warmup_steps, .steps = t->k.steps};
  for (int64_t step = 1; step <= t->k.steps; step++) {
    step_result result;
    rates[step - 1] = schedule_lr(&rate, step);
    TRY(update(t, step, rates[step - 1], &u, &result));
    losses[step - 1] = result.loss;
    norms[step - 1] = result.grad_norm;
  }
  TRY(check_series(t, "train/loss", losses, golden, &t->out.run));
  TRY(check_series(t, "train/grad_norm", norms, golden, &t->out.norm));
  return check_series(t, "train/lr", rates, golden, &t->out.rate);
}

static status check_run(trial *t) {
  size_t n = (size_t)t->k.steps;
  double *series = NULL;
  TRY(memory_new(&series, 4 * n, sizeof(double), "course of a run"));
  status result = run_updates(t, series, series + n, series + 2 * n, series + 3 * n);
  free(series);
  TRY(result);
  return t->limit->parameters == 0 ? STATUS_OK : compare_units(t, "params_after", STATE_WEIGHTS, &t->out.parameters);
}

static status prepare(trial *t) {
  const golden_case *k = &t->k;
  int64_t rows = k->B * k->T;
  TRY(engine_create(t->device, t->precision, 0, 1, 0, &t->e));
  const engine_ops *ops = t->e->ops;
  run_spec spec = {.B = k->B,
                   .T = k->T,
                   .recompute = RECOMPUTE_NONE,
                   .label_smoothing = k->c->train.label_smoothing,
                   .training = true};
  TRY(model_run_create(k->m, t->e, &spec, &t->run));
  TRY(memory_new(&t->sorted, (size_t)rows, sizeof(int32_t), "order of rows"));
  size_t ids = (size_t)rows * sizeof(int32_t);
  TRY(ops->alloc(t->e, ids, "tokens", (void **)&t->tokens));
  TRY(ops->alloc(t->e, ids, "labels", (void **)&t->labels));
  TRY(ops->alloc(t->e, ids, "order of rows", (void **)&t->order));
  TRY(ops->alloc(t->e, (size_t)k->micro_batches * sizeof(double), "losses", (void **)&t->losses));
  return ops->alloc(t->e, (size_t)(rows * k->c->model.vocab_size) * dtype_size(t->e->state), "logits", &t->logits);
}

static void release(trial *t) {
  weight_store_destroy(t->store);
  model_run_free(t->run);
  if (t->e != NULL) {
    void *const buffers[] = {t->tokens, t->labels, t->order, t->losses, t->logits};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++) {
      if (buffers[i] != NULL) {
        t->e->ops->free(t->e, buffers[i]);
      }
    }
    t->e->ops->destroy(t->e);
  }
  free(t->sorted);
  golden_case_free(&t->k);
  golden_file_close(t->f);
}

static status run_case(trial *t, const char *path) {
  TRY(golden_file_open(path, &t->f));
  TRY(golden_case_read(t->f, &t->k));
  if (!t->k.offered) {
    return STATUS_OK;
  }
  TRY(prepare(t));
  TRY(golden_case_no_others(t->f, &t->k, "params"));
  TRY(make_store(t, 1));
  TRY(load_batch(t, 0));
  TRY(check_logits(t));
  TRY(check_batch(t));
  TRY(make_store(t, t->k.micro_batches));
  return check_run(t);
}

/* ---- the report ---- */

typedef struct {
  char text[512];
  bool passed;
} report_line;

static void add_error(report_line *line, const char *what, const worst *w, double limit) {
  bool good = w->error <= limit; /* false for NaN */
  line->passed = line->passed && good;
  size_t used = strlen(line->text), room = sizeof(line->text) - used;
  char over[48] = "";
  if (!good) {
    snprintf(over, sizeof(over), ", limit %.0e", limit);
  }
  const char *space = w->where[0] != '\0' ? " " : "";
  snprintf(line->text + used, room, "  %s %.1e%s%s%s", what, w->error, space, w->where, over);
}

static bool print_outcome(const trial *t, const limits *limit) {
  if (!t->k.offered) {
    log_line("%-40s skipped  the base %s is not offered", t->k.name, t->k.base);
    return true;
  }
  report_line line = {.passed = true};
  add_error(&line, "logits", &t->out.logits, limit->logits);
  add_error(&line, "loss", &t->out.loss, limit->logits);
  add_error(&line, "gradients", &t->out.gradients, limit->gradients);
  add_error(&line, "run", &t->out.run, limit->run);
  add_error(&line, "norm", &t->out.norm, limit->gradients);
  add_error(&line, "rate", &t->out.rate, limit_rate);
  if (limit->parameters > 0) {
    add_error(&line, "parameters", &t->out.parameters, limit->parameters);
  }
  log_line("%-40s %s%s", t->k.name, line.passed ? "PASS" : "FAIL", line.text);
  return line.passed;
}

static const limits *limits_of(config_precision p) {
  return p == PRECISION_FP64 ? &limits_fp64 : p == PRECISION_FP32 ? &limits_fp32 : &limits_half;
}

static bool run_and_print(const char *path, config_device device, config_precision precision) {
  trial t = {.device = device, .precision = precision, .limit = limits_of(precision)};
  bool passed = false;
  status result = run_case(&t, path);
  if (result == STATUS_OK) {
    passed = print_outcome(&t, t.limit);
  } else {
    log_line("%-40s FAIL  %s", t.k.name[0] != '\0' ? t.k.name : path, status_message());
  }
  release(&t);
  return passed;
}

status golden_run(int n_files, char **files, config_device device, config_precision precision, bool *all_passed) {
  *all_passed = false;
  TRY(engine_resolve(&device, &precision));
  bool good = true;
  for (int i = 0; i < n_files; i++) {
    good = run_and_print(files[i], device, precision) && good;
  }
  *all_passed = good;
  return STATUS_OK;
}
