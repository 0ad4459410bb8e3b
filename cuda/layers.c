/* The operations of the model: kernels.h's launches, cuBLASLt's products and cuDNN's attention put together. */
#include <inttypes.h>

#include "engine_parts.h"

status product(cuda_engine *e, gemm_kind kind, int64_t n, int64_t m, int64_t k, const void *left, const void *right,
               void *result, const void *alpha, bool accumulate) {
  dtype out = kind == GEMM_WEIGHT_GRAD ? e->base.state : e->base.compute;
  const gemm_args a = {.kind = kind,
                       .n = n,
                       .m = m,
                       .k = k,
                       .in = e->base.compute,
                       .out = out,
                       .left = left,
                       .right = right,
                       .result = result,
                       .alpha = alpha,
                       .accumulate = accumulate};
  return gemm_run(e->products, e->streams[STREAM_MAIN], &a);
}

static status cuda_embed_forward(engine *base, const embed_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_embed_forward(&l, a, e->sinusoid_frequencies));
  return STATUS_OK;
}

static status cuda_embed_backward(engine *base, const embed_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_embed_backward(&l, a, e->chunks));
  return STATUS_OK;
}

static status cuda_norm_forward(engine *base, const norm_forward_args *a) {
  launch l = launch_of((cuda_engine *)base);
  CUDA(launch_norm_forward(&l, a));
  return STATUS_OK;
}

static status cuda_norm_backward(engine *base, const norm_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_norm_backward(&l, a, e->partial));
  return STATUS_OK;
}

static status cuda_qkv_forward(engine *base, const qkv_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  TRY(layer_forward(e, a->B * a->T, 3 * a->D, a->D, a->x, a->x_amax, a->weight, a->qkv));
  if (a->rope) {
    CUDA(launch_rope(&l, a->B, a->T, a->H, a->D / a->H, a->past, e->rope_frequencies, a->qkv, false, NULL));
  }
  return STATUS_OK;
}

static status cuda_qkv_backward(engine *base, const qkv_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  float *amax = a->rope && a->x_amax != NULL ? e->fp8.gradient_amax : NULL;
  if (a->rope) {
    CUDA(launch_rope(&l, a->B, a->T, a->H, a->D / a->H, NULL, e->rope_frequencies, a->dqkv, true, amax));
  }
  layer_gradient g;
  TRY(layer_gradient_open(e, a->B * a->T, 3 * a->D, a->D, a->dqkv, amax, a->x_amax, &g));
  TRY(layer_data_grad(e, &g, a->weight, a->dx));
  return layer_weight_grad(e, &g, a->x, a->x_amax, NULL, a->dweight);
}

static status attention_of(cuda_engine *e, const attention_forward_args *a) {
  const engine *base = &e->base;
  launch l = launch_of(e);
  if (fused_takes(e, a->h, a->alibi, a->dropout.p)) {
    attention_shape shape = {base->compute == DTYPE_BF16, base->unordered, a->B, a->T, a->H, a->h};
    return attention_cudnn_forward(e->fused, &shape, l.stream, a->qkv, a->out, a->lse, e->fused_workspace);
  }
  size_t bytes;
  void *memory = gemm_split_memory(e->products, &bytes);
  if (attention_split_takes(base->compute, a->T, a->h, a->dropout.p, bytes)) {
    CUDA(launch_attention_split_forward(&l, a, memory, bytes));
    return STATUS_OK;
  }
  REQUIRE(a->h <= 128, "heads of %" PRId64 " elements: the GPU's attention takes up to 128; use more heads", a->h);
  CUDA(launch_attention_forward(&l, a));
  return STATUS_OK;
}

static status cuda_attention_forward(engine *base, const attention_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  TRY(attention_of(e, a));
  if (a->out_amax != NULL) {
    CUDA(launch_amax(&l, a->B * a->T * a->H * a->h, a->out, a->out_amax));
  }
  return STATUS_OK;
}

static status cuda_attention_backward(engine *base, const attention_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  if (attention_wgmma_takes(base->compute, a->B, a->T, a->H, a->h, a->alibi, a->dropout.p)) {
    CUDA(launch_attention_wgmma_backward(&l, a, e->attention));
    return STATUS_OK;
  }
  if (fused_takes(e, a->h, a->alibi, a->dropout.p)) {
    attention_shape shape = {base->compute == DTYPE_BF16, base->unordered, a->B, a->T, a->H, a->h};
    return attention_cudnn_backward(e->fused, &shape, l.stream, a->qkv, a->out, a->lse, a->dout, a->dqkv,
                                    e->fused_workspace);
  }
  CUDA(launch_attention_backward(&l, a, (float *)e->attention));
  return STATUS_OK;
}

