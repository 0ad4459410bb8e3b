/* GPU-07: a model trained on text for a while knows more of held-out text than the frequencies of its bytes, and
 * writes; with a cache and without the same comes out. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "bench/cached_full.h"
#include "bench/child.h"
#include "bench/sample.h"
#include "bench/steps.h"

enum { PROMPT = 16, NEW_TOKENS = 200, PIECE = 1 << 16 };

static const double EXTRA_S = 300;                          /* for start and checkpoint */
static const double CLOSE_FP32 = 1e-4, CLOSE_NARROW = 5e-2; /* cached against full, share of the largest logit */

/* The sine start is the one that the reference recommends; the rate stays, since the clock ends the run. A GPU reads a
 * small text dozens of times in a minute and then knows it by heart: what is judged is the model that did best on
 * held-out text. */
static status train(validation *v, double seconds, char **run) {
  char minutes[64], *val = NULL;
  snprintf(minutes, sizeof minutes, "run.max_minutes=%.9g", seconds / 60);
  TRY(validation_stores(v));
  TRY(memory_format(&val, "data.val=%s", v->val_store));
  const char *const on_gpu[] = {minutes,
                                val,
                                "eval.interval=200",
                                "eval.batches=64",
                                "train.max_steps=1000000",
                                "train.warmup_steps=50",
                                "train.lr=0.001",
                                "train.min_lr=0.001",
                                "checkpoint.interval=0",
                                "model.d_model=384",
                                "model.n_layers=6",
                                "model.n_heads=6",
                                "model.d_mlp=1536",
                                "data.seq_len=256",
                                "train.micro_batch=16",
                                "train.batch_tokens=32768",
                                "log.interval=100",
                                "model.sine_freq_init=2.25",
                                "model.sine_freq_init_std=0.25",
                                "model.sine_damp_init=0.001",
                                NULL};
  const char *const on_cpu[] = {minutes,
                                "train.max_steps=1000000",
                                "train.warmup_steps=10",
                                "train.lr=0.004",
                                "train.min_lr=0.004",
                                "checkpoint.interval=0",
                                "data.seq_len=64",
                                "train.micro_batch=4",
                                "train.batch_tokens=512",
                                "log.interval=50",
                                "model.sine_freq_init=2.25",
                                "model.sine_freq_init_std=0.25",
                                "model.sine_damp_init=0.001",
                                NULL};
  status s = validation_train(v, "text", 1, v->gpu ? on_gpu : on_cpu, seconds + EXTRA_S, run);
  free(val);
  return s;
}

/* Losses and skipped updates of all steps. */
static status check_losses(const char *run, cJSON *result) {
  double *loss = NULL, *skipped = NULL;
  int64_t n = 0, m = 0, bad = 0;
  status s = run_column(run, "loss", &loss, &n);
  s = s != STATUS_OK ? s : run_column(run, "skipped", &skipped, &m);
  for (int64_t i = 0; s == STATUS_OK && i < n; i++) {
    bad += !isfinite(loss[i]) || i >= m || skipped[i] != 0;
  }
  if (s == STATUS_OK) {
    json_number(result, "train_steps", (double)n);
    json_number(result, "first_loss", loss[0]);
    json_number(result, "final_loss", loss[n - 1]);
    judge(result, bad == 0, "every loss is finite and no update skipped", "%lld of %lld losses not finite or skipped",
          (long long)bad, (long long)n);
  }
  free(loss);
  free(skipped);
  return s;
}

/* Bits a byte of whoever knows the frequencies of the store's tokens and nothing else. */
static status frequency_bits(const token_store *store, double *bits) {
  int64_t *counts = NULL;
  int32_t *piece = NULL;
  double nats = 0, n = (double)store->tokens;
  status s = memory_new(&counts, (size_t)store->vocab_size, sizeof *counts, "counts of tokens");
  s = s != STATUS_OK ? s : memory_new(&piece, PIECE, sizeof *piece, "tokens");
  for (int64_t first = 0; s == STATUS_OK && first < store->tokens; first += PIECE) {
    int64_t count = store->tokens - first < PIECE ? store->tokens - first : PIECE;
    s = token_store_read(store, first, count, piece);
    for (int64_t i = 0; s == STATUS_OK && i < count; i++) {
      counts[piece[i]]++;
    }
  }
  for (int64_t t = 0; s == STATUS_OK && t < store->vocab_size; t++) {
    nats -= counts[t] > 0 ? (double)counts[t] * log((double)counts[t] / n) : 0;
  }
  *bits = nats / log(2) / (double)store->text_bytes;
  free(counts);
  free(piece);
  return s;
}

