#include "ckpt/record.h"

#include <inttypes.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "ckpt/hdf.h"
#include "data/store_format.h"

static const char format_name[] = "psann checkpoint";
enum { FORMAT_VERSION = 1 };

/* How good the run looked when it was evaluated says nothing on where it is, and changes with eval.interval. */
const state_field ckpt_state_fields[STATE_FIELDS] = {
    {"step", FIELD_INT, offsetof(run_state, step), true, false},
    {"updates", FIELD_INT, offsetof(run_state, updates), true, false},
    {"sequences", FIELD_INT, offsetof(run_state, sequences), true, false},
    {"tokens", FIELD_INT, offsetof(run_state, tokens), true, false},
    {"loss_scale", FIELD_REAL, offsetof(run_state, loss_scale), true, false},
    {"good_steps", FIELD_INT, offsetof(run_state, good_steps), true, true},
    {"spike_count", FIELD_INT, offsetof(run_state, spike_count), true, true},
    {"spike_loss_level", FIELD_REAL, offsetof(run_state, spike_loss_level), true, true},
    {"spike_loss_mean", FIELD_REAL, offsetof(run_state, spike_loss_mean), true, true},
    {"spike_loss_variance", FIELD_REAL, offsetof(run_state, spike_loss_variance), true, true},
    {"spike_norm_level", FIELD_REAL, offsetof(run_state, spike_norm_level), true, true},
    {"spike_norm_mean", FIELD_REAL, offsetof(run_state, spike_norm_mean), true, true},
    {"spike_norm_variance", FIELD_REAL, offsetof(run_state, spike_norm_variance), true, true},
    {"rollbacks", FIELD_INT, offsetof(run_state, rollbacks), true, true},
    {"best_val_loss", FIELD_REAL, offsetof(run_state, best_val_loss), false, false},
    {"best_step", FIELD_INT, offsetof(run_state, best_step), false, false},
    {"val_loss", FIELD_REAL, offsetof(run_state, val_loss), false, false},
    {"train_digest", FIELD_TEXT, offsetof(run_state, train_digest), true, false},
    {"plans_digest", FIELD_TEXT, offsetof(run_state, plans_digest), true, true},
};

static const void *field_at(const run_state *s, const state_field *f) {
  return (const char *)s + f->offset;
}

/* As in files that lack the field. */
static bool is_absent(const run_state *s, const state_field *f) {
  const void *at = field_at(s, f);
  return f->added && (f->kind == FIELD_TEXT ? *(const char *)at == 0 : *(const int64_t *)at == 0);
}

const char *ckpt_state_value(const run_state *s, const state_field *f, char text[FIELD_VALUE]) {
  const void *at = field_at(s, f);
  if (f->kind == FIELD_INT) {
    snprintf(text, FIELD_VALUE, "%" PRId64, *(const int64_t *)at);
  } else if (f->kind == FIELD_REAL) {
    double value = *(const double *)at;
    snprintf(text, FIELD_VALUE, "%.17g", value != value ? __builtin_nan("") : value);
  } else {
    snprintf(text, FIELD_VALUE, "%s", (const char *)at);
  }
  return text;
}

status ckpt_state_write(hid_t file, const run_state *s) {
  hid_t group;
  status result = hdf_make_group(file, "state", &group);
  for (int i = 0; i < STATE_FIELDS && result == STATUS_OK; i++) {
    const state_field *f = &ckpt_state_fields[i];
    const void *at = field_at(s, f);
    if (f->kind == FIELD_TEXT && is_absent(s, f)) {
      continue;
    }
    result = f->kind == FIELD_INT    ? hdf_put_int(group, f->name, *(const int64_t *)at)
             : f->kind == FIELD_REAL ? hdf_put_real(group, f->name, *(const double *)at)
                                     : hdf_put_text(group, f->name, at);
  }
  H5Gclose(group);
  return result;
}

