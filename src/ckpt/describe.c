#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "ckpt/checkpoint.h"
#include "ckpt/hdf.h"
#include "ckpt/record.h"

static void print_state(const checkpoint *k) {
  const run_state *s = &k->state;
  log_line("  step %" PRId64 ", %" PRId64 " updates, %" PRId64 " sequences, %" PRId64 " tokens", s->step, s->updates,
           s->sequences, s->tokens);
  if (s->rollbacks > 0) {
    log_line("  %" PRId64 " rollback%s, whose data were passed over", s->rollbacks, s->rollbacks == 1 ? "" : "s");
  }
  if (isfinite(s->val_loss)) {
    log_line("  validation loss %.6f", s->val_loss);
  }
  if (s->best_step >= 0) {
    log_line("  best validation loss %.6f, at step %" PRId64, s->best_val_loss, s->best_step);
  }
  if (k->config->train.precision == PRECISION_FP16) {
    log_line("  loss scale %.17g, %" PRId64 " steps without overflow", s->loss_scale, s->good_steps);
  }
  log_line("  training data %s", s->train_digest);
}

static status print_launch(const checkpoint *k) {
  hid_t group;
  int64_t ranks = 0, hosts = 0;
  char *saved = NULL, *version = NULL, *strategy = NULL;
  TRY(hdf_open_group(k->file, k->path, "launch", &group));
  status result = hdf_get_int(group, k->path, "ranks", &ranks);
  if (result == STATUS_OK) {
    result = hdf_get_int(group, k->path, "hosts", &hosts);
  }
  if (result == STATUS_OK) {
    result = hdf_get_text(group, k->path, "strategy", &strategy);
  }
  if (result == STATUS_OK) {
    result = hdf_get_text(group, k->path, "version", &version);
  }
  if (result == STATUS_OK) {
    result = hdf_get_text(group, k->path, "saved", &saved);
  }
  if (result == STATUS_OK) {
    log_line("  saved %s by psann %s, %" PRId64 " rank%s on %" PRId64 " host%s, strategy %s", saved, version, ranks,
             ranks == 1 ? "" : "s", hosts, hosts == 1 ? "" : "s", strategy);
  }
  free(saved);
  free(version);
  free(strategy);
  H5Gclose(group);
  return result;
}

static int64_t table_elements(const ckpt_entries *e) {
  int64_t sum = 0;
  for (size_t i = 0; i < e->count; i++) {
    sum += ckpt_entry_count(&e->list[i]);
  }
  return sum;
}

static void print_tensors(const checkpoint *k) {
  const ckpt_entries *e = &k->parts->tables[TABLE_MODEL];
  log_line("  /model: %zu tensors, %" PRId64 " elements; /optim: moments of %zu of them", e->count, table_elements(e),
           k->parts->tables[TABLE_M].count);
  for (size_t i = 0; i < e->count; i++) {
    char shape[80];
    log_line("    %-44s %-20s %s", e->list[i].name, ckpt_shape_text(e->list[i].dims, e->list[i].shape, shape),
             e->list[i].digest);
  }
}

static status print_keys(const checkpoint *k) {
  for (int i = 0; i < config_rows(); i++) {
    const char *section, *name;
    char *value;
    config_change change;
    TRY(config_row(k->config, i, &section, &name, &value, &change));
    if (change != CHANGE_FREE) {
      log_line("    %s.%s = %s", section, name, value != NULL ? value : "");
    }
    free(value);
  }
  return STATUS_OK;
}

status checkpoint_describe(const checkpoint *k) {
  const config_model *c = &k->config->model;
  const ckpt_digests *g = &k->parts->digests;
  log_line("%s", k->path);
  print_state(k);
  TRY(print_launch(k));
  log_line("  model %s: d_model %" PRId64 ", n_layers %" PRId64 ", n_heads %" PRId64 ", d_mlp %" PRId64
           ", vocab_size %" PRId64,
           config_base_name(c->base), c->d_model, c->n_layers, c->n_heads, c->d_mlp, c->vocab_size);
  log_line("  tokenizer %s: vocabulary %" PRId64 ", end of text %d, %zu bytes", k->tokenizer, k->vocab_size,
           (int)k->end_of_text, k->tokenizer_bytes);
  log_line("  keys that make the run's identity:");
  TRY(print_keys(k));
  print_tensors(k);
  log_line("  digests: model %s, optim %s, state %s, config %s, tokenizer %s", g->model, g->optim, g->state, g->config,
           g->tokenizer);
  log_line("  digest %s", k->digest);
  return STATUS_OK;
}
