/* GPU-03, throughput, and GPU-04, memory with and without recompute: measured as psann_bench throughput does. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/json.h"
#include "bench/measure.h"
#include "bench/published.h"
#include "bench/steps.h"
#include "engine/select.h"

enum { CHANGES = 12 };

/* GPU-03. */

typedef struct {
  int64_t B, T;
} shape;

static const shape SHAPES[] = {{4, 256}, {16, 4096}, {32, 4096}, {64, 4096}};
static const char *const BASES[] = {"respsann", "waveresnet"};

static const shape *headline(const validation *v) {
  return v->gpu ? &SHAPES[2] : &SHAPES[0];
}

static bool is_headline(const validation *v, const bench_row *row) {
  return row->micro_batch == headline(v)->B && row->seq_len == headline(v)->T;
}

static bool published_here(const validation *v) {
  gpu_facts f;
  engine_gpu_facts(0, &f);
  return v->gpu && strstr(f.name, PUBLISHED_GPU) != NULL;
}

/* As published: 5 steps before, 20 in a row. On a CPU a step takes seconds. */
static bench_length length_of(const validation *v, const shape *s) {
  return v->gpu ? (bench_length){.steps = 20, .warmup = 5, .repeat = s->B > 4 ? 1 : 3}
                : (bench_length){.steps = 1, .warmup = 1, .repeat = 1};
}

/* One row: keys of the reference, and what it leaves out. */
static cJSON *row_object(const validation *v, const bench_row *row, const bench_length *l) {
  cJSON *o = cJSON_CreateObject();
  double tokens = (double)(row->micro_batch * row->seq_len), published = NAN;
  cJSON_AddStringToObject(o, "base", config_base_name(row->base));
  cJSON_AddStringToObject(o, "mode", bench_mode_name(row->mode));
  cJSON_AddStringToObject(o, "precision", config_precision_name(row->precision));
  json_number(o, "B", (double)row->micro_batch);
  json_number(o, "T", (double)row->seq_len);
  json_number(o, "batch_tokens", tokens);
  json_number(o, "steps", (double)l->steps);
  if (row->error[0] != 0) {
    cJSON_AddStringToObject(o, "error", row->error);
    return o;
  }
  if (v->gpu) { /* beside a CPU it says nothing */
    published = published_forward(config_base_name(row->base), row->micro_batch, row->seq_len);
  }
  json_number(o, "tokens", tokens * (double)l->steps);
  json_number(o, "elapsed_s", row->ms * (double)l->steps / 1000);
  json_number(o, "tokens_per_s", row->tok_s);
  json_number(o, "published_tokens_per_s", published);
  json_number(o, "ratio", row->tok_s / published);
  json_number(o, "mfu", row->mfu);
  json_number(o, "peak_bytes", row->peak_bytes > 0 ? row->peak_bytes : NAN);
  json_number(o, "power_w", row->power_w);
  json_number(o, "loss", row->loss);
  return o;
}

static status measure_shape(validation *v, const char *base, const shape *s, bench_mode mode, const char *precision,
                            bench_row *row) {
  char with_base[64], micro_batch[64], seq_len[64];
  snprintf(with_base, sizeof with_base, "model.base=%s", base);
  snprintf(micro_batch, sizeof micro_batch, "train.micro_batch=%lld", (long long)s->B);
  snprintf(seq_len, sizeof seq_len, "data.seq_len=%lld", (long long)s->T);
  const char *const changes[] = {with_base, micro_batch, seq_len, NULL};
  const bench_length l = length_of(v, s);
  config *c;
  TRY(validation_model(v, "tiny", precision, changes, bench_total_steps(&l), &c));
  status result = bench_measure(c, "tiny", mode, false, &l, &v->machine, &v->d, row);
  config_free(c);
  return result;
}

