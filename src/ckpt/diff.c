#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "ckpt/checkpoint.h"
#include "ckpt/hdf.h"
#include "ckpt/record.h"

/* How far b is from a. */
typedef struct {
  int64_t differing;  /* elements whose bits differ */
  int64_t non_finite; /* elements that are not finite in a or b and whose bits differ */
  double largest;     /* |a − b| over the finite ones */
  double relative;    /* ‖a − b‖ / ‖a‖ over the finite ones; ∞ when a is zero */
} distance;

static distance distance_of(const float *a, const float *b, int64_t count) {
  distance r = {0};
  double squares = 0, difference = 0;
  for (int64_t i = 0; i < count; i++) {
    bool finite = isfinite(a[i]) && isfinite(b[i]);
    bool same = memcmp(&a[i], &b[i], sizeof a[i]) == 0;
    r.differing += !same;
    r.non_finite += !same && !finite;
    if (finite) {
      double each = fabs((double)a[i] - (double)b[i]);
      r.largest = each > r.largest ? each : r.largest;
      difference += each * each;
      squares += (double)a[i] * (double)a[i];
    }
  }
  r.relative = difference > 0 ? sqrt(difference / squares) : 0;
  return r;
}

static status read_tensor(const checkpoint *k, int table, const ckpt_entry *e, float **values) {
  hid_t group;
  TRY(memory_new(values, (size_t)ckpt_entry_count(e), sizeof **values, "a tensor of the checkpoint"));
  status result = hdf_open_group(k->file, k->path, ckpt_table_names[table], &group);
  if (result == STATUS_OK) {
    result = hdf_get_data(group, k->path, e->name, H5T_IEEE_F32LE, (size_t)ckpt_entry_count(e) * sizeof **values,
                          e->digest, *values);
  }
  H5Gclose(group);
  return result;
}

static status diff_tensor(const checkpoint *a, const checkpoint *b, int table, const ckpt_entry *x,
                          const ckpt_entry *y) {
  const char *group = ckpt_table_names[table];
  char first[80], second[80];
  if (x->dims != y->dims || memcmp(x->shape, y->shape, sizeof x->shape) != 0) {
    log_line("/%s/%s: shape (%s) and (%s)", group, x->name, ckpt_shape_text(x->dims, x->shape, first),
             ckpt_shape_text(y->dims, y->shape, second));
    return STATUS_OK;
  }
  float *p = NULL, *q = NULL;
  status result = read_tensor(a, table, x, &p);
  if (result == STATUS_OK) {
    result = read_tensor(b, table, y, &q);
  }
  if (result == STATUS_OK) {
    distance r = distance_of(p, q, ckpt_entry_count(x));
    char note[64] = "";
    if (r.non_finite > 0) {
      snprintf(note, sizeof note, ", %" PRId64 " of them not finite", r.non_finite);
    }
    log_line("/%s/%s: %" PRId64 " of %" PRId64 " elements differ%s, max abs %.3g, relative L2 %.3g", group, x->name,
             r.differing, ckpt_entry_count(x), note, r.largest, r.relative);
  }
  free(p);
  free(q);
  return result;
}

static status diff_table(const checkpoint *a, const checkpoint *b, int table) {
  const ckpt_entries *x = &a->parts->tables[table], *y = &b->parts->tables[table];
  for (size_t i = 0; i < x->count; i++) {
    const ckpt_entry *other = ckpt_entries_find(y, x->list[i].name);
    if (other == NULL) {
      log_line("/%s/%s: only in %s", ckpt_table_names[table], x->list[i].name, a->path);
    } else if (strcmp(x->list[i].digest, other->digest) != 0 || x->list[i].dims != other->dims ||
               memcmp(x->list[i].shape, other->shape, sizeof other->shape) != 0) {
      TRY(diff_tensor(a, b, table, &x->list[i], other));
    }
  }
  for (size_t i = 0; i < y->count; i++) {
    if (ckpt_entries_find(x, y->list[i].name) == NULL) {
      log_line("/%s/%s: only in %s", ckpt_table_names[table], y->list[i].name, b->path);
    }
  }
  return STATUS_OK;
}

