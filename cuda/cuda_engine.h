/* The CUDA engine, behind engine.h. */
#ifndef PSANN_CUDA_CUDA_ENGINE_H
#define PSANN_CUDA_CUDA_ENGINE_H

#include <cuda_runtime_api.h>

#include "engine/engine.h"

typedef struct {
  int device;
  dtype compute; /* DTYPE_F32, DTYPE_BF16, DTYPE_F16 */
  bool tf32;     /* fp32 storage, products in TF32 */
  uint64_t seed;
} cuda_engine_spec;

status engine_cuda_create(const cuda_engine_spec *spec, engine **out);

cudaStream_t engine_cuda_stream(const engine *e, stream_id s);

/* GPUs that this process sees; 0 without a driver. */
int cuda_device_count(void);

/* Why cuda_device_count is 0, in CUDA's words. */
const char *cuda_device_absence(void);

/* Free memory of a GPU in bytes; 0 when it can't be told. */
double cuda_memory_free(int device);

/* Name, bytes of memory and compute capability of a GPU; nothing is written when they can't be told. */
void cuda_device_facts(int device, char *name, size_t room, double *memory, int *major, int *minor);

/* PCI address of a GPU, as NVML takes it ("00000000:1B:00.0"), into text (at least 32 bytes); "" when it can't be told.
 */
void cuda_bus_address(int device, char *text);

#endif
