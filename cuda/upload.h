/* Tables that the host makes once and kernels read. */
#ifndef PSANN_CUDA_UPLOAD_H
#define PSANN_CUDA_UPLOAD_H

#include <stddef.h>

#include "base/status.h"

/* From ordinary host memory to the device; it is there, for every stream, when this returns. cudaMemcpy alone may return while
 * the last bytes are still on their way, and our streams don't wait for the one that it uses. */
status cuda_upload(void *to, const void *from, size_t bytes);

#endif
