/* A build without cuDNN or its front end: our own kernels serve every case. */
#include "attention_cudnn.h"

status attention_cudnn_create(attention_cudnn **out) {
  *out = NULL;
  return STATUS_OK;
}

void attention_cudnn_free(attention_cudnn *c) {
  (void)c;
}

status attention_cudnn_plan(attention_cudnn *c, const attention_shape *s, bool training, size_t *workspace) {
  (void)c, (void)s, (void)training, (void)workspace;
  FAIL("this build has no cuDNN attention");
}

status attention_cudnn_forward(attention_cudnn *c, const attention_shape *s, cudaStream_t stream, const void *qkv,
                               void *out, void *lse, void *workspace) {
  (void)c, (void)s, (void)stream, (void)qkv, (void)out, (void)lse, (void)workspace;
  FAIL("this build has no cuDNN attention");
}

status attention_cudnn_backward(attention_cudnn *c, const attention_shape *s, cudaStream_t stream, const void *qkv,
                                const void *out, const void *lse, const void *dout, void *dqkv, void *workspace) {
  (void)c, (void)s, (void)stream, (void)qkv, (void)out, (void)lse, (void)dout, (void)dqkv, (void)workspace;
  FAIL("this build has no cuDNN attention");
}
