// Rotary positions on q and k, in place: the pair (2i, 2i + 1) of every head turns by position · frequency[i]; backward
// turns by the negative angle.
#include "device.cuh"
#include "kernels.h"

namespace {

// PAIRS neighbouring pairs a thread, the same for all the heads it visits: one sine and cosine serve 2·H heads.
template <typename T, int PAIRS>
__global__ void rope(int64_t T_, int64_t H, int64_t h, const int32_t *past, const float *frequencies, T *qkv,
                     float direction) {
  int per_head = (int)(h / (2 * PAIRS));
  int slot = threadIdx.x % per_head, lanes = blockDim.x / per_head, lane = threadIdx.x / per_head;
  if (lane >= lanes) return;
  int64_t row = blockIdx.x, position = row % T_ + (past ? past[row / T_] : 0);
  float c[PAIRS], s[PAIRS];
#pragma unroll
  for (int i = 0; i < PAIRS; i++) {
    sincosf((float)position * frequencies[slot * PAIRS + i], &s[i], &c[i]);
    s[i] *= direction;
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
    }
    store_pack<T, 2 * PAIRS>(p, x);
  }
}

template <typename T>
void launch_typed(const launch *l, int64_t B, int64_t T_, int64_t H, int64_t h, const int32_t *past,
                  const float *frequencies, void *qkv, float direction) {
  constexpr int WIDE = 8 / sizeof(T);
  unsigned grid = (unsigned)(B * T_);
  if (h % (2 * WIDE) == 0) {
    int64_t per_head = h / (2 * WIDE), threads = (64 + per_head - 1) / per_head * per_head;
    rope<T, WIDE><<<grid, (unsigned)threads, 0, l->stream>>>(T_, H, h, past, frequencies, (T *)qkv, direction);
  } else {
    int64_t per_head = h / 2, threads = (64 + per_head - 1) / per_head * per_head;
    rope<T, 1><<<grid, (unsigned)threads, 0, l->stream>>>(T_, H, h, past, frequencies, (T *)qkv, direction);
  }
}

}  // namespace

cudaError_t launch_rope(const launch *l, int64_t B, int64_t T, int64_t H, int64_t h, const int32_t *past,
                        const float *frequencies, void *qkv, bool back) {
  float direction = back ? -1.0f : 1.0f;
  if (h % 2 != 0 || h > 2048) return cudaErrorInvalidValue;
  if (l->compute == DTYPE_F32) {
    launch_typed<float>(l, B, T, H, h, past, frequencies, qkv, direction);
  } else if (l->compute == DTYPE_BF16) {
    launch_typed<__nv_bfloat16>(l, B, T, H, h, past, frequencies, qkv, direction);
  } else {
    launch_typed<__half>(l, B, T, H, h, past, frequencies, qkv, direction);
  }
  return cudaGetLastError();
}
