/* Norms, clipping and AdamW over a unit. */
#include <stdlib.h>

#include "base/memory.h"
#include "engine_parts.h"
#include "upload.h"

static status cuda_add(engine *base, stream_id s, void *sum, const void *a, const void *b, int64_t n) {
  CUDA(launch_add(((cuda_engine *)base)->streams[s], sum, a, b, n));
  return STATUS_OK;
}

static status cuda_leaf_squares(engine *base, stream_id s, const void *grad, int64_t leaf, int64_t n_leaves,
                                double *squares, int64_t stride) {
  CUDA(launch_leaf_squares(((cuda_engine *)base)->streams[s], grad, leaf, n_leaves, squares, stride));
  return STATUS_OK;
}

static status cuda_add_leaf_squares(engine *base, stream_id s, void *sum, const void *a, const void *b, int64_t leaf,
                                    int64_t n_leaves, double *squares, int64_t stride, bool beside) {
  cudaStream_t stream = ((cuda_engine *)base)->streams[s];
  CUDA(launch_add_leaf_squares(stream, sum, a, b, leaf, n_leaves, squares, stride, beside));
  return STATUS_OK;
}

static status cuda_finish_norm(engine *base, const double *squares, int64_t n_squares, const double *losses,
                               int64_t n_losses, double grad_clip) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(launch_finish_norm(e->streams[STREAM_MAIN], e->step, squares, n_squares, losses, n_losses, grad_clip, e->scaling,
                          e->spikes, e->result));
  CUDA(cudaMemcpyAsync(e->read, e->result, sizeof *e->read, cudaMemcpyDeviceToHost, e->streams[STREAM_MAIN]));
  return result_sent(e);
}

static status device_runs(cuda_engine *e, const optim_run *runs, int64_t n, const device_run **out) {
  for (int i = 0; i < e->n_tables; i++) {
    if (e->tables[i].host == runs) {
      *out = e->tables[i].device;
      return STATUS_OK;
    }
  }
  REQUIRE(e->n_tables < RUN_TABLES, "more than %d units", RUN_TABLES);
  device_run *host;
  TRY(memory_new(&host, (size_t)n, sizeof *host, "optimizer's runs"));
  for (int64_t i = 0; i < n; i++) {
    host[i] = (device_run){runs[i].first, runs[i].first + runs[i].count,
                           (runs[i].trainable ? 1u : 0u) | (runs[i].decay ? 2u : 0u), 0};
  }
  run_table *t = &e->tables[e->n_tables];
  t->host = runs;
  status s = cuda_alloc(&e->base, (size_t)n * sizeof *host, "optimizer's runs", (void **)&t->device);
  if (s == STATUS_OK) {
    s = cuda_upload(t->device, host, (size_t)n * sizeof *host);
  }
  free(host);
  TRY(s);
  e->n_tables++;
  *out = t->device;
  return STATUS_OK;
}

static status cuda_adamw(engine *base, const adamw_args *a) {
  cuda_engine *e = (cuda_engine *)base;
  launch l = launch_of(e);
  const device_run *runs = NULL;
  TRY(device_runs(e, a->runs, a->n_runs, &runs));
  CUDA(launch_adamw(&l, a, runs, e->result));
  return STATUS_OK;
}

void optimizer_operations(engine_ops *ops) {
  ops->add = cuda_add;
  ops->leaf_squares = cuda_leaf_squares;
  ops->add_leaf_squares = cuda_add_leaf_squares;
  ops->finish_norm = cuda_finish_norm;
  ops->adamw = cuda_adamw;
}
