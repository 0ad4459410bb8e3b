/* Which products a run makes, so that their plans are timed before it starts. */
#include "engine_parts.h"

typedef struct {
  gemm_kind kind;
  int64_t n, m, k;
  bool fp8;
} product_shape;

/* The products of one training pass, as the operations of layers.c make them. */
static int products_of_training(const engine_limits *l, bool fp8, product_shape *out) {
  int64_t N = l->B * l->T, layers[][2] = {{3 * l->D, l->D}, {l->D, l->D}, {l->M, l->D}, {l->D, l->M}},
          tail = N % l->chunk;
  int n = 0;
  for (size_t i = 0; i < sizeof layers / sizeof *layers; i++) {
    int64_t to = layers[i][0], from = layers[i][1];
    for (int narrow = 0; narrow <= (fp8 ? 1 : 0); narrow++) {
      out[n++] = (product_shape){GEMM_FORWARD, N, to, from, narrow};
      out[n++] = (product_shape){GEMM_DATA_GRAD, N, from, to, narrow};
      out[n++] = (product_shape){GEMM_WEIGHT_GRAD, to, from, N, narrow};
    }
  }
  for (int part = 0; part < (tail != 0 ? 2 : 1); part++) {
    int64_t rows = part == 0 ? l->chunk : tail;
    out[n++] = (product_shape){GEMM_FORWARD, rows, l->Vp, l->D, false};
    out[n++] = (product_shape){GEMM_DATA_GRAD, rows, l->D, l->Vp, false};
    out[n++] = (product_shape){GEMM_WEIGHT_GRAD, l->Vp, l->D, rows, false};
  }
  return n;
}

static int products_of(const engine_limits *l, bool fp8, product_shape *out) {
  int n = l->B * l->T > 0 ? products_of_training(l, fp8, out) : 0;
  if (l->logits > 0) {
    out[n++] = (product_shape){GEMM_FORWARD, l->logits_chunk, l->Vp, l->D, false};
    if (l->logits % l->logits_chunk != 0) {
      out[n++] = (product_shape){GEMM_FORWARD, l->logits % l->logits_chunk, l->Vp, l->D, false};
    }
  }
  return n;
}

static status cuda_tune(engine *base, const engine_limits *l) {
  cuda_engine *e = (cuda_engine *)base;
  product_shape shapes[40];
  int n = products_of(l, base->fp8, shapes);
  int64_t most = 0, result = 0;
  bool lent = base->fp8 && e->fp8.left == NULL; /* a plan of memory that is still to be made must not find it taken */
  TRY(fp8_room_prepare(e, l));
  for (int i = 0; i < n; i++) {
    const product_shape *s = &shapes[i];
    int64_t left = s->n * s->k, right = s->m * s->k;
    dtype type = s->kind == GEMM_WEIGHT_GRAD ? base->state : base->compute;
    most = larger(most, larger(left, right));
    result = larger(result, s->n * s->m * (int64_t)dtype_size(type));
  }
  void *left = NULL, *right = NULL, *out = NULL;
  status done = cuda_alloc(base, (size_t)most * dtype_size(base->compute), "the timing of products", &left);
  if (done == STATUS_OK) {
    done = cuda_alloc(base, (size_t)most * dtype_size(base->compute), "the timing of products", &right);
  }
  if (done == STATUS_OK) {
    done = cuda_alloc(base, (size_t)result, "the timing of products", &out);
  }
  launch la = launch_of(e);
  if (done == STATUS_OK &&
      (launch_noise(&la, most, 1, left) != cudaSuccess || launch_noise(&la, most, 2, right) != cudaSuccess)) {
    done = status_set(STATUS_FAILURE, __FILE__, __LINE__, "operands for the timing of products can't be made");
  }
  gemm_allow_timing(e->products, true);
  for (int i = 0; i < n && done == STATUS_OK; i++) {
    const product_shape *s = &shapes[i];
    done = s->fp8 ? fp8_product_of(e, s->kind, s->n, s->m, s->k, left, right, out)
                  : product(e, s->kind, s->n, s->m, s->k, left, right, out, NULL, false);
  }
  gemm_allow_timing(e->products, false);
  cudaDeviceSynchronize();
  if (lent) {
    fp8_room_free(e);
  }
  cudaFree(left);
  cudaFree(right);
  cudaFree(out);
  return done;
}

static status cuda_plans(engine *base, char **text) {
  return gemm_table_text(((cuda_engine *)base)->products, text);
}

static status cuda_used_plans(engine *base, char **text) {
  return gemm_used_text(((cuda_engine *)base)->products, text);
}

static status cuda_read_plans(engine *base, const char *text, const char *origin) {
  return gemm_table_read(((cuda_engine *)base)->products, text, origin);
}

void plan_operations(engine_ops *ops) {
  ops->tune = cuda_tune;
  ops->plans = cuda_plans;
  ops->used_plans = cuda_used_plans;
  ops->read_plans = cuda_read_plans;
}
