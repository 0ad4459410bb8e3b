/* cuDNN's fused attention, forward and deterministic backward, causal, over packed q, k, v (N, 3, H, h) in bf16 or
 * fp16. Graphs are built once a shape and kept.
 *
 * The header stands apart from engine.h, so that the front end behind it, which takes minutes to compile, is compiled
 * once.
 */
#ifndef PSANN_CUDA_ATTENTION_CUDNN_H
#define PSANN_CUDA_ATTENTION_CUDNN_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "base/status.h"

typedef struct attention_cudnn attention_cudnn;

/* B sequences of T positions, H heads of h elements; bf16: otherwise fp16; unordered: the backward may differ from run to run. */
typedef struct {
  bool bf16, unordered;
  int64_t B, T, H, h;
} attention_shape;

/* *out is NULL, without a failure, where cuDNN can't be used. */
status attention_cudnn_create(attention_cudnn **out);
void attention_cudnn_free(attention_cudnn *c);

/* Builds the graphs of a shape and tells the workspace that they need. */
status attention_cudnn_plan(attention_cudnn *c, const attention_shape *s, bool training, size_t *workspace);

/* qkv (N, 3, H, h) → out (N, H·h) and lse fp32 (B, H, T). */
status attention_cudnn_forward(attention_cudnn *c, const attention_shape *s, cudaStream_t stream, const void *qkv,
                               void *out, void *lse, void *workspace);

/* dqkv (N, 3, H, h) from the gradient dout at out. */
status attention_cudnn_backward(attention_cudnn *c, const attention_shape *s, cudaStream_t stream, const void *qkv,
                                const void *out, const void *lse, const void *dout, void *dqkv, void *workspace);

#ifdef __cplusplus
}
#endif

#endif
