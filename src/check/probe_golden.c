#include "check/probe_golden.h"

#include <stdlib.h>

#include "base/memory.h"
#include "check/golden_file.h"

static status ignore_value(void *context, const char *name, const char *value) {
  return STATUS_OK;
}

/* What is no dataset, or holds neither integers nor real numbers, is for the reader to refuse. */
static status read_whole(golden_file *f, const char *dataset) {
  int dims;
  int64_t shape[GOLDEN_DIMS], count = 1;
  if (golden_file_shape(f, dataset, &dims, shape) != STATUS_OK) {
    return STATUS_OK;
  }
  for (int i = 0; i < dims; i++) {
    if (shape[i] < 0 || __builtin_mul_overflow(count, shape[i], &count)) {
      return STATUS_OK;
    }
  }
  void *values; /* of either kind */
  TRY(memory_new(&values, (size_t)count, sizeof(double), "the numbers of a parity case"));
  if (golden_file_reals(f, dataset, count, values) != STATUS_OK) {
    (void)!golden_file_integers(f, dataset, count, values);
  }
  free(values);
  return STATUS_OK;
}

typedef struct {
  golden_file *f;
  const char *group; /* "" for the root */
} place;

static status visit(void *context, const char *name);

static status visit_group(golden_file *f, const char *group) {
  place inside = {.f = f, .group = group};
  return golden_file_names(f, group, visit, &inside);
}

static status visit(void *context, const char *name) {
  const place *p = context;
  char *path;
  TRY(memory_format(&path, "%s/%s", p->group, name));
  status result = read_whole(p->f, path);
  free(path);
  return result;
}

status probe_golden(const char *path) {
  static const char *const groups[] = {"params", "grads", "params_after", "train"};
  static const char *const datasets[] = {"input_ids", "labels", "logits", "loss"};
  golden_file *f;
  TRY(golden_file_open(path, &f));
  status result = golden_file_attributes(f, ignore_value, NULL);
  for (size_t i = 0; i < sizeof groups / sizeof groups[0] && result == STATUS_OK; i++) {
    result = visit_group(f, groups[i]);
  }
  for (size_t i = 0; i < sizeof datasets / sizeof datasets[0] && result == STATUS_OK; i++) {
    result = read_whole(f, datasets[i]);
  }
  golden_file_close(f);
  return result;
}
