#include "engine/select.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef PSANN_CUDA
#include "cuda_engine.h"
#endif

int engine_gpus(void) {
#ifdef PSANN_CUDA
  return cuda_device_count();
#else
  return 0;
#endif
}

double engine_gpu_memory_free(int gpu) {
#ifdef PSANN_CUDA
  return cuda_memory_free(gpu);
#else
  (void)gpu;
  return 0;
#endif
}

void engine_gpu_facts(int gpu, gpu_facts *f) {
  *f = (gpu_facts){0};
#ifdef PSANN_CUDA
  cuda_device_facts(gpu, f->name, sizeof f->name, &f->memory, &f->major, &f->minor);
#else
  (void)gpu;
#endif
}

void engine_gpu_address(int gpu, char *text) {
  text[0] = 0;
#ifdef PSANN_CUDA
  cuda_bus_address(gpu, text);
#else
  (void)gpu;
#endif
}

static status resolve_device(config_device *device) {
  if (*device == DEVICE_AUTO) {
    *device = engine_gpus() > 0 ? DEVICE_CUDA : DEVICE_CPU;
  }
  if (*device == DEVICE_CUDA) {
#ifndef PSANN_CUDA
    USER_ERROR("run.device = cuda, but this build has no CUDA engine; use cpu or auto, or build where CUDA is found");
#endif
#ifdef PSANN_CUDA
    /* It would change the arithmetic of fp32 products behind the program's back. */
    const char *override = getenv("NVIDIA_TF32_OVERRIDE");
    if (override != NULL && override[0] != 0) {
      USER_ERROR("NVIDIA_TF32_OVERRIDE is '%s' in the environment, which changes what fp32 and tf32 mean; unset it, and choose with train.precision", override);
    }
    if (engine_gpus() == 0) {
      USER_ERROR("run.device = cuda, but this machine shows no GPU (%s); check the driver and CUDA_VISIBLE_DEVICES, or use cpu or auto", cuda_device_absence());
    }
#endif
  }
  return STATUS_OK;
}

status engine_resolve(config_device *device, config_precision *precision) {
  TRY(resolve_device(device));
  if (*precision == PRECISION_AUTO) {
    *precision = *device == DEVICE_CUDA ? PRECISION_BF16 : PRECISION_FP32;
  }
  if (*device == DEVICE_CPU && *precision != PRECISION_FP32 && *precision != PRECISION_FP8 && *precision != PRECISION_FP64) {
    USER_ERROR("train.precision = %s, but the CPU engine computes fp32; use fp32 or auto, or run.device = cuda", config_precision_name(*precision));
  }
  if (*device == DEVICE_CUDA && *precision == PRECISION_FP64) {
    USER_ERROR("fp64 is computed on the CPU alone; use --device cpu");
  }
  return STATUS_OK;
}

static status create(config_device device, config_precision precision, int gpu, int threads, uint64_t seed, engine **out) {
  bool narrow = precision == PRECISION_BF16 || precision == PRECISION_FP8;
#ifdef PSANN_CUDA
  if (device == DEVICE_CUDA) {
    const cuda_engine_spec spec = {.device = gpu,
                                   .compute = narrow ? DTYPE_BF16 : precision == PRECISION_FP16 ? DTYPE_F16 : DTYPE_F32,
                                   .tf32 = precision == PRECISION_TF32,
                                   .seed = seed};
    return engine_cuda_create(&spec, out);
  }
#endif
  (void)gpu, (void)narrow;
  REQUIRE(device == DEVICE_CPU, "device %d has no engine in this build", (int)device);
  return engine_cpu_create(precision == PRECISION_FP64 ? DTYPE_F64 : DTYPE_F32, threads, seed, out);
}

status engine_create(config_device device, config_precision precision, int gpu, int threads, uint64_t seed, engine **out) {
  TRY(create(device, precision, gpu, threads, seed, out));
  if (precision == PRECISION_FP8) {
    engine *e = *out;
    size_t length = strlen(e->description);
    e->fp8 = true;
    snprintf(e->description + length, sizeof e->description - length, ", inner products in fp8");
  }
  return STATUS_OK;
}
