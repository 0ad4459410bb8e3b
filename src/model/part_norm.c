#include <stdio.h>

#include "model/parts.h"

status norm_tensors(tensor_table *t, const norm_names *names, int64_t D, bool trainable) {
  TRY(table_vector(t, names->scale, D, trainable, init_constant(1.0)));
  return names->bias != NULL ? table_vector(t, names->bias, D, trainable, init_constant(0.0)) : STATUS_OK;
}

status norm_bind(norm_part *n, buffer_plan *p, const unit *u, const char *prefix, const norm_names *names, int64_t D,
                 const char *role, bool operand) {
  n->kind = names->kind;
  n->scale = unit_tensor(u, prefix, names->scale);
  n->bias = unit_tensor(u, prefix, names->bias);
  REQUIRE(n->scale != NULL, "unit %s has no tensor %s%s", u->name, prefix, names->scale);
  TRY(plan_keep(p, RECOMPUTE_NONE, role, p->compute, p->rows * D, &n->y));
  char stats[32], amax[32];
  snprintf(amax, sizeof(amax), "%s.amax", role);
  if (operand) {
    TRY(plan_amax(p, amax, &n->y_amax));
  }
  snprintf(stats, sizeof(stats), "%s.stats", role);
  return plan_keep(p, RECOMPUTE_CHEAP, stats, p->state, p->rows * (n->kind == NORM_LAYER ? 2 : 1), &n->stats);
}

norm_spec norm_next(const norm_part *n, const engine *e, const unit *u, const unit_weights *w) {
  const char *vectors = w->vectors;
  size_t size = dtype_size(e->state);
  return (norm_spec){
      .kind = n->kind,
      .scale = vectors + (size_t)(n->scale->offset - u->vectors) * size,
      .bias = n->bias != NULL ? vectors + (size_t)(n->bias->offset - u->vectors) * size : NULL,
      .y = n->y,
      .y_amax = n->y_amax,
      .stats = n->stats,
  };
}

status norm_again(const block_call *c, const norm_part *n, const void *x) {
  const pass *p = c->p;
  ENGINE(p->e, norm_forward, .N = p->N, .D = p->m->config.d_model, .x = x, .norm = norm_next(n, p->e, c->u, &c->w));
  return STATUS_OK;
}

status norm_part_backward(const block_call *c, const norm_part *n, const void *x, const void *dy, const void *dresidual,
                          void *dx) {
  const pass *p = c->p;
  ENGINE(p->e, norm_backward, .N = p->N, .D = p->m->config.d_model, .x = x, .norm = norm_next(n, p->e, c->u, &c->w),
         .dy = dy, .dresidual = dresidual, .dx = dx, .dx_amax = p->dx_amax, .dscale = grad_of(c, n->scale),
         .dbias = grad_of(c, n->bias));
  return STATUS_OK;
}