static status read_field(hid_t group, const char *path, run_state *s, const state_field *f) {
  void *at = (char *)s + f->offset;
  if (f->added && H5Aexists(group, f->name) == 0) {
    memset(at, 0, f->kind == FIELD_TEXT ? DIGEST_TEXT : sizeof(int64_t));
    return STATUS_OK;
  }
  if (f->kind == FIELD_INT) {
    return hdf_get_int(group, path, f->name, at);
  }
  if (f->kind == FIELD_REAL) {
    return hdf_get_real(group, path, f->name, at);
  }
  char *text;
  TRY(hdf_get_text(group, path, f->name, &text));
  snprintf(at, DIGEST_TEXT, "%s", text);
  free(text);
  return STATUS_OK;
}

status ckpt_state_read(hid_t file, const char *path, run_state *s) {
  hid_t group;
  TRY(hdf_open_group(file, path, "state", &group));
  status result = STATUS_OK;
  for (int i = 0; i < STATE_FIELDS && result == STATUS_OK; i++) {
    result = read_field(group, path, s, &ckpt_state_fields[i]);
  }
  H5Gclose(group);
  TRY(result);
  double spikes = s->spike_loss_level + s->spike_loss_mean + s->spike_norm_level + s->spike_norm_mean;
  if (s->step < 0 || s->updates < 0 || s->updates > s->step || s->sequences < 0 || s->tokens < 0 || s->good_steps < 0 ||
      s->good_steps > s->step || !(s->loss_scale > 0) || s->spike_count < 0 || s->rollbacks < 0 || !isfinite(spikes) ||
      !(s->spike_loss_variance >= 0) || !(s->spike_norm_variance >= 0)) {
    DAMAGED(path, "its state makes no sense (step %" PRId64 ", updates %" PRId64 ", sequences %" PRId64 ")", s->step,
            s->updates, s->sequences);
  }
  return STATUS_OK;
}

void ckpt_state_digest(const run_state *s, char text[DIGEST_TEXT]) {
  char lines[STATE_FIELDS * (FIELD_VALUE + 32)];
  size_t length = 0;
  for (int i = 0; i < STATE_FIELDS; i++) {
    const state_field *f = &ckpt_state_fields[i];
    char value[FIELD_VALUE];
    if (f->identity && !is_absent(s, f)) {
      length +=
          (size_t)snprintf(lines + length, sizeof lines - length, "%s = %s\n", f->name, ckpt_state_value(s, f, value));
    }
  }
  digest_of(lines, length, text);
}

status ckpt_identity(const config *c, char **text) {
  TRY(memory_format(text, "%s", ""));
  for (int i = 0; i < config_rows(); i++) {
    const char *section, *name;
    char *value, *longer;
    config_change change;
    status result = config_row(c, i, &section, &name, &value, &change);
    if (result == STATUS_OK && change != CHANGE_FREE) {
      result = memory_format(&longer, "%s%s.%s = %s\n", *text, section, name, value != NULL ? value : "");
      if (result == STATUS_OK) {
        free(*text);
        *text = longer;
      }
    }
    if (result != STATUS_OK) {
      free(*text);
      *text = NULL;
      return result;
    }
    free(value);
  }
  return STATUS_OK;
}

static status write_keys(hid_t group, const config *c) {
  for (int i = 0; i < config_rows(); i++) {
    const char *section, *name;
    char *value, key[128];
    config_change change;
    TRY(config_row(c, i, &section, &name, &value, &change));
    snprintf(key, sizeof key, "%s.%s", section, name);
    status result = hdf_put_text(group, key, value != NULL ? value : "");
    free(value);
    TRY(result);
  }
  return STATUS_OK;
}

status ckpt_config_write(hid_t file, const config *c, const char *identity) {
  hid_t group;
  char *ini = NULL;
  status result = hdf_make_group(file, "config", &group);
  if (result == STATUS_OK) {
    result = config_text(c, &ini);
  }
  if (result == STATUS_OK) {
    result = hdf_put_text(group, "ini", ini);
  }
  if (result == STATUS_OK) {
    result = hdf_put_text(group, "identity", identity);
  }
  if (result == STATUS_OK) {
    result = write_keys(group, c);
  }
  free(ini);
  H5Gclose(group);
  return result;
}

