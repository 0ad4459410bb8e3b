/* Exchange of slices over MPI: uneven, empty, cut into many messages, several under way at once. */
#include <string.h>

#include "dist/collectives_mpi.h"
#include "random_values.h"
#include "ranks_main.h"
#include "unit.h"

enum { MAX_RANKS = 16, IN_FLIGHT = 7 };

static dist d;
static uint64_t seed;
static int synchronized;

static status synchronize(engine *e) {
  (void)e;
  synchronized++;
  return STATUS_OK;
}

static const engine_ops ops = {.synchronize = synchronize};
static engine host_engine = {.ops = &ops, .compute = DTYPE_F32, .state = DTYPE_F32};

/* Slices of random lengths, some of them empty. */
static void random_starts(uint32_t stream, int64_t longest, int64_t starts[MAX_RANKS + 1]) {
  starts[0] = 0;
  for (int r = 0; r < d.ranks; r++) {
    bool empty = random_word(seed, stream, (uint64_t)r) % 4 == 0;
    starts[r + 1] = starts[r] + (empty ? 0 : random_between(seed, stream + 1, (uint64_t)r, 1, longest));
  }
}

/* Element i of rank r's buffer; every value is another one. */
static double element(int r, int64_t i) {
  return (double)(r * 1000003 + i % 1000003);
}

static void *new_buffer(dtype type, int64_t count) {
  void *p = calloc((size_t)count + 1, dtype_size(type));
  assert_non_null(p);
  return p;
}

static void put(void *p, dtype type, int64_t i, double x) {
  if (type == DTYPE_F64) {
    ((double *)p)[i] = x;
  } else {
    ((float *)p)[i] = (float)x;
  }
}

static double get(const void *p, dtype type, int64_t i) {
  return type == DTYPE_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

typedef struct {
  dtype type;
  int64_t starts[MAX_RANKS + 1];
  void *buffer, *parts;
} exchange;

static exchange new_exchange(dtype type, uint32_t stream, int64_t longest) {
  exchange x = {.type = type};
  random_starts(stream, longest, x.starts);
  int64_t own = x.starts[d.rank + 1] - x.starts[d.rank];
  x.buffer = new_buffer(type, x.starts[d.ranks]);
  x.parts = new_buffer(type, own * d.ranks);
  return x;
}

static void free_exchange(exchange *x) {
  free(x->buffer);
  free(x->parts);
}

static void start_to_all(collectives *c, exchange *x) {
  for (int64_t i = 0; i < x->starts[d.ranks]; i++) {
    put(x->buffer, x->type, i, (double)(float)element(d.rank, i));
  }
  assert_int_equal(c->ops->all_to_all(c, x->buffer, x->type, x->starts, x->parts), STATUS_OK);
}

static void check_to_all(const exchange *x) {
  int64_t first = x->starts[d.rank], own = x->starts[d.rank + 1] - first;
  for (int r = 0; r < d.ranks; r++) { /* the own part stays in the buffer */
    for (int64_t i = 0; r != d.rank && i < own; i++) {
      assert_true(get(x->parts, x->type, r * own + i) == (double)(float)element(r, first + i));
    }
  }
  for (int64_t i = 0; i < x->starts[d.ranks]; i++) { /* what was sent is still there */
    assert_true(get(x->buffer, x->type, i) == (double)(float)element(d.rank, i));
  }
}

static void start_gather(collectives *c, exchange *x) {
  for (int64_t i = x->starts[d.rank]; i < x->starts[d.rank + 1]; i++) {
    put(x->buffer, x->type, i, (double)(float)element(d.rank, i));
  }
  assert_int_equal(c->ops->all_gather(c, (char *)x->buffer + (size_t)x->starts[d.rank] * dtype_size(x->type), x->buffer,
                                      x->type, x->starts),
                   STATUS_OK);
}

static void check_gather(const exchange *x) {
  for (int r = 0; r < d.ranks; r++) {
    for (int64_t i = x->starts[r]; i < x->starts[r + 1]; i++) {
      assert_true(get(x->buffer, x->type, i) == (double)(float)element(r, i));
    }
  }
}

static collectives *new_collectives(int64_t chunk) {
  collectives *c = NULL;
  assert_int_equal(collectives_mpi_create_chunked(&d, &host_engine, chunk, &c), STATUS_OK);
  assert_true(strlen(c->description) > 3);
  return c;
}

/* Many exchanges of both kinds are started before the first is waited for. */
static void exchange_with_messages_of(int64_t chunk, int64_t longest, uint32_t stream) {
  collectives *c = new_collectives(chunk);
  for (int round = 0; round < 3; round++) {
    exchange to_all[IN_FLIGHT], gathered[IN_FLIGHT];
    synchronized = 0;
    for (int i = 0; i < IN_FLIGHT; i++) {
      uint32_t s = stream + (uint32_t)(100 * round + 4 * i);
      to_all[i] = new_exchange(i % 2 == 0 ? DTYPE_F32 : DTYPE_F64, s, longest);
      gathered[i] = new_exchange(i % 3 == 0 ? DTYPE_F64 : DTYPE_F32, s + 2, longest);
      start_to_all(c, &to_all[i]);
      start_gather(c, &gathered[i]);
    }
    assert_true(synchronized >= 2 * IN_FLIGHT); /* MPI reads the memory at once: the engine must be done with it */
    assert_int_equal(c->ops->wait(c), STATUS_OK);
    for (int i = 0; i < IN_FLIGHT; i++) {
      check_to_all(&to_all[i]);
      check_gather(&gathered[i]);
      free_exchange(&to_all[i]);
      free_exchange(&gathered[i]);
    }
    assert_int_equal(c->ops->wait(c), STATUS_OK); /* nothing is under way: fine */
  }
  c->ops->destroy(c);
}

static void short_slices(void **state) {
  (void)state;
  exchange_with_messages_of(1 << 30, 5, 1000);
}

static void long_slices(void **state) {
  (void)state;
  exchange_with_messages_of(1 << 30, 60000, 2000);
}

static void slices_in_many_messages(void **state) {
  (void)state;
  exchange_with_messages_of(8, 40, 3000);
  exchange_with_messages_of(random_between(seed, 4000, 0, 500, 5000), 30000, 5000);
}

static void one_rank_needs_none(void **state) {
  (void)state;
  dist one;
  dist_single(&one);
  collectives *c = (collectives *)&one;
  assert_int_equal(collectives_mpi_create(&one, &host_engine, &c), STATUS_FAILURE);
  assert_null(c);
}

static status few_enough(void) {
  REQUIRE(d.ranks >= 2 && d.ranks <= MAX_RANKS, "this test takes 2 to %d ranks, not %d", MAX_RANKS, d.ranks);
  return STATUS_OK;
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(short_slices),
      cmocka_unit_test(long_slices),
      cmocka_unit_test(slices_in_many_messages),
      cmocka_unit_test(one_rank_needs_none),
  };
  return RANKS_MAIN(few_enough, tests);
}