static status cuda_attention_cached(engine *base, const attention_cached_args *a) {
  launch l = launch_of((cuda_engine *)base);
  CUDA(launch_attention_cached(&l, a));
  return STATUS_OK;
}

static status cuda_out_forward(engine *base, const out_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  TRY(layer_forward(e, a->B * a->T, a->D, a->K, a->in, a->in_amax, a->weight, e->product));
  CUDA(launch_residual(&l, a, e->product));
  return STATUS_OK;
}

/* dy behind the dropout of a projection, and its largest magnitude or NULL: dy itself without dropout. */
static status masked_gradient(cuda_engine *e, int64_t B, int64_t T, int64_t D, const dropout_spec *d, const void *dy,
                              const void *amax, const void **out, const void **out_amax) {
  launch l = launch_of(e);
  *out = dy;
  *out_amax = amax;
  if (d->p > 0) {
    CUDA(launch_dropout(&l, B, T, D, d, dy, e->masked));
    *out = e->masked;
    *out_amax = NULL;
  }
  return STATUS_OK;
}

static status cuda_out_backward(engine *base, const out_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  const void *dy, *dy_amax;
  layer_gradient g;
  TRY(masked_gradient(e, a->B, a->T, a->D, &a->dropout, a->dy, a->dy_amax, &dy, &dy_amax));
  TRY(layer_gradient_open(e, a->B * a->T, a->D, a->K, dy, dy_amax, a->in_amax, &g));
  TRY(layer_data_grad(e, &g, a->weight, a->din));
  TRY(layer_weight_grad(e, &g, a->in, a->in_amax, NULL, a->dweight));
  if (a->dbias != NULL) {
    CUDA(launch_column_sums(&l, a->B * a->T, a->D, dy, NULL, e->partial, NULL, a->dbias));
  }
  return STATUS_OK;
}

static status cuda_up_forward(engine *base, const up_forward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  void *z = a->z != NULL ? a->z : a->a;
  TRY(layer_forward(e, a->N, a->M, a->D, a->x, a->x_amax, a->weight, z));
  CUDA(launch_act_forward(&l, a->N, a->M, &a->act, a->bias, z, a->a, a->a_amax));
  return STATUS_OK;
}

/* alpha's gradient is Σ u · dy with u the branch before alpha: Σ a · (dy W2) over features plus b2 · Σ dy, so u itself
 * need not be kept. */
static status cuda_mlp_backward(engine *base, const mlp_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  int64_t N = a->B * a->T;
  const void *dy, *dy_amax;
  float *dots = e->sums, *columns = e->sums + a->M, *dz_amax = a->x_amax != NULL ? e->fp8.gradient_amax : NULL;
  layer_gradient g;
  TRY(masked_gradient(e, a->B, a->T, a->D, &a->dropout, a->dy, a->dy_amax, &dy, &dy_amax));
  CUDA(launch_column_sums(&l, N, a->D, dy, a->alpha, e->partial, columns, a->db2));
  TRY(layer_gradient_open(e, N, a->D, a->M, dy, dy_amax, a->a_amax, &g));
  TRY(layer_data_grad(e, &g, a->w2, a->scratch_z));
  CUDA(launch_act_backward(&l, N, a->M, &a->act, a->b1, a->z, a->scratch_z, a->alpha, a->scratch_z,
                           a->a == NULL ? a->scratch_a : NULL, e->partial, dz_amax));
  CUDA(launch_act_finish(&l, a->M, &a->act, a->alpha, e->partial, &a->dact, a->db1, dots));
  if (a->dalpha != NULL) {
    CUDA(launch_alpha_grad(&l, a->M, dots, a->D, a->b2, columns, a->dalpha));
  }
  TRY(layer_weight_grad(e, &g, a->a != NULL ? a->a : a->scratch_a, a->a_amax, a->alpha, a->dw2));
  TRY(layer_gradient_open(e, N, a->M, a->D, a->scratch_z, dz_amax, a->x_amax, &g));
  TRY(layer_data_grad(e, &g, a->w1, a->dx));
  return layer_weight_grad(e, &g, a->x, a->x_amax, NULL, a->dw1);
}

static status cuda_conv_forward(engine *base, const conv_forward_args *a) {
  launch l = launch_of((cuda_engine *)base);
  CUDA(launch_conv(&l, a));
  CUDA(launch_act_forward(&l, a->B * a->T, a->D, &a->act, NULL, a->c != NULL ? a->c : a->a, a->a, NULL));
  return STATUS_OK;
}

