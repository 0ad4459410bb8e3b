#include "trial.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FRONT = 1024, BACK = 16384, MOST_INPUTS = 48, POISON = 0xFF };

const precision_spec precision_fp32 = {"fp32", DTYPE_F32, 0x1p-24, 0x1p-24, 0x1p-24};
/* Tensor cores may cut operands to TF32 instead of rounding them, and round their sums downwards. */
const precision_spec precision_tf32 = {"tf32", DTYPE_F32, 0x1p-24, 0x1p-10, 0x1p-22};
const precision_spec precision_bf16 = {"bf16", DTYPE_BF16, 0x1p-8, 0x1p-8, 0x1p-22};
/* bf16, but for what products make of their operands: a value whose own rounding to bf16 takes it over a border of e5m2
 * is off by a quarter, one in 64 are; and for sums in the tensor core's own, short registers. */
const precision_spec precision_fp8 = {"fp8", DTYPE_BF16, 0x1p-8, 0x1p-5, 0x1p-13};
const precision_spec precision_fp16 = {"fp16", DTYPE_F16, 0x1p-11, 0x1p-11, 0x1p-22};

double tolerance_of(const rounding *r, const precision_spec *p) {
  if (r->exact) {
    return 0;
  }
  if (r->wide) {
    return 1e-12;
  }
  /* The largest of many rounding errors, of values several times the root mean square; sums err by a random walk. */
  return 12 * (r->stored * p->storage + r->fed * p->product) + 6 * p->sum * (8 + sqrt((double)r->terms));
}

typedef struct {
  const char *name;
  void *values;
  int64_t n;
} named_input;

struct inputs {
  const precision_spec *precision;
  named_input list[MOST_INPUTS];
  int n;
};

inputs *inputs_new(const precision_spec *p) {
  inputs *in = zeros(1, sizeof *in);
  in->precision = p;
  return in;
}

const precision_spec *trial_precision(const trial *t) {
  return t->in->precision;
}

static void *find_input(inputs *in, const char *name, int64_t n, size_t size, bool *fresh) {
  for (int i = 0; i < in->n; i++) {
    if (strcmp(in->list[i].name, name) == 0) {
      assert_true(in->list[i].n == n);
      *fresh = false;
      return in->list[i].values;
    }
  }
  assert_true(in->n < MOST_INPUTS);
  void *values = zeros((size_t)n, size);
  in->list[in->n++] = (named_input){name, values, n};
  *fresh = true;
  return values;
}

double *numbers(trial *t, const char *name, int64_t n, bool *fresh) {
  return find_input(t->in, name, n, sizeof(double), fresh);
}

int32_t *integers(trial *t, const char *name, int64_t n, bool *fresh) {
  return find_input(t->in, name, n, sizeof(int32_t), fresh);
}

/* To nearest even at `bits` bits of a float's significand. */
static float cut(float x, int bits) {
  uint32_t u, half = 1u << (23 - bits), odd;
  memcpy(&u, &x, sizeof u);
  odd = u >> (24 - bits) & 1;
  u = (u + half - 1 + odd) & ~(2 * half - 1);
  memcpy(&x, &u, sizeof x);
  return x;
}

static float rounded(double x, element_kind kind, const precision_spec *p) {
  if (kind != KIND_C) {
    return (float)x;
  }
  switch (p->storage_type) {
    case DTYPE_BF16:
      return cut((float)x, 8);
    case DTYPE_F16:
      return (float)(_Float16)x;
    default:
      return p->product > p->storage ? cut((float)x, 11) : (float)x;
  }
}

static dtype type_of(const engine *e, element_kind kind) {
  return kind == KIND_C ? e->compute : kind == KIND_S ? e->state : DTYPE_F64;
}

static size_t size_of(const engine *e, element_kind kind) {
  return kind == KIND_I32 ? sizeof(int32_t) : dtype_size(type_of(e, kind));
}

static void to_type(dtype type, const double *from, int64_t n, void *to) {
  for (int64_t i = 0; i < n; i++) {
    float x = (float)from[i];
    uint32_t bits;
    switch (type) {
      case DTYPE_F64:
        ((double *)to)[i] = from[i];
        break;
      case DTYPE_F32:
        ((float *)to)[i] = x;
        break;
      case DTYPE_BF16: /* already rounded */
        memcpy(&bits, &x, sizeof bits);
        ((uint16_t *)to)[i] = (uint16_t)(bits >> 16);
        break;
      case DTYPE_F16:
        ((_Float16 *)to)[i] = (_Float16)x;
        break;
    }
  }
}

static void from_type(dtype type, const void *from, int64_t n, double *to) {
  for (int64_t i = 0; i < n; i++) {
    uint32_t bits;
    float x;
    switch (type) {
      case DTYPE_F64:
        to[i] = ((const double *)from)[i];
        break;
      case DTYPE_F32:
        to[i] = (double)((const float *)from)[i];
        break;
      case DTYPE_BF16:
        bits = (uint32_t)((const uint16_t *)from)[i] << 16;
        memcpy(&x, &bits, sizeof x);
        to[i] = (double)x;
        break;
      case DTYPE_F16:
        to[i] = (double)((const _Float16 *)from)[i];
        break;
    }
  }
}

