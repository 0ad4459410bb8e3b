#include "model/tensors.h"

#include <fnmatch.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

static int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

init_rule init_constant(double value) {
  return (init_rule){.kind = INIT_CONSTANT, .value = value, .range = {NAN, NAN}};
}

init_rule init_normal(double deviation) {
  return (init_rule){.kind = INIT_NORMAL, .value = deviation, .range = {NAN, NAN}};
}

init_rule init_xavier(int64_t out, int64_t in) {
  return (init_rule){.kind = INIT_UNIFORM, .value = sqrt(6.0 / (double)(in + out)), .range = {NAN, NAN}};
}

void table_free(tensor_table *t) {
  free(t->entries);
  *t = (tensor_table){0};
}

static status table_add(tensor_table *t, const char *name, const table_entry *entry) {
  TRY(memory_grow(&t->entries, &t->capacity, t->n + 1, sizeof(table_entry), "tensor table"));
  table_entry *e = &t->entries[t->n];
  *e = *entry;
  int length = snprintf(e->t.name, sizeof(e->t.name), "%s%s", t->prefix, name);
  REQUIRE(length > 0 && length < TENSOR_NAME, "the tensor name %s%s is longer than %d characters", t->prefix, name,
          TENSOR_NAME - 1);
  e->t.count = 1;
  for (int i = 0; i < e->t.dims; i++) {
    int64_t size = e->t.shape[i];
    REQUIRE(size > 0, "tensor %s has a dimension of %lld", e->t.name, (long long)size);
    if (e->t.count > INT64_MAX / 64 / size) {
      USER_ERROR("tensor %s has too many elements; make the model smaller", e->t.name);
    }
    e->t.count *= size;
  }
  if (e->reserved == 0) {
    e->reserved = e->t.count;
  }
  e->t.decay = true;
  t->n++;
  return STATUS_OK;
}

status table_linear(tensor_table *t, const char *name, int64_t out, int64_t in, bool joins) {
  table_entry e = {.joins = joins};
  e.t = (tensor){.dims = 2, .shape = {out, in, 1}, .matrix = true, .trainable = true, .init = init_xavier(out, in)};
  return table_add(t, name, &e);
}

status table_matrix(tensor_table *t, const char *name, int64_t rows, int64_t columns, int64_t padded_rows,
                    init_rule init) {
  table_entry e = {.reserved = padded_rows * columns};
  e.t = (tensor){.dims = 2, .shape = {rows, columns, 1}, .matrix = true, .trainable = true, .init = init};
  return table_add(t, name, &e);
}

status table_vector(tensor_table *t, const char *name, int64_t count, bool trainable, init_rule init) {
  table_entry e = {.joins = false};
  e.t = (tensor){.dims = 1, .shape = {count, 1, 1}, .trainable = trainable, .init = init};
  return table_add(t, name, &e);
}

status table_cube(tensor_table *t, const char *name, const int64_t shape[3], init_rule init) {
  table_entry e = {.joins = false};
  e.t = (tensor){.dims = 3, .shape = {shape[0], shape[1], shape[2]}, .trainable = true, .init = init};
  return table_add(t, name, &e);
}

/* Appends the table's matrices, or its vectors, to the unit; returns the first free element. */
static int64_t place(const tensor_table *t, bool matrices, int64_t at, unit *u) {
  for (size_t i = 0; i < t->n; i++) {
    const table_entry *e = &t->entries[i];
    if (e->t.matrix != matrices) {
      continue;
    }
    tensor *placed = &u->tensors[u->n_tensors];
    *placed = e->t;
    placed->offset = e->joins ? at : round_up(at, GROUP_ALIGN);
    u->runs[u->n_tensors] = (optim_run){
        .first = placed->offset, .count = placed->count, .trainable = placed->trainable, .decay = placed->decay};
    u->n_tensors++;
    at = placed->offset + e->reserved;
  }
  return at;
}

status unit_layout(const tensor_table *t, const char *name, unit *u) {
  *u = (unit){0};
  snprintf(u->name, sizeof(u->name), "%s", name);
  TRY(memory_new(&u->tensors, t->n, sizeof(tensor), "tensors of a unit"));
  TRY(memory_new(&u->runs, t->n, sizeof(optim_run), "optimizer runs of a unit"));
  u->vectors = round_up(place(t, true, 0, u), GROUP_ALIGN);
  int64_t end = place(t, false, u->vectors, u);
  u->n_runs = u->n_tensors;
  u->leaf = round_up((end + UNIT_LEAVES - 1) / UNIT_LEAVES, LEAF_ALIGN);
  u->count = UNIT_LEAVES * u->leaf;
  return STATUS_OK;
}

void unit_free(unit *u) {
  free(u->tensors);
  free(u->runs);
  *u = (unit){0};
}

const tensor *unit_tensor(const unit *u, const char *prefix, const char *name) {
  if (name == NULL) {
    return NULL;
  }
  size_t length = strlen(prefix);
  for (int i = 0; i < u->n_tensors; i++) {
    const tensor *t = &u->tensors[i];
    if (strncmp(t->name, prefix, length) == 0 && strcmp(t->name + length, name) == 0) {
      return t;
    }
  }
  return NULL;
}

static bool pattern_matches(const char *pattern, const tensor *t) {
  if (strcmp(pattern, "vectors") == 0) {
    return t->dims == 1;
  }
  if (strcmp(pattern, "embed") == 0) {
    return strcmp(t->name, "embed.weight") == 0;
  }
  return fnmatch(pattern, t->name, 0) == 0;
}

static status exclude_one(const model *m, const char *pattern) {
  bool found = false;
  for (int i = 0; i < m->n_units; i++) {
    for (int j = 0; j < m->units[i].n_tensors; j++) {
      if (pattern_matches(pattern, &m->units[i].tensors[j])) {
        m->units[i].tensors[j].decay = false;
        m->units[i].runs[j].decay = false;
        found = true;
      }
    }
  }
  if (!found) {
    USER_ERROR(
        "train.decay_exclude: '%s' matches no tensor of this model; give tensor names with * for any text (such as "
        "*.norm1.scale), or the words vectors, embed",
        pattern);
  }
  return STATUS_OK;
}

status decay_exclude_apply(const model *m, const char *patterns) {
  if (patterns == NULL) {
    return STATUS_OK;
  }
  char *copy = NULL;
  TRY(memory_format(&copy, "%s", patterns));
  status result = STATUS_OK;
  char *rest = copy;
  for (char *item; result == STATUS_OK && (item = strsep(&rest, ",")) != NULL;) {
    item += strspn(item, " \t");
    size_t length = strlen(item);
    while (length > 0 && (item[length - 1] == ' ' || item[length - 1] == '\t')) {
      item[--length] = '\0';
    }
    if (length > 0) {
      result = exclude_one(m, item);
    }
  }
  free(copy);
  return result;
}
