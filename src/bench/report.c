#include "bench/report.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/json.h"
#include "report/version.h"

static status make_folder(const char *given, char **path) {
  char *folder = NULL;
  if (given != NULL) {
    TRY(memory_format(&folder, "%s", given));
  } else {
    char stamp[32];
    TRY(memory_format(&folder, "reports/benchmarks/%s", clock_stamp(stamp)));
  }
  status s = file_make_folder(folder);
  if (s == STATUS_OK) {
    s = file_join(path, folder, "throughput.json");
  }
  free(folder);
  return s;
}

status report_open(const char *folder, const dist *d, const system_facts *machine, const machine_peak *peak,
                   const bench_length *l, int argc, char **argv, bench_report *r) {
  *r = (bench_report){0};
  if (d->rank != 0) {
    return STATUS_OK;
  }
  TRY(make_folder(folder, &r->path));
  cJSON *o = r->root = cJSON_CreateObject();
  cJSON *facts = system_object(machine, d, peak->engine, argc, argv);
  REQUIRE(o != NULL && facts != NULL, "no memory for '%s'", r->path);
  cJSON_AddItemToObject(o, "machine", facts);
  cJSON_AddStringToObject(o, "commit", version_commit());
  json_number(o, "peak_tflops", peak->on_gpu ? BENCH_PEAK_TFLOPS : NAN);
  cJSON_AddStringToObject(o, "gemm_peak_precision", peak->precision);
  json_number(o, "gemm_peak_size", (double)peak->gemm_size);
  json_number(o, "gemm_peak_tflops", peak->gemm_peak_tflops);
  json_number(o, "copy_gb_s", peak->copy_gb_s);
  json_number(o, "steps", (double)l->steps);
  json_number(o, "warmup", (double)l->warmup);
  json_number(o, "repeat", (double)l->repeat);
  REQUIRE(cJSON_AddArrayToObject(o, "results") != NULL, "no memory for '%s'", r->path);
  return json_write(r->path, r->root);
}

static void add_figures(cJSON *o, const bench_row *row) {
  json_number(o, "tok_s", row->tok_s);
  json_number(o, "ms", row->ms);
  json_number(o, "ms_min", row->ms_min);
  json_number(o, "ms_max", row->ms_max);
  json_number(o, "tflops", row->tflops);
  json_number(o, "mfu", row->mfu);
  json_number(o, "mfu_full", row->mfu_full);
  json_number(o, "peak_bytes", row->peak_bytes > 0 ? row->peak_bytes : NAN);
  json_number(o, "power_w", row->power_w);
  json_number(o, "sm_mhz", row->sm_mhz);
  json_number(o, "loss", row->loss);
  if (row->mode == BENCH_TRAIN) {
    json_number(o, "skipped", (double)row->skipped);
  }
}

status report_add(bench_report *r, const bench_row *row) {
  if (r->path == NULL) {
    return STATUS_OK;
  }
  cJSON *o = cJSON_CreateObject();
  REQUIRE(o != NULL, "no memory for '%s'", r->path);
  cJSON_AddItemToArray(cJSON_GetObjectItem(r->root, "results"), o);
  cJSON_AddStringToObject(o, "model", row->model);
  cJSON_AddStringToObject(o, "mode", bench_mode_name(row->mode));
  cJSON_AddStringToObject(o, "base", config_base_name(row->base));
  cJSON_AddStringToObject(o, "precision", config_precision_name(row->precision));
  cJSON_AddStringToObject(o, "strategy", config_strategy_name(row->strategy));
  cJSON_AddStringToObject(o, "offload", config_offload_name(row->offload));
  cJSON_AddStringToObject(o, "recompute", config_recompute_name(row->recompute));
  if (row->unordered) {
    cJSON_AddTrueToObject(o, "unordered");
  }
  json_number(o, "ranks", row->ranks);
  json_number(o, "micro_batch", (double)row->micro_batch);
  json_number(o, "seq_len", (double)row->seq_len);
  json_number(o, "accumulate", (double)row->accumulate);
  json_number(o, "vocab_size", (double)row->vocab_size);
  json_number(o, "parameters", (double)row->parameters);
  json_number(o, "flop_per_token", row->flop_per_token);
  json_number(o, "plan_bytes", row->plan_bytes);
  if (row->mode == BENCH_FORWARD) {
    json_number(o, "logits_rows", (double)row->logits_rows);
  }
  if (row->error[0] != 0) {
    cJSON_AddStringToObject(o, "error", row->error);
  } else {
    add_figures(o, row);
  }
  return json_write(r->path, r->root);
}

