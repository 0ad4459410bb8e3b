#include "check/golden_case.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/bases.h"

/* ---- attributes ---- */

typedef struct {
  golden_file *f;
  golden_case *k;
  bool has_base, has_steps, has_lr, has_warmup;
} attribute_reader;

static bool among(const char *name, const char *const *names) {
  for (; *names != NULL; names++) {
    if (strcmp(name, *names) == 0) {
      return true;
    }
  }
  return false;
}

static bool model_has_key(const config *c, const char *name) {
  for (int i = 0; i < config_rows(); i++) {
    const char *section, *key;
    if (config_row(c, i, &section, &key, NULL, NULL) == STATUS_OK && strcmp(section, "model") == 0 &&
        strcmp(key, name) == 0) {
      return true;
    }
  }
  return false;
}

static status read_count(const attribute_reader *r, const char *name, const char *value, int64_t *out) {
  char *end;
  *out = strtoll(value, &end, 10);
  if (*end != '\0' || *out < 1 || *out > 1000000) {
    USER_ERROR("%s: the attribute %s is %s, but must be a whole number from 1 to 1000000", golden_file_path(r->f), name,
               value);
  }
  return STATUS_OK;
}

static status take_base(void *context, const char *name, const char *value) {
  attribute_reader *r = context;
  if (strcmp(name, "base") == 0) {
    snprintf(r->k->base, sizeof(r->k->base), "%s", value);
    r->has_base = true;
  }
  return STATUS_OK;
}

static status take_attribute(void *context, const char *name, const char *value) {
  static const char *const for_people[] = {"batch", "seq_len", "case", "dtype", "reference", NULL};
  static const char *const training[] = {"lr",  "warmup_steps", "weight_decay",    "beta1", "beta2",
                                         "eps", "grad_clip",    "label_smoothing", NULL};
  attribute_reader *r = context;
  if (among(name, for_people)) {
    return STATUS_OK;
  }
  if (strcmp(name, "total_steps") == 0) {
    r->has_steps = true;
    return read_count(r, name, value, &r->k->steps);
  }
  if (strcmp(name, "grad_accum_steps") == 0) {
    return read_count(r, name, value, &r->k->micro_batches);
  }
  r->has_lr |= strcmp(name, "lr") == 0;
  r->has_warmup |= strcmp(name, "warmup_steps") == 0;
  if (among(name, training)) {
    return config_set(r->k->c, "train", name, value, golden_file_path(r->f));
  }
  if (!model_has_key(r->k->c, name)) {
    USER_ERROR("%s has the attribute '%s', which this program does not know", golden_file_path(r->f), name);
  }
  return config_set(r->k->c, "model", name, value, golden_file_path(r->f));
}

static status read_attributes(golden_file *f, golden_case *k) {
  attribute_reader r = {.f = f, .k = k};
  TRY(golden_file_attributes(f, take_base, &r));
  if (!r.has_base) {
    USER_ERROR("%s is no parity case: it has no attribute 'base'", golden_file_path(f));
  }
  k->offered = model_base_find(k->base) != NULL;
  if (!k->offered) {
    return STATUS_OK;
  }
  TRY(config_new(&k->c));
  k->micro_batches = 1;
  TRY(golden_file_attributes(f, take_attribute, &r));
  if (!r.has_steps || !r.has_lr || !r.has_warmup) {
    USER_ERROR("%s has no attribute '%s'", golden_file_path(f),
               !r.has_steps ? "total_steps" : (!r.has_lr ? "lr" : "warmup_steps"));
  }
  return config_resolve_model(&k->c->model);
}

/* ---- batches ---- */

static status check_ids(golden_file *f, const char *what, const int32_t *ids, int64_t count, int64_t V) {
  for (int64_t i = 0; i < count; i++) {
    if (ids[i] < 0 || ids[i] >= V) {
      USER_ERROR("%s: '%s' holds %d, but the vocabulary has %lld tokens", golden_file_path(f), what, ids[i],
                 (long long)V);
    }
  }
  return STATUS_OK;
}

