#include "dist/exchange_memory.h"

static bool by_transport(const collectives *c) {
  return c != NULL && c->ops->alloc != NULL;
}

status exchange_alloc(collectives *c, engine *e, size_t bytes, const char *what, void **out) {
  return by_transport(c) ? c->ops->alloc(c, bytes, what, out) : e->ops->alloc(e, bytes, what, out);
}

void exchange_free(collectives *c, engine *e, void *p) {
  if (p == NULL) {
    return;
  }
  if (by_transport(c)) {
    c->ops->free(c, p);
  } else {
    e->ops->free(e, p);
  }
}