static void diff_state(const checkpoint *a, const checkpoint *b) {
  for (int i = 0; i < STATE_FIELDS; i++) {
    const state_field *f = &ckpt_state_fields[i];
    char x[FIELD_VALUE], y[FIELD_VALUE];
    ckpt_state_value(&a->state, f, x);
    ckpt_state_value(&b->state, f, y);
    if (strcmp(x, y) != 0) {
      log_line("/state %s: %s and %s%s", f->name, x, y, f->identity ? "" : " (not part of the digest)");
    }
  }
}

/* The line of `text` that starts with the first `length` bytes of `line`, or NULL. */
static const char *find_key(const char *text, const char *line, size_t length) {
  for (const char *at = text; at != NULL && *at != '\0';) {
    if (strncmp(at, line, length) == 0) {
      return at;
    }
    at = strchr(at, '\n');
    at = at != NULL ? at + 1 : NULL;
  }
  return NULL;
}

/* Keys of a's identity that b's lacks or holds otherwise; with `both` false only those that b lacks. */
static void diff_identity(const checkpoint *a, const checkpoint *b, bool both) {
  static const char separator[] = " = ";
  for (const char *line = a->parts->identity; *line != '\0';) {
    size_t length = strcspn(line, "\n");
    const char *value = strstr(line, separator);
    size_t key = value != NULL && value < line + length ? (size_t)(value - line) + strlen(separator) : length;
    const char *other = find_key(b->parts->identity, line, key);
    if (other == NULL) {
      log_line("/config %.*s: only in %s", (int)length, line, a->path);
    } else if (both && (strcspn(other, "\n") != length || strncmp(line, other, length) != 0)) {
      log_line("/config %.*s: %.*s and %.*s", (int)(key >= 3 ? key - 3 : key), line, (int)(length - key), line + key,
               (int)(strcspn(other, "\n") - key), other + key);
    }
    line += length + (line[length] == '\n');
  }
}

static void diff_tokenizer(const checkpoint *a, const checkpoint *b) {
  if (strcmp(a->parts->digests.tokenizer, b->parts->digests.tokenizer) != 0) {
    log_line("/tokenizer: %s, vocabulary %" PRId64 ", %zu bytes and %s, vocabulary %" PRId64 ", %zu bytes",
             a->tokenizer, a->vocab_size, a->tokenizer_bytes, b->tokenizer, b->vocab_size, b->tokenizer_bytes);
  }
}

static status diff_open(const checkpoint *a, const checkpoint *b, bool *same) {
  bool equal = strcmp(a->digest, b->digest) == 0;
  diff_identity(a, b, true);
  diff_identity(b, a, false);
  diff_tokenizer(a, b);
  diff_state(a, b);
  for (int table = 0; table < TABLES; table++) {
    TRY(diff_table(a, b, table));
  }
  log_line("%s (step %" PRId64 ", digest %s) and %s (step %" PRId64 ", digest %s) are %s", a->path, a->state.step,
           a->digest, b->path, b->state.step, b->digest, equal ? "the same" : "different");
  *same = equal;
  return STATUS_OK;
}

status checkpoint_diff(const char *a, const char *b, bool *same) {
  checkpoint *x = NULL, *y = NULL;
  *same = false;
  status result = checkpoint_open(a, false, &x);
  if (result == STATUS_OK) {
    result = checkpoint_open(b, false, &y);
  }
  if (result == STATUS_OK) {
    result = checkpoint_verify(x);
  }
  if (result == STATUS_OK) {
    result = checkpoint_verify(y);
  }
  if (result == STATUS_OK) {
    result = diff_open(x, y, same);
  }
  checkpoint_close(x);
  checkpoint_close(y);
  return result;
}
