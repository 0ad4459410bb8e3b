/* What is put into device memory outside of the streams, and is there for all of them when a call returns: our streams don't wait for
 * the one that CUDA uses for it. And the sentence for memory that is not there. */
#ifndef PSANN_CUDA_UPLOAD_H
#define PSANN_CUDA_UPLOAD_H

#include <stddef.h>

#include "base/status.h"

/* From ordinary host memory. cudaMemcpy alone may return while the last bytes are still on their way. */
status cuda_upload(void *to, const void *from, size_t bytes);

/* Zeros. */
status cuda_clear(void *at, size_t bytes);

/* The failure of an allocation of `bytes` for `what`; `why` in CUDA's or NCCL's words. */
status cuda_no_memory(size_t bytes, const char *what, const char *why);

#endif
