/* Training, evaluation and logits: passes of fixed shape. */
#include <stdlib.h>

#include "base/memory.h"
#include "base/phase.h"
#include "model/pass.h"

struct model_run {
  pass_buffers b;
  run_spec spec;
  int64_t chunk;
};

static buffer_plan plan_of(engine *e, dtype compute, dtype state, const run_spec *spec) {
  return (buffer_plan){.e = e,
                       .compute = compute,
                       .state = state,
                       .rows = spec->B * spec->T,
                       .training = spec->training,
                       .recompute = spec->recompute,
                       .fp8 = spec->fp8};
}

status model_run_create(const model *m, engine *e, const run_spec *spec, model_run **out) {
  *out = NULL;
  REQUIRE(spec->B > 0 && spec->T > 0 && spec->B <= INT32_MAX / spec->T,
          "a micro-batch of %lld sequences of %lld tokens has more than %d rows", (long long)spec->B,
          (long long)spec->T, INT32_MAX);
  engine_limits limits;
  model_limits(m, e, spec->B, spec->T, &limits);
  TRY(e->ops->prepare(e, &limits));
  model_run *r = NULL;
  TRY(memory_new(&r, 1, sizeof(model_run), "pass"));
  r->spec = *spec;
  r->chunk = limits.chunk;
  buffer_plan plan = plan_of(e, e->compute, e->state, spec);
  status result = pass_create(&r->b, m, &plan);
  if (result != STATUS_OK) {
    free(r);
    return result;
  }
  r->b.p.B = spec->B;
  r->b.p.T = spec->T;
  r->b.p.N = spec->B * spec->T;
  *out = r;
  return STATUS_OK;
}

void model_run_free(model_run *r) {
  if (r != NULL) {
    pass_free(&r->b);
    free(r);
  }
}

size_t model_run_bytes(const model *m, dtype compute, dtype state, const run_spec *spec) {
  pass_buffers b;
  buffer_plan plan = plan_of(NULL, compute, state, spec);
  if (pass_create(&b, m, &plan) != STATUS_OK) {
    return SIZE_MAX;
  }
  size_t bytes = b.plan.bytes;
  pass_free(&b);
  return bytes;
}

static status head_backward(model_run *r, weight_source *w, const unit_weights *head, const int32_t *labels,
                            double *loss) {
  pass *p = &r->b.p;
  const config_model *k = &p->m->config;
  int unit_index = (int)k->n_layers + 1;
  block_call c = pass_call(&r->b, (int)k->n_layers);
  c.w = *head;
  TRY(w->grad(w, unit_index, &c.grad));
  ENGINE(p->e, head_train, .N = p->N, .D = k->d_model, .V = k->vocab_size, .Vp = p->m->vocab_padded, .chunk = r->chunk,
         .x = r->b.final.y, .weight = head->matrices, .labels = labels, .label_smoothing = r->spec.label_smoothing,
         .loss = loss, .dx = p->dn, .dweight = c.grad);
  TRY(norm_part_backward(&c, &r->b.final, c.x, p->dn, NULL, p->dx));
  TRY(w->release(w, unit_index));
  return pass_grad_done(w, unit_index);
}

status model_train(model_run *r, weight_source *w, const model_batch *batch, double *loss) {
  REQUIRE(r->spec.training, "model_train on a pass that was made for evaluation");
  unit_weights head;
  TRY_PHASE("forward", pass_forward(&r->b, w, batch->tokens, &head));
  TRY_PHASE("head", head_backward(r, w, &head, batch->labels, loss));
  TRY_PHASE("backward", pass_backward(&r->b, w, batch->tokens, batch->order));
  return STATUS_OK;
}

/* Forward without dropout, also on a pass that can train. */
static status forward_only(model_run *r, weight_source *w, const int32_t *tokens, unit_weights *head) {
  r->b.p.training = false;
  status result = pass_forward(&r->b, w, tokens, head);
  r->b.p.training = r->spec.training;
  return result;
}

status model_eval(model_run *r, weight_source *w, const model_batch *batch, double *sums) {
  const pass *p = &r->b.p;
  const config_model *c = &p->m->config;
  unit_weights head;
  TRY(forward_only(r, w, batch->tokens, &head));
  ENGINE(p->e, head_eval, .N = p->N, .D = c->d_model, .V = c->vocab_size, .Vp = p->m->vocab_padded, .chunk = r->chunk,
         .x = r->b.final.y, .weight = head.matrices, .labels = batch->labels, .sums = sums);
  return w->release(w, (int)c->n_layers + 1);
}

status model_logits(model_run *r, weight_source *w, const int32_t *tokens, void *logits) {
  const pass *p = &r->b.p;
  const config_model *c = &p->m->config;
  unit_weights head;
  TRY(forward_only(r, w, tokens, &head));
  ENGINE(p->e, head_logits, .N = p->N, .D = c->d_model, .V = c->vocab_size, .Vp = p->m->vocab_padded, .x = r->b.final.y,
         .weight = head.matrices, .logits = logits);
  return w->release(w, (int)c->n_layers + 1);
}

status model_forward(model_run *r, weight_source *w, const int32_t *tokens, void *logits, int64_t rows) {
  const pass *p = &r->b.p;
  const config_model *c = &p->m->config;
  size_t width = (size_t)c->d_model * dtype_size(p->e->compute);
  unit_weights head;
  REQUIRE(rows > 0, "a chunk of %lld rows of logits", (long long)rows);
  TRY(forward_only(r, w, tokens, &head));
  for (int64_t first = 0; first < p->N; first += rows) {
    ENGINE(p->e, head_forward, .N = p->N - first < rows ? p->N - first : rows, .D = c->d_model,
           .Vp = p->m->vocab_padded, .x = (const char *)r->b.final.y + (size_t)first * width, .weight = head.matrices,
           .logits = logits);
  }
  return w->release(w, (int)c->n_layers + 1);
}
