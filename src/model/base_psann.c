/* respsann and waveresnet: RMSNorm before attention and MLP, the MLP's branch scaled by alpha; waveresnet may add a
 * temporal convolution after the MLP (wave_interleave) or put it in the MLP's place (wave_replace), where its residual
 * starts from the normalised stream.
 */
#include "model/bases.h"

static const norm_names norm1 = {NORM_RMS, "norm1.scale", NULL};
static const norm_names norm2 = {NORM_RMS, "norm2.scale", NULL};
static const mlp_names mlp = {"mlp.fc1", "mlp.fc2", "mlp.act", "alpha"};

typedef struct {
  bool has_mlp, has_wave;
  attention_part attention;
  mlp_part mlp;
  wave_part wave;
  norm_part replaced;   /* norm2 where the wave replaces the MLP */
  void *middle, *after; /* c (N, D) residual stream after attention, after the MLP; NULL: in place */
} psann_block;

static bool with_mlp(const config_model *c) {
  return !c->wave_replace;
}
static bool with_wave(const config_model *c) {
  return c->wave_interleave;
}

static status check_respsann(const config_model *c) {
  if (c->wave_interleave || c->wave_replace) {
    USER_ERROR(
        "model.base = respsann has no temporal convolution; use waveresnet for wave_interleave and wave_replace");
  }
  return STATUS_OK;
}

static status check_waveresnet(const config_model *c) {
  if (with_wave(c) && c->wave_padding == PADDING_SAME && c->wave_kernel_size % 2 == 0) {
    USER_ERROR("model.wave_kernel_size = %lld is even, which wave_padding = same can't centre; use an odd size",
               (long long)c->wave_kernel_size);
  }
  return STATUS_OK;
}

static status tensors(tensor_table *t, const config_model *c) {
  TRY(table_vector(t, "alpha", 1, with_mlp(c), init_constant(1.0)));
  TRY(attention_tensors(t, c));
  if (with_mlp(c)) {
    TRY(mlp_tensors(t, c, &mlp));
  }
  TRY(norm_tensors(t, &norm1, c->d_model, true));
  TRY(norm_tensors(t, &norm2, c->d_model, with_mlp(c) || with_wave(c)));
  return with_wave(c) ? wave_tensors(t, c) : STATUS_OK;
}

static status bind(void *state, buffer_plan *p, const model *m, const unit *u, const char *prefix, int block) {
  psann_block *s = state;
  s->has_mlp = with_mlp(&m->config);
  s->has_wave = with_wave(&m->config);
  int64_t stream = p->rows * m->config.d_model;
  TRY(attention_bind(&s->attention, p, m, u, prefix, &norm1));
  if (p->training && (s->has_mlp || s->has_wave)) {
    TRY(plan_keep(p, RECOMPUTE_CHEAP, "stream after attention", p->compute, stream, &s->middle));
  }
  if (s->has_mlp) {
    TRY(mlp_bind(&s->mlp, p, m, u, prefix, &mlp, &norm2));
  } else if (s->has_wave) {
    TRY(norm_bind(&s->replaced, p, u, prefix, &norm2, m->config.d_model, "replaced.norm", false));
  }
  if (s->has_wave) {
    if (p->training && s->has_mlp) {
      TRY(plan_keep(p, RECOMPUTE_CHEAP, "stream after MLP", p->compute, stream, &s->after));
    }
    TRY(wave_bind(&s->wave, p, m, u, prefix, block));
  }
  return STATUS_OK;
}

static const norm_part *entrance(const void *state) {
  return &((const psann_block *)state)->attention.norm;
}

static norm_spec own(const block_call *c, const norm_part *n) {
  return norm_next(n, c->p->e, c->u, &c->w);
}

static status forward_wave(const block_call *c, const psann_block *s) {
  void *middle = s->middle != NULL ? s->middle : c->x;
  if (!s->has_mlp) {
    TRY(attention_part_forward(c, &s->attention, c->x, middle, own(c, &s->replaced)));
    TRY(norm_again(c, &s->wave.norm, s->replaced.y));
    return wave_part_forward(c, &s->wave, s->replaced.y, c->y, c->next);
  }
  void *after = s->after != NULL ? s->after : c->x;
  TRY(attention_part_forward(c, &s->attention, c->x, middle, own(c, &s->mlp.norm)));
  TRY(mlp_part_forward(c, &s->mlp, middle, after, own(c, &s->wave.norm)));
  return wave_part_forward(c, &s->wave, after, c->y, c->next);
}

static status forward(const block_call *c) {
  const psann_block *s = c->state;
  if (s->has_wave) {
    return forward_wave(c, s);
  }
  if (!s->has_mlp) {
    return attention_part_forward(c, &s->attention, c->x, c->y, c->next);
  }
  void *middle = s->middle != NULL ? s->middle : c->x;
  TRY(attention_part_forward(c, &s->attention, c->x, middle, own(c, &s->mlp.norm)));
  return mlp_part_forward(c, &s->mlp, middle, c->y, c->next);
}

static status again(const block_call *c) {
  const psann_block *s = c->state;
  TRY(norm_again(c, &s->attention.norm, c->x));
  if (c->p->recompute == RECOMPUTE_BLOCK) {
    return forward(c);
  }
  if (s->has_mlp) {
    TRY(norm_again(c, &s->mlp.norm, s->middle));
  } else if (s->has_wave) {
    TRY(norm_again(c, &s->replaced, s->middle));
  }
  return s->has_wave ? wave_part_again(c, &s->wave, s->has_mlp ? s->after : s->replaced.y) : STATUS_OK;
}

static status backward(const block_call *c) {
  const psann_block *s = c->state;
  pass *p = c->p;
  if (s->has_wave) {
    TRY(wave_part_backward(c, &s->wave, s->has_mlp ? s->after : s->replaced.y));
  }
  if (s->has_mlp) {
    TRY(mlp_part_backward(c, &s->mlp, s->middle));
  } else if (s->has_wave) {
    TRY(norm_part_backward(c, &s->replaced, s->middle, p->dx, NULL, p->dn));
    void *dx = p->dn;
    p->dn = p->dx;
    p->dx = dx;
  }
  return attention_part_backward(c, &s->attention, c->x);
}

static status forget(const block_call *c, int64_t row) {
  const psann_block *s = c->state;
  return s->has_wave ? wave_part_forget(c, &s->wave, row) : STATUS_OK;
}

static status check_cache(const config_model *c) {
  if (with_wave(c) && c->wave_padding == PADDING_SAME) {
    USER_ERROR(
        "a model with wave_padding = same reads later positions, so it can't generate with a cache; train with "
        "wave_padding = causal");
  }
  return STATUS_OK;
}

#define PSANN_ROW(row_name, row_check)                                                                              \
  {                                                                                                                 \
    .name = row_name, .final_norm = {NORM_RMS, "ln_f.scale", NULL}, .state_bytes = sizeof(psann_block),             \
    .check = row_check, .tensors = tensors, .bind = bind, .entrance = entrance, .forward = forward, .again = again, \
    .backward = backward, .forget = forget, .check_cache = check_cache,                                             \
  }

const model_base base_respsann = PSANN_ROW("respsann", check_respsann);
const model_base base_waveresnet = PSANN_ROW("waveresnet", check_waveresnet);
