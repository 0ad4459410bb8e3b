/* The MLP: up_forward, out_forward and mlp_backward against central differences, for every activation, decay and bound.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

typedef struct {
  engine *e;
  int64_t B, T, D, M;
  double *x, *w1, *b1, *w2, *b2, *alpha, *residual, *A, *f, *d, *z, *a, *y, *weight;
  act_spec act;
  dropout_spec dropout;
  bool keep_a;
} mlp_case;

static double run_forward(void *context) {
  mlp_case *c = context;
  const engine_ops *ops = c->e->ops;
  up_forward_args up = {.N = c->B * c->T,
                        .D = c->D,
                        .M = c->M,
                        .x = c->x,
                        .weight = c->w1,
                        .bias = c->b1,
                        .act = c->act,
                        .z = c->z,
                        .a = c->a};
  OK(ops->up_forward(c->e, &up));
  out_forward_args out = {.B = c->B,
                          .T = c->T,
                          .D = c->D,
                          .K = c->M,
                          .in = c->a,
                          .weight = c->w2,
                          .bias = c->b2,
                          .alpha = c->alpha,
                          .dropout = c->dropout,
                          .residual = c->residual,
                          .y = c->y};
  OK(ops->out_forward(c->e, &out));
  return dot(c->weight, c->y, c->B * c->T * c->D);
}

static mlp_case new_case(int64_t B, int64_t T, int64_t D, int64_t M, act_spec act, double p, bool keep_a) {
  int64_t N = B * T;
  engine_limits limits = limits_of(B, T, D, 1, M, 5);
  mlp_case c = {.e = open_engine(DTYPE_F64, 1, &limits), .B = B, .T = T, .D = D, .M = M, .act = act, .keep_a = keep_a};
  c.x = random_doubles(N * D, 1);
  c.w1 = random_doubles(M * D, 1 / sqrt((double)D));
  c.b1 = random_doubles(M, 0.3);
  c.w2 = random_doubles(D * M, 1 / sqrt((double)M));
  c.b2 = random_doubles(D, 0.3);
  c.alpha = random_doubles(1, 1);
  c.residual = random_doubles(N * D, 1);
  c.A = random_doubles(M, 1);
  c.f = random_doubles(M, 1);
  c.d = random_doubles(M, 1);
  if (M > 2) {
    c.A[0] = c.f[1] = c.d[2] = 25; /* beyond softplus's threshold */
  }
  c.z = zeros((size_t)(N * M), sizeof(double));
  c.a = zeros((size_t)(N * M), sizeof(double));
  c.y = zeros((size_t)(N * D), sizeof(double));
  c.weight = random_doubles(N * D, 1);
  c.act.amplitude = c.A;
  c.act.frequency = c.f;
  c.act.damping = c.d;
  c.dropout = (dropout_spec){.p = p, .site = 7};
  step_state step = {.step = 3, .updates = 2, .first_sequence = 11, .lr = 1, .loss_scale = 1, .micro_batches = 1};
  OK(c.e->ops->set_step(c.e, &step));
  return c;
}

