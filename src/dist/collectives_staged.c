#include "dist/collectives_staged.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"

/* An exchange under way: what has to go back to the engine once it is done. */
typedef struct {
  char *host; /* freed by wait */
  char *sent; /* host copy that the messages read; NULL: host is it */
  void *engine;
  size_t bytes;
} transfer;

typedef struct {
  collectives base;
  engine *e;
  collectives *inner;
  transfer *transfers;
  size_t n, capacity;
} staged;

/* Whatever stream the data comes from. */
static status from_engine(staged *s, void *host, const void *data, size_t bytes) {
  TRY(s->e->ops->synchronize(s->e));
  TRY(s->e->ops->copy(s->e, STREAM_MAIN, COPY_TO_HOST, host, data, bytes));
  return s->e->ops->synchronize(s->e);
}

static status new_transfer(staged *s, void *target, size_t bytes, transfer **out) {
  TRY(memory_grow(&s->transfers, &s->capacity, s->n + 1, sizeof *s->transfers, "exchanges under way"));
  transfer *t = &s->transfers[s->n];
  *t = (transfer){.engine = target, .bytes = bytes};
  TRY(memory_new(&t->host, bytes > 0 ? bytes : 1, 1, "an exchange through host memory"));
  s->n++;
  *out = t;
  return STATUS_OK;
}

static status all_gather(collectives *base, const void *own_slice, void *buffer, dtype type, const int64_t *starts) {
  staged *s = (staged *)base;
  size_t size = dtype_size(type);
  size_t own = (size_t)starts[base->d->rank] * size,
         count = (size_t)(starts[base->d->rank + 1] - starts[base->d->rank]) * size;
  transfer *t;
  TRY(new_transfer(s, buffer, (size_t)starts[base->d->ranks] * size, &t));
  TRY(from_engine(s, t->host + own, own_slice, count));
  return s->inner->ops->all_gather(s->inner, t->host + own, t->host, type, starts);
}

static status all_to_all(collectives *base, const void *buffer, dtype type, const int64_t *starts, void *parts) {
  staged *s = (staged *)base;
  size_t size = dtype_size(type), whole = (size_t)starts[base->d->ranks] * size;
  size_t own = (size_t)(starts[base->d->rank + 1] - starts[base->d->rank]) * size;
  transfer *t;
  TRY(new_transfer(s, parts, own * (size_t)base->d->ranks, &t));
  TRY(memory_new(&t->sent, whole, 1, "an exchange through host memory"));
  TRY(from_engine(s, t->sent, buffer, whole));
  return s->inner->ops->all_to_all(s->inner, t->sent, type, starts, t->host);
}

static void forget(staged *s) {
  for (size_t i = 0; i < s->n; i++) {
    free(s->transfers[i].host);
    free(s->transfers[i].sent);
  }
  s->n = 0;
}

static status wait_all(collectives *base) {
  staged *s = (staged *)base;
  TRY(s->inner->ops->wait(s->inner));
  for (size_t i = 0; i < s->n; i++) {
    TRY(s->e->ops->copy(s->e, STREAM_MAIN, COPY_TO_ENGINE, s->transfers[i].engine, s->transfers[i].host,
                        s->transfers[i].bytes));
  }
  TRY(s->e->ops->synchronize(s->e)); /* the host copies go now */
  forget(s);
  return STATUS_OK;
}

static void destroy(collectives *base) {
  staged *s = (staged *)base;
  s->inner->ops->destroy(s->inner);
  forget(s);
  free(s->transfers);
  free(s);
}

static const collectives_ops staged_ops = {
    .destroy = destroy, .all_gather = all_gather, .all_to_all = all_to_all, .wait = wait_all};

status collectives_staged_create(const dist *d, engine *e, collectives *inner, collectives **out) {
  *out = NULL;
  staged *s;
  status made = memory_new(&s, 1, sizeof *s, "collectives");
  if (made != STATUS_OK) {
    inner->ops->destroy(inner);
    return made;
  }
  *s = (staged){.base = {.ops = &staged_ops, .d = d}, .e = e, .inner = inner};
  snprintf(s->base.description, sizeof s->base.description, "%.80s, staged", inner->description);
  *out = &s->base;
  return STATUS_OK;
}
