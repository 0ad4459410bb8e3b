#include <stdio.h>

#include "model/parts.h"

static const char *joined(char name[TENSOR_NAME], const char *layer, const char *kind) {
  snprintf(name, TENSOR_NAME, "%s.%s", layer, kind);
  return name;
}

status mlp_tensors(tensor_table *t, const config_model *c, const mlp_names *names) {
  char name[TENSOR_NAME];
  int64_t D = c->d_model, M = c->d_mlp;
  TRY(table_linear(t, joined(name, names->fc1, "weight"), M, D, false));
  TRY(table_vector(t, joined(name, names->fc1, "bias"), M, true, init_constant(0.0)));
  TRY(act_tensors(t, names->act, c, M));
  TRY(table_linear(t, joined(name, names->fc2, "weight"), D, M, false));
  return table_vector(t, joined(name, names->fc2, "bias"), D, true, init_constant(0.0));
}

status mlp_bind(mlp_part *s, buffer_plan *p, const model *m, const unit *u, const char *prefix, const mlp_names *names,
                const norm_names *norm) {
  char name[TENSOR_NAME];
  s->w1 = unit_tensor(u, prefix, joined(name, names->fc1, "weight"));
  s->b1 = unit_tensor(u, prefix, joined(name, names->fc1, "bias"));
  s->w2 = unit_tensor(u, prefix, joined(name, names->fc2, "weight"));
  s->b2 = unit_tensor(u, prefix, joined(name, names->fc2, "bias"));
  s->alpha = unit_tensor(u, prefix, names->alpha);
  REQUIRE(s->w1 != NULL && s->b1 != NULL && s->w2 != NULL && s->b2 != NULL, "unit %s has no MLP", u->name);
  TRY(act_bind(&s->act, u, prefix, names->act, &m->config));
  TRY(norm_bind(&s->norm, p, u, prefix, norm, m->config.d_model, "mlp.norm", true));
  if (p->training) {
    TRY(plan_keep(p, RECOMPUTE_CHEAP, "mlp.z", p->compute, p->rows * m->config.d_mlp, &s->z));
  }
  TRY(plan_amax(p, "mlp.a.amax", &s->a_amax));
  return plan_keep(p, RECOMPUTE_NONE, "mlp.a", p->compute, p->rows * m->config.d_mlp, &s->a);
}

status mlp_part_forward(const block_call *c, const mlp_part *s, const void *x, void *y, norm_spec next) {
  const pass *p = c->p;
  int64_t D = p->m->config.d_model, M = p->m->config.d_mlp;
  ENGINE(p->e, up_forward, .N = p->N, .D = D, .M = M, .x = s->norm.y, .x_amax = for_products(c, s->norm.y_amax),
         .weight = weight_of(c, s->w1), .bias = weight_of(c, s->b1), .act = act_weights(c, &s->act),
         .z = keeps(c) ? s->z : NULL, .a = s->a, .a_amax = s->a_amax);
  if (y == NULL) {
    return STATUS_OK;
  }
  ENGINE(p->e, out_forward, .B = p->B, .T = p->T, .D = D, .K = M, .in = s->a, .in_amax = for_products(c, s->a_amax),
         .weight = weight_of(c, s->w2), .bias = weight_of(c, s->b2), .alpha = weight_of(c, s->alpha),
         .dropout = dropout_at(c, p->m->config.dropout, SITE_MLP_OUT), .residual = x, .y = y, .norm = next);
  return STATUS_OK;
}

status mlp_part_backward(const block_call *c, const mlp_part *s, const void *x) {
  const pass *p = c->p;
  ENGINE(p->e, mlp_backward, .B = p->B, .T = p->T, .D = p->m->config.d_model, .M = p->m->config.d_mlp, .x = s->norm.y,
         .x_amax = s->norm.y_amax, .z = s->z, .a = p->recompute == RECOMPUTE_CHEAP ? NULL : s->a, .scratch_a = s->a,
         .a_amax = s->a_amax, .scratch_z = p->wide, .w1 = weight_of(c, s->w1), .w2 = weight_of(c, s->w2),
         .b1 = weight_of(c, s->b1), .b2 = weight_of(c, s->b2), .alpha = weight_of(c, s->alpha),
         .act = act_weights(c, &s->act), .dropout = dropout_at(c, p->m->config.dropout, SITE_MLP_OUT), .dy = p->dx,
         .dy_amax = p->dx_amax, .dx = p->dn, .dw1 = grad_of(c, s->w1), .db1 = grad_of(c, s->b1),
         .dw2 = grad_of(c, s->w2), .db2 = grad_of(c, s->b2), .dalpha = grad_of(c, s->alpha),
         .dact = act_gradients(c, &s->act));
  return norm_part_backward(c, &s->norm, x, p->dn, p->dx, p->dx);
}
