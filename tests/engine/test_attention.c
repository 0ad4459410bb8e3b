/* Attention: a plain softmax, central differences, and the cached form against the full one. */
#include <math.h>
#include <string.h>

#include "base/philox.h"
#include "support.h"

typedef struct {
  engine *e;
  int64_t B, T, H, h;
  bool alibi;
  double p;
  double *qkv, *out, *lse, *weight;
} attention_case;

enum { SITE = 5, FIRST_SEQUENCE = 1000 };

static attention_case new_case(int64_t B, int64_t T, int64_t H, int64_t h, bool alibi, double p) {
  int64_t D = H * h, N = B * T;
  engine_limits limits = limits_of(B, T, D, H, 4, 5);
  attention_case c = {.e = open_engine(DTYPE_F64, 1, &limits), .B = B, .T = T, .H = H, .h = h, .alibi = alibi, .p = p};
  step_state step = {.step = 1, .first_sequence = FIRST_SEQUENCE, .loss_scale = 1, .micro_batches = 1};
  OK(c.e->ops->set_step(c.e, &step));
  c.qkv = random_doubles(N * 3 * D, 1);
  c.out = zeros((size_t)(N * D), sizeof(double));
  c.lse = zeros((size_t)(B * H * T), sizeof(double));
  c.weight = random_doubles(N * D, 1);
  return c;
}

static void end_case(attention_case *c) {
  close_engine(c->e);
  free_all();
}

static void forward(attention_case *c) {
  attention_forward_args a = {.B = c->B,
                              .T = c->T,
                              .H = c->H,
                              .h = c->h,
                              .alibi = c->alibi,
                              .dropout = {.p = c->p, .site = SITE},
                              .qkv = c->qkv,
                              .out = c->out,
                              .lse = c->lse};
  OK(c->e->ops->attention_forward(c->e, &a));
}

static double run_forward(void *context) {
  attention_case *c = context;
  forward(c);
  return dot(c->weight, c->out, c->B * c->T * c->H * c->h);
}

/* Slopes from the table of the specification. */
static double slope_of(int64_t head, int64_t H) {
  const double two[] = {1.0 / 16, 1.0 / 256};
  const double three[] = {1.0 / 16, 1.0 / 256, 1.0 / 4};
  const double four[] = {1.0 / 4, 1.0 / 16, 1.0 / 64, 1.0 / 256};
  const double twelve[] = {1.0 / 2,   1.0 / 4,   1.0 / 8,   1.0 / 16,      1.0 / 32,      1.0 / 64,
                           1.0 / 128, 1.0 / 256, M_SQRT1_2, M_SQRT1_2 / 2, M_SQRT1_2 / 4, M_SQRT1_2 / 8};
  const double *slopes = H == 2 ? two : H == 3 ? three : H == 4 ? four : twelve;
  return H == 1 ? 1.0 / 256 : (double)(float)slopes[head];
}

static double mask_of(const attention_case *c, int64_t b, int64_t head, int64_t query, int64_t key) {
  if (c->p == 0) {
    return 1;
  }
  int64_t element = (head * c->T + query) * c->T + key;
  philox_block block =
      philox(c->e->seed, PHILOX_DROPOUT, (uint32_t)(FIRST_SEQUENCE + b), 0, SITE, (uint32_t)(element / 4));
  return (double)philox_uniform(block.x[element % 4]) < c->p ? 0 : 1 / (1 - c->p);
}

