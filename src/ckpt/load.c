#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "ckpt/checkpoint.h"
#include "ckpt/hdf.h"
#include "ckpt/record.h"

static bool expected_in(const tensor *t, int table) {
  return table == TABLE_MODEL || t->trainable;
}

static bool same_shape(const tensor *t, const ckpt_entry *e) {
  return t->dims == e->dims && memcmp(t->shape, e->shape, (size_t)t->dims * sizeof t->shape[0]) == 0;
}

/* Every tensor of the model is in the file, in its shape, and nothing else is. */
static status check_table(const checkpoint *k, const model *m, int table) {
  const ckpt_entries *e = &k->parts->tables[table];
  const char *group = ckpt_table_names[table];
  for (int u = 0; u < m->n_units; u++) {
    for (int i = 0; i < m->units[u].n_tensors; i++) {
      const tensor *t = &m->units[u].tensors[i];
      if (!expected_in(t, table)) {
        continue;
      }
      const ckpt_entry *found = ckpt_entries_find(e, t->name);
      char has[80], needs[80];
      if (found == NULL) {
        USER_ERROR(
            "checkpoint %s has no /%s/%s, which this model needs; use the [model] section that it was trained with",
            k->path, group, t->name);
      }
      if (!same_shape(t, found)) {
        USER_ERROR(
            "checkpoint %s has /%s/%s of shape (%s), this model needs (%s); use the [model] section that it was "
            "trained "
            "with",
            k->path, group, t->name, ckpt_shape_text(found->dims, found->shape, has),
            ckpt_shape_text(t->dims, t->shape, needs));
      }
    }
  }
  for (size_t i = 0; i < e->count; i++) {
    const tensor *t = model_tensor(m, e->list[i].name, NULL);
    if (t == NULL || !expected_in(t, table)) {
      USER_ERROR(
          "checkpoint %s holds /%s/%s, which this model does not have; use the [model] section that it was trained "
          "with",
          k->path, group, e->list[i].name);
    }
  }
  return STATUS_OK;
}

status checkpoint_fits(const checkpoint *k, const model *m) {
  return check_table(k, m, TABLE_MODEL);
}

/* A loading in progress, on rank 0. */
typedef struct {
  const checkpoint *k;
  int tables; /* 1: weights alone */
  bool wide;  /* the store takes fp64 */
  float *values;
  double *widened;
} loading;

static status load_begin(loading *l, const model *m) {
  int64_t largest = model_largest_unit(m);
  for (int table = 0; table < l->tables; table++) {
    TRY(check_table(l->k, m, table));
  }
  TRY(memory_new(&l->values, (size_t)largest, sizeof *l->values, "a unit of the checkpoint"));
  if (l->wide) {
    TRY(memory_new(&l->widened, (size_t)largest, sizeof *l->widened, "a unit of the checkpoint"));
  }
  return STATUS_OK;
}

/* A unit as the store lays it out: what no dataset covers is zero. */
static status read_unit(loading *l, const unit *u, int table) {
  hid_t group;
  memset(l->values, 0, (size_t)u->count * sizeof *l->values);
  TRY(hdf_open_group(l->k->file, l->k->path, ckpt_table_names[table], &group));
  status result = STATUS_OK;
  for (int i = 0; i < u->n_tensors && result == STATUS_OK; i++) {
    const tensor *t = &u->tensors[i];
    if (expected_in(t, table)) {
      const ckpt_entry *e = ckpt_entries_find(&l->k->parts->tables[table], t->name);
      result = hdf_get_data(group, l->k->path, t->name, H5T_IEEE_F32LE, (size_t)t->count * sizeof *l->values, e->digest,
                            l->values + t->offset);
    }
  }
  H5Gclose(group);
  for (int64_t i = 0; l->wide && i < u->count; i++) {
    l->widened[i] = l->values[i];
  }
  return result;
}

status checkpoint_load(const checkpoint *k, const model *m, weight_store *w, bool moments, const dist *d) {
  static const state_kind kinds[TABLES] = {STATE_WEIGHTS, STATE_M, STATE_V};
  loading l = {.k = k, .tables = moments ? TABLES : 1, .wide = w->e->state == DTYPE_F64};
  status result = dist_agree(d, d->rank == 0 ? load_begin(&l, m) : STATUS_OK);
  for (int table = 0; table < l.tables; table++) {
    for (int u = 0; u < m->n_units && result == STATUS_OK; u++) {
      result = dist_agree(d, d->rank == 0 ? read_unit(&l, &m->units[u], table) : STATUS_OK);
      if (result == STATUS_OK) {
        const void *values = l.wide ? (const void *)l.widened : l.values;
        result = dist_agree(d, w->ops->write(w, u, kinds[table], values));
      }
    }
  }
  free(l.values);
  free(l.widened);
  return result;
}
