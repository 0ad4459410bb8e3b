/* A model of random shape, a weight store that is plain memory, and what else a checkpoint is made of. */
#ifndef TESTS_CKPT_FIXTURE_H
#define TESTS_CKPT_FIXTURE_H

#include "../base/test_support.h"
#include "ckpt/checkpoint.h"
#include "ckpt/writer.h"

typedef struct {
  uint64_t random; /* state of test_random */
  config *c;
  model *m;
  engine e;
  weight_store w;
  dist d;
  token_store tokens;
  run_state state;
  float **values[3]; /* by state_kind and unit */
  int fail_after;    /* reads and writes that still succeed; −1: all */
} fixture;

/* `scale` ≥ 1 multiplies the model's widths. The weights are random bits, so NaN, infinities and −0 are among them. */
fixture *fixture_new(uint64_t seed, int scale);
void fixture_free(fixture *f);

/* A store of the same model that holds other numbers. */
fixture *fixture_like(const fixture *f);

/* Fills weights and moments anew. */
void fixture_fill(fixture *f);

/* Whether all logical elements are the same bits; padding must be zero in b. */
void fixture_assert_same(const fixture *a, const fixture *b, bool moments);

status fixture_save(fixture *f, const char *folder, int64_t step);

/* A writer of the fixture's state, and the start of a save by it. */
checkpoint_writer *fixture_writer(fixture *f, const char *folder, bool background);
void fixture_start(fixture *f, checkpoint_writer *writer, int64_t step);

/* "<folder>/step_<step>.h5", to be freed. */
char *fixture_path(const char *folder, int64_t step);

/* Whole file into memory, to be freed; and back. */
unsigned char *fixture_read_file(const char *path, size_t *bytes);
void fixture_write_file(const char *path, const void *data, size_t bytes);

/* Open files, groups, datasets and attributes of HDF5. */
int64_t fixture_handles(void);

/* Number of entries of a folder, "." and ".." not counted. */
int fixture_count(const char *folder);
void fixture_remove(const char *folder);

/* What the function prints on standard output and error together, to be freed. */
char *fixture_output(void (*print)(void *context), void *context);

#endif
