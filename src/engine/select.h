/* Which engine a run gets: `run.device` and `train.precision` against what the build and the machine have. */
#ifndef PSANN_ENGINE_SELECT_H
#define PSANN_ENGINE_SELECT_H

#include "config/config.h"
#include "engine/engine.h"

/* Resolves auto: the GPU where the build has CUDA and the machine a GPU, bf16 there and fp32 on the CPU. A device that is not there, or a precision that it does not compute: a user error. */
status engine_resolve(config_device *device, config_precision *precision);

/* The engine of a resolved pair. `gpu`: number of the GPU among those that this process sees; `threads`: of the CPU engine. PRECISION_FP64 is for parity cases on the CPU. */
status engine_create(config_device device, config_precision precision, int gpu, int threads, uint64_t seed, engine **out);

/* GPUs that this process sees; 0 without a driver or without CUDA in the build. */
int engine_gpus(void);

/* Free memory of the current engine's device in bytes; 0: not known. */
double engine_gpu_memory_free(int gpu);

typedef struct {
  char name[256]; /* "NVIDIA H200"; "": not known */
  double memory;  /* bytes */
  int major, minor; /* compute capability */
} gpu_facts;

/* What a GPU is; all zero when it is not known. */
void engine_gpu_facts(int gpu, gpu_facts *f);

/* PCI address of a GPU, by which the driver's tools know it, into text (at least 32 bytes); "": not known. */
void engine_gpu_address(int gpu, char *text);

#endif
