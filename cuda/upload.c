#include "upload.h"

#include "base/memory.h"
#include "check.h"

status cuda_upload(void *to, const void *from, size_t bytes) {
  CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  CUDA(cudaStreamSynchronize(0));
  return STATUS_OK;
}

status cuda_clear(void *at, size_t bytes) {
  CUDA(cudaMemset(at, 0, bytes));
  CUDA(cudaStreamSynchronize(0));
  return STATUS_OK;
}

status cuda_no_memory(size_t bytes, const char *what, const char *why) {
  char text[32];
  cudaGetLastError(); /* said here: the next launch must not find it */
  FAIL("the GPU has no %s for %s (%s); use a smaller train.micro_batch or train.recompute = block",
       memory_text((double)bytes, text), what, why);
}