status ckpt_config_read(hid_t file, const char *path, config **c, char **identity) {
  hid_t group;
  char *ini = NULL;
  *c = NULL;
  *identity = NULL;
  TRY(hdf_open_group(file, path, "config", &group));
  status result = hdf_get_text(group, path, "identity", identity);
  if (result == STATUS_OK) {
    result = hdf_get_text(group, path, "ini", &ini);
  }
  if (result == STATUS_OK) {
    result = config_new(c);
  }
  if (result == STATUS_OK) {
    result = config_read_text(*c, ini, path);
    if (result == STATUS_OK) {
      result = config_resolve(*c); /* keys without effect stand as comments in the text */
    }
    if (result != STATUS_OK) {
      status_prefix(result, "the configuration in checkpoint %s can't be used", path);
    }
  }
  free(ini);
  H5Gclose(group);
  return result;
}

status ckpt_tokenizer_write(hid_t file, const token_store *t, char text[DIGEST_TEXT]) {
  hid_t group;
  char data[DIGEST_TEXT];
  int64_t bytes = (int64_t)t->tokenizer_bytes;
  status result = hdf_make_group(file, "tokenizer", &group);
  if (result == STATUS_OK) {
    result = hdf_put_text(group, "name", t->tokenizer);
  }
  if (result == STATUS_OK) {
    result = hdf_put_int(group, "vocab_size", t->vocab_size);
  }
  if (result == STATUS_OK) {
    result = hdf_put_int(group, "end_of_text", t->end_of_text);
  }
  if (result == STATUS_OK) {
    result = hdf_put_data(group, "model", H5T_STD_U8LE, 1, &bytes, t->tokenizer_data, data);
  }
  H5Gclose(group);
  store_tokenizer_digest(t->tokenizer, t->vocab_size, t->end_of_text, t->tokenizer_data, t->tokenizer_bytes, text);
  return result;
}

static status read_tokenizer(checkpoint *k, hid_t group, char text[DIGEST_TEXT]) {
  char *name, data[DIGEST_TEXT];
  int dims;
  int64_t shape[HDF_DIMS], end_of_text;
  TRY(hdf_get_text(group, k->path, "name", &name));
  snprintf(k->tokenizer, sizeof k->tokenizer, "%s", name);
  free(name);
  TRY(hdf_get_int(group, k->path, "vocab_size", &k->vocab_size));
  TRY(hdf_get_int(group, k->path, "end_of_text", &end_of_text));
  TRY(hdf_data_shape(group, k->path, "model", H5T_STD_U8LE, &dims, shape, data));
  if (dims != 1 || end_of_text < -1 || end_of_text > INT32_MAX) {
    DAMAGED(k->path, "its tokenizer makes no sense");
  }
  k->end_of_text = (int32_t)end_of_text;
  k->tokenizer_bytes = (size_t)shape[0];
  /* One byte more: some tokenizers' data are text. */
  TRY(memory_new(&k->tokenizer_data, k->tokenizer_bytes + 1, 1, "tokenizer of a checkpoint"));
  TRY(hdf_get_data(group, k->path, "model", H5T_STD_U8LE, k->tokenizer_bytes, data, k->tokenizer_data));
  store_tokenizer_digest(k->tokenizer, k->vocab_size, k->end_of_text, k->tokenizer_data, k->tokenizer_bytes, text);
  return STATUS_OK;
}

status ckpt_tokenizer_read(checkpoint *k, char text[DIGEST_TEXT]) {
  hid_t group;
  TRY(hdf_open_group(k->file, k->path, "tokenizer", &group));
  status result = read_tokenizer(k, group, text);
  H5Gclose(group);
  return result;
}

