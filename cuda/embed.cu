// Gradient of the embedding: rows of dx summed per token, without atomics.
//
// `order` lists the rows sorted by token. It is cut into chunks of EMBED_CHUNK entries; a block adds its chunk's runs
// of equal tokens. A run that lies inside a chunk is written at once; a run that crosses a chunk's border leaves
// partial sums (head: continues from the left; tail: continues to the right), which a second kernel adds in chunk
// order. Frequent tokens are so spread over many blocks.
#include "device.cuh"
#include "kernels.h"

namespace {

enum { THREADS = 128 };

struct chunk_view {
  const int32_t *tokens, *order;
  int64_t N;
  __device__ __forceinline__ int32_t token(int64_t i) const { return tokens[order[i]]; }
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
    embed_chunks(chunk_view c, int64_t D, const T *dx, float *dweight, float *partial) {
  int64_t begin = (int64_t)blockIdx.x * EMBED_CHUNK, end = min(begin + EMBED_CHUNK, c.N);
  int64_t column = (int64_t)blockIdx.y * THREADS + threadIdx.x;
  if (column >= D) return;
  bool from_left = begin > 0 && c.token(begin - 1) == c.token(begin);
  int64_t i = begin;
  while (i < end) {
    int32_t token = c.token(i);
    int64_t start = i;
    float sum = 0;
    for (; i < end && c.token(i) == token; i++) sum += to_float(dx[(int64_t)c.order[i] * D + column]);
    bool left = start == begin && from_left, right = i == end && i < c.N && c.token(i) == token;
    if (left) {
      partial[((int64_t)blockIdx.x * 2 + 0) * D + column] = sum;
    } else if (right) {
      partial[((int64_t)blockIdx.x * 2 + 1) * D + column] = sum;
    } else {
      dweight[(int64_t)token * D + column] = sum;
    }
  }
}

// The block of the chunk in which a crossing run begins adds its parts.
__global__ void __launch_bounds__(THREADS) embed_runs(chunk_view c, int64_t D, const float *partial, float *dweight) {
  int64_t end = ((int64_t)blockIdx.x + 1) * EMBED_CHUNK, begin = end - EMBED_CHUNK;
  int64_t column = (int64_t)blockIdx.y * THREADS + threadIdx.x;
  if (column >= D || end >= c.N) return;
  int32_t token = c.token(end - 1);
  if (c.token(end) != token) return;
  if (c.token(begin) == token && begin > 0 && c.token(begin - 1) == token) return;
  float sum = partial[((int64_t)blockIdx.x * 2 + 1) * D + column];
  for (int64_t k = blockIdx.x + 1; k * EMBED_CHUNK < c.N && c.token(k * EMBED_CHUNK) == token; k++)
    sum += partial[(k * 2 + 0) * D + column];
  dweight[(int64_t)token * D + column] = sum;
}

template <typename T>
void backward(const launch *l, const embed_backward_args *a, float *chunks) {
  chunk_view c = {a->tokens, a->order, a->B * a->T};
  dim3 grid((unsigned)((c.N + EMBED_CHUNK - 1) / EMBED_CHUNK), (unsigned)((a->D + THREADS - 1) / THREADS));
  embed_chunks<T><<<grid, THREADS, 0, l->stream>>>(c, a->D, (const T *)a->dx, (float *)a->dweight, chunks);
  embed_runs<<<grid, THREADS, 0, l->stream>>>(c, a->D, chunks, (float *)a->dweight);
}

}  // namespace

cudaError_t launch_embed_backward(const launch *l, const embed_backward_args *a, float *chunks) {
  cudaError_t e = cudaMemsetAsync(a->dweight, 0, (size_t)(a->V * a->D) * sizeof(float), l->stream);
  if (e != cudaSuccess) return e;
  if (l->compute == DTYPE_F32) {
    backward<float>(l, a, chunks);
  } else if (l->compute == DTYPE_BF16) {
    backward<__nv_bfloat16>(l, a, chunks);
  } else {
    backward<__half>(l, a, chunks);
  }
  return cudaGetLastError();
}