/* A buffer of the trial between its guards; `bytes` (host) is its content, NULL: poison. */
static trial_buffer *add_buffer(trial *t, element_kind kind, int64_t n, const void *bytes) {
  assert_true(t->n < TRIAL_BUFFERS);
  size_t size = (size_t)n * size_of(t->e, kind), whole = FRONT + size + BACK;
  char *host = zeros(whole, 1);
  memset(host, POISON, whole);
  if (bytes != NULL) {
    memcpy(host + FRONT, bytes, size);
  }
  trial_buffer *b = &t->list[t->n];
  *b = (trial_buffer){.kind = kind, .n = n, .given = bytes == NULL ? NULL : host + FRONT};
  OK(t->e->ops->alloc(t->e, whole, "a test", (void **)&b->base));
  OK(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_ENGINE, b->base, host, whole));
  OK(t->e->ops->synchronize(t->e));
  t->n++;
  return b;
}

void *put(trial *t, element_kind kind, const void *values, int64_t n) {
  if (kind == KIND_I32) {
    return add_buffer(t, kind, n, values)->base + FRONT;
  }
  double *x = (double *)values;
  for (int64_t i = 0; i < n && kind != KIND_F64; i++) {
    x[i] = (double)rounded(x[i], kind, t->in->precision);
  }
  void *bytes = zeros((size_t)n, size_of(t->e, kind));
  to_type(type_of(t->e, kind), x, n, bytes);
  return add_buffer(t, kind, n, bytes)->base + FRONT;
}

void *given(trial *t, element_kind kind, const char *name, int64_t n, double scale) {
  bool fresh;
  double *x = numbers(t, name, n, &fresh);
  for (int64_t i = 0; i < n && fresh; i++) {
    x[i] = scale * bell();
  }
  return put(t, kind, x, n);
}

static void download(engine *e, const void *from, size_t bytes, void *to) {
  OK(e->ops->copy(e, STREAM_MAIN, COPY_TO_HOST, to, from, bytes));
  OK(e->ops->synchronize(e));
}

double *shared(trial *t, element_kind kind, const char *name, const void *from, int64_t n) {
  bool fresh;
  double *x = numbers(t, name, n, &fresh);
  if (fresh) {
    assert_true(t->reference);
    size_t bytes = (size_t)n * size_of(t->e, kind);
    void *raw = zeros(bytes, 1);
    download(t->e, from, bytes, raw);
    from_type(type_of(t->e, kind), raw, n, x);
    for (int64_t i = 0; i < n; i++) {
      x[i] = (double)rounded(x[i], kind, t->in->precision);
    }
  }
  return x;
}

void *result(trial *t, element_kind kind, const char *name, int64_t n, rounding r) {
  trial_buffer *b = add_buffer(t, kind, n, NULL);
  b->name = name;
  b->r = r;
  return b->base + FRONT;
}

void *changed(trial *t, element_kind kind, const char *name, const double *before, int64_t n, rounding r) {
  put(t, kind, before, n);
  trial_buffer *b = &t->list[t->n - 1];
  b->name = name;
  b->r = r;
  b->given = NULL;
  return b->base + FRONT;
}

void *scratch(trial *t, element_kind kind, int64_t n) {
  return add_buffer(t, kind, n, NULL)->base + FRONT;
}

void noted(trial *t, const char *name, const double *values, int64_t n, rounding r) {
  assert_true(t->n < TRIAL_BUFFERS);
  size_t bytes = (size_t)n * sizeof(double);
  trial_buffer b = {
      .name = name, .kind = KIND_F64, .n = n, .r = r, .bytes = zeros(bytes, 1), .values = zeros(bytes, 1)};
  memcpy(b.bytes, values, bytes);
  memcpy(b.values, values, bytes);
  t->list[t->n++] = b;
}

/* A stretch has no memory of its own: base points into that of another buffer and `given` to that buffer's place. */
void stretch(trial *t, void *of, const char *name, int64_t first, int64_t n, rounding r) {
  for (int i = 0; i < t->n; i++) {
    trial_buffer *whole = &t->list[i];
    if (whole->base == NULL || whole->base + FRONT != (char *)of) {
      continue;
    }
    assert_true(t->n < TRIAL_BUFFERS && first + n <= whole->n);
    whole->r.scale = INFINITY;
    t->list[t->n] = (trial_buffer){.name = name, .kind = whole->kind, .n = n, .r = r};
    t->list[t->n].bytes = zeros((size_t)n + 1, size_of(t->e, whole->kind));
    t->list[t->n].values = zeros((size_t)n + 1, sizeof(double));
    download(t->e, (char *)of + (size_t)first * size_of(t->e, whole->kind), (size_t)n * size_of(t->e, whole->kind),
             t->list[t->n].bytes);
    from_type(type_of(t->e, whole->kind), t->list[t->n].bytes, n, t->list[t->n].values);
    t->n++;
    return;
  }
  fail_msg("%s is a stretch of no result", name);
}

