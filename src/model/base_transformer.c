/* transformer, the yardstick: LayerNorm before attention and MLP, GELU or ReLU, no alpha. */
#include "model/bases.h"

static const norm_names norm1 = {NORM_LAYER, "norm1.weight", "norm1.bias"};
static const norm_names norm2 = {NORM_LAYER, "norm2.weight", "norm2.bias"};
static const mlp_names mlp = {"mlp.0", "mlp.2", NULL, NULL};

typedef struct {
  attention_part attention;
  mlp_part mlp;
  void *middle; /* c (N, D) residual stream after attention; NULL: in place */
} transformer_block;

static status check(const config_model *c) {
  if (c->mlp_activation != ACTIVATION_GELU && c->mlp_activation != ACTIVATION_RELU) {
    USER_ERROR("model.base = transformer takes model.mlp_activation = gelu or relu; for a sine use respsann");
  }
  if (c->wave_interleave || c->wave_replace) {
    USER_ERROR(
        "model.base = transformer has no temporal convolution; use waveresnet for wave_interleave and wave_replace");
  }
  return STATUS_OK;
}

static status tensors(tensor_table *t, const config_model *c) {
  TRY(attention_tensors(t, c));
  TRY(mlp_tensors(t, c, &mlp));
  TRY(norm_tensors(t, &norm1, c->d_model, true));
  return norm_tensors(t, &norm2, c->d_model, true);
}

static status bind(void *state, buffer_plan *p, const model *m, const unit *u, const char *prefix, int block) {
  transformer_block *s = state;
  TRY(attention_bind(&s->attention, p, m, u, prefix, &norm1));
  if (p->training) {
    TRY(plan_keep(p, RECOMPUTE_CHEAP, "stream after attention", p->compute, p->rows * m->config.d_model, &s->middle));
  }
  return mlp_bind(&s->mlp, p, m, u, prefix, &mlp, &norm2);
}

static const norm_part *entrance(const void *state) {
  return &((const transformer_block *)state)->attention.norm;
}

static status forward(const block_call *c) {
  const transformer_block *s = c->state;
  void *middle = s->middle != NULL ? s->middle : c->x;
  TRY(attention_part_forward(c, &s->attention, c->x, middle, norm_next(&s->mlp.norm, c->p->e, c->u, &c->w)));
  return mlp_part_forward(c, &s->mlp, middle, c->y, c->next);
}

static status again(const block_call *c) {
  const transformer_block *s = c->state;
  TRY(norm_again(c, &s->attention.norm, c->x));
  return c->p->recompute == RECOMPUTE_BLOCK ? forward(c) : norm_again(c, &s->mlp.norm, s->middle);
}

static status backward(const block_call *c) {
  const transformer_block *s = c->state;
  TRY(mlp_part_backward(c, &s->mlp, s->middle));
  return attention_part_backward(c, &s->attention, c->x);
}

static status forget(const block_call *c, int64_t row) {
  return STATUS_OK;
}

static status check_cache(const config_model *c) {
  return STATUS_OK;
}

const model_base base_transformer = {
    .name = "transformer",
    .final_norm = {NORM_LAYER, "ln_f.weight", "ln_f.bias"},
    .state_bytes = sizeof(transformer_block),
    .check = check,
    .tensors = tensors,
    .bind = bind,
    .entrance = entrance,
    .forward = forward,
    .again = again,
    .backward = backward,
    .forget = forget,
    .check_cache = check_cache,
};
