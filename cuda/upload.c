#include "upload.h"

#include "check.h"

status cuda_upload(void *to, const void *from, size_t bytes) {
  CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  CUDA(cudaStreamSynchronize(0));
  return STATUS_OK;
}
