/* The embedding. */
#include <math.h>

#include "operation_inputs.h"

/* Tokens of which half are one token, so that its rows fill several chunks of the embedding's gradient. */
static void *tokens_of(trial *t, const op_case *c, int64_t N, int32_t **host) {
  bool fresh;
  int32_t *tokens = integers(t, "tokens", N, &fresh);
  int32_t often = fresh ? (int32_t)below(c->V) : 0;
  for (int64_t i = 0; i < N && fresh; i++) {
    tokens[i] = below(2) == 0 ? often : (int32_t)below(c->V);
  }
  *host = tokens;
  return put(t, KIND_I32, tokens, N);
}

static status run_embed_forward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T;
  int32_t *tokens;
  embed_forward_args a = {.B = c->B, .T = c->T, .D = c->D, .V = c->V, .sinusoidal = c->sinusoidal};
  a.tokens = tokens_of(t, c, N, &tokens);
  a.weight = given(t, KIND_C, "embedding", c->V * c->D, 1);
  a.past = c->past ? op_past(t, c, 1234) : NULL;
  a.x = result(t, KIND_C, "x", N * c->D, (rounding){.stored = 1});
  a.norm = op_norm(t, c, N, 1);
  return t->e->ops->embed_forward(t->e, &a);
}

static status run_embed_backward(trial *t, const op_case *c) {
  int64_t N = c->B * c->T, n = 0;
  int32_t *tokens;
  bool fresh;
  embed_backward_args a = {.B = c->B, .T = c->T, .D = c->D, .V = c->V};
  a.tokens = tokens_of(t, c, N, &tokens);
  int32_t *order = integers(t, "order", N, &fresh);
  for (int64_t v = 0; v < c->V && fresh; v++) {
    for (int64_t i = 0; i < N; i++) {
      if (tokens[i] == v) {
        order[n++] = (int32_t)i;
      }
    }
  }
  a.order = put(t, KIND_I32, order, N);
  a.dx = given(t, KIND_C, "dx", N * c->D, 1);
  a.dweight = result(t, KIND_S, "dweight", c->V * c->D, (rounding){.terms = N, .scale = sqrt((double)N)});
  return t->e->ops->embed_backward(t->e, &a);
}

const operation op_embed_forward = {"embed_forward", run_embed_forward},
                op_embed_backward = {"embed_backward", run_embed_backward};
