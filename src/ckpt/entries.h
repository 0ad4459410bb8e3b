/* The tables of datasets that a checkpoint holds: /model, /optim/m, /optim/v. */
#ifndef PSANN_CKPT_ENTRIES_H
#define PSANN_CKPT_ENTRIES_H

#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"
#include "model/model.h"

typedef struct {
  char name[TENSOR_NAME];
  int dims;
  int64_t shape[3];
  char digest[DIGEST_TEXT];
} ckpt_entry;

typedef struct {
  ckpt_entry *list; /* in the order of writing */
  size_t count, capacity;
} ckpt_entries;

enum { TABLE_MODEL, TABLE_M, TABLE_V, TABLES };

/* "model", "optim/m", "optim/v". */
extern const char *const ckpt_table_names[TABLES];

status ckpt_entries_add(ckpt_entries *e, const ckpt_entry *entry);
const ckpt_entry *ckpt_entries_find(const ckpt_entries *e, const char *name);
void ckpt_entries_free(ckpt_entries *e);

/* Names, shapes and digests of a group's datasets; no element is read. */
status ckpt_entries_read(hid_t file, const char *path, int table, ckpt_entries *e);

/* Digest over (name, shape, digest) in the order of names. */
status ckpt_entries_digest(const ckpt_entries *e, char text[DIGEST_TEXT]);

int64_t ckpt_entry_count(const ckpt_entry *entry);

/* "64 x 256" into text (at least 80 bytes); returns text. */
const char *ckpt_shape_text(int dims, const int64_t *shape, char *text);

#endif