/* The parts, in the order in which the root digest takes them. */
static const struct {
  const char *attribute, *part;
  size_t offset;
} parts[] = {
    {"digest_model", "/model", offsetof(ckpt_digests, model)},
    {"digest_optim", "/optim", offsetof(ckpt_digests, optim)},
    {"digest_state", "/state", offsetof(ckpt_digests, state)},
    {"digest_config", "/config", offsetof(ckpt_digests, config)},
    {"digest_tokenizer", "/tokenizer", offsetof(ckpt_digests, tokenizer)},
    {"digest", "the whole", offsetof(ckpt_digests, all)},
};

enum { PARTS = sizeof parts / sizeof parts[0] };

static char *digest_at(ckpt_digests *g, int i) {
  return (char *)g + parts[i].offset;
}
static const char *const_digest_at(const ckpt_digests *g, int i) {
  return (const char *)g + parts[i].offset;
}

status ckpt_digests_make(const ckpt_entries tables[TABLES], const run_state *s, const char *identity, ckpt_digests *g) {
  char moments[2][DIGEST_TEXT], text[PARTS * (DIGEST_TEXT + 32)];
  TRY(ckpt_entries_digest(&tables[TABLE_MODEL], g->model));
  TRY(ckpt_entries_digest(&tables[TABLE_M], moments[0]));
  TRY(ckpt_entries_digest(&tables[TABLE_V], moments[1]));
  int length = snprintf(text, sizeof text, "m %s\nv %s\n", moments[0], moments[1]);
  digest_of(text, (size_t)length, g->optim);
  ckpt_state_digest(s, g->state);
  digest_of(identity, strlen(identity), g->config);
  length = 0;
  for (int i = 0; i < PARTS - 1; i++) {
    length += snprintf(text + length, sizeof text - (size_t)length, "%s %s\n", parts[i].attribute, digest_at(g, i));
  }
  digest_of(text, (size_t)length, g->all);
  return STATUS_OK;
}

status ckpt_digests_write(hid_t file, const ckpt_digests *g) {
  for (int i = 0; i < PARTS; i++) {
    TRY(hdf_put_text(file, parts[i].attribute, const_digest_at(g, i)));
  }
  return STATUS_OK;
}

status ckpt_digests_read(hid_t file, const char *path, ckpt_digests *g) {
  for (int i = 0; i < PARTS; i++) {
    TRY(hdf_get_digest(file, path, parts[i].attribute, digest_at(g, i)));
  }
  return STATUS_OK;
}

status ckpt_digests_compare(const char *path, const ckpt_digests *recorded, const ckpt_digests *found) {
  for (int i = 0; i < PARTS; i++) {
    if (strcmp(const_digest_at(recorded, i), const_digest_at(found, i)) != 0) {
      DAMAGED(path, "the digest of %s is %s, recorded %s", parts[i].part, const_digest_at(found, i),
              const_digest_at(recorded, i));
    }
  }
  return STATUS_OK;
}

status ckpt_format_write(hid_t file) {
  TRY(hdf_put_text(file, "format", format_name));
  return hdf_put_int(file, "format_version", FORMAT_VERSION);
}

status ckpt_format_check(hid_t file, const char *path) {
  char *name = NULL;
  int64_t version = 0;
  if (H5Aexists(file, "format") <= 0) {
    USER_ERROR("%s is an HDF5 file but no psann checkpoint; give a checkpoint that psann_train wrote", path);
  }
  TRY(hdf_get_text(file, path, "format", &name));
  int other = strcmp(name, format_name);
  free(name);
  if (other != 0) {
    USER_ERROR("%s is an HDF5 file but no psann checkpoint; give a checkpoint that psann_train wrote", path);
  }
  TRY(hdf_get_int(file, path, "format_version", &version));
  if (version != FORMAT_VERSION) {
    USER_ERROR("checkpoint %s has format version %" PRId64
               ", this program reads version %d; use the program that wrote it",
               path, version, FORMAT_VERSION);
  }
  return STATUS_OK;
}
