/* Streams, events, copies, and the state of a step. */
#include <string.h>

#include "engine_parts.h"

static status cuda_record(engine *base, stream_id s, int event) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaEventRecord(e->events[event], e->streams[s]));
  return STATUS_OK;
}

static status cuda_wait(engine *base, stream_id s, int event) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaStreamWaitEvent(e->streams[s], e->events[event], 0));
  return STATUS_OK;
}

static status cuda_synchronize(engine *base) {
  (void)base;
  CUDA(cudaDeviceSynchronize());
  return STATUS_OK;
}

/* Small copies go through pinned memory, so that the host neither waits for the stream nor has to keep its buffer. */
static status copy_staged(cuda_engine *e, stream_id s, void *to, const void *from, size_t bytes) {
  staging_slot *slot = &e->staging[e->next_staging++ % STAGING];
  if (slot->memory == NULL) {
    CUDA(cudaMallocHost(&slot->memory, STAGED_BYTES));
    CUDA(cudaEventCreateWithFlags(&slot->sent, cudaEventDisableTiming));
  }
  CUDA(cudaEventSynchronize(slot->sent));
  memcpy(slot->memory, from, bytes);
  CUDA(cudaMemcpyAsync(to, slot->memory, bytes, cudaMemcpyHostToDevice, e->streams[s]));
  CUDA(cudaEventRecord(slot->sent, e->streams[s]));
  return STATUS_OK;
}

static status cuda_copy(engine *base, stream_id s, copy_direction d, void *to, const void *from, size_t bytes) {
  if (d == COPY_TO_ENGINE && bytes <= STAGED_BYTES) {
    return copy_staged((cuda_engine *)base, s, to, from, bytes);
  }
  static const enum cudaMemcpyKind kinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice,
                                              cudaMemcpyHostToDevice};
  CUDA(cudaMemcpyAsync(to, from, bytes, kinds[d], ((cuda_engine *)base)->streams[s]));
  return STATUS_OK;
}

static status cuda_fill_zero(engine *base, stream_id s, void *p, size_t bytes) {
  CUDA(cudaMemsetAsync(p, 0, bytes, ((cuda_engine *)base)->streams[s]));
  return STATUS_OK;
}

static status cuda_set_loss_scale(engine *base, const loss_scaling *s) {
  cuda_engine *e = (cuda_engine *)base;
  return copy_staged(e, STREAM_MAIN, e->scaling, s, sizeof *s);
}

static status cuda_set_spike_watch(engine *base, const spike_watch *w) {
  cuda_engine *e = (cuda_engine *)base;
  return copy_staged(e, STREAM_MAIN, e->spikes, w, sizeof *w);
}

static status cuda_set_step(engine *base, const step_state *state) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(launch_set_step(e->streams[STREAM_MAIN], e->step, state, e->scaling));
  return STATUS_OK;
}

/* An event inside a graph would tell nothing outside: then it is recorded after each launch. */
status result_sent(cuda_engine *e) {
  if (e->capturing) {
    e->captured_result = true;
    return STATUS_OK;
  }
  CUDA(cudaEventRecord(e->has_read, e->streams[STREAM_MAIN]));
  return STATUS_OK;
}

/* Waits for the step's end alone: what was issued after it goes on, so the device never runs dry while the host reads.
 */
static status cuda_get_result(engine *base, step_result *result) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaEventSynchronize(e->has_read));
  *result = *e->read;
  return STATUS_OK;
}

void stream_operations(engine_ops *ops) {
  ops->record = cuda_record;
  ops->wait = cuda_wait;
  ops->synchronize = cuda_synchronize;
  ops->copy = cuda_copy;
  ops->fill_zero = cuda_fill_zero;
  ops->set_loss_scale = cuda_set_loss_scale;
  ops->set_spike_watch = cuda_set_spike_watch;
  ops->set_step = cuda_set_step;
  ops->get_result = cuda_get_result;
}
