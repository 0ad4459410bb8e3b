#include "ckpt/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "ckpt/write.h"

/* In large pages where the system has them. The memory is taken now: the first save should wait for the copy alone, and
 * a machine that promises more than it has should say so before the run begins. */
static status allocate(snapshot *s) {
  if (s->bytes == 0) {
    return STATUS_OK;
  }
  void *block = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  int error = errno;
  if (block != MAP_FAILED) {
    s->block = block;
    madvise(block, s->bytes, MADV_HUGEPAGE);
    error = madvise(block, s->bytes, MADV_POPULATE_WRITE) == 0 ? 0 : errno;
  }
  if (error != 0 && error != EINVAL) { /* EINVAL: a kernel before 5.14; pages then come when they are written */
    char text[32];
    FAIL("out of memory: the copy of a checkpoint's state needs %s (%s)", memory_text((double)s->bytes, text),
         strerror(error));
  }
  return STATUS_OK;
}

static status lay_out(snapshot *s) {
  const model *m = s->w->m;
  TRY(memory_new(&s->first, (size_t)m->n_units, sizeof *s->first, "ranges of units"));
  TRY(memory_new(&s->count, (size_t)m->n_units, sizeof *s->count, "ranges of units"));
  TRY(memory_new(&s->values, (size_t)ckpt_parts(m), sizeof *s->values, "parts of a checkpoint"));
  for (int u = 0; u < m->n_units; u++) {
    s->w->ops->own(s->w, u, &s->first[u], &s->count[u]);
    s->bytes += TABLES * (size_t)s->count[u] * sizeof(float);
  }
  TRY(allocate(s));
  float *at = s->block;
  for (int part = 0; part < ckpt_parts(m); part++) {
    s->values[part] = at;
    at += s->count[part % m->n_units];
  }
  return STATUS_OK;
}

status snapshot_create(weight_store *w, snapshot **out) {
  REQUIRE(w->e->state == DTYPE_F32, "a checkpoint holds fp32; the state of this engine is of another type");
  TRY(memory_new(out, 1, sizeof **out, "the copy of a checkpoint's state"));
  (*out)->w = w;
  status result = lay_out(*out);
  if (result != STATUS_OK) {
    snapshot_free(*out);
    *out = NULL;
  }
  return result;
}

void snapshot_free(snapshot *s) {
  if (s == NULL) {
    return;
  }
  if (s->block != NULL) {
    munmap(s->block, s->bytes);
  }
  free(s->first);
  free(s->count);
  free(s->values);
  free(s);
}

status snapshot_take(snapshot *s) {
  weight_store *w = s->w;
  status result = STATUS_OK;
  for (int part = 0; part < ckpt_parts(w->m) && result == STATUS_OK; part++) {
    result = w->ops->read_own(w, part % w->m->n_units, ckpt_part_kind(w->m, part), s->values[part]);
  }
  /* Also after a failure: copies may be under way into memory that the next snapshot or the writer uses. */
  status synchronized = w->e->ops->synchronize(w->e);
  return result != STATUS_OK ? result : synchronized;
}