static status cuda_conv_backward(engine *base, const conv_backward_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  CUDA(launch_act_backward(&l, a->B * a->T, a->D, &a->act, NULL, a->c, a->da, NULL, a->scratch_c, NULL, e->partial,
                           NULL));
  CUDA(launch_act_finish(&l, a->D, &a->act, NULL, e->partial, &a->dact, NULL, NULL));
  CUDA(launch_conv_input_grad(&l, a));
  REQUIRE(a->k <= 64, "wave_kernel_size %" PRId64 ": the GPU takes up to 64", a->k);
  CUDA(launch_conv_weight_grad(&l, a, e->partial));
  return STATUS_OK;
}

static const void *row_of(const cuda_engine *e, const void *x, int64_t row, int64_t width) {
  return (const char *)x + (size_t)(row * width) * dtype_size(e->base.compute);
}

static status cuda_head_train(engine *base, const head_train_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  for (int64_t first = 0; first < a->N; first += a->chunk) {
    int64_t rows = a->N - first < a->chunk ? a->N - first : a->chunk;
    const void *x = row_of(e, a->x, first, a->D);
    TRY(product(e, GEMM_FORWARD, rows, a->Vp, a->D, x, a->weight, e->logits, NULL, false));
    CUDA(launch_loss_train(&l, a, first, rows, e->logits, e->rows));
    TRY(product(e, GEMM_DATA_GRAD, rows, a->D, a->Vp, e->logits, a->weight, (void *)row_of(e, a->dx, first, a->D), NULL,
                false));
    TRY(product(e, GEMM_WEIGHT_GRAD, a->Vp, a->D, rows, e->logits, x, a->dweight, NULL, first > 0));
  }
  CUDA(launch_sum_doubles(&l, e->rows, a->N, 1, 1.0 / (double)a->N, a->loss));
  return STATUS_OK;
}

static status cuda_head_eval(engine *base, const head_eval_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  for (int64_t first = 0; first < a->N; first += a->chunk) {
    int64_t rows = a->N - first < a->chunk ? a->N - first : a->chunk;
    TRY(product(e, GEMM_FORWARD, rows, a->Vp, a->D, row_of(e, a->x, first, a->D), a->weight, e->logits, NULL, false));
    CUDA(launch_loss_eval(&l, a, first, rows, e->logits, e->rows));
  }
  CUDA(launch_sum_doubles(&l, e->rows, a->N, 3, 1.0, a->sums));
  return STATUS_OK;
}

static status cuda_head_logits(engine *base, const head_logits_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  int64_t chunk = e->chunk;
  if (base->compute == DTYPE_F32 && a->V == a->Vp) {
    return product(e, GEMM_FORWARD, a->N, a->V, a->D, a->x, a->weight, a->logits, NULL, false);
  }
  for (int64_t first = 0; first < a->N; first += chunk) {
    int64_t rows = a->N - first < chunk ? a->N - first : chunk;
    TRY(product(e, GEMM_FORWARD, rows, a->Vp, a->D, row_of(e, a->x, first, a->D), a->weight, e->logits, NULL, false));
    CUDA(launch_unpad_logits(&l, rows, a->V, a->Vp, e->logits, (float *)a->logits + first * a->V));
  }
  return STATUS_OK;
}

static status cuda_head_forward(engine *base, const head_forward_args *a) {
  return product((cuda_engine *)base, GEMM_FORWARD, a->N, a->Vp, a->D, a->x, a->weight, a->logits, NULL, false);
}

void layer_operations(engine_ops *ops) {
  ops->embed_forward = cuda_embed_forward;
  ops->embed_backward = cuda_embed_backward;
  ops->norm_forward = cuda_norm_forward;
  ops->norm_backward = cuda_norm_backward;
  ops->qkv_forward = cuda_qkv_forward;
  ops->qkv_backward = cuda_qkv_backward;
  ops->attention_forward = cuda_attention_forward;
  ops->attention_backward = cuda_attention_backward;
  ops->attention_cached = cuda_attention_cached;
  ops->out_forward = cuda_out_forward;
  ops->out_backward = cuda_out_backward;
  ops->up_forward = cuda_up_forward;
  ops->mlp_backward = cuda_mlp_backward;
  ops->conv_forward = cuda_conv_forward;
  ops->conv_backward = cuda_conv_backward;
  ops->head_train = cuda_head_train;
  ops->head_eval = cuda_head_eval;
  ops->head_logits = cuda_head_logits;
  ops->head_forward = cuda_head_forward;
}
