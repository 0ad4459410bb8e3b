/* What a checkpoint records beside tensors: the state of the run, its identity, the tokenizer, and the digests of all
 * parts. */
#ifndef PSANN_CKPT_RECORD_H
#define PSANN_CKPT_RECORD_H

#include <hdf5.h>
#include <stdbool.h>

#include "ckpt/checkpoint.h"
#include "base/hdf_driver.h"
#include "ckpt/entries.h"

typedef enum { FIELD_INT, FIELD_REAL, FIELD_TEXT } field_kind;

/* A field of run_state. */
typedef struct {
  const char *name;
  field_kind kind;
  size_t offset;
  bool identity; /* false: depends on how often the run is evaluated */
  bool added;    /* earlier files lack it: a number is 0 there, a text empty; either takes no part in the digest */
} state_field;

enum { STATE_FIELDS = 19 };
extern const state_field ckpt_state_fields[STATE_FIELDS];

/* The value of a field as text, exact. */
enum { FIELD_VALUE = 64 };
const char *ckpt_state_value(const run_state *s, const state_field *f, char text[FIELD_VALUE]);

status ckpt_state_write(hid_t file, const run_state *s);
status ckpt_state_read(hid_t file, const char *path, run_state *s);
void ckpt_state_digest(const run_state *s, char text[DIGEST_TEXT]);

/* One line "section.key = value" for each key that a resume may not change, or only with a warning. *text is the
 * caller's. */
status ckpt_identity(const config *c, char **text);

status ckpt_config_write(hid_t file, const config *c, const char *identity);
/* *identity is the caller's. */
status ckpt_config_read(hid_t file, const char *path, config **c, char **identity);

/* The digest is the one that token stores record for their tokenizer. */
status ckpt_tokenizer_write(hid_t file, const token_store *t, char text[DIGEST_TEXT]);
status ckpt_tokenizer_read(checkpoint *k, char text[DIGEST_TEXT]);

/* Digests of the parts, and of them all. */
typedef struct {
  char model[DIGEST_TEXT], optim[DIGEST_TEXT], state[DIGEST_TEXT], config[DIGEST_TEXT], tokenizer[DIGEST_TEXT];
  char all[DIGEST_TEXT];
} ckpt_digests;

/* Fills model, optim, state, config and all; `tokenizer` is set before. */
status ckpt_digests_make(const ckpt_entries tables[TABLES], const run_state *s, const char *identity, ckpt_digests *g);
status ckpt_digests_write(hid_t file, const ckpt_digests *g);
status ckpt_digests_read(hid_t file, const char *path, ckpt_digests *g);
/* A user error that names the part when they differ. */
status ckpt_digests_compare(const char *path, const ckpt_digests *recorded, const ckpt_digests *found);

/* Whether a file says that it is a checkpoint of a version that this program reads; and how it says so. */
status ckpt_format_write(hid_t file);
status ckpt_format_check(hid_t file, const char *path);

/* What a checkpoint keeps open besides its public part. */
struct checkpoint_parts {
  hdf_driver_fault fault;
  ckpt_entries tables[TABLES];
  ckpt_digests digests;
  char *identity;
};

#endif
