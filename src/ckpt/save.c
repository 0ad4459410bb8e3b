/* A save in the foreground: units go to rank 0 one at a time, and straight into the file. */
#include <stdlib.h>

#include "base/memory.h"
#include "ckpt/checkpoint.h"
#include "ckpt/write.h"

typedef struct {
  ckpt_write *file;
  float *values; /* one part */
} saving;        /* on rank 0 */

static status save_begin(saving *s, const ckpt_content *content) {
  TRY(memory_new(&s->values, (size_t)model_largest_unit(content->m), sizeof *s->values, "a unit of the checkpoint"));
  return ckpt_write_begin(content, &s->file);
}

/* Collective; the ranks agree after each part, so that none waits for a rank that has given up. */
static status save_parts(saving *s, const model *m, weight_store *w, const dist *d) {
  for (int part = 0; part < ckpt_parts(m); part++) {
    status mine = w->ops->read(w, part % m->n_units, ckpt_part_kind(m, part), s->values);
    if (mine == STATUS_OK && d->rank == 0) {
      mine = ckpt_write_part(s->file, s->values);
    }
    TRY(dist_agree(d, mine));
  }
  return STATUS_OK;
}

status checkpoint_save(const char *folder, const config *c, const model *m, weight_store *w, const run_state *state,
                       const token_store *tokenizer_of, const dist *d) {
  const ckpt_content content = {
      .folder = folder, .c = c, .m = m, .tokenizer_of = tokenizer_of, .d = d, .state = *state};
  REQUIRE(w->e->state == DTYPE_F32, "a checkpoint holds fp32; the state of this engine is of another type");
  saving s = {0};
  status result = dist_agree(d, d->rank == 0 ? save_begin(&s, &content) : STATUS_OK);
  if (result == STATUS_OK) {
    result = save_parts(&s, m, w, d);
  }
  if (result == STATUS_OK) {
    result = dist_agree(d, d->rank == 0 ? ckpt_write_end(s.file) : STATUS_OK);
  }
  ckpt_write_free(s.file);
  free(s.values);
  return result;
}
