/* Linear layers whose products may be in 8 bits: operands are rounded into scratch right before their product. The
 * plain twin is engine/cpu/fp8.c. */
#include <inttypes.h>

#include "engine_parts.h"

status fp8_operand(cuda_engine *e, bool gradient, int64_t rows, int64_t columns, const void *x, const void *amax,
                   void *straight, void *transposed, float *factor) {
  launch l = launch_of(e);
  if (rows > FP8_MOST_ROWS) {
    USER_ERROR("train.micro_batch × data.seq_len = %" PRId64
               " rows are more than the %d that train.precision = fp8 takes; "
               "lower train.micro_batch",
               rows, FP8_MOST_ROWS);
  }
  if (amax == NULL) {
    CUDA(launch_amax(&l, rows * columns, x, e->fp8.amax));
    amax = e->fp8.amax;
  }
  const fp8_round_args a = {.rows = rows,
                            .columns = columns,
                            .x = x,
                            .amax = amax,
                            .gradient = gradient,
                            .straight = straight,
                            .transposed = transposed,
                            .factor = factor};
  CUDA(launch_fp8_round(&l, &a));
  return STATUS_OK;
}

/* The product of what lies in the room: left as it stands or transposed. */
static status fp8_product(cuda_engine *e, gemm_kind kind, int64_t n, int64_t m, int64_t k, const void *left,
                          void *result, const void *alpha) {
  const gemm_args a = {.kind = kind,
                       .n = n,
                       .m = m,
                       .k = k,
                       .out = kind == GEMM_WEIGHT_GRAD ? e->base.state : e->base.compute,
                       .fp8 = true,
                       .left_factor = e->fp8.left_factor,
                       .right_factor = e->fp8.right_factor,
                       .left = left,
                       .right = e->fp8.right,
                       .result = result,
                       .alpha = alpha};
  return gemm_run(e->products, e->streams[STREAM_MAIN], &a);
}

status fp8_product_of(cuda_engine *e, gemm_kind kind, int64_t n, int64_t m, int64_t k, const void *left,
                      const void *right, void *result) {
  TRY(fp8_operand(e, kind != GEMM_FORWARD, n, k, left, NULL, e->fp8.left, NULL, e->fp8.left_factor));
  TRY(fp8_operand(e, false, m, k, right, NULL, e->fp8.right, NULL, e->fp8.right_factor));
  return fp8_product(e, kind, n, m, k, e->fp8.left, result, NULL);
}

status layer_forward(cuda_engine *e, int64_t n, int64_t out, int64_t in, const void *x, const void *x_amax,
                     const void *weight, void *y) {
  if (x_amax == NULL) {
    return product(e, GEMM_FORWARD, n, out, in, x, weight, y, NULL, false);
  }
  TRY(fp8_operand(e, false, n, in, x, x_amax, e->fp8.left, NULL, e->fp8.left_factor));
  TRY(fp8_operand(e, false, out, in, weight, NULL, e->fp8.right, NULL, e->fp8.right_factor));
  return fp8_product(e, GEMM_FORWARD, n, out, in, e->fp8.left, y, NULL);
}

status layer_gradient_open(cuda_engine *e, int64_t n, int64_t out, int64_t in, const void *dy, const void *dy_amax,
                           const void *x_amax, layer_gradient *g) {
  *g = (layer_gradient){.n = n, .out = out, .in = in, .dy = dy, .fp8 = x_amax != NULL};
  if (!g->fp8) {
    return STATUS_OK;
  }
  return fp8_operand(e, true, n, out, dy, dy_amax, e->fp8.left, e->fp8.left_transposed, e->fp8.left_factor);
}

status layer_data_grad(cuda_engine *e, const layer_gradient *g, const void *weight, void *dx) {
  if (!g->fp8) {
    return product(e, GEMM_DATA_GRAD, g->n, g->in, g->out, g->dy, weight, dx, NULL, false);
  }
  TRY(fp8_operand(e, false, g->out, g->in, weight, NULL, NULL, e->fp8.right, e->fp8.right_factor));
  return fp8_product(e, GEMM_DATA_GRAD, g->n, g->in, g->out, e->fp8.left, dx, NULL);
}

status layer_weight_grad(cuda_engine *e, const layer_gradient *g, const void *x, const void *x_amax, const void *alpha,
                         void *dweight) {
  if (!g->fp8) {
    return product(e, GEMM_WEIGHT_GRAD, g->out, g->in, g->n, g->dy, x, dweight, alpha, false);
  }
  TRY(fp8_operand(e, false, g->n, g->in, x, x_amax, NULL, e->fp8.right, e->fp8.right_factor));
  return fp8_product(e, GEMM_WEIGHT_GRAD, g->out, g->in, g->n, e->fp8.left_transposed, dweight, alpha);
}
