/* Operations captured from STREAM_MAIN as a CUDA graph and launched whole. */
#include <stdlib.h>

#include "base/memory.h"
#include "engine_parts.h"

struct engine_graph {
  cudaGraphExec_t work;
  bool has_result; /* a finish_norm is in it */
};

/* Of this thread alone: the one that writes checkpoints may call CUDA meanwhile. */
static status cuda_capture_begin(engine *base) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaStreamBeginCapture(e->streams[STREAM_MAIN], cudaStreamCaptureModeThreadLocal));
  e->capturing = true;
  e->captured_result = false;
  return STATUS_OK;
}

static status cuda_capture_end(engine *base, engine_graph **out) {
  cuda_engine *e = (cuda_engine *)base;
  cudaGraph_t graph = NULL;
  *out = NULL;
  e->capturing = false;
  CUDA(cudaStreamEndCapture(e->streams[STREAM_MAIN], &graph));
  engine_graph *g = NULL;
  status s = memory_new(&g, 1, sizeof *g, "a graph");
  if (s != STATUS_OK) {
    cudaGraphDestroy(graph);
    return s;
  }
  g->has_result = e->captured_result;
  cudaError_t made = cudaGraphInstantiate(&g->work, graph, 0);
  cudaGraphDestroy(graph);
  if (made != cudaSuccess) {
    free(g);
    CUDA(made);
  }
  *out = g;
  return STATUS_OK;
}

static status cuda_launch_graph(engine *base, engine_graph *g) {
  cuda_engine *e = (cuda_engine *)base;
  CUDA(cudaGraphLaunch(g->work, e->streams[STREAM_MAIN]));
  return g->has_result ? result_sent(e) : STATUS_OK;
}

static void cuda_free_graph(engine *base, engine_graph *g) {
  (void)base;
  if (g != NULL) {
    cudaGraphExecDestroy(g->work);
    free(g);
  }
}

void graph_operations(engine_ops *ops) {
  ops->capture_begin = cuda_capture_begin;
  ops->capture_end = cuda_capture_end;
  ops->launch_graph = cuda_launch_graph;
  ops->free_graph = cuda_free_graph;
}
