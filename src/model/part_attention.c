#include "model/parts.h"

status attention_tensors(tensor_table *t, const config_model *c) {
  int64_t D = c->d_model;
  TRY(table_linear(t, "attn.q_proj.weight", D, D, false));
  TRY(table_linear(t, "attn.k_proj.weight", D, D, true));
  TRY(table_linear(t, "attn.v_proj.weight", D, D, true));
  return table_linear(t, "attn.o_proj.weight", D, D, false);
}

status attention_bind(attention_part *a, buffer_plan *p, const model *m, const unit *u, const char *prefix,
                      const norm_names *norm) {
  int64_t D = m->config.d_model;
  a->q = unit_tensor(u, prefix, "attn.q_proj.weight");
  a->o = unit_tensor(u, prefix, "attn.o_proj.weight");
  REQUIRE(a->q != NULL && a->o != NULL, "unit %s has no attention", u->name);
  TRY(norm_bind(&a->norm, p, u, prefix, norm, D, "attention.norm", true));
  TRY(plan_keep(p, RECOMPUTE_CHEAP, "attention.qkv", p->compute, p->rows * 3 * D, &a->qkv));
  TRY(plan_keep(p, RECOMPUTE_CHEAP, "attention.context", p->compute, p->rows * D, &a->context));
  TRY(plan_amax(p, "attention.context.amax", &a->context_amax));
  if (p->capacity > 0) {
    int64_t cache = p->cached_rows * p->capacity * D;
    TRY(plan_take(p, "cached keys", p->compute, cache, &a->keys));
    return plan_take(p, "cached values", p->compute, cache, &a->values);
  }
  return plan_keep(p, RECOMPUTE_CHEAP, "attention.lse", p->state, p->rows * m->config.n_heads, &a->lse);
}

static status attend(const block_call *c, const attention_part *a) {
  const pass *p = c->p;
  const config_model *k = &p->m->config;
  int64_t h = k->d_model / k->n_heads;
  bool alibi = k->positional_encoding == POSITION_ALIBI;
  if (p->cached) {
    size_t row = (size_t)(p->cache_row * p->capacity * k->d_model) * dtype_size(p->e->compute);
    ENGINE(p->e, attention_cached, .B = p->B, .T = p->T, .H = k->n_heads, .h = h, .capacity = p->capacity,
           .alibi = alibi, .qkv = a->qkv, .past = p->past, .keys = (char *)a->keys + row,
           .values = (char *)a->values + row, .out = a->context);
    return STATUS_OK;
  }
  ENGINE(p->e, attention_forward, .B = p->B, .T = p->T, .H = k->n_heads, .h = h, .alibi = alibi,
         .dropout = dropout_at(c, k->dropout, SITE_ATTENTION), .qkv = a->qkv, .out = a->context,
         .out_amax = a->context_amax, .lse = a->lse);
  return STATUS_OK;
}

status attention_part_forward(const block_call *c, const attention_part *a, const void *x, void *y, norm_spec next) {
  const pass *p = c->p;
  const config_model *k = &p->m->config;
  ENGINE(p->e, qkv_forward, .B = p->B, .T = p->T, .D = k->d_model, .H = k->n_heads, .x = a->norm.y,
         .x_amax = for_products(c, a->norm.y_amax), .weight = weight_of(c, a->q),
         .rope = k->positional_encoding == POSITION_ROPE, .past = p->past, .qkv = a->qkv);
  TRY(attend(c, a));
  if (y == NULL) {
    return STATUS_OK;
  }
  ENGINE(p->e, out_forward, .B = p->B, .T = p->T, .D = k->d_model, .K = k->d_model, .in = a->context,
         .in_amax = for_products(c, a->context_amax), .weight = weight_of(c, a->o),
         .dropout = dropout_at(c, k->dropout, SITE_ATTENTION_OUT), .residual = x, .y = y, .norm = next);
  return STATUS_OK;
}

status attention_part_backward(const block_call *c, const attention_part *a, const void *x) {
  const pass *p = c->p;
  const config_model *k = &p->m->config;
  ENGINE(p->e, out_backward, .B = p->B, .T = p->T, .D = k->d_model, .K = k->d_model, .in = a->context,
         .in_amax = a->context_amax, .weight = weight_of(c, a->o),
         .dropout = dropout_at(c, k->dropout, SITE_ATTENTION_OUT), .dy = p->dx, .dy_amax = p->dx_amax, .din = p->dn,
         .dweight = grad_of(c, a->o));
  ENGINE(p->e, attention_backward, .B = p->B, .T = p->T, .H = k->n_heads, .h = k->d_model / k->n_heads,
         .alibi = k->positional_encoding == POSITION_ALIBI, .dropout = dropout_at(c, k->dropout, SITE_ATTENTION),
         .qkv = a->qkv, .out = a->context, .lse = a->lse, .dout = p->dn, .dqkv = p->wide);
  ENGINE(p->e, qkv_backward, .B = p->B, .T = p->T, .D = k->d_model, .H = k->n_heads, .x = a->norm.y,
         .x_amax = a->norm.y_amax, .weight = weight_of(c, a->q), .rope = k->positional_encoding == POSITION_ROPE,
         .dqkv = p->wide, .dx = p->dn, .dweight = grad_of(c, a->q));
  return norm_part_backward(c, &a->norm, x, p->dn, p->dx, p->dx);
}
