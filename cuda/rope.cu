// Rotary positions on q and k, in place: the pair (2i, 2i + 1) of every head turns by position · frequency[i]; backward
// turns by the negative angle.
#include "device.cuh"
#include "kernels.h"

namespace {

// PAIRS neighbouring pairs a thread, the same for all the heads it visits: one sine and cosine serve 2·H heads.
template <typename T, int PAIRS>
__global__ void rope(int64_t T_, int64_t H, int64_t h, const int32_t *past, const float *frequencies, T *qkv,
                     float direction, float *amax) {
  int per_head = (int)(h / (2 * PAIRS));
  int slot = threadIdx.x % per_head, lanes = blockDim.x / per_head, lane = threadIdx.x / per_head;
  int64_t row = blockIdx.x, position = row % T_ + (past ? past[row / T_] : 0);
  float c[PAIRS], s[PAIRS];
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    sincosf((float)position * frequencies[slot * PAIRS + i], &s[i], &c[i]);
    s[i] *= direction;
  }
  float most = 0;
  if (lane >= lanes) H = 0;
  if (amax) { /* v stays as it is */
    for (int64_t head = 2 * H + lane; head < 3 * H; head += lanes) {
      float x[2 * PAIRS];
      load_pack<T, 2 * PAIRS>(qkv + (row * 3 * H + head) * h + slot * 2 * PAIRS, x);
#pragma unroll
      for (int i = 0; i < 2 * PAIRS; i++) most = fmaxf(most, fabsf(x[i]));
    }
  }
  for (int64_t head = lane; head < 2 * H; head += lanes) {
    T *p = qkv + (row * 3 * H + head) * h + slot * 2 * PAIRS;
    float x[2 * PAIRS];
    load_pack<T, 2 * PAIRS>(p, x);
#pragma unroll
    for (int i = 0; i < PAIRS; i++) {
      float even = x[2 * i], odd = x[2 * i + 1];
      x[2 * i] = even * c[i] - odd * s[i];
      x[2 * i + 1] = odd * c[i] + even * s[i];
      most = fmaxf(most, fmaxf(fabsf(x[2 * i]), fabsf(x[2 * i + 1])));
    }
    store_pack<T, 2 * PAIRS>(p, x);
  }
  if (amax) add_amax<T>(amax, most);
}

// Threads of a block: 64 or a little more, in whole heads and then in whole warps.
int64_t whole_warps(int64_t per_head) {
  int64_t threads = (64 + per_head - 1) / per_head * per_head;
  return (threads + WARP - 1) / WARP * WARP;
}

template <typename T>
void launch_typed(const launch *l, int64_t B, int64_t T_, int64_t H, int64_t h, const int32_t *past,
                  const float *frequencies, void *qkv, float direction, float *amax) {
  constexpr int WIDE = 8 / sizeof(T);
  unsigned grid = (unsigned)(B * T_);
  if (h % (2 * WIDE) == 0) {
    int64_t threads = whole_warps(h / (2 * WIDE));
    rope<T, WIDE><<<grid, (unsigned)threads, 0, l->stream>>>(T_, H, h, past, frequencies, (T *)qkv, direction, amax);
  } else {
    int64_t threads = whole_warps(h / 2);
    rope<T, 1><<<grid, (unsigned)threads, 0, l->stream>>>(T_, H, h, past, frequencies, (T *)qkv, direction, amax);
  }
}

}  // namespace

cudaError_t launch_rope(const launch *l, int64_t B, int64_t T, int64_t H, int64_t h, const int32_t *past,
                        const float *frequencies, void *qkv, bool back, void *amax) {
  float direction = back ? -1.0f : 1.0f;
  if (h % 2 != 0 || h > 2048) return cudaErrorInvalidValue;
  if (amax && l->compute != DTYPE_BF16) return cudaErrorInvalidValue;
  if (clear_amax(l->stream, amax) != cudaSuccess) return cudaGetLastError();
  if (l->compute == DTYPE_F32) {
    launch_typed<float>(l, B, T, H, h, past, frequencies, qkv, direction, NULL);
  } else if (l->compute == DTYPE_BF16) {
    launch_typed<__nv_bfloat16>(l, B, T, H, h, past, frequencies, qkv, direction, (float *)amax);
  } else {
    launch_typed<__half>(l, B, T, H, h, past, frequencies, qkv, direction, NULL);
  }
  return cudaGetLastError();
}