/* psann_eval's figures on the held-out text. */
static status evaluate(validation *v, const char *run, cJSON **figures) {
  char *program = NULL, *log = NULL, line[1024];
  status s = file_join(&program, v->programs, "psann_eval");
  s = s != STATUS_OK ? s : file_join(&log, v->work, "psann_eval.log");
  if (s == STATUS_OK) {
    const char *const words[] = {program, run, v->val_store, "--batches", "256", "--json", NULL};
    s = child_expect(words, log, EXTRA_S);
  }
  if (s == STATUS_OK) {
    child_last_line(log, line, sizeof line);
    *figures = cJSON_Parse(line);
  }
  free(program);
  free(log);
  TRY(s);
  REQUIRE(*figures != NULL, "psann_eval said '%.200s' where JSON was expected", line);
  return STATUS_OK;
}

static status check_evaluation(validation *v, const char *run, const token_store *store, cJSON *result) {
  cJSON *figures = NULL;
  double least;
  TRY(frequency_bits(store, &least));
  TRY(evaluate(v, run, &figures));
  double bits = json_get_number(figures, "bits_per_byte");
  json_number(result, "val_step", json_get_number(figures, "step"));
  json_number(result, "val_loss", json_get_number(figures, "loss"));
  json_number(result, "val_bits_per_byte", bits);
  json_number(result, "byte_frequencies_bits_per_byte", least);
  judge(result, bits < least, "held-out text takes fewer bits a byte than with the frequencies of its bytes alone",
        "%.4f bits a byte against %.4f", bits, least);
  cJSON_Delete(figures);
  return STATUS_OK;
}

static status write_sample(loaded *l, const token_store *store, cJSON *result) {
  generate_row row;
  cached_full r;
  char *text = NULL;
  status s = sample_write(l, store, PROMPT, NEW_TOKENS, 1, &row);
  s = s != STATUS_OK ? s : sample_text(l, &row, &text);
  s = s != STATUS_OK ? s : cached_full_compare(l, row.ids, (int64_t)row.count, &r);
  if (s == STATUS_OK) {
    double close = l->e->compute == DTYPE_F32 ? CLOSE_FP32 : CLOSE_NARROW;
    log_line("%s", text);
    cJSON_AddStringToObject(result, "sample", text);
    json_number(result, "length", (double)strlen(text));
    json_number(result, "tokens", (double)(row.count - row.prompt));
    json_number(result, "cached_full_difference", r.largest);
    json_number(result, "cached_full_equal_choices", (double)r.equal_choices);
    judge(result, text[0] != 0 && row.count > row.prompt, "text comes out", "%zu new tokens", row.count - row.prompt);
    judge(result, r.finite && r.largest <= close,
          l->e->compute == DTYPE_F32 ? "cached and full logits differ by at most 1e-4 of the largest"
                                     : "cached and full logits differ by at most 0.05 of the largest",
          "cached against full %.2g, the same choice at %lld of %lld positions", r.largest, (long long)r.equal_choices,
          (long long)r.positions);
  }
  sample_free(&row);
  free(text);
  return s;
}

static status check_text(validation *v, const char *run, cJSON *result) {
  loaded *l = NULL;
  token_store *store = NULL;
  status s = token_store_open(v->val_store, &store);
  s = s != STATUS_OK ? s : check_evaluation(v, run, store, result);
  s = s != STATUS_OK ? s : loaded_open(run, NULL, NULL, &v->d, &l);
  if (s == STATUS_OK) {
    result_model(result, &l->m->config);
    s = write_sample(l, store, result);
  }
  loaded_close(l);
  token_store_close(store);
  return s;
}

status step_writes(validation *v, cJSON *result) {
  double seconds = v->o->seconds > 0 ? v->o->seconds : v->gpu ? 60 : 10;
  char *run = NULL;
  json_number(result, "train_seconds", seconds);
  cJSON_AddStringToObject(result, "text", v->o->text);
  TRY(train(v, seconds, &run));
  status s = check_losses(run, result);
  s = s != STATUS_OK ? s : check_text(v, run, result);
  free(run);
  return s;
}
