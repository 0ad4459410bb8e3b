#include "model/pass.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/phase.h"

static void *state_of(const pass_buffers *b, int block) {
  return b->states + (size_t)block * b->p.m->base->state_bytes;
}

block_call pass_call(pass_buffers *b, int block) {
  int64_t L = b->p.m->config.n_layers;
  return (block_call){.p = &b->p,
                      .block = block,
                      .u = &b->p.m->units[block + 1],
                      .state = block < L ? state_of(b, block) : NULL,
                      .x = b->x[block]};
}

static status take_stream(pass_buffers *b, int64_t stream) {
  int64_t L = b->p.m->config.n_layers;
  for (int64_t i = 0; i <= L; i++) {
    TRY(b->plan.training ? plan_take(&b->plan, "stream", b->plan.compute, stream, &b->x[i])
                         : plan_share(&b->plan, "stream", b->plan.compute, stream, &b->x[i]));
  }
  return STATUS_OK;
}

static status take_backward(pass_buffers *b, int64_t stream) {
  const config_model *c = &b->p.m->config;
  int64_t widest = 3 * c->d_model > c->d_mlp ? 3 * c->d_model : c->d_mlp;
  TRY(plan_take(&b->plan, "gradient of the stream", b->plan.compute, stream, &b->p.dx));
  b->plan.fp8 = b->inner_fp8;
  TRY(plan_amax(&b->plan, "gradient of the stream.amax", &b->p.dx_amax));
  TRY(plan_take(&b->plan, "gradient at a norm", b->plan.compute, stream, &b->p.dn));
  return plan_take(&b->plan, "gradient inside a block", b->plan.compute, b->plan.rows * widest, &b->p.wide);
}

static status fill(pass_buffers *b) {
  const model *m = b->p.m;
  int64_t L = m->config.n_layers, stream = b->plan.rows * m->config.d_model;
  TRY(memory_new(&b->states, (size_t)L, m->base->state_bytes, "records of the blocks"));
  TRY(memory_new(&b->x, (size_t)L + 1, sizeof(void *), "list of the stream's buffers"));
  TRY(take_stream(b, stream));
  for (int i = 0; i < (int)L; i++) {
    char prefix[40];
    snprintf(prefix, sizeof(prefix), "blocks.%d.", i);
    b->plan.fp8 = b->inner_fp8 && i > 0 && i < (int)L - 1;
    TRY(m->base->bind(state_of(b, i), &b->plan, m, &m->units[i + 1], prefix, i));
  }
  TRY(norm_bind(&b->final, &b->plan, &m->units[L + 1], "", &m->base->final_norm, m->config.d_model, "final.norm",
                false));
  return b->plan.training ? take_backward(b, stream) : STATUS_OK;
}

status pass_create(pass_buffers *b, const model *m, const buffer_plan *plan) {
  *b = (pass_buffers){.p = {.m = m, .e = plan->e, .training = plan->training, .recompute = plan->recompute},
                      .plan = *plan,
                      .inner_fp8 = plan->fp8 && plan->training};
  status result = fill(b);
  if (result != STATUS_OK) {
    pass_free(b);
  }
  return result;
}

void pass_free(pass_buffers *b) {
  plan_release(&b->plan);
  free(b->states);
  free(b->x);
  b->states = NULL;
  b->x = NULL;
}

/* The norm at the entrance of the block `block`, or the final norm after the last; `w`: weights of its unit. */
static norm_spec entrance(const pass_buffers *b, int block, const unit_weights *w) {
  const model *m = b->p.m;
  const norm_part *n = block < m->config.n_layers ? m->base->entrance(state_of(b, block)) : &b->final;
  return norm_next(n, b->p.e, &m->units[block + 1], w);
}

static status embed(pass_buffers *b, const unit_weights *w, const unit_weights *next, const int32_t *tokens) {
  const pass *p = &b->p;
  const config_model *c = &p->m->config;
  ENGINE(p->e, embed_forward, .B = p->B, .T = p->T, .D = c->d_model, .V = c->vocab_size, .tokens = tokens,
         .weight = w->matrices, .sinusoidal = c->positional_encoding == POSITION_SINUSOIDAL, .past = p->past,
         .x = b->x[0], .norm = entrance(b, 0, next));
  return STATUS_OK;
}

/* The norm that ends a unit's work has its weights in the next unit, so that one is gathered before the work begins. */
status pass_forward(pass_buffers *b, weight_source *w, const int32_t *tokens, unit_weights *head) {
  const model *m = b->p.m;
  int L = (int)m->config.n_layers;
  unit_weights now, next;
  TRY(w->gather(w, 0, +1, &now));
  TRY(w->gather(w, 1, +1, &next));
  TRY(embed(b, &now, &next, tokens));
  TRY(w->release(w, 0));
  for (int i = 0; i < L; i++) {
    now = next;
    TRY(w->gather(w, i + 2, +1, &next));
    block_call c = pass_call(b, i);
    c.w = now;
    c.y = b->x[i + 1];
    c.next = entrance(b, i + 1, &next);
    TRY(m->base->forward(&c));
    TRY(w->release(w, i + 1));
  }
  *head = next;
  return STATUS_OK;
}

status pass_grad_done(weight_source *w, int unit_index) {
  TRY_PHASE("exchange", w->grad_done(w, unit_index));
  return STATUS_OK;
}

static status block_backward(pass_buffers *b, weight_source *w, int block) {
  const model *m = b->p.m;
  block_call c = pass_call(b, block);
  TRY(w->gather(w, block + 1, -1, &c.w));
  TRY(w->grad(w, block + 1, &c.grad));
  if (b->p.recompute != RECOMPUTE_NONE) {
    TRY(m->base->again(&c));
  }
  TRY(m->base->backward(&c));
  TRY(w->release(w, block + 1));
  return pass_grad_done(w, block + 1);
}

status pass_backward(pass_buffers *b, weight_source *w, const int32_t *tokens, const int32_t *order) {
  const pass *p = &b->p;
  const config_model *c = &p->m->config;
  for (int i = (int)c->n_layers - 1; i >= 0; i--) {
    TRY(block_backward(b, w, i));
  }
  void *grad;
  TRY(w->grad(w, 0, &grad));
  ENGINE(p->e, embed_backward, .B = p->B, .T = p->T, .D = c->d_model, .V = c->vocab_size, .tokens = tokens,
         .order = order, .dx = p->dx, .dweight = grad);
  return pass_grad_done(w, 0);
}
