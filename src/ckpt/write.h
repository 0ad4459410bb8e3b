/* The file of one checkpoint, written part by part: what a save in the foreground and the file thread share. On rank 0,
 * one file at a time; nothing else may call HDF5 meanwhile.
 */
#ifndef PSANN_CKPT_WRITE_H
#define PSANN_CKPT_WRITE_H

#include "ckpt/checkpoint.h"
#include "ckpt/entries.h"

/* What goes into a file besides weights and moments. All of it must live until the write is freed. */
typedef struct {
  const char *folder;
  const config *c;
  const model *m;
  const token_store *tokenizer_of;
  const dist *d;
  run_state state;
  void (*before_naming)(void *context); /* NULL: none; called once the file is whole, before `latest` names it */
  void *context;
} ckpt_content;

/* A part is a unit's weights or one of its moments, in the unit's logical layout. The file holds parts 0 … parts − 1 in
 * this order: all units' weights, their first moments, their second moments. */
static inline int ckpt_parts(const model *m) {
  return TABLES * m->n_units;
}
static inline const unit *ckpt_part_unit(const model *m, int part) {
  return &m->units[part % m->n_units];
}
static inline int ckpt_part_table(const model *m, int part) {
  return part / m->n_units;
}
/* What the weight store calls it. */
state_kind ckpt_part_kind(const model *m, int part);

typedef struct ckpt_write ckpt_write;

/* Makes the folder, clears what killed runs left, looks for space, and creates the temporary file. *out must be freed,
 * also after a failure. */
status ckpt_write_begin(const ckpt_content *content, ckpt_write **out);

/* The next part: unit.count values. */
status ckpt_write_part(ckpt_write *s, const float *values);

/* The rest of the file; to disk, read back, renamed, named, and older ones pruned. */
status ckpt_write_end(ckpt_write *s);

/* Removes what was not finished. */
void ckpt_write_free(ckpt_write *s);

#endif
