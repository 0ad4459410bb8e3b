#include "deferred_engine.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "random_values.h"

typedef struct deferred_engine deferred_engine;

typedef status (*job_run)(deferred_engine *e, void *arguments);

typedef struct {
  job_run run; /* NULL: wait for `after` jobs of stream `of` */
  void *arguments;
  size_t bytes; /* of the arguments */
  stream_id of;
  int64_t after;
} job;

typedef struct {
  job *jobs;
  size_t capacity;
  int64_t issued, done;
} queue;

struct engine_graph {
  job *jobs;
  size_t capacity;
  int64_t n;
  bool has_result;
};

struct deferred_engine {
  engine base;
  engine *real;
  queue queues[STREAMS];
  stream_id recorded_on[ENGINE_EVENTS];
  int64_t recorded_at[ENGINE_EVENTS];
  uint64_t seed, draws;
  int64_t results;         /* jobs of STREAM_MAIN up to the last finish_norm */
  engine_graph *capturing; /* NULL: what is issued will be done */
};

static deferred_engine *of(engine *e) {
  return (deferred_engine *)e;
}

static uint64_t draw(deferred_engine *e, uint64_t below) {
  return random_word(e->seed, 9, e->draws++) % below;
}

/* The queues. */

static bool ready(const deferred_engine *e, stream_id s) {
  const queue *q = &e->queues[s];
  if (q->done == q->issued) {
    return false;
  }
  const job *j = &q->jobs[q->done];
  return j->run != NULL || e->queues[j->of].done >= j->after;
}

static status do_one(deferred_engine *e, stream_id s) {
  job *j = &e->queues[s].jobs[e->queues[s].done];
  status result = j->run == NULL ? STATUS_OK : j->run(e, j->arguments);
  free(j->arguments);
  j->arguments = NULL;
  e->queues[s].done++;
  return result;
}

/* Any job that may come next; *any false: there is none. */
static status do_any(deferred_engine *e, bool *any) {
  stream_id first = (stream_id)draw(e, STREAMS);
  *any = false;
  for (int i = 0; i < STREAMS && !*any; i++) {
    stream_id s = (stream_id)(((unsigned)first + (unsigned)i) % STREAMS);
    if (ready(e, s)) {
      *any = true;
      TRY(do_one(e, s));
    }
  }
  return STATUS_OK;
}

static status new_job(job_run run, const void *arguments, size_t bytes, job *j) {
  *j = (job){.run = run, .bytes = bytes};
  TRY(memory_new(&j->arguments, bytes, 1, "a job"));
  memcpy(j->arguments, arguments, bytes);
  return STATUS_OK;
}

static status issue(deferred_engine *e, stream_id s, job_run run, const void *arguments, size_t bytes) {
  engine_graph *g = e->capturing;
  if (g != NULL) {
    REQUIRE(s == STREAM_MAIN, "a graph is captured, and something goes to stream %d", s);
    TRY(memory_grow(&g->jobs, &g->capacity, (size_t)g->n + 1, sizeof *g->jobs, "jobs"));
    return new_job(run, arguments, bytes, &g->jobs[g->n++]);
  }
  queue *q = &e->queues[s];
  TRY(memory_grow(&q->jobs, &q->capacity, (size_t)q->issued + 1, sizeof *q->jobs, "jobs"));
  TRY(new_job(run, arguments, bytes, &q->jobs[q->issued]));
  q->issued++;
  bool any = true;
  for (uint64_t n = draw(e, 4) == 0 ? draw(e, 6) : 0; n > 0 && any; n--) {
    TRY(do_any(e, &any));
  }
  return STATUS_OK;
}

static status drain(deferred_engine *e) {
  for (bool any = true; any;) {
    TRY(do_any(e, &any));
  }
  for (int s = 0; s < STREAMS; s++) {
    REQUIRE(e->queues[s].done == e->queues[s].issued, "stream %d waits for what never comes", s);
  }
  return STATUS_OK;
}

/* Streams, events, memory. */

static status outside_graphs(const deferred_engine *e, const char *what) {
  REQUIRE(e->capturing == NULL, "a graph is captured, and there is %s", what);
  return STATUS_OK;
}