void report_close(bench_report *r) {
  cJSON_Delete(r->root);
  free(r->path);
  *r = (bench_report){0};
}

/* Console. */

/* 1234567 as "1,234,567" into text (at least 32 bytes). */
static const char *grouped(double value, char *text) {
  char digits[24];
  int n = snprintf(digits, sizeof digits, "%.0f", fmin(fmax(value, 0), 1e15)), at = 0;
  for (int i = 0; i < n; i++) {
    if (i > 0 && (n - i) % 3 == 0) {
      text[at++] = ',';
    }
    text[at++] = digits[i];
  }
  text[at] = 0;
  return text;
}

/* A number, or "-" where it is not known. */
static const char *known(const char *format, double value, char *text) {
  if (isfinite(value)) {
    snprintf(text, 32, format, value); /* NOLINT: one of the formats below */
  } else {
    snprintf(text, 32, "-");
  }
  return text;
}

void report_line(const bench_row *row) {
  char speed[32], share[32];
  if (row->error[0] != 0) {
    log_line("%s %s %s: %s", row->model, bench_mode_name(row->mode), config_precision_name(row->precision), row->error);
    return;
  }
  log_line("%s %s %s: %s tok/s, %.2f ms, MFU %s %%, loss %.4f%s", row->model, bench_mode_name(row->mode),
           config_precision_name(row->precision), grouped(row->tok_s, speed), row->ms,
           known("%.1f", 100 * row->mfu, share), row->loss, row->skipped > 0 ? ", WITH SKIPPED UPDATES" : "");
}

/* "ddp", or "ddp offload", into text (at least 32 bytes). */
static const char *sharing(const bench_row *row, char *text) {
  snprintf(text, 32, "%s%s", config_strategy_name(row->strategy), row->offload == OFFLOAD_NONE ? "" : " offload");
  return text;
}

static void table_row(const bench_row *row) {
  char share[32];
  char speed[32], mfu[32], full[32], peak[32], power[32], times[64];
  if (row->error[0] != 0) {
    log_line("%-8.8s %-7s %-4s %-23s %5d %5lld %6lld  %s", row->model, bench_mode_name(row->mode),
             config_precision_name(row->precision), sharing(row, share), row->ranks,
             (long long)row->micro_batch, (long long)row->seq_len, row->error);
    return;
  }
  snprintf(times, sizeof times, "%.2f (%.2f-%.2f)", row->ms, row->ms_min, row->ms_max);
  log_line("%-8.8s %-7s %-4s %-23s %5d %5lld %6lld %11s %24s %6s %6s %10s %6s %8.4f", row->model,
           bench_mode_name(row->mode), config_precision_name(row->precision), sharing(row, share),
           row->ranks, (long long)row->micro_batch, (long long)row->seq_len, grouped(row->tok_s, speed), times,
           known("%.1f", 100 * row->mfu, mfu), known("%.1f", 100 * row->mfu_full, full),
           memory_text(row->peak_bytes, peak), known("%.0f", row->power_w, power), row->loss);
}

void report_table(const bench_row *rows, int n) {
  log_line("%-8s %-7s %-4s %-23s %5s %5s %6s %11s %24s %6s %6s %10s %6s %8s", "model", "mode", "prec", "strategy",
           "ranks", "B", "T", "tok/s", "ms (least-most)", "MFU %", "full %", "memory", "watts", "loss");
  for (int i = 0; i < n; i++) {
    table_row(&rows[i]);
  }
}
