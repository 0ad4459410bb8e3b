// Launches of attention_wgmma_kernels.cuh, and the memory that they work in.
#include "attention_wgmma_kernels.cuh"
#include "box_map.h"
#include "kernels.h"

namespace {

using namespace attention_wgmma;

enum {
  MOST_PAIRS = 65535 /* of a grid's second dimension */,
  LONGEST = 1 << 24 /* sequence: steps are counted in 32 bits */
};

// Offsets of the parts; the sums come first.
struct memory_map {
  size_t stats, added, next, bytes;
};

int64_t tiles_of(int64_t T) {
  return (T + KEYS - 1) / KEYS;
}

memory_map map_of(int64_t B, int64_t T, int64_t H, int64_t h) {
  size_t tiles = (size_t)(B * H * tiles_of(T));
  memory_map m = {};
  m.stats = tiles * KEYS * (size_t)h * sizeof(float);
  m.added = m.stats + tiles * STEPS * STATS_BYTES;
  m.next = m.added + tiles * STEPS * sizeof(int);
  m.bytes = m.next + sizeof(int);
  return m;
}

template <typename T, int HEAD>
cudaError_t run(const launch *l, const attention_backward_args *a, void *workspace) {
  enum { BOXES = HEAD / COLUMNS };
  CUtensorMap qkv, dout, dqkv;
  cudaError_t e = box_map_make(a->qkv, a->B, a->T, 3 * a->H * BOXES, HALF, &qkv);
  if (e == cudaSuccess) e = box_map_make(a->dout, a->B, a->T, a->H * BOXES, HALF, &dout);
  if (e == cudaSuccess) e = box_map_make(a->dqkv, a->B, a->T, 3 * a->H * BOXES, HALF, &dqkv);
  int bytes = block<T, HEAD>::SHARED_BYTES + SHARED_SLACK;
  if (e == cudaSuccess)
    e = cudaFuncSetAttribute(gradients<T, HEAD>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  memory_map m = map_of(a->B, a->T, a->H, HEAD);
  char *memory = (char *)workspace;
  problem p = {};
  p.T = a->T;
  p.H = a->H;
  p.tiles = (int)tiles_of(a->T);
  p.pairs = (int)(a->B * a->H);
  p.items = p.pairs * p.tiles;
  /* queries, gradients at the output, sums */
  int64_t pair_bytes = a->T * HEAD * (int64_t)(2 * sizeof(T) + sizeof(float));
  p.together = block<T, HEAD>::UPWARD ? 1 : pairs_together(p.pairs, pair_bytes);
  p.scale = (float)(1.0 / sqrt((double)HEAD));
  p.dqkv = a->dqkv;
  p.stats = (const float *)(memory + m.stats);
  p.sums = (float *)memory;
  p.added = (int *)(memory + m.added);
  p.next = (int *)(memory + m.next);
  row_stats<T, HEAD><<<dim3((unsigned)p.tiles * STEPS, (unsigned)(a->B * a->H)), STATS_THREADS, 0, l->stream>>>(
      p, (const T *)a->out, (const T *)a->dout, (const float *)a->lse, (float *)(memory + m.stats));
  e = cudaGetLastError();
  if (e != cudaSuccess) return e;
  int blocks = p.items < (int)MULTIPROCESSORS ? p.items : (int)MULTIPROCESSORS;
  gradients<T, HEAD><<<(unsigned)blocks, THREADS, (size_t)bytes, l->stream>>>(qkv, dout, dqkv, p);
  return cudaGetLastError();
}

template <typename T>
cudaError_t run_heads(const launch *l, const attention_backward_args *a, void *workspace) {
  return a->h == 64 ? run<T, 64>(l, a, workspace) : run<T, 128>(l, a, workspace);
}

}  // namespace

size_t attention_wgmma_bytes(int64_t B, int64_t T, int64_t H, int64_t h) {
  return map_of(B, T, H, h).bytes;
}

bool attention_wgmma_takes(dtype compute, int64_t B, int64_t T, int64_t H, int64_t h, bool alibi, double dropout) {
  return (compute == DTYPE_BF16 || compute == DTYPE_F16) && (h == 64 || h == 128) && !alibi && dropout == 0 &&
         T <= LONGEST && B * H <= MOST_PAIRS && B * H * tiles_of(T) * STEPS <= INT32_MAX;
}

cudaError_t launch_attention_wgmma_backward(const launch *l, const attention_backward_args *a, void *workspace) {
  if (!attention_wgmma_takes(l->compute, a->B, a->T, a->H, a->h, a->alibi, a->dropout.p)) return cudaErrorInvalidValue;
  if (l->compute == DTYPE_BF16) return run_heads<__nv_bfloat16>(l, a, workspace);
  return run_heads<__half>(l, a, workspace);
}