static status record(engine *base, stream_id s, int event) {
  TRY(outside_graphs(of(base), "an event"));
  of(base)->recorded_on[event] = s;
  of(base)->recorded_at[event] = of(base)->queues[s].issued;
  return STATUS_OK;
}

static status wait(engine *base, stream_id s, int event) {
  deferred_engine *e = of(base);
  TRY(outside_graphs(e, "an event"));
  queue *q = &e->queues[s];
  TRY(memory_grow(&q->jobs, &q->capacity, (size_t)q->issued + 1, sizeof *q->jobs, "jobs"));
  q->jobs[q->issued++] = (job){.of = e->recorded_on[event], .after = e->recorded_at[event]};
  return STATUS_OK;
}

static status synchronize(engine *base) {
  return drain(of(base));
}

static status alloc(engine *base, size_t bytes, const char *what, void **out) {
  return of(base)->real->ops->alloc(of(base)->real, bytes, what, out);
}

static void free_buffer(engine *base, void *p) {
  if (drain(of(base)) == STATUS_OK) {
    of(base)->real->ops->free(of(base)->real, p);
  }
}

static status alloc_host(engine *base, size_t bytes, const char *what, void **out) {
  return of(base)->real->ops->alloc_host(of(base)->real, bytes, what, out);
}

static void free_host(engine *base, void *p) {
  if (drain(of(base)) == STATUS_OK) {
    of(base)->real->ops->free_host(of(base)->real, p);
  }
}

static void destroy(engine *base) {
  deferred_engine *e = of(base);
  drain(e);
  for (int s = 0; s < STREAMS; s++) {
    free(e->queues[s].jobs);
  }
  e->real->ops->destroy(e->real);
  free(e);
}

static size_t scratch_bytes(const engine *base, const engine_limits *limits) {
  const engine *real = ((const deferred_engine *)base)->real;
  return real->ops->scratch_bytes(real, limits);
}

static status prepare(engine *base, const engine_limits *limits) {
  TRY(drain(of(base)));
  return of(base)->real->ops->prepare(of(base)->real, limits);
}

typedef struct {
  copy_direction direction;
  void *to;
  const void *from; /* NULL: the bytes follow */
  size_t bytes;
} copy_job;

static status run_copy(deferred_engine *e, void *arguments) {
  const copy_job *c = arguments;
  const void *from = c->from != NULL ? c->from : (const char *)arguments + sizeof *c;
  return e->real->ops->copy(e->real, STREAM_MAIN, c->direction, c->to, from, c->bytes);
}

/* What comes from the host is taken at once, but for pinned memory. */
static status copy(engine *base, stream_id s, copy_direction d, void *to, const void *from, size_t bytes) {
  if (d != COPY_INSIDE) {
    TRY(outside_graphs(of(base), "a copy to or from the host"));
  }
  if (d != COPY_TO_ENGINE) {
    return issue(of(base), s, run_copy, &(copy_job){d, to, from, bytes}, sizeof(copy_job));
  }
  char *whole = NULL;
  TRY(memory_new(&whole, sizeof(copy_job) + bytes, 1, "a copy"));
  memcpy(whole, &(copy_job){d, to, NULL, bytes}, sizeof(copy_job));
  memcpy(whole + sizeof(copy_job), from, bytes);
  status result = issue(of(base), s, run_copy, whole, sizeof(copy_job) + bytes);
  free(whole);
  return result;
}

static status run_zero(deferred_engine *e, void *arguments) {
  const copy_job *c = arguments;
  return e->real->ops->fill_zero(e->real, STREAM_MAIN, c->to, c->bytes);
}

static status fill_zero(engine *base, stream_id s, void *p, size_t bytes) {
  return issue(of(base), s, run_zero, &(copy_job){.to = p, .bytes = bytes}, sizeof(copy_job));
}

/* Operations. */

