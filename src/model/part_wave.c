#include <math.h>

#include "model/parts.h"

/* Positions are far fewer than this; a larger dilation reads nothing but zeros beyond the first tap. */
static const int64_t dilation_limit = (int64_t)1 << 31;

static const norm_names wave_norm = {NORM_RMS, "wave.norm.scale", NULL};

status wave_tensors(tensor_table *t, const config_model *c) {
  int64_t D = c->d_model, k = c->wave_kernel_size;
  init_rule kernel = {.kind = INIT_UNIFORM, .value = 1.0 / sqrt((double)k), .range = {NAN, NAN}};
  TRY(norm_tensors(t, &wave_norm, D, true));
  TRY(table_cube(t, "wave.dw.weight", (const int64_t[3]){D, 1, k}, kernel));
  TRY(act_tensors(t, "wave.act", c, D));
  TRY(table_linear(t, "wave.proj.weight", D, D, false));
  return table_vector(t, "wave.proj.bias", D, true, init_constant(0.0));
}

static int64_t dilation_of(const config_model *c, int block) {
  int64_t dilation = 1;
  for (int i = 0; i < block && c->wave_dilation_growth > 1 && dilation < dilation_limit; i++) {
    dilation =
        dilation > dilation_limit / c->wave_dilation_growth ? dilation_limit : dilation * c->wave_dilation_growth;
  }
  return dilation;
}

status wave_bind(wave_part *s, buffer_plan *p, const model *m, const unit *u, const char *prefix, int block) {
  const config_model *c = &m->config;
  int64_t D = c->d_model;
  s->kernel = unit_tensor(u, prefix, "wave.dw.weight");
  s->weight = unit_tensor(u, prefix, "wave.proj.weight");
  s->bias = unit_tensor(u, prefix, "wave.proj.bias");
  REQUIRE(s->kernel != NULL && s->weight != NULL && s->bias != NULL, "unit %s has no temporal convolution", u->name);
  s->dilation = dilation_of(c, block);
  s->taps = c->wave_kernel_size;
  if (p->capacity > 0 && (s->taps - 1) * s->dilation >= p->capacity) {
    /* The taps that reach beyond the cache's first position never see a row. */
    s->taps = (p->capacity - 1) / s->dilation + 1;
    TRY(plan_take(p, "taps in reach", p->state, D * s->taps, &s->near_taps));
  }
  s->reach = (s->taps - 1) * s->dilation;
  TRY(norm_bind(&s->norm, p, u, prefix, &wave_norm, D, "wave.norm", false));
  TRY(act_bind(&s->act, u, prefix, "wave.act", c));
  if (p->training) {
    TRY(plan_keep(p, RECOMPUTE_NONE, "wave.conv", p->compute, p->rows * D, &s->conv));
  }
  if (p->capacity > 0 && s->reach > 0) {
    TRY(plan_take(p, "cached rows", p->compute, p->cached_rows * s->reach * D, &s->history));
    TRY(plan_take(p, "cached rows, shifted", p->compute, s->reach * D, &s->shifted));
  }
  return plan_keep(p, RECOMPUTE_NONE, "wave.a", p->compute, p->rows * D, &s->a);
}

static void *history_of(const block_call *c, const wave_part *s, int64_t row) {
  size_t bytes = (size_t)(s->reach * c->p->m->config.d_model) * dtype_size(c->p->e->compute);
  return s->history != NULL ? (char *)s->history + (size_t)row * bytes : NULL;
}

/* The last `reach` rows of the past and the new rows become the past. */
static status remember(const block_call *c, const wave_part *s) {
  const pass *p = c->p;
  const engine_ops *ops = p->e->ops;
  size_t line = (size_t)p->m->config.d_model * dtype_size(p->e->compute);
  int64_t kept = s->reach > p->T ? s->reach - p->T : 0;
  int64_t fresh = s->reach - kept;
  for (int64_t b = 0; b < p->B; b++) {
    char *history = history_of(c, s, p->cache_row + b);
    const char *rows = (const char *)s->norm.y + (size_t)((b + 1) * p->T - fresh) * line;
    if (kept > 0) {
      const char *from = history + (size_t)(s->reach - kept) * line;
      TRY(ops->copy(p->e, STREAM_MAIN, COPY_INSIDE, s->shifted, from, (size_t)kept * line));
      TRY(ops->copy(p->e, STREAM_MAIN, COPY_INSIDE, history, s->shifted, (size_t)kept * line));
    }
    TRY(ops->copy(p->e, STREAM_MAIN, COPY_INSIDE, history + (size_t)kept * line, rows, (size_t)fresh * line));
  }
  return STATUS_OK;
}