static void plain_attention(const attention_case *c, double *out, double *lse) {
  int64_t T = c->T, h = c->h, D = c->H * h;
  double *s = zeros((size_t)T, sizeof *s);
  for (int64_t b = 0; b < c->B; b++) {
    for (int64_t head = 0; head < c->H; head++) {
      for (int64_t q = 0; q < T; q++) {
        const double *query = c->qkv + (b * T + q) * 3 * D + head * h;
        double sum = 0;
        for (int64_t k = 0; k <= q; k++) {
          s[k] = dot(query, c->qkv + (b * T + k) * 3 * D + D + head * h, h) / sqrt((double)h);
          s[k] -= c->alibi ? slope_of(head, c->H) * (double)(q - k) : 0;
          sum += exp(s[k]);
        }
        lse[(b * c->H + head) * T + q] = log(sum);
        double *o = out + (b * T + q) * D + head * h;
        for (int64_t k = 0; k <= q; k++) {
          double p = exp(s[k]) / sum * mask_of(c, b, head, q, k);
          const double *v = c->qkv + (b * T + k) * 3 * D + 2 * D + head * h;
          for (int64_t j = 0; j < h; j++) {
            o[j] += p * v[j];
          }
        }
      }
    }
  }
}

typedef struct {
  int64_t B, T, H, h;
  bool alibi;
  double p;
} shape;

static const shape shapes[] = {
    {1, 1, 1, 4, false, 0},   {2, 7, 3, 5, true, 0},     {1, 13, 4, 3, true, 0},    {2, 65, 2, 8, false, 0},
    {1, 130, 2, 6, false, 0}, {1, 130, 12, 2, true, 0},  {2, 13, 2, 7, false, 0.4}, {1, 129, 3, 4, true, 0.2},
    {2, 64, 1, 16, false, 0}, {1, 97, 2, 35, true, 0.1},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static void test_forward_against_plain(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    shape s = shapes[i];
    attention_case c = new_case(s.B, s.T, s.H, s.h, s.alibi, s.p);
    forward(&c);
    int64_t n = s.B * s.T * s.H * s.h;
    double *out = zeros((size_t)n, sizeof(double)), *lse = zeros((size_t)(s.B * s.H * s.T), sizeof(double));
    plain_attention(&c, out, lse);
    assert_close("attention", c.out, out, n, 1e-13);
    assert_close("lse", c.lse, lse, s.B * s.H * s.T, 1e-13);
    end_case(&c);
  }
}

static void test_backward(void **state) {
  (void)state;
  for (int i = 0; i < SHAPES; i++) {
    shape s = shapes[i];
    attention_case c = new_case(s.B, s.T, s.H, s.h, s.alibi, s.p);
    run_forward(&c);
    int64_t n = s.B * s.T * 3 * s.H * s.h;
    double *dqkv = zeros((size_t)n, sizeof(double));
    attention_backward_args a = {.B = s.B,
                                 .T = s.T,
                                 .H = s.H,
                                 .h = s.h,
                                 .alibi = s.alibi,
                                 .dropout = {.p = s.p, .site = SITE},
                                 .qkv = c.qkv,
                                 .out = c.out,
                                 .lse = c.lse,
                                 .dout = c.weight,
                                 .dqkv = dqkv};
    for (int64_t j = 0; j < n; j++) {
      dqkv[j] = NAN; /* must be written, whatever was there */
    }
    OK(c.e->ops->attention_backward(c.e, &a));
    check_gradient("qkv", run_forward, &c, c.qkv, dqkv, n);
    end_case(&c);
  }
}

/* Large scores and an early key that dominates: the maximum must be taken off. */
static void test_large_scores(void **state) {
  (void)state;
  attention_case c = new_case(1, 70, 2, 4, false, 0);
  for (int64_t i = 0; i < 70 * 24; i++) {
    c.qkv[i] *= i % 24 < 16 ? 40 : 1;
  }
  run_forward(&c);
  for (int64_t i = 0; i < 70 * 8; i++) {
    assert_true(isfinite(c.out[i]));
  }
  end_case(&c);
}