/* One whose arguments are a struct that the caller may forget. */
#define DEFER(op, type)                                          \
  static status run_##op(deferred_engine *e, void *arguments) {  \
    return e->real->ops->op(e->real, arguments);                 \
  }                                                              \
  static status op(engine *base, const type *a) {                \
    return issue(of(base), STREAM_MAIN, run_##op, a, sizeof *a); \
  }

DEFER(set_loss_scale, loss_scaling)
DEFER(embed_forward, embed_forward_args)
DEFER(embed_backward, embed_backward_args)
DEFER(norm_forward, norm_forward_args)
DEFER(norm_backward, norm_backward_args)
DEFER(qkv_forward, qkv_forward_args)
DEFER(qkv_backward, qkv_backward_args)
DEFER(attention_forward, attention_forward_args)
DEFER(attention_backward, attention_backward_args)
DEFER(out_forward, out_forward_args)
DEFER(out_backward, out_backward_args)
DEFER(up_forward, up_forward_args)
DEFER(mlp_backward, mlp_backward_args)
DEFER(conv_forward, conv_forward_args)
DEFER(conv_backward, conv_backward_args)
DEFER(head_train, head_train_args)
DEFER(head_eval, head_eval_args)
DEFER(adamw, adamw_args)

static status run_set_step(deferred_engine *e, void *arguments) {
  return e->real->ops->set_step(e->real, arguments);
}

static status set_step(engine *base, const step_state *state) {
  TRY(outside_graphs(of(base), "a step's state"));
  return issue(of(base), STREAM_MAIN, run_set_step, state, sizeof *state);
}

typedef struct {
  void *out;
  const void *in, *other;
  int64_t n, count, stride;
  double *squares;
  bool beside;
} sum_job;

static status run_add(deferred_engine *e, void *arguments) {
  const sum_job *a = arguments;
  return e->real->ops->add(e->real, STREAM_MAIN, a->out, a->in, a->other, a->n);
}

static status add(engine *base, stream_id s, void *sum, const void *a, const void *b, int64_t n) {
  return issue(of(base), s, run_add, &(sum_job){.out = sum, .in = a, .other = b, .n = n}, sizeof(sum_job));
}

static status run_squares(deferred_engine *e, void *arguments) {
  const sum_job *a = arguments;
  return e->real->ops->leaf_squares(e->real, STREAM_MAIN, a->in, a->n, a->count, a->out, a->stride);
}

static status leaf_squares(engine *base, stream_id s, const void *grad, int64_t leaf, int64_t n, double *squares,
                           int64_t stride) {
  const sum_job a = {.out = squares, .in = grad, .n = leaf, .count = n, .stride = stride};
  return issue(of(base), s, run_squares, &a, sizeof a);
}

static status run_add_squares(deferred_engine *e, void *arguments) {
  const sum_job *a = arguments;
  return e->real->ops->add_leaf_squares(e->real, STREAM_MAIN, a->out, a->in, a->other, a->n, a->count, a->squares,
                                        a->stride, a->beside);
}

static status add_leaf_squares(engine *base, stream_id s, void *sum, const void *a, const void *b, int64_t leaf,
                               int64_t n, double *squares, int64_t stride, bool beside) {
  const sum_job j = {
      .out = sum, .in = a, .other = b, .n = leaf, .count = n, .stride = stride, .squares = squares, .beside = beside};
  return issue(of(base), s, run_add_squares, &j, sizeof j);
}

typedef struct {
  const double *squares, *losses;
  int64_t n_squares, n_losses;
  double grad_clip;
} norm_job;

static status run_norm(deferred_engine *e, void *arguments) {
  const norm_job *a = arguments;
  return e->real->ops->finish_norm(e->real, a->squares, a->n_squares, a->losses, a->n_losses, a->grad_clip);
}

static status finish_norm(engine *base, const double *squares, int64_t n_squares, const double *losses,
                          int64_t n_losses, double grad_clip) {
  const norm_job a = {squares, losses, n_squares, n_losses, grad_clip};
  deferred_engine *e = of(base);
  TRY(issue(e, STREAM_MAIN, run_norm, &a, sizeof a));
  if (e->capturing != NULL) {
    e->capturing->has_result = true;
  } else {
    e->results = e->queues[STREAM_MAIN].issued;
  }
  return STATUS_OK;
}

static status get_result(engine *base, step_result *result) {
  deferred_engine *e = of(base);
  for (bool any = true; any && e->queues[STREAM_MAIN].done < e->results;) {
    TRY(do_any(e, &any));
  }
  return e->real->ops->get_result(e->real, result);
}

/* Graphs. */

static status capture_begin(engine *base) {
  TRY(outside_graphs(of(base), "another one"));
  return memory_new(&of(base)->capturing, 1, sizeof *of(base)->capturing, "a graph");
}

static status capture_end(engine *base, engine_graph **out) {
  *out = of(base)->capturing;
  of(base)->capturing = NULL;
  return STATUS_OK;
}

static status launch_graph(engine *base, engine_graph *g) {
  deferred_engine *e = of(base);
  for (int64_t i = 0; i < g->n; i++) {
    TRY(issue(e, STREAM_MAIN, g->jobs[i].run, g->jobs[i].arguments, g->jobs[i].bytes));
  }
  if (g->has_result) {
    e->results = e->queues[STREAM_MAIN].issued;
  }
  return STATUS_OK;
}

static void free_graph(engine *base, engine_graph *g) {
  (void)base;
  for (int64_t i = 0; g != NULL && i < g->n; i++) {
    free(g->jobs[i].arguments);
  }
  if (g != NULL) {
    free(g->jobs);
  }
  free(g);
}

status deferred_engine_over(uint64_t order_seed, engine *real, engine **out) {
  static const engine_ops ops = {
      .destroy = destroy,
      .alloc = alloc,
      .free = free_buffer,
      .alloc_host = alloc_host,
      .free_host = free_host,
      .scratch_bytes = scratch_bytes,
      .prepare = prepare,
      .record = record,
      .wait = wait,
      .synchronize = synchronize,
      .capture_begin = capture_begin,
      .capture_end = capture_end,
      .launch_graph = launch_graph,
      .free_graph = free_graph,
      .copy = copy,
      .fill_zero = fill_zero,
      .set_loss_scale = set_loss_scale,
      .set_step = set_step,
      .get_result = get_result,
      .embed_forward = embed_forward,
      .embed_backward = embed_backward,
      .norm_forward = norm_forward,
      .norm_backward = norm_backward,
      .qkv_forward = qkv_forward,
      .qkv_backward = qkv_backward,
      .attention_forward = attention_forward,
      .attention_backward = attention_backward,
      .out_forward = out_forward,
      .out_backward = out_backward,
      .up_forward = up_forward,
      .mlp_backward = mlp_backward,
      .conv_forward = conv_forward,
      .conv_backward = conv_backward,
      .head_train = head_train,
      .head_eval = head_eval,
      .add = add,
      .leaf_squares = leaf_squares,
      .add_leaf_squares = add_leaf_squares,
      .finish_norm = finish_norm,
      .adamw = adamw,
  };
  deferred_engine *e;
  TRY(memory_new(&e, 1, sizeof *e, "engine"));
  e->real = real;
  e->base = *real; /* types, chunk of the loss */
  e->base.ops = &ops;
  e->base.host_memory = false;
  e->seed = order_seed;
  *out = &e->base;
  return STATUS_OK;
}

status deferred_engine_create(uint64_t order_seed, uint64_t dropout_seed, engine **out) {
  engine *real;
  TRY(engine_cpu_create(DTYPE_F32, 1, dropout_seed, &real));
  status s = deferred_engine_over(order_seed, real, out);
  if (s != STATUS_OK) {
    real->ops->destroy(real);
  }
  return s;
}

/* The exchange. */

typedef struct {
  collectives base;
  deferred_engine *e;
  collectives *inner; /* over MPI, for the engine below */
  int event;          /* the first of two */
} deferred_collectives;

typedef struct {
  collectives *inner;
  const void *from;
  void *to;
  dtype type;
  enum { GATHER, TO_ALL, PAIR } kind;
  int64_t starts[65];
} exchange_job;

static status add_pair(deferred_engine *e, const exchange_job *x) {
  int64_t count = x->starts[1];
  int rank = x->inner->d->rank;
  size_t bytes = (size_t)count * dtype_size(x->type);
  char *parts = NULL;
  TRY(memory_new(&parts, 2, bytes, "parts of a pair"));
  TRY(x->inner->ops->all_to_all(x->inner, x->from, x->type, x->starts, parts));
  TRY(x->inner->ops->wait(x->inner));
  const char *own = (const char *)x->from + (size_t)rank * bytes, *others = parts + (size_t)(1 - rank) * bytes;
  TRY(e->real->ops->add(e->real, STREAM_MAIN, x->to, own, others, count));
  free(parts);
  return STATUS_OK;
}

/* Nobody may read the own part's place. */
static void spoil_own_part(const exchange_job *x) {
  int rank = x->inner->d->rank;
  size_t bytes = (size_t)(x->starts[rank + 1] - x->starts[rank]) * dtype_size(x->type);
  memset((char *)x->to + (size_t)rank * bytes, 0xFF, bytes); /* NaN */
}

static status run_exchange(deferred_engine *e, void *arguments) {
  const exchange_job *x = arguments;
  if (x->kind == PAIR) {
    return add_pair(e, x);
  }
  TRY(x->kind == TO_ALL ? x->inner->ops->all_to_all(x->inner, x->from, x->type, x->starts, x->to)
                        : x->inner->ops->all_gather(x->inner, x->from, x->to, x->type, x->starts));
  TRY(x->inner->ops->wait(x->inner));
  if (x->kind == TO_ALL) {
    spoil_own_part(x);
  }
  return STATUS_OK;
}

static status exchange(collectives *base, int kind, const void *from, void *to, dtype type, const int64_t *starts) {
  deferred_collectives *c = (deferred_collectives *)base;
  exchange_job x = {.inner = c->inner, .from = from, .to = to, .type = type, .kind = kind};
  REQUIRE(base->d->ranks <= 64, "%d ranks", base->d->ranks);
  memcpy(x.starts, starts, (size_t)(base->d->ranks + 1) * sizeof *starts);
  TRY(record(&c->e->base, STREAM_MAIN, c->event));
  TRY(wait(&c->e->base, STREAM_COMM, c->event));
  return issue(c->e, STREAM_COMM, run_exchange, &x, sizeof x);
}

static status all_gather(collectives *c, const void *own, void *buffer, dtype type, const int64_t *starts) {
  return exchange(c, GATHER, own, buffer, type, starts);
}

static status all_to_all(collectives *c, const void *buffer, dtype type, const int64_t *starts, void *parts) {
  return exchange(c, TO_ALL, buffer, parts, type, starts);
}

static status reduce_pair(collectives *c, const void *buffer, dtype type, const int64_t *starts, void *sum) {
  return exchange(c, PAIR, buffer, sum, type, starts);
}

static status wait_exchanged(collectives *base) {
  deferred_collectives *c = (deferred_collectives *)base;
  TRY(record(&c->e->base, STREAM_COMM, c->event + 1));
  return wait(&c->e->base, STREAM_MAIN, c->event + 1);
}

static void destroy_collectives(collectives *base) {
  deferred_collectives *c = (deferred_collectives *)base;
  drain(c->e);
  c->inner->ops->destroy(c->inner);
  free(c);
}

static status defer_collectives(engine *e, int event, collectives **c) {
  static const collectives_ops ops = {.destroy = destroy_collectives,
                                      .all_gather = all_gather,
                                      .all_to_all = all_to_all,
                                      .reduce_pair = reduce_pair,
                                      .wait = wait_exchanged};
  deferred_collectives *x;
  if (*c == NULL) {
    return STATUS_OK;
  }
  TRY(memory_new(&x, 1, sizeof *x, "collectives"));
  *x = (deferred_collectives){
      .base = {.ops = &ops, .d = (*c)->d, .stream_ordered = true}, .e = of(e), .inner = *c, .event = event};
  *c = &x->base;
  return STATUS_OK;
}

status deferred_groups_create(const dist *d, int shard_ranks, engine *e, rank_groups *out) {
  engine *real = of(e)->real;
  TRY(groups_create(d, shard_ranks, TRANSPORT_MPI, real, out));
  TRY(defer_collectives(e, ENGINE_EVENTS - 2, &out->in_shard));
  return defer_collectives(e, ENGINE_EVENTS - 4, &out->in_replicas);
}