status wave_part_forget(const block_call *c, const wave_part *s, int64_t row) {
  if (s->history == NULL) {
    return STATUS_OK;
  }
  size_t bytes = (size_t)(s->reach * c->p->m->config.d_model) * dtype_size(c->p->e->compute);
  return c->p->e->ops->fill_zero(c->p->e, STREAM_MAIN, history_of(c, s, row), bytes);
}

/* The kernel, without the taps that are out of the cache's reach. */
static status kernel_of(const block_call *c, const wave_part *s, const void **kernel) {
  *kernel = weight_of(c, s->kernel);
  if (s->near_taps == NULL) {
    return STATUS_OK;
  }
  engine *e = c->p->e;
  size_t all = (size_t)c->p->m->config.wave_kernel_size * dtype_size(e->state);
  size_t near = (size_t)s->taps * dtype_size(e->state);
  for (int64_t d = 0; d < c->p->m->config.d_model; d++) {
    const char *from = (const char *)*kernel + (size_t)d * all + (all - near);
    TRY(e->ops->copy(e, STREAM_MAIN, COPY_INSIDE, (char *)s->near_taps + (size_t)d * near, from, near));
  }
  *kernel = s->near_taps;
  return STATUS_OK;
}

static status convolve(const block_call *c, const wave_part *s) {
  const pass *p = c->p;
  const config_model *k = &p->m->config;
  const void *kernel;
  TRY(kernel_of(c, s, &kernel));
  ENGINE(p->e, conv_forward, .B = p->B, .T = p->T, .D = k->d_model, .k = s->taps, .dilation = s->dilation,
         .causal = k->wave_padding == PADDING_CAUSAL, .x = s->norm.y, .weight = kernel, .act = act_weights(c, &s->act),
         .history = p->cached ? history_of(c, s, p->cache_row) : NULL, .c = keeps(c) ? s->conv : NULL, .a = s->a);
  return STATUS_OK;
}

status wave_part_forward(const block_call *c, const wave_part *s, const void *x, void *y, norm_spec next) {
  const pass *p = c->p;
  int64_t D = p->m->config.d_model;
  TRY(convolve(c, s));
  if (p->cached && s->history != NULL) {
    TRY(remember(c, s));
  }
  if (y == NULL) {
    return STATUS_OK;
  }
  ENGINE(p->e, out_forward, .B = p->B, .T = p->T, .D = D, .K = D, .in = s->a, .weight = weight_of(c, s->weight),
         .bias = weight_of(c, s->bias), .dropout = dropout_at(c, p->m->config.wave_dropout, SITE_WAVE_OUT),
         .residual = x, .y = y, .norm = next);
  return STATUS_OK;
}

status wave_part_again(const block_call *c, const wave_part *s, const void *x) {
  TRY(norm_again(c, &s->norm, x));
  return convolve(c, s);
}

status wave_part_backward(const block_call *c, const wave_part *s, const void *x) {
  const pass *p = c->p;
  const config_model *k = &p->m->config;
  ENGINE(p->e, out_backward, .B = p->B, .T = p->T, .D = k->d_model, .K = k->d_model, .in = s->a,
         .weight = weight_of(c, s->weight), .dropout = dropout_at(c, k->wave_dropout, SITE_WAVE_OUT), .dy = p->dx,
         .din = p->dn, .dweight = grad_of(c, s->weight), .dbias = grad_of(c, s->bias));
  /* The activation's output is not needed any more: its buffer takes the gradient at the convolution's input. */
  ENGINE(p->e, conv_backward, .B = p->B, .T = p->T, .D = k->d_model, .k = k->wave_kernel_size, .dilation = s->dilation,
         .causal = k->wave_padding == PADDING_CAUSAL, .x = s->norm.y, .weight = weight_of(c, s->kernel), .c = s->conv,
         .act = act_weights(c, &s->act), .da = p->dn, .scratch_c = p->wide, .dx = s->a,
         .dweight = grad_of(c, s->kernel), .dact = act_gradients(c, &s->act));
  return norm_part_backward(c, &s->norm, x, s->a, p->dx, p->dx);
}
