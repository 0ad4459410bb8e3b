// Depthwise convolution over time: c[t] = Σ_j w[·, j] · x[t + shift + j·dilation], zero (or the history) outside the
// sequence.
#include "device.cuh"
#include "kernels.h"

namespace {

enum { THREADS = 128 };

struct conv_shape {
  int64_t T, D, k, dilation, shift;
};

template <typename A>
conv_shape shape_of(const A *a) {
  return {a->T, a->D, a->k, a->dilation, a->causal ? -(a->k - 1) * a->dilation : -(a->k - 1) / 2 * a->dilation};
}

template <typename T>
__global__ void __launch_bounds__(THREADS) conv(conv_shape s, const T *x, const float *w, const T *history, T *c) {
  int64_t column = (int64_t)blockIdx.y * THREADS + threadIdx.x, row = blockIdx.x;
  if (column >= s.D) return;
  int64_t t = row % s.T, b = row / s.T, past = (s.k - 1) * s.dilation;
  float sum = 0;
  for (int64_t j = 0; j < s.k; j++) {
    int64_t u = t + s.shift + j * s.dilation;
    float v = 0;
    if (u >= 0 && u < s.T) {
      v = to_float(x[(b * s.T + u) * s.D + column]);
    } else if (u < 0 && history) {
      v = to_float(history[(b * past + past + u) * s.D + column]);
    }
    sum = fmaf(w[column * s.k + j], v, sum);
  }
  c[row * s.D + column] = from_float<T>(sum);
}

template <typename T>
__global__ void __launch_bounds__(THREADS) conv_input_grad(conv_shape s, const T *dc, const float *w, T *dx) {
  int64_t column = (int64_t)blockIdx.y * THREADS + threadIdx.x, row = blockIdx.x;
  if (column >= s.D) return;
  int64_t t = row % s.T, b = row / s.T;
  float sum = 0;
  for (int64_t j = 0; j < s.k; j++) {
    int64_t u = t - s.shift - j * s.dilation;
    if (u >= 0 && u < s.T) sum = fmaf(w[column * s.k + j], to_float(dc[(b * s.T + u) * s.D + column]), sum);
  }
  dx[row * s.D + column] = from_float<T>(sum);
}

// One block of rows, all taps of a column in turn.
template <typename T>
__global__ void __launch_bounds__(THREADS)
    conv_weight_partials(conv_shape s, int64_t N, const T *x, const T *dc, float *partial) {
  int64_t column = (int64_t)blockIdx.x * THREADS + threadIdx.x;
  if (column >= s.D) return;
  int64_t rows = (N + ROW_BLOCKS - 1) / ROW_BLOCKS, first = blockIdx.y * rows, end = min(first + rows, N);
  for (int64_t j = 0; j < s.k; j++) {
    float sum = 0;
    for (int64_t row = first; row < end; row++) {
      int64_t t = row % s.T, u = t + s.shift + j * s.dilation;
      if (u >= 0 && u < s.T)
        sum = fmaf(to_float(dc[row * s.D + column]), to_float(x[(row + u - t) * s.D + column]), sum);
    }
    partial[((int64_t)blockIdx.y * s.k + j) * s.D + column] = sum;
  }
}

__global__ void conv_weight_finish(int64_t D, int64_t k, const float *partial, float *dweight) {
  int64_t e = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (e >= D * k) return;
  int64_t j = e / D, column = e % D;
  float sum = 0;
  for (int64_t b = 0; b < ROW_BLOCKS; b++) sum += partial[(b * k + j) * D + column];
  dweight[column * k + j] = sum;
}

dim3 grid_of(int64_t N, int64_t D) {
  return dim3((unsigned)N, (unsigned)((D + THREADS - 1) / THREADS));
}

template <typename T>
void forward(const launch *l, const conv_forward_args *a) {
  conv<T><<<grid_of(a->B * a->T, a->D), THREADS, 0, l->stream>>>(shape_of(a), (const T *)a->x, (const float *)a->weight,
                                                                 (const T *)a->history, (T *)(a->c ? a->c : a->a));
}

template <typename T>
void input_grad(const launch *l, const conv_backward_args *a) {
  conv_input_grad<T><<<grid_of(a->B * a->T, a->D), THREADS, 0, l->stream>>>(shape_of(a), (const T *)a->scratch_c,
                                                                            (const float *)a->weight, (T *)a->dx);
}

template <typename T>
void weight_grad(const launch *l, const conv_backward_args *a, float *partial) {
  dim3 grid((unsigned)((a->D + THREADS - 1) / THREADS), ROW_BLOCKS);
  conv_weight_partials<T>
      <<<grid, THREADS, 0, l->stream>>>(shape_of(a), a->B * a->T, (const T *)a->x, (const T *)a->scratch_c, partial);
  conv_weight_finish<<<(unsigned)((a->D * a->k + 127) / 128), 128, 0, l->stream>>>(a->D, a->k, partial,
                                                                                   (float *)a->dweight);
}

}  // namespace

cudaError_t launch_conv(const launch *l, const conv_forward_args *a) {
  if (l->compute == DTYPE_F32) {
    forward<float>(l, a);
  } else if (l->compute == DTYPE_BF16) {
    forward<__nv_bfloat16>(l, a);
  } else {
    forward<__half>(l, a);
  }
  return cudaGetLastError();
}

cudaError_t launch_conv_input_grad(const launch *l, const conv_backward_args *a) {
  if (l->compute == DTYPE_F32) {
    input_grad<float>(l, a);
  } else if (l->compute == DTYPE_BF16) {
    input_grad<__nv_bfloat16>(l, a);
  } else {
    input_grad<__half>(l, a);
  }
  return cudaGetLastError();
}

cudaError_t launch_conv_weight_grad(const launch *l, const conv_backward_args *a, float *partial) {
  if (l->compute == DTYPE_F32) {
    weight_grad<float>(l, a, partial);
  } else if (l->compute == DTYPE_BF16) {
    weight_grad<__nv_bfloat16>(l, a, partial);
  } else {
    weight_grad<__half>(l, a, partial);
  }
  return cudaGetLastError();
}