static void check_case(mlp_case *c) {
  int64_t B = c->B, T = c->T, N = B * T, D = c->D, M = c->M;
  run_forward(c);
  double *forward_a = zeros((size_t)(N * M), sizeof(double));
  memcpy(forward_a, c->a, (size_t)(N * M) * sizeof(double));
  double *scratch_a = zeros((size_t)(N * M), sizeof(double)), *scratch_z = zeros((size_t)(N * M), sizeof(double));
  double *dx = zeros((size_t)(N * D), 8), *dw1 = zeros((size_t)(M * D), 8), *db1 = zeros((size_t)M, 8),
         *dw2 = zeros((size_t)(M * D), 8);
  double *db2 = zeros((size_t)D, 8), *dalpha = zeros(1, 8), *dA = zeros((size_t)M, 8), *df = zeros((size_t)M, 8),
         *dd = zeros((size_t)M, 8);
  mlp_backward_args back = {.B = B,
                            .T = T,
                            .D = D,
                            .M = M,
                            .x = c->x,
                            .z = c->z,
                            .a = c->keep_a ? c->a : NULL,
                            .scratch_a = scratch_a,
                            .scratch_z = scratch_z,
                            .w1 = c->w1,
                            .w2 = c->w2,
                            .b2 = c->b2,
                            .alpha = c->alpha,
                            .act = c->act,
                            .dropout = c->dropout,
                            .dy = c->weight,
                            .dx = dx,
                            .dw1 = dw1,
                            .db1 = db1,
                            .dw2 = dw2,
                            .db2 = db2,
                            .dalpha = dalpha,
                            .dact = {dA, df, dd}};
  OK(c->e->ops->mlp_backward(c->e, &back));
  if (!c->keep_a) {
    assert_memory_equal(scratch_a, forward_a, (size_t)(N * M) * sizeof(double));
  }
  check_gradient("x", run_forward, c, c->x, dx, N * D);
  check_gradient("w1", run_forward, c, c->w1, dw1, M * D);
  check_gradient("b1", run_forward, c, c->b1, db1, M);
  check_gradient("w2", run_forward, c, c->w2, dw2, M * D);
  check_gradient("b2", run_forward, c, c->b2, db2, D);
  check_gradient("alpha", run_forward, c, c->alpha, dalpha, 1);
  if (c->act.kind == ACT_SINE) {
    check_gradient("amplitude", run_forward, c, c->A, dA, M);
    check_gradient("frequency", run_forward, c, c->f, df, M);
    check_gradient("damping", run_forward, c, c->d, dd, M);
  }
  close_engine(c->e);
  free_all();
}

static act_spec spec_of(act_kind kind, act_decay decay, bool bounds) {
  act_spec s = {.kind = kind,
                .decay = decay,
                .amplitude_lo = -INFINITY,
                .amplitude_hi = INFINITY,
                .frequency_lo = -INFINITY,
                .frequency_hi = INFINITY,
                .damping_lo = -INFINITY,
                .damping_hi = INFINITY};
  if (bounds) {
    s.amplitude_lo = 0.5, s.amplitude_hi = 1.1;
    s.frequency_lo = 0.6;
    s.damping_hi = 0.9;
  }
  return s;
}

static void test_sine(void **state) {
  (void)state;
  const int64_t lengths[] = {1, 7, 13, 65, 130};
  for (int decay = ACT_DECAY_ABS; decay <= ACT_DECAY_NONE; decay++) {
    for (int bounds = 0; bounds < 2; bounds++) {
      for (int i = 0; i < 5; i++) {
        mlp_case c = new_case(1 + i % 2, lengths[i], 9, 21, spec_of(ACT_SINE, (act_decay)decay, bounds), 0, i % 2 == 0);
        check_case(&c);
      }
    }
  }
}

static void test_gelu_and_relu(void **state) {
  (void)state;
  for (int keep = 0; keep < 2; keep++) {
    mlp_case gelu = new_case(2, 13, 11, 35, spec_of(ACT_GELU, ACT_DECAY_ABS, false), 0, keep);
    check_case(&gelu);
    mlp_case relu = new_case(2, 13, 11, 35, spec_of(ACT_RELU, ACT_DECAY_ABS, false), 0, keep);
    check_case(&relu);
  }
}

static void test_dropout(void **state) {
  (void)state;
  mlp_case sine = new_case(3, 13, 10, 17, spec_of(ACT_SINE, ACT_DECAY_ABS, false), 0.3, false);
  check_case(&sine);
  mlp_case gelu = new_case(2, 70, 67, 5, spec_of(ACT_GELU, ACT_DECAY_ABS, false), 0.6, true);
  check_case(&gelu);
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_sine), cmocka_unit_test(test_gelu_and_relu),
                                     cmocka_unit_test(test_dropout)};
  return cmocka_run_group_tests(tests, NULL, NULL);
}
