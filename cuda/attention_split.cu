// Launches of attention_split_kernels.cuh: as many pairs of (sequence, head) at a time as the workspace takes.
#include "attention_split_kernels.cuh"
#include "kernels.h"

namespace {

using namespace attention_split;

int parts_of(int64_t h) {
  return (int)((h + SPLIT_K - 1) / SPLIT_K);
}

int tiles_of(int64_t T) {
  return (int)((T + QUERIES - 1) / QUERIES) * (QUERIES / KEYS);
}

size_t pair_bytes(int64_t T, int64_t h) {
  return (size_t)tiles_of(T) * 3 * ((size_t)parts_of(h) * PART_BYTES + sizeof(float));
}

template <int PARTS, int MT, bool ALIBI>
cudaError_t run_forward(cudaStream_t stream, const problem &s, unsigned pairs) {
  int bytes = memory_map<PARTS>::BYTES + SHARED_SLACK;
  auto kernel = forward<PARTS, MT, ALIBI>;
  cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  kernel<<<dim3((unsigned)s.tiles / 2, pairs), QUERIES / MT * 2, (size_t)bytes, stream>>>(s);
  return cudaGetLastError();
}

template <int PARTS, int MT>
cudaError_t run(cudaStream_t stream, const problem &s, unsigned pairs) {
  split_tiles<PARTS><<<dim3((unsigned)s.tiles, 3, pairs), SPLIT_THREADS, 0, stream>>>(s);
  cudaError_t e = cudaGetLastError();
  if (e != cudaSuccess) return e;
  return s.alibi ? run_forward<PARTS, MT, true>(stream, s, pairs) : run_forward<PARTS, MT, false>(stream, s, pairs);
}

}  // namespace

bool attention_split_takes(dtype compute, int64_t T, int64_t h, double dropout, size_t workspace_bytes) {
  return compute == DTYPE_F32 && h % 4 == 0 && h <= 4 * SPLIT_K && dropout == 0 && pair_bytes(T, h) <= workspace_bytes;
}

cudaError_t launch_attention_split_forward(const launch *l, const attention_forward_args *a, void *workspace,
                                           size_t workspace_bytes) {
  if (!attention_split_takes(l->compute, a->T, a->h, a->dropout.p, workspace_bytes)) return cudaErrorInvalidValue;
  int64_t pairs = a->B * a->H, at_once = (int64_t)(workspace_bytes / pair_bytes(a->T, a->h)), limit = 65535;
  if (at_once > limit) at_once = limit;
  if (at_once > pairs) at_once = pairs;
  problem s = {};
  s.T = a->T;
  s.H = a->H;
  s.h = a->h;
  s.tiles = tiles_of(a->T);
  s.alibi = a->alibi;
  s.qkv = (const float *)a->qkv;
  s.data = (char *)workspace;
  s.scale = (float *)(s.data + (size_t)at_once * 3 * (size_t)s.tiles * (size_t)parts_of(a->h) * PART_BYTES);
  s.out = (float *)a->out;
  s.lse = (float *)a->lse;
  cudaError_t e = cudaSuccess;
  for (; s.first_pair < pairs && e == cudaSuccess; s.first_pair += at_once) {
    unsigned count = (unsigned)(pairs - s.first_pair < at_once ? pairs - s.first_pair : at_once);
    switch (parts_of(a->h)) {
      case 1:
        e = run<1, 2>(l->stream, s, count);
        break;
      case 2:
        e = run<2, 2>(l->stream, s, count);
        break;
      case 3:
        e = run<3, 1>(l->stream, s, count);
        break;
      default:
        e = run<4, 1>(l->stream, s, count);
    }
  }
  return e;
}
