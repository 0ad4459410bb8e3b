#include "operations.h"

#include <stdio.h>

#include "operation_inputs.h"

/* A sequence number beyond 32 bits, and a scale that keeps small gradients in the range of fp16. */
const step_state op_step = {
    .step = 4, .updates = 3, .first_sequence = 5000000001, .lr = 0.01, .loss_scale = 1024, .micro_batches = 3};

static int64_t at_least(int64_t n, int64_t least) {
  return n > least ? n : least;
}

engine_limits op_limits(const op_case *c) {
  if (c->D == 0) { /* of the update, which needs none */
    return limits_of(1, 1, 8, 8, 8, 1);
  }
  /* Without heads: as many as features, so that no plan is made for an attention that nobody asked for. */
  engine_limits l = limits_of(c->B, c->T, c->D, c->H > 0 ? c->H : c->D, at_least(c->M, c->D), at_least(c->V, 1));
  l.chunk = op_chunk(c);
  return l;
}

void op_describe(const op_case *c, char *text, size_t size) {
  static const char *const norms[] = {"", ", RMSNorm", ", LayerNorm"};
  static const char *const acts[] = {"sine", "GELU", "ReLU"}, *const decays[] = {"abs", "relu", "none"};
  const struct {
    const char *name;
    int64_t value;
  } sizes[] = {{"B", c->B},
               {"T", c->T},
               {"D", c->D},
               {"H", c->H},
               {"M", c->M},
               {"V", c->V},
               {"chunk", c->chunk},
               {"k", c->k},
               {"dilation", c->dilation},
               {"capacity", c->capacity}};
  const struct {
    const char *name;
    bool on;
  } options[] = {{"bounds", c->bounds},   {"rope", c->rope}, {"alibi", c->alibi},       {"sinusoidal", c->sinusoidal},
                 {"past", c->past},       {"bias", c->bias}, {"alpha", c->alpha},       {"causal", c->causal},
                 {"history", c->history}, {"keep", c->keep}, {"in place", c->in_place}, {"frozen", c->frozen},
                 {"beside", c->beside},   {"fp8", c->fp8}};
  size_t at = 0;
  text[0] = 0;
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    if (sizes[i].value != 0 && at < size) {
      at +=
          (size_t)snprintf(text + at, size - at, "%s%s %lld", at ? ", " : "", sizes[i].name, (long long)sizes[i].value);
    }
  }
  if ((c->M > 0 || c->k > 0) && at < size) {
    at += (size_t)snprintf(text + at, size - at, ", %s %s", acts[c->act], c->act == ACT_SINE ? decays[c->decay] : "");
  }
  if (at < size) {
    at += (size_t)snprintf(text + at, size - at, "%s", norms[c->norm]);
  }
  for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
    if (options[i].on && at < size) {
      at += (size_t)snprintf(text + at, size - at, ", %s", options[i].name);
    }
  }
  if (c->dropout > 0 && at < size) {
    snprintf(text + at, size - at, ", dropout %g", c->dropout);
  }
}