/* A row that was measured computes what it should: an untrained model knows nothing of random tokens. */
static void judge_row(const validation *v, const bench_row *row, cJSON *result) {
  if (row->error[0] != 0) {
    judge(result, false, "every shape runs", "%s %lld x %lld: %s", config_base_name(row->base),
          (long long)row->micro_batch, (long long)row->seq_len, row->error);
    return;
  }
  if (!isfinite(row->loss) || fabs(row->loss - log((double)row->vocab_size)) > 0.5) {
    judge(result, false, "losses are near ln V", "%s %s: loss %.4f", config_base_name(row->base),
          bench_mode_name(row->mode), row->loss);
  }
  if (!is_headline(v, row) || !published_here(v)) {
    return;
  }
  double published = published_forward(config_base_name(row->base), row->micro_batch, row->seq_len);
  bool exact = row->mode == BENCH_FORWARD && row->precision == PRECISION_FP32;
  if (exact || row->mode == BENCH_TRAIN) {
    double least = exact ? PUBLISHED_TIMES_FORWARD : PUBLISHED_TIMES_TRAINING;
    char threshold[128];
    snprintf(threshold, sizeof threshold, "%s %s: at least %.1f x the published forward pass",
             bench_mode_name(row->mode), config_precision_name(row->precision), least);
    judge(result, row->tok_s >= least * published, threshold, "%s %.0f tok/s, %.2f x", config_base_name(row->base),
          row->tok_s, row->tok_s / published);
  }
}

typedef struct {
  bench_mode mode;
  const char *precision;
} kind;

static status measure_kind(validation *v, const kind *k, cJSON *result, cJSON *rows, int *measured) {
  size_t shapes = v->gpu ? sizeof SHAPES / sizeof *SHAPES : 1;
  for (size_t s = 0; s < shapes; s++) {
    for (size_t b = 0; b < sizeof BASES / sizeof *BASES; b++) {
      bench_row row;
      const bench_length l = length_of(v, &SHAPES[s]);
      TRY(measure_shape(v, BASES[b], &SHAPES[s], k->mode, k->precision, &row));
      cJSON *o = row_object(v, &row, &l);
      cJSON_AddItemToArray(rows, o);
      if (k->mode == BENCH_FORWARD && strcmp(k->precision, "fp32") == 0 && is_headline(v, &row)) {
        cJSON_AddItemToObject(result, BASES[b], cJSON_Duplicate(o, true));
      }
      judge_row(v, &row, result);
      *measured += row.error[0] == 0;
    }
  }
  return STATUS_OK;
}

status step_throughput(validation *v, cJSON *result) {
  static const kind on_gpu[] = {{BENCH_FORWARD, "fp32"}, {BENCH_FORWARD, "bf16"}, {BENCH_TRAIN, "bf16"}};
  static const kind on_cpu[] = {{BENCH_FORWARD, "fp32"}, {BENCH_TRAIN, "fp32"}};
  int measured = 0;
  cJSON *rows = cJSON_CreateArray();
  status s = STATUS_OK;
  for (int i = 0; i < (v->gpu ? 3 : 2) && s == STATUS_OK; i++) {
    s = measure_kind(v, v->gpu ? &on_gpu[i] : &on_cpu[i], result, rows, &measured);
  }
  cJSON_AddItemToObject(result, "rows", rows);
  TRY(s);
  judge(result, measured > 0, "every row ends with a loss near ln V", "%d rows%s", measured,
        published_here(v) ? "" : "; no speed is asked of this device, for which none was published");
  if (!v->gpu) {
    cJSON_AddStringToObject(result, "left_out",
                            "4 x 256 alone is measured on a CPU, in fp32: the larger shapes take minutes a step there");
  }
  return STATUS_OK;
}

/* GPU-04. */

typedef struct {
  const char *model;
  const char *changes[CHANGES];
} memory_shape;

/* What was really measured for the published note, and what the note names. */
static const memory_shape AS_MEASURED = {
    "tiny",
    {"model.base=waveresnet", "model.d_model=128", "model.n_layers=2", "model.d_mlp=512", "model.vocab_size=31",
     "data.seq_len=64", "train.micro_batch=1"}};
static const memory_shape AS_NAMED = {"small", {"model.base=waveresnet", "train.micro_batch=16"}};

static cJSON *memory_object(const bench_row *row) {
  cJSON *o = cJSON_CreateObject();
  json_number(o, "planned_bytes", row->plan_bytes);
  json_number(o, "peak_bytes", row->peak_bytes > 0 ? row->peak_bytes : NAN);
  json_number(o, "ms", row->ms);
  json_number(o, "tokens_per_s", row->tok_s);
  json_number(o, "loss", row->loss);
  return o;
}

