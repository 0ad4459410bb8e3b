/* GPU-01 and GPU-02: one model on real text, in this process. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/json.h"
#include "bench/steps.h"
#include "engine/select.h"
#include "train/step.h"

/* A training without a run folder, on windows of the validation's text. */
typedef struct {
  training t;
  token_store *store;
  sampler order;
  bool one_batch; /* every step takes the first batch */
} text_training;

static status load(const void *context, int64_t first, host_batch *b) {
  const text_training *x = context;
  return sampler_load(&x->order, x->one_batch ? 0 : first, b);
}

static status build(text_training *x) {
  TRY(training_resolve(&x->t));
  TRY(sampler_init(&x->order, x->store, x->t.c->data.seq_len, (uint64_t)x->t.c->run.seed));
  x->t.batches = (batch_source){load, x};
  x->t.state = training_fresh_state(&x->t);
  TRY(training_build(&x->t));
  TRY(training_check_memory(&x->t));
  return training_allocate(&x->t);
}

/* `x` must stay where it is. text_training_close also after a failure. */
static status text_training_open(validation *v, const char *precision, const char *base, int64_t steps,
                                 text_training *x) {
  x->t = (training){.d = &v->d, .lock = -1, .machine = v->machine};
  TRY(validation_stores(v));
  TRY(token_store_open(v->train_store, &x->store));
  char vocabulary[64], with_base[64];
  snprintf(vocabulary, sizeof vocabulary, "model.vocab_size=%lld", (long long)x->store->vocab_size);
  snprintf(with_base, sizeof with_base, "model.base=%s", base);
  const char *const changes[] = {vocabulary,
                                 with_base,
                                 "model.d_model=128",
                                 "model.n_layers=2",
                                 "model.d_mlp=512",
                                 "train.lr=0.0003",
                                 "train.micro_batch=8",
                                 v->gpu ? "data.seq_len=512" : "data.seq_len=64",
                                 NULL};
  TRY(validation_model(v, "tiny", precision, changes, steps, &x->t.c));
  return build(x);
}

static void text_training_close(text_training *x) {
  training_close(&x->t);
  token_store_close(x->store);
}

/* One step, waited for. */
static status step(text_training *x, step_outcome *o) {
  TRY(train_step(&x->t, o));
  return train_collect(&x->t, o);
}

/* GPU-01. */

static status learn(text_training *x, cJSON *result) {
  step_outcome first, second;
  double start = clock_seconds();
  TRY(step(x, &first));
  TRY(step(x, &second)); /* its loss is that of the updated weights on the same batch */
  json_number(result, "elapsed_s", clock_seconds() - start);
  json_number(result, "vocab_size", (double)x->t.c->model.vocab_size);
  result_model(result, &x->t.c->model);
  json_number(result, "tokens", (double)x->t.c->train.batch_tokens);
  json_number(result, "lr", first.lr);
  json_number(result, "loss_before", first.loss);
  json_number(result, "loss_after", second.loss);
  json_number(result, "grad_norm", first.grad_norm);
  bool pass = isfinite(second.loss) && !first.skipped && second.loss < first.loss;
  judge(result, pass, "the loss of the same batch is lower after one update", "loss %.6f -> %.6f", first.loss,
        second.loss);
  return STATUS_OK;
}

status step_learns(validation *v, cJSON *result) {
  enum { SCHEDULE = 1000 }; /* so long that the first updates have the whole rate */
  text_training x = {.t.lock = -1, .one_batch = true};
  status s = text_training_open(v, "auto", "waveresnet", SCHEDULE, &x);
  if (s == STATUS_OK) {
    s = learn(&x, result);
  }
  text_training_close(&x);
  return s;
}

/* GPU-02. */

/* Gives `to` the weights of `from` and its place in the data. */
static status take_weights(text_training *from, text_training *to) {
  for (int u = 0; u < from->t.m->n_units; u++) {
    float *values;
    TRY(memory_new(&values, (size_t)from->t.m->units[u].count, sizeof *values, "a unit's weights"));
    status s = from->t.w->ops->read(from->t.w, u, STATE_WEIGHTS, values);
    s = s != STATUS_OK ? s : to->t.w->ops->write(to->t.w, u, STATE_WEIGHTS, values);
    free(values);
    TRY(s);
  }
  to->t.state.sequences = from->t.state.sequences;
  return STATUS_OK;
}

static double relative(double a, double b) {
  return fabs(a - b) / fabs(a);
}

static status compare(text_training *exact, text_training *narrow, cJSON *result) {
  const double most = 1e-3;
  step_outcome a, b, fresh_a, fresh_b;
  TRY(step(exact, &fresh_a));
  TRY(step(narrow, &fresh_b));
  for (int i = 1; i < VALIDATION_STEPS; i++) {
    TRY(step(exact, &a));
  }
  TRY(take_weights(exact, narrow));
  TRY(step(exact, &a));
  TRY(step(narrow, &b));
  double trained = relative(a.loss, b.loss), fresh = relative(fresh_a.loss, fresh_b.loss);
  json_number(result, "fp32_loss", a.loss);
  json_number(result, "amp_loss", b.loss);
  cJSON_AddStringToObject(result, "amp_dtype", config_precision_name(narrow->t.c->train.precision));
  json_number(result, "rel_diff", trained);
  json_number(result, "rel_diff_untrained", fresh);
  json_number(result, "rel_diff_grad_norm", relative(a.grad_norm, b.grad_norm));
  json_number(result, "tokens", (double)exact->t.c->train.batch_tokens);
  result_model(result, &exact->t.c->model);
  judge(result, trained <= most && fresh <= most,
        "relative difference of the loss <= 1e-3, with fresh weights and with trained ones", "%.3g and %.3g", fresh,
        trained);
  return STATUS_OK;
}

status validation_compare_precisions(validation *v, const char *precision, cJSON *result) {
  text_training exact = {.t.lock = -1}, narrow = {.t.lock = -1};
  status s = text_training_open(v, "fp32", "respsann", VALIDATION_STEPS + 1, &exact);
  if (s == STATUS_OK) {
    s = text_training_open(v, precision, "respsann", VALIDATION_STEPS + 1, &narrow);
  }
  if (s == STATUS_OK) {
    s = compare(&exact, &narrow, result);
  }
  text_training_close(&narrow);
  text_training_close(&exact);
  return s;
}

status step_precision(validation *v, cJSON *result) {
  config_device device = v->gpu ? DEVICE_CUDA : DEVICE_CPU;
  config_precision narrow = PRECISION_BF16;
  if (engine_resolve(&device, &narrow) != STATUS_OK) {
    judge_skipped(result, status_message());
    return STATUS_OK;
  }
  return validation_compare_precisions(v, "bf16", result);
}