/* First byte of [from, to) that is not poison, or −1. */
static int64_t first_written(const char *bytes, size_t from, size_t to) {
  for (size_t i = from; i < to; i++) {
    if ((unsigned char)bytes[i] != POISON) {
      return (int64_t)i;
    }
  }
  return -1;
}

static bool check_buffer(const trial_buffer *b, const char *host, size_t size, int index) {
  char label[32];
  snprintf(label, sizeof label, "buffer %d", index);
  const char *name = b->name ? b->name : label;
  int64_t before = first_written(host, 0, FRONT), after = first_written(host, FRONT + size, FRONT + size + BACK);
  if (before >= 0) {
    print_error("%s: written to from %lld bytes before its start on\n", name, (long long)(FRONT - before));
  }
  if (after >= 0) {
    print_error("%s: written to from %lld bytes past its end on\n", name, (long long)((size_t)after - FRONT - size));
  }
  bool kept = b->given == NULL || memcmp(host + FRONT, b->given, size) == 0;
  if (!kept) {
    print_error("%s: an input was written to\n", name);
  }
  return before < 0 && after < 0 && kept;
}

status trial_collect(trial *t, bool *clean) {
  *clean = true;
  TRY(t->e->ops->synchronize(t->e));
  for (int i = 0; i < t->n; i++) {
    trial_buffer *b = &t->list[i];
    if (b->base == NULL) {
      continue;
    }
    size_t size = (size_t)b->n * size_of(t->e, b->kind);
    char *host = zeros(FRONT + size + BACK, 1);
    TRY(t->e->ops->copy(t->e, STREAM_MAIN, COPY_TO_HOST, host, b->base, FRONT + size + BACK));
    TRY(t->e->ops->synchronize(t->e));
    *clean = check_buffer(b, host, size, i) && *clean;
    if (b->name != NULL) {
      b->bytes = host + FRONT;
      b->values = zeros((size_t)b->n, sizeof(double));
      from_type(type_of(t->e, b->kind), b->bytes, b->n, b->values);
    }
  }
  return STATUS_OK;
}

void trial_end(trial *t) {
  for (int i = 0; i < t->n; i++) {
    if (t->list[i].base != NULL) {
      t->e->ops->free(t->e, t->list[i].base);
    }
  }
}

/* max |a − b| over the root mean square of b; infinity for a NaN. */
static double error_of(const trial_buffer *a, const trial_buffer *b) {
  double worst = 0, squares = 0;
  for (int64_t i = 0; i < b->n; i++) {
    double difference = fabs(a->values[i] - b->values[i]);
    if (!(difference <= worst)) { /* a NaN comes in here, and stays */
      worst = difference;
    }
    if (isnan(difference)) {
      return INFINITY;
    }
    squares += b->values[i] * b->values[i];
  }
  double magnitude = fmax(sqrt(squares / (double)b->n), b->r.scale);
  worst = fmax(0, worst - b->r.slack);
  return worst == 0 ? 0 : magnitude > 0 ? worst / magnitude : INFINITY;
}

/* The next result from index i on; NULL: none. */
static const trial_buffer *next_result(const trial *t, int *i) {
  while (*i < t->n && t->list[*i].name == NULL) {
    ++*i;
  }
  return *i < t->n ? &t->list[(*i)++] : NULL;
}

double trial_compare(const char *what, const trial *t, const trial *reference, const precision_spec *p) {
  int i = 0, j = 0;
  double worst = 0;
  for (;;) {
    const trial_buffer *a = next_result(t, &i), *b = next_result(reference, &j);
    if (a == NULL || b == NULL) {
      assert_true(a == b);
      return worst;
    }
    assert_string_equal(a->name, b->name);
    double error = error_of(a, b), tolerance = tolerance_of(&b->r, p);
    double ratio = error == 0 ? 0 : tolerance > 0 ? error / tolerance : INFINITY;
    if (!(ratio <= 1)) {
      print_error("%s: %s: error %.3g, tolerance %.3g\n", what, b->name, error, tolerance);
    }
    worst = fmax(worst, ratio);
  }
}

bool same_bits(const char *what, const trial *a, const trial *b, bool products_too) {
  assert_int_equal(a->n, b->n);
  for (int i = 0; i < a->n; i++) {
    const trial_buffer *x = &a->list[i], *y = &b->list[i];
    if (x->name == NULL || (x->r.product && !products_too)) {
      continue;
    }
    if (memcmp(x->bytes, y->bytes, (size_t)x->n * size_of(a->e, x->kind)) != 0) {
      print_error("%s: %s has other bits when it is computed again\n", what, x->name);
      return false;
    }
  }
  return true;
}