/* Feeds the rows in pieces of random length; sequences start at different positions of their caches. */
static void check_cached(int64_t B, int64_t T, int64_t H, int64_t h, bool alibi) {
  attention_case c = new_case(B, T, H, h, alibi, 0);
  forward(&c);
  int64_t D = H * h, capacity = T + 3;
  double *keys = zeros((size_t)(B * H * capacity * h), sizeof(double)),
         *values = zeros((size_t)(B * H * capacity * h), sizeof(double));
  double *out = zeros((size_t)(B * T * D), sizeof(double));
  double *piece = zeros((size_t)(B * T * 3 * D), sizeof(double)),
         *piece_out = zeros((size_t)(B * T * D), sizeof(double));
  int32_t *past = zeros((size_t)B, sizeof(int32_t));
  for (int64_t at = 0; at < T;) {
    int64_t n = 1 + below(T - at < 90 ? T - at : 90);
    for (int64_t b = 0; b < B; b++) {
      past[b] = (int32_t)at;
      memcpy(piece + b * n * 3 * D, c.qkv + (b * T + at) * 3 * D, (size_t)(n * 3 * D) * sizeof(double));
    }
    attention_cached_args a = {.B = B,
                               .T = n,
                               .H = H,
                               .h = h,
                               .capacity = capacity,
                               .alibi = alibi,
                               .qkv = piece,
                               .past = past,
                               .keys = keys,
                               .values = values,
                               .out = piece_out};
    OK(c.e->ops->attention_cached(c.e, &a));
    for (int64_t b = 0; b < B; b++) {
      memcpy(out + (b * T + at) * D, piece_out + b * n * D, (size_t)(n * D) * sizeof(double));
    }
    at += n;
  }
  assert_close("cached attention", out, c.out, B * T * D, 1e-13);
  end_case(&c);
}

static void test_cached(void **state) {
  (void)state;
  check_cached(2, 13, 3, 5, true);
  check_cached(1, 1, 1, 4, false);
  check_cached(2, 300, 2, 8, false);
  check_cached(1, 530, 1, 2, true);
}

/* Rows of a batch may have pasts of different lengths. */
static void test_cached_ragged(void **state) {
  (void)state;
  int64_t T = 40, H = 2, h = 4, D = H * h, capacity = 64;
  attention_case c = new_case(2, T, H, h, false, 0);
  forward(&c);
  double *keys = zeros((size_t)(2 * D * capacity), sizeof(double)),
         *values = zeros((size_t)(2 * D * capacity), sizeof(double));
  double out[16];
  int32_t past[2] = {39, 17};
  for (int64_t b = 0; b < 2; b++) {
    for (int64_t t = 0; t < past[b]; t++) {
      for (int64_t head = 0; head < H; head++) {
        const double *row = c.qkv + (b * T + t) * 3 * D + head * h;
        memcpy(keys + ((b * H + head) * capacity + t) * h, row + D, (size_t)h * sizeof(double));
        memcpy(values + ((b * H + head) * capacity + t) * h, row + 2 * D, (size_t)h * sizeof(double));
      }
    }
  }
  double piece[2 * 24];
  memcpy(piece, c.qkv + 39 * 3 * D, sizeof piece / 2);
  memcpy(piece + 3 * D, c.qkv + (T + 17) * 3 * D, sizeof piece / 2);
  attention_cached_args a = {.B = 2,
                             .T = 1,
                             .H = H,
                             .h = h,
                             .capacity = capacity,
                             .qkv = piece,
                             .past = past,
                             .keys = keys,
                             .values = values,
                             .out = out};
  OK(c.e->ops->attention_cached(c.e, &a));
  assert_close("row 0", out, c.out + 39 * D, D, 1e-13);
  assert_close("row 1", out + D, c.out + (T + 17) * D, D, 1e-13);
  past[0] = 64;
  assert_int_not_equal(c.e->ops->attention_cached(c.e, &a), STATUS_OK);
  end_case(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_forward_against_plain), cmocka_unit_test(test_backward),
      cmocka_unit_test(test_large_scores),          cmocka_unit_test(test_cached),
      cmocka_unit_test(test_cached_ragged),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