static status measure_memory(validation *v, const memory_shape *m, const char *recompute, const char *precision,
                             bench_row *row, config **c) {
  const char *changes[CHANGES + 2];
  char with[64];
  int n = 0;
  for (; m->changes[n] != NULL; n++) {
    changes[n] = m->changes[n];
  }
  snprintf(with, sizeof with, "train.recompute=%s", recompute);
  changes[n++] = with;
  changes[n] = NULL;
  const bench_length l = {.steps = 5, .warmup = 2, .repeat = 3};
  TRY(validation_model(v, m->model, precision, changes, bench_total_steps(&l), c));
  return bench_measure(*c, m->model, BENCH_TRAIN, false, &l, &v->machine, &v->d, row);
}

static void reference_keys(cJSON *result, const config *c, const bench_row *block) {
  const double MIB = 1 << 20;
  cJSON_AddBoolToObject(result, "grad_checkpoint", true);
  json_number(result, "elapsed_s", block->ms / 1000);
  json_number(result, "max_memory_allocated_mb", block->plan_bytes / MIB);
  json_number(result, "max_memory_reserved_mb", block->peak_bytes > 0 ? block->peak_bytes / MIB : NAN);
  json_number(result, "vocab_size", (double)c->model.vocab_size);
  result_model(result, &c->model);
}

/* With and without recompute. The same loss shows that the same was computed. */
static status compare_memory(validation *v, const memory_shape *m, const char *precision, bool main_shape,
                             cJSON *result, cJSON *shapes) {
  bench_row none, block;
  config *c = NULL;
  TRY(measure_memory(v, m, "none", precision, &none, &c));
  config_free(c);
  status s = measure_memory(v, m, "block", precision, &block, &c);
  if (s != STATUS_OK) {
    config_free(c);
    return s;
  }
  cJSON *o = cJSON_CreateObject();
  cJSON_AddItemToArray(shapes, o);
  result_model(o, &c->model);
  json_number(o, "vocab_size", (double)c->model.vocab_size);
  json_number(o, "B", (double)c->train.micro_batch);
  json_number(o, "T", (double)c->data.seq_len);
  cJSON_AddStringToObject(o, "precision", precision);
  if (none.error[0] != 0 || block.error[0] != 0) {
    const char *error = none.error[0] != 0 ? none.error : block.error;
    cJSON_AddStringToObject(o, "error", error);
    judge(result, false, "both modes run", "%s: %s", m->model, error);
  } else {
    cJSON_AddItemToObject(o, "none", memory_object(&none));
    cJSON_AddItemToObject(o, "block", memory_object(&block));
    json_number(o, "memory_ratio", block.plan_bytes / none.plan_bytes);
    json_number(o, "time_ratio", block.ms / none.ms);
    judge(result, block.plan_bytes < none.plan_bytes && block.loss == none.loss,
          "recompute takes less memory and gives the same loss bit for bit",
          "D %lld, L %lld: %.2f -> %.2f MiB, time x %.2f, losses %s", (long long)c->model.d_model,
          (long long)c->model.n_layers, none.plan_bytes / (1 << 20), block.plan_bytes / (1 << 20), block.ms / none.ms,
          block.loss == none.loss ? "equal" : "differ");
    if (main_shape) {
      reference_keys(result, c, &block);
    }
  }
  config_free(c);
  return STATUS_OK;
}

status step_recompute(validation *v, cJSON *result) {
  cJSON *shapes = cJSON_AddArrayToObject(result, "shapes");
  cJSON_AddStringToObject(result, "amp", v->gpu ? "bf16" : "fp32");
  TRY(compare_memory(v, &AS_MEASURED, v->gpu ? "bf16" : "fp32", true, result, shapes));
  if (v->gpu) {
    return compare_memory(v, &AS_NAMED, "bf16", false, result, shapes);
  }
  cJSON_AddStringToObject(result, "left_out",
                          "D 512, L 8 in bf16 is for a GPU: the CPU engine computes fp32, and takes minutes a step");
  return STATUS_OK;
}
