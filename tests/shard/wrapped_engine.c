#include "wrapped_engine.h"

#include <stdlib.h>

#include "base/memory.h"

static engine *real_of(engine *e) {
  return ((wrapped_engine *)e)->real;
}

static status count_alloc(engine *e, size_t bytes, const char *what, double *sum, void **out) {
  wrapped_engine *w = (wrapped_engine *)e;
  if (w->fail_after >= 0 && w->fail_after-- == 0) {
    FAIL("no memory for %s", what);
  }
  TRY(w->real->ops->alloc(w->real, bytes, what, out));
  *sum += (double)bytes;
  w->live++;
  return STATUS_OK;
}

static status alloc(engine *e, size_t bytes, const char *what, void **out) {
  return count_alloc(e, bytes, what, &((wrapped_engine *)e)->bytes, out);
}

static status alloc_host(engine *e, size_t bytes, const char *what, void **out) {
  return count_alloc(e, bytes, what, &((wrapped_engine *)e)->host_bytes, out);
}

static void free_buffer(engine *e, void *p) {
  ((wrapped_engine *)e)->live--;
  real_of(e)->ops->free(real_of(e), p);
}

static status record(engine *e, stream_id s, int event) {
  return real_of(e)->ops->record(real_of(e), s, event);
}

static status wait(engine *e, stream_id s, int event) {
  return real_of(e)->ops->wait(real_of(e), s, event);
}

static status synchronize(engine *e) {
  return real_of(e)->ops->synchronize(real_of(e));
}

static status copy(engine *e, stream_id s, copy_direction d, void *to, const void *from, size_t bytes) {
  return real_of(e)->ops->copy(real_of(e), s, d, to, from, bytes);
}

static status fill_zero(engine *e, stream_id s, void *p, size_t bytes) {
  return real_of(e)->ops->fill_zero(real_of(e), s, p, bytes);
}

static status set_loss_scale(engine *e, const loss_scaling *s) {
  return real_of(e)->ops->set_loss_scale(real_of(e), s);
}

static status set_step(engine *e, const step_state *state) {
  return real_of(e)->ops->set_step(real_of(e), state);
}

static status get_result(engine *e, step_result *result) {
  return real_of(e)->ops->get_result(real_of(e), result);
}

static status add(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t n) {
  return real_of(e)->ops->add(real_of(e), s, sum, a, b, n);
}

static status leaf_squares(engine *e, stream_id s, const void *grad, int64_t leaf, int64_t n_leaves, double *squares,
                           int64_t stride) {
  return real_of(e)->ops->leaf_squares(real_of(e), s, grad, leaf, n_leaves, squares, stride);
}

static status add_leaf_squares(engine *e, stream_id s, void *sum, const void *a, const void *b, int64_t leaf,
                               int64_t n_leaves, double *squares, int64_t stride, bool beside) {
  return real_of(e)->ops->add_leaf_squares(real_of(e), s, sum, a, b, leaf, n_leaves, squares, stride, beside);
}

static status finish_norm(engine *e, const double *squares, int64_t n_squares, const double *losses, int64_t n_losses,
                          double grad_clip) {
  return real_of(e)->ops->finish_norm(real_of(e), squares, n_squares, losses, n_losses, grad_clip);
}

static status adamw(engine *e, const adamw_args *a) {
  adamw_args whole = *a;
  if (e->compute != e->state) {
    whole.weights = a->master;
  }
  TRY(real_of(e)->ops->adamw(real_of(e), &whole));
  for (int64_t i = 0; e->compute != e->state && i < a->count; i++) {
    ((float *)a->weights)[i] = (float)((const double *)a->master)[i];
  }
  return STATUS_OK;
}

static void destroy(engine *e) {
  wrapped_engine_destroy((wrapped_engine *)e);
}

status wrapped_engine_create(dtype state, bool narrow, wrapped_engine **out) {
  static const engine_ops ops = {
      .destroy = destroy,
      .alloc = alloc,
      .free = free_buffer,
      .alloc_host = alloc_host,
      .free_host = free_buffer,
      .record = record,
      .wait = wait,
      .synchronize = synchronize,
      .copy = copy,
      .fill_zero = fill_zero,
      .set_loss_scale = set_loss_scale,
      .set_step = set_step,
      .get_result = get_result,
      .add = add,
      .leaf_squares = leaf_squares,
      .add_leaf_squares = add_leaf_squares,
      .finish_norm = finish_norm,
      .adamw = adamw,
  };
  wrapped_engine *w;
  TRY(memory_new(&w, 1, sizeof *w, "engine"));
  w->base = (engine){.ops = &ops, .compute = narrow ? DTYPE_F32 : state, .state = state};
  w->fail_after = -1;
  status s = engine_cpu_create(state, 1, 1, &w->real);
  if (s != STATUS_OK) {
    free(w);
    return s;
  }
  *out = w;
  return STATUS_OK;
}

void wrapped_engine_destroy(wrapped_engine *w) {
  w->real->ops->destroy(w->real);
  free(w);
}
