#include "shard/held.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

status held_alloc(engine *e, held_run *r, const char *what) {
  size_t bytes = (size_t)r->count * dtype_size(r->type);
  return (r->host ? e->ops->alloc_host : e->ops->alloc)(e, bytes, what, &r->at);
}

void held_free(engine *e, const held_run *r) {
  if (r->at != NULL) {
    (r->host ? e->ops->free_host : e->ops->free)(e, r->at);
  }
}

/* What streams still do with the host's memory comes first. */
status held_read(engine *e, const held_run *from, int64_t first, int64_t count, void *values) {
  const char *at = (const char *)from->at + (size_t)(first - from->first) * dtype_size(from->type);
  size_t bytes = (size_t)count * dtype_size(from->type);
  if (!from->host) {
    return e->ops->copy(e, STREAM_MAIN, COPY_TO_HOST, values, at, bytes);
  }
  TRY(e->ops->synchronize(e));
  memcpy(values, at, bytes);
  return STATUS_OK;
}

static double value_of(const void *values, dtype type, int64_t i) {
  return type == DTYPE_F64 ? ((const double *)values)[i] : (double)((const float *)values)[i];
}

/* To the nearest bf16, ties to even; not-a-number stays one. */
static uint16_t to_bf16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) {
    return (uint16_t)(bits >> 16 | 0x40);
  }
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

static void convert(void *to, dtype to_type, const void *from, dtype from_type, int64_t count) {
  for (int64_t i = 0; i < count; i++) {
    double x = value_of(from, from_type, i);
    switch (to_type) {
      case DTYPE_F64:
        ((double *)to)[i] = x;
        break;
      case DTYPE_F32:
        ((float *)to)[i] = (float)x;
        break;
      case DTYPE_BF16:
        ((uint16_t *)to)[i] = to_bf16((float)x);
        break;
      case DTYPE_F16:
        ((_Float16 *)to)[i] = (_Float16)x;
        break;
    }
  }
}

/* Into the host's memory, once no stream needs what is there. */
static status put(engine *e, const held_run *to, void *place, const void *from, dtype type, int64_t count) {
  TRY(e->ops->synchronize(e));
  if (to->type == type) {
    memcpy(place, from, (size_t)count * dtype_size(type));
  } else {
    convert(place, to->type, from, type, count);
  }
  return STATUS_OK;
}

static status upload(engine *e, char *to, const void *values, size_t bytes) {
  TRY(e->ops->copy(e, STREAM_MAIN, COPY_TO_ENGINE, to, values, bytes));
  return e->ops->synchronize(e);
}

status held_write(engine *e, const held_run *to, int64_t first, const void *values, dtype type, int64_t count) {
  int64_t start = first > to->first ? first : to->first;
  int64_t end = first + count < to->first + to->count ? first + count : to->first + to->count;
  if (start >= end) {
    return STATUS_OK;
  }
  const char *from = (const char *)values + (size_t)(start - first) * dtype_size(type);
  char *place = (char *)to->at + (size_t)(start - to->first) * dtype_size(to->type);
  size_t bytes = (size_t)(end - start) * dtype_size(to->type);
  if (to->host) {
    return put(e, to, place, from, type, end - start);
  }
  if (to->type == type) {
    return upload(e, place, from, bytes);
  }
  void *converted = NULL;
  TRY(memory_new(&converted, (size_t)(end - start), dtype_size(to->type), "converted weights"));
  convert(converted, to->type, from, type, end - start);
  status s = upload(e, place, converted, bytes);
  free(converted);
  return s;
}

void held_release(engine *e, void *p) {
  if (p != NULL) {
    e->ops->free(e, p);
  }
}
