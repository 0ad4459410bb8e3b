#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "model/parts.h"

static status plan_new(buffer_plan *p, const char *what, dtype type, int64_t elements, bool shared, void **out) {
  REQUIRE(elements > 0 && (uint64_t)elements < SIZE_MAX / 16, "the buffer '%s' has %lld elements", what,
          (long long)elements);
  TRY(memory_grow(&p->buffers, &p->room, p->n + 1, sizeof(plan_buffer), "list of buffers"));
  plan_buffer *b = &p->buffers[p->n];
  *b = (plan_buffer){.bytes = (size_t)elements * dtype_size(type), .shared = shared};
  snprintf(b->what, sizeof(b->what), "%s", what);
  if (p->e != NULL) {
    TRY(p->e->ops->alloc(p->e, b->bytes, b->what, &b->at));
  }
  p->bytes += b->bytes;
  p->n++;
  *out = b->at;
  return STATUS_OK;
}

status plan_take(buffer_plan *p, const char *what, dtype type, int64_t elements, void **out) {
  return plan_new(p, what, type, elements, false, out);
}

status plan_share(buffer_plan *p, const char *what, dtype type, int64_t elements, void **out) {
  for (size_t i = 0; i < p->n; i++) {
    plan_buffer *b = &p->buffers[i];
    if (b->shared && strcmp(b->what, what) == 0) {
      REQUIRE(b->bytes == (size_t)elements * dtype_size(type),
              "the shared buffer '%s' has %zu bytes, %zu are asked for", what, b->bytes,
              (size_t)elements * dtype_size(type));
      *out = b->at;
      return STATUS_OK;
    }
  }
  return plan_new(p, what, type, elements, true, out);
}

status plan_keep(buffer_plan *p, config_recompute until, const char *what, dtype type, int64_t elements, void **out) {
  return p->training && p->recompute <= until ? plan_take(p, what, type, elements, out)
                                              : plan_share(p, what, type, elements, out);
}

status plan_amax(buffer_plan *p, const char *what, void **out) {
  *out = NULL;
  return p->fp8 ? plan_take(p, what, p->state, 1, out) : STATUS_OK;
}

void plan_release(buffer_plan *p) {
  for (size_t i = 0; i < p->n; i++) {
    if (p->e != NULL && p->buffers[i].at != NULL) {
      p->e->ops->free(p->e, p->buffers[i].at);
    }
  }
  free(p->buffers);
  p->buffers = NULL;
  p->n = 0;
  p->room = 0;
}
