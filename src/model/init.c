/* Initial values: element e of a tensor is a function of (seed, tensor name, e). */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/digest.h"
#include "base/philox.h"
#include "model/model.h"

/* The element number that stands for "the whole tensor". */
static const uint64_t whole_tensor = UINT64_MAX;

static philox_block draw(uint64_t seed, uint64_t name, uint64_t element) {
  return philox(seed, PHILOX_WEIGHTS, (uint32_t)name, (uint32_t)(name >> 32), (uint32_t)element,
                (uint32_t)(element >> 32));
}

/* Uniform in (0, 1). */
static double uniform(uint64_t seed, uint64_t name, uint64_t element) {
  philox_block b = draw(seed, name, element);
  return philox_uniform53(b.x[0], b.x[1]);
}

/* Box–Muller. */
static double normal(uint64_t seed, uint64_t name, uint64_t element) {
  static const double two_pi = 6.283185307179586476925;
  philox_block b = draw(seed, name, element);
  double radius = sqrt(-2.0 * log(philox_uniform53(b.x[0], b.x[1])));
  return radius * cos(two_pi * philox_uniform53(b.x[2], b.x[3]));
}

/* Inverse of softplus, for a wanted effective value; ln(eᵛ − 1) without overflow. */
static double sine_raw(double wanted) {
  double v = wanted > FLT_EPSILON ? wanted : FLT_EPSILON;
  return v + log(-expm1(-v));
}

static double initial_value(const init_rule *r, uint64_t seed, uint64_t name, uint64_t element) {
  switch (r->kind) {
    case INIT_NORMAL:
      return r->value * normal(seed, name, element);
    case INIT_UNIFORM:
      return r->value * (2.0 * uniform(seed, name, element) - 1.0);
    case INIT_SINE:
      if (r->spread > 0) {
        return sine_raw(r->value + r->spread * normal(seed, name, element));
      }
      if (!isnan(r->range.lo) && !isnan(r->range.hi)) {
        double lo = fmin(r->range.lo, r->range.hi), hi = fmax(r->range.lo, r->range.hi);
        return sine_raw(lo + (hi - lo) * uniform(seed, name, whole_tensor));
      }
      return sine_raw(r->value);
    case INIT_CONSTANT:
      break;
  }
  return r->value;
}

static bool one_value(const init_rule *r) {
  return r->kind == INIT_CONSTANT || (r->kind == INIT_SINE && !(r->spread > 0));
}

status model_initial(const model *m, int unit_index, uint64_t seed, int64_t first, int64_t count, float *values) {
  REQUIRE(unit_index >= 0 && unit_index < m->n_units, "unit %d of a model with %d units", unit_index, m->n_units);
  const unit *u = &m->units[unit_index];
  REQUIRE(first >= 0 && count >= 0 && first <= u->count && count <= u->count - first,
          "elements %lld + %lld of unit %s, which has %lld", (long long)first, (long long)count, u->name,
          (long long)u->count);
  memset(values, 0, (size_t)count * sizeof(float));
  for (int i = 0; i < u->n_tensors; i++) {
    const tensor *t = &u->tensors[i];
    int64_t begin = first > t->offset ? first : t->offset;
    int64_t end = first + count < t->offset + t->count ? first + count : t->offset + t->count;
    uint64_t name = digest_name(t->name);
    float same = begin < end && one_value(&t->init) ? (float)initial_value(&t->init, seed, name, 0) : 0.0f;
    for (int64_t e = begin; e < end; e++) {
      values[e - first] =
          one_value(&t->init) ? same : (float)initial_value(&t->init, seed, name, (uint64_t)(e - t->offset));
    }
  }
  return STATUS_OK;
}

status model_initial_parallel(const model *m, int unit_index, uint64_t seed, int64_t first, int64_t count, int threads,
                              float *values) {
  enum { PIECE = 1 << 12 }; /* elements: many a thread, since vectors and padding cost nothing */
  if (threads <= 1 || count <= PIECE) {
    return model_initial(m, unit_index, seed, first, count, values);
  }
  TRY(model_initial(m, unit_index, seed, first, PIECE, values)); /* on this thread, which keeps the message */
  status worst = STATUS_OK;
#pragma omp parallel for num_threads(threads) schedule(dynamic) reduction(max : worst)
  for (int64_t at = PIECE; at < count; at += PIECE) {
    int64_t n = count - at < PIECE ? count - at : PIECE;
    status s = model_initial(m, unit_index, seed, first + at, n, values + at);
    worst = s > worst ? s : worst;
  }
  REQUIRE(worst == STATUS_OK, "initial values of elements %lld + %lld of unit %d, which do not exist", (long long)first,
          (long long)count, unit_index);
  return STATUS_OK;
}
