#include "ckpt/entries.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "ckpt/hdf.h"

const char *const ckpt_table_names[TABLES] = {"model", "optim/m", "optim/v"};

status ckpt_entries_add(ckpt_entries *e, const ckpt_entry *entry) {
  TRY(memory_grow(&e->list, &e->capacity, e->count + 1, sizeof *e->list, "table of a checkpoint's tensors"));
  e->list[e->count++] = *entry;
  return STATUS_OK;
}

const ckpt_entry *ckpt_entries_find(const ckpt_entries *e, const char *name) {
  for (size_t i = 0; i < e->count; i++) {
    if (strcmp(e->list[i].name, name) == 0) {
      return &e->list[i];
    }
  }
  return NULL;
}

void ckpt_entries_free(ckpt_entries *e) {
  free(e->list);
  *e = (ckpt_entries){0};
}

int64_t ckpt_entry_count(const ckpt_entry *entry) {
  int64_t count = 1;
  for (int i = 0; i < entry->dims; i++) {
    count *= entry->shape[i];
  }
  return count;
}

const char *ckpt_shape_text(int dims, const int64_t *shape, char *text) {
  int at = 0;
  text[0] = '\0';
  for (int i = 0; i < dims; i++) {
    at += snprintf(text + at, (size_t)(80 - at), "%s%lld", i > 0 ? " x " : "", (long long)shape[i]);
  }
  return text;
}

static status read_entry(hid_t group, const char *path, int table, int64_t i, ckpt_entries *e) {
  char *name;
  TRY(hdf_member(group, path, i, &name));
  ckpt_entry entry = {0};
  status result = STATUS_OK;
  if (strlen(name) >= sizeof entry.name) {
    result = hdf_damaged(__FILE__, __LINE__, path, "/%s has a member with a name of %zu bytes", ckpt_table_names[table],
                         strlen(name));
  } else {
    snprintf(entry.name, sizeof entry.name, "%s", name);
    result = hdf_data_shape(group, path, name, H5T_IEEE_F32LE, &entry.dims, entry.shape, entry.digest);
  }
  free(name);
  TRY(result);
  return ckpt_entries_add(e, &entry);
}

status ckpt_entries_read(hid_t file, const char *path, int table, ckpt_entries *e) {
  hid_t group;
  int64_t count = 0;
  TRY(hdf_open_group(file, path, ckpt_table_names[table], &group));
  status result = hdf_members(group, path, &count);
  for (int64_t i = 0; i < count && result == STATUS_OK; i++) {
    result = read_entry(group, path, table, i, e);
  }
  H5Gclose(group);
  return result;
}

static int by_name(const void *a, const void *b) {
  return strcmp((*(const ckpt_entry *const *)a)->name, (*(const ckpt_entry *const *)b)->name);
}

status ckpt_entries_digest(const ckpt_entries *e, char text[DIGEST_TEXT]) {
  const ckpt_entry **sorted;
  digest *running;
  TRY(memory_new(&sorted, e->count + 1, sizeof *sorted, "table of a checkpoint's tensors"));
  status result = digest_new(&running);
  if (result != STATUS_OK) {
    free(sorted);
    return result;
  }
  for (size_t i = 0; i < e->count; i++) {
    sorted[i] = &e->list[i];
  }
  qsort(sorted, e->count, sizeof *sorted, by_name);
  for (size_t i = 0; i < e->count; i++) {
    char line[TENSOR_NAME + DIGEST_TEXT + 96], shape[80];
    int length = snprintf(line, sizeof line, "%s (%s) %s\n", sorted[i]->name,
                          ckpt_shape_text(sorted[i]->dims, sorted[i]->shape, shape), sorted[i]->digest);
    digest_add(running, line, (size_t)length);
  }
  digest_text(running, text);
  digest_free(running);
  free(sorted);
  return STATUS_OK;
}