static status read_batches(golden_file *f, golden_case *k) {
  int dims;
  int64_t shape[GOLDEN_DIMS];
  int64_t batches = k->steps * k->micro_batches;
  TRY(golden_file_shape(f, "input_ids", &dims, shape));
  if (dims != 3 || shape[0] != batches || shape[1] < 1 || shape[2] < 1 || shape[1] > INT32_MAX / batches ||
      shape[2] > INT32_MAX / (batches * shape[1])) {
    USER_ERROR("%s: 'input_ids' must have the shape (total_steps · grad_accum_steps = %lld, B, T)", golden_file_path(f),
               (long long)batches);
  }
  k->B = shape[1];
  k->T = shape[2];
  int64_t count = batches * k->B * k->T;
  int64_t V = k->c->model.vocab_size;
  TRY(memory_new(&k->tokens, (size_t)count, sizeof(int32_t), "tokens of a parity case"));
  TRY(memory_new(&k->labels, (size_t)count, sizeof(int32_t), "labels of a parity case"));
  TRY(golden_file_integers(f, "input_ids", count, k->tokens));
  TRY(golden_file_integers(f, "labels", count, k->labels));
  TRY(check_ids(f, "input_ids", k->tokens, count, V));
  return check_ids(f, "labels", k->labels, count, V);
}

static void name_of(const char *path, char *name, size_t size) {
  const char *slash = strrchr(path, '/');
  snprintf(name, size, "%s", slash != NULL ? slash + 1 : path);
  char *dot = strrchr(name, '.');
  if (dot != NULL && dot != name) {
    *dot = '\0';
  }
}

void golden_case_free(golden_case *k) {
  model_free(k->m);
  config_free(k->c);
  free(k->tokens);
  free(k->labels);
  *k = (golden_case){0};
}

/* ---- tensors ---- */

static status check_tensor(golden_file *f, const char *dataset, const tensor *t) {
  int dims;
  int64_t shape[GOLDEN_DIMS];
  TRY(golden_file_shape(f, dataset, &dims, shape));
  bool same = dims == t->dims;
  for (int i = 0; same && i < dims; i++) {
    same = shape[i] == t->shape[i];
  }
  if (!same) {
    USER_ERROR("%s: '%s' has another shape than the model's tensor, which has %d dimension%s and %lld elements",
               golden_file_path(f), dataset, t->dims, t->dims == 1 ? "" : "s", (long long)t->count);
  }
  return STATUS_OK;
}

static status read_tensor(golden_file *f, const char *dataset, const tensor *t, double *values) {
  TRY(check_tensor(f, dataset, t));
  return golden_file_reals(f, dataset, t->count, values);
}

/* The parameters of the model that the attributes describe are in the file, before anything is allocated for them. */
static status check_parameters(golden_file *f, const model *m) {
  for (int u = 0; u < m->n_units; u++) {
    for (int i = 0; i < m->units[u].n_tensors; i++) {
      char dataset[TENSOR_NAME + 32];
      snprintf(dataset, sizeof(dataset), "params/%s", m->units[u].tensors[i].name);
      TRY(check_tensor(f, dataset, &m->units[u].tensors[i]));
    }
  }
  return STATUS_OK;
}

status golden_case_read(golden_file *f, golden_case *k) {
  *k = (golden_case){0};
  name_of(golden_file_path(f), k->name, sizeof(k->name));
  TRY(read_attributes(f, k));
  if (!k->offered) {
    return STATUS_OK;
  }
  TRY(model_create(&k->c->model, NULL, &k->m));
  TRY(check_parameters(f, k->m));
  return read_batches(f, k);
}

status golden_case_unit(golden_file *f, const golden_case *k, const char *group, int unit_index, bool missing_frozen,
                        double *values, bool *found) {
  const unit *u = &k->m->units[unit_index];
  memset(values, 0, (size_t)u->count * sizeof(double));
  for (int i = 0; i < u->n_tensors; i++) {
    const tensor *t = &u->tensors[i];
    char dataset[TENSOR_NAME + 32];
    snprintf(dataset, sizeof(dataset), "%s/%s", group, t->name);
    bool there = golden_file_has(f, dataset);
    if (found != NULL) {
      found[i] = there;
    }
    if (!there && !(missing_frozen && !t->trainable)) {
      USER_ERROR("%s has no '%s', which the model needs", golden_file_path(f), dataset);
    }
    if (there) {
      TRY(read_tensor(f, dataset, t, values + t->offset));
    }
  }
  return STATUS_OK;
}

typedef struct {
  golden_file *f;
  const model *m;
  const char *group;
} other_search;

static status check_known(void *context, const char *name) {
  const other_search *s = context;
  if (model_tensor(s->m, name, NULL) == NULL) {
    USER_ERROR("%s has '%s/%s', but the model that its attributes describe has no such tensor", golden_file_path(s->f),
               s->group, name);
  }
  return STATUS_OK;
}

status golden_case_no_others(golden_file *f, const golden_case *k, const char *group) {
  other_search s = {.f = f, .m = k->m, .group = group};
  return golden_file_names(f, group, check_known, &s);
}
