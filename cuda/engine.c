/* The CUDA engine: engine_ops on one GPU. memory.c, streams.c, layers.c, plans.c and optimizer.c hold the operations;
 * nothing there waits for the device but synchronize, get_result and copies to the host.
 */
#include <math.h>
#include <nvtx3/nvToolsExt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/phase.h"
#include "cuda_engine.h"
#include "engine_parts.h"

static void cuda_destroy(engine *base) {
  cuda_engine *e = (cuda_engine *)base;
  cudaDeviceSynchronize();
  void *parts[] = {e->product,
                   e->masked,
                   e->logits,
                   e->partial,
                   e->sums,
                   e->chunks,
                   e->attention,
                   e->rows,
                   e->fused_workspace,
                   e->step,
                   e->result,
                   e->scaling,
                   e->rope_frequencies,
                   e->sinusoid_frequencies,
                   e->spikes,
                   e->fp8.left,
                   e->fp8.left_transposed,
                   e->fp8.right,
                   e->fp8.left_factor};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    cudaFree(parts[i]);
  }
  for (int i = 0; i < e->n_tables; i++) {
    cudaFree(e->tables[i].device);
  }
  for (int i = 0; i < STAGING; i++) {
    if (e->staging[i].memory != NULL) {
      cudaEventDestroy(e->staging[i].sent);
      cudaFreeHost(e->staging[i].memory);
    }
  }
  gemm_free(e->products);
  attention_cudnn_free(e->fused);
  board_close(e->board);
  cudaFreeHost(e->read);
  if (e->has_read) cudaEventDestroy(e->has_read);
  for (int i = 0; i < ENGINE_EVENTS; i++) {
    if (e->events[i]) cudaEventDestroy(e->events[i]);
  }
  for (int i = 0; i < STREAMS; i++) {
    if (e->streams[i]) cudaStreamDestroy(e->streams[i]);
  }
  free(e);
}

/* The table; the same for every engine of a process. */
static engine_ops *operations(void) {
  static engine_ops ops;
  ops.destroy = cuda_destroy;
  memory_operations(&ops);
  stream_operations(&ops);
  graph_operations(&ops);
  layer_operations(&ops);
  plan_operations(&ops);
  optimizer_operations(&ops);
  return &ops;
}

static void range_begin(const char *name) {
  nvtxRangePushA(name);
}

static void range_end(void) {
  nvtxRangePop();
}

/* Notes what of the memory is in use before the context is made, or, without the board's word, right after. */
static status open_device(cuda_engine *e) {
  char address[32];
  size_t available, total;
  cuda_bus_address(e->device, address);
  e->board = board_open(address);
  e->used_before = board_memory_used(e->board);
  CUDA(cudaSetDevice(e->device));
  CUDA(cudaMemGetInfo(&available, &total)); /* makes the context */
  if (isnan(e->used_before)) {
    e->used_before = (double)(total - available);
  }
  phase_listen(range_begin, range_end);
  return STATUS_OK;
}

/* What goes with an exchange is short and others wait for it, so it comes before the blocks of a product that fills the
 * device. */
static status open_streams(cuda_engine *e) {
  int last, first;
  CUDA(cudaDeviceGetStreamPriorityRange(&last, &first));
  for (int i = 0; i < STREAMS; i++) {
    CUDA(cudaStreamCreateWithPriority(&e->streams[i], cudaStreamNonBlocking, i == STREAM_COMM ? first : last));
  }
  return STATUS_OK;
}

static status build(cuda_engine *e, const cuda_engine_spec *spec) {
  struct cudaDeviceProp properties;
  CUDA(cudaGetDeviceProperties(&properties, spec->device));
  if (properties.major != 9 || properties.minor != 0) { /* sm_90a runs on nothing later either */
    USER_ERROR("GPU %d is a %s (compute capability %d.%d) and this build has code for 9.0 alone; use run.device = cpu",
               spec->device, properties.name, properties.major, properties.minor);
  }
  e->device = spec->device;
  TRY(open_device(e));
  TRY(open_streams(e));
  for (int i = 0; i < ENGINE_EVENTS; i++) {
    CUDA(cudaEventCreateWithFlags(&e->events[i], cudaEventDisableTiming));
  }
  gemm_math math = spec->compute != DTYPE_F32 ? MATH_HALF : spec->tf32 ? MATH_TF32 : MATH_SPLIT;
  TRY(gemm_create((size_t)DEFAULT_WORKSPACE_MIB << 20, math, &e->products));
  size_t split_bytes;
  gemm_split_memory(e->products, &split_bytes);
  e->fixed = gemm_workspace(e->products) + split_bytes;
  TRY(attention_cudnn_create(&e->fused));
  TRY(cuda_alloc(&e->base, sizeof *e->step, "step state", (void **)&e->step));
  TRY(cuda_alloc(&e->base, sizeof *e->result, "step result", (void **)&e->result));
  CUDA(cudaMallocHost((void **)&e->read, sizeof *e->read));
  CUDA(cudaEventCreateWithFlags(&e->has_read, cudaEventDisableTiming));
  TRY(cuda_alloc(&e->base, sizeof *e->scaling, "loss scale", (void **)&e->scaling));
  TRY(cuda_alloc(&e->base, sizeof *e->spikes, "watch for spikes", (void **)&e->spikes));
  TRY(e->base.ops->set_loss_scale(&e->base, &(loss_scaling){.scale = 1}));
  const char *precision = spec->compute == DTYPE_BF16  ? "bf16"
                          : spec->compute == DTYPE_F16 ? "fp16"
                          : spec->tf32                 ? "tf32"
                                                       : "fp32";
  snprintf(e->base.description, sizeof e->base.description, "CUDA %s on %.60s, cuBLASLt %zu, %s", precision,
           properties.name, cublasLtGetVersion(), e->fused ? "cuDNN attention" : "own attention");
  return STATUS_OK;
}

status engine_cuda_create(const cuda_engine_spec *spec, engine **out) {
  *out = NULL;
  cuda_engine *e;
  TRY(memory_new(&e, 1, sizeof *e, "CUDA engine"));
  e->base = (engine){
      .ops = operations(), .compute = spec->compute, .state = DTYPE_F32, .seed = spec->seed, .chunk_logits = 1 << 28};
  status s = build(e, spec);
  if (s != STATUS_OK) {
    cuda_destroy(&e->base);
    return s;
  }
  *out = &e->base;
  return STATUS_OK;
}

cudaStream_t engine_cuda_stream(const engine *e, stream_id s) {
  return ((const cuda_engine *)e)->streams[s];
}

int cuda_device_count(void) {
  int n = 0;
  return cudaGetDeviceCount(&n) == cudaSuccess ? n : 0;
}

const char *cuda_device_absence(void) {
  int n = 0;
  cudaError_t error = cudaGetDeviceCount(&n);
  return cudaGetErrorString(error != cudaSuccess ? error : cudaErrorNoDevice);
}

void cuda_bus_address(int device, char *text) {
  if (cudaDeviceGetPCIBusId(text, 32, device) != cudaSuccess) {
    text[0] = 0;
  }
}

double cuda_memory_free(int device) {
  size_t available = 0, total = 0;
  return cudaSetDevice(device) == cudaSuccess && cudaMemGetInfo(&available, &total) == cudaSuccess ? (double)available
                                                                                                   : 0;
}

void cuda_device_facts(int device, char *name, size_t room, double *memory, int *major, int *minor) {
  struct cudaDeviceProp p;
  if (cudaGetDeviceProperties(&p, device) == cudaSuccess) {
    snprintf(name, room, "%s", p.name);
    *memory = (double)p.totalGlobalMem;
    *major = p.major;
    *minor = p.minor;
  }
}
