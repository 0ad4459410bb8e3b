// The activation as one pass with its bias: forward, and backward with the sums over rows for the parameters'
// gradients.
//
// A thread keeps VEC neighbouring features for all its rows, so the raw parameters are read and passed through softplus
// once. Rows are cut into ROW_BLOCKS blocks; a block's sums are added over its warps in a fixed order and written as
// partial sums, which act_finish adds in block order.
#include "activation.cuh"
#include "device.cuh"
#include "kernels.h"

namespace {

enum { WARPS = 8, THREADS = WARPS * WARP };

// Blocks that a multiprocessor has room for, and rows that a thread has asked for ahead of the one that it works on:
// what was fastest on an H200. The forward has little to compute and wants many warps; the backward's sums take
// registers, so its few warps must ask further ahead to keep memory busy.
enum { FORWARD_BLOCKS = 4, FORWARD_AHEAD = 3, BACKWARD_BLOCKS = 2, BACKWARD_AHEAD = 4 };

template <typename T, int VEC, int AHEAD>
struct row_queue {
  raw_pack<T, VEC> ahead[AHEAD];

  __device__ __forceinline__ void fill(const raw_pack<T, VEC> *at, int64_t step, int rows) {
#pragma unroll
    for (int i = 0; i < AHEAD; i++)
      if (i < rows) ahead[i] = at[i * step];
  }
};

// Blocks that the rows are cut into: enough to fill the GPU, few enough that reading a feature's parameters is a small
// part of a thread's work. For the sums a function of F alone.
enum { FULL = 16 * MULTIPROCESSORS };

int sum_blocks(int64_t F, int vec) {
  int64_t columns = (F + WARP * vec - 1) / (WARP * vec);
  int blocks = ROW_BLOCKS;
  while (blocks > 16 && blocks * columns > FULL) blocks /= 2;
  return blocks;
}

struct feature_inputs {
  const float *amplitude, *frequency, *damping, *bias;
  act_bounds bounds;
};

template <int KIND, int VEC>
__device__ __forceinline__ void load_features(const feature_inputs &in, int64_t column, float scale,
                                              sine_feature (&p)[VEC], float (&bias)[VEC]) {
#pragma unroll
  for (int i = 0; i < VEC; i++) {
    bias[i] = in.bias ? in.bias[column + i] : 0.0f;
    if (KIND == ACT_SINE)
      p[i] = sine_of(in.amplitude[column + i], in.frequency[column + i], in.damping[column + i], in.bounds, scale);
  }
}

// AMAX: the largest magnitude of a is wanted, too.
template <typename T, int VEC, int KIND, int DECAY, bool AMAX>
__global__ void __launch_bounds__(THREADS, FORWARD_BLOCKS)
    act_forward(int64_t N, int64_t F, feature_inputs in, const T *z, T *a, float *amax) {
  int64_t column = ((int64_t)blockIdx.x * WARP + threadIdx.x % WARP) * VEC;
  float most = 0;
  if (column >= F && !AMAX) return;
  if (column >= F) N = 0; /* stays for its warp's maximum */
  sine_feature p[VEC] = {};
  float bias[VEC] = {};
  if (column < F) load_features<KIND, VEC>(in, column, 1.0f, p, bias);
  using packed = raw_pack<T, VEC>;
  row_queue<T, VEC, FORWARD_AHEAD> queue;
  int64_t row = (int64_t)blockIdx.y * WARPS + threadIdx.x / WARP, rows = (int64_t)gridDim.y * WARPS;
  int64_t step = rows * F / VEC;
  int left = row < N ? (int)((N - row + rows - 1) / rows) : 0;
  const packed *at = (const packed *)(z + row * F + column);
  packed *to = (packed *)(a + row * F + column);
  queue.fill(at, step, left);
  for (; left > 0; left -= FORWARD_AHEAD, at += FORWARD_AHEAD * step, to += FORWARD_AHEAD * step) {
#pragma unroll
    for (int k = 0; k < FORWARD_AHEAD; k++) {
      if (k >= left) break;
      float x[VEC];
      unpack<T, VEC>(queue.ahead[k], x);
      if (left - k > FORWARD_AHEAD) queue.ahead[k] = at[(FORWARD_AHEAD + k) * step];
#pragma unroll
      for (int i = 0; i < VEC; i++) x[i] += bias[i];
      if (any_far<KIND, VEC>(p, x)) {
#pragma unroll
        for (int i = 0; i < VEC; i++) x[i] = act_value<KIND, DECAY, true, sizeof(T) == 2>(p[i], x[i]);
      } else {
#pragma unroll
        for (int i = 0; i < VEC; i++) x[i] = act_value<KIND, DECAY, false, sizeof(T) == 2>(p[i], x[i]);
      }
      store_pack<T, VEC>((T *)(to + k * step), x);
      if constexpr (AMAX) {
#pragma unroll
        for (int i = 0; i < VEC; i++) most = fmaxf(most, fabsf(x[i]));
      }
    }
  }
  if constexpr (AMAX) add_amax<T>(amax, most);
}

template <int KIND, int DECAY, bool IN_FAR, bool HARDWARE, int VEC>
__device__ __forceinline__ void gradients(const sine_feature (&p)[VEC], float scale, const float (&x)[VEC],
                                          const float (&g)[VEC], bool again, float (&sums)[VEC][SUMS], float (&d)[VEC],
                                          float (&y)[VEC]) {
#pragma unroll
  for (int i = 0; i < VEC; i++) d[i] = act_gradient<KIND, DECAY, IN_FAR, HARDWARE>(p[i], scale, x[i], g[i], sums[i]);
  if (again)
#pragma unroll
    for (int i = 0; i < VEC; i++) y[i] = act_value<KIND, DECAY, IN_FAR, HARDWARE>(p[i], x[i]);
}

template <typename T, int VEC, int KIND, int DECAY, bool AMAX>
__global__ void __launch_bounds__(THREADS, BACKWARD_BLOCKS)
    act_backward(int64_t N, int64_t F, feature_inputs in, const T *z, const T *da, const float *alpha, T *dz, T *a,
                 float *partial, float *amax) {
  __shared__ float shared[WARPS][SUMS][WARP * VEC];
  int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
  int64_t column = ((int64_t)blockIdx.x * WARP + lane) * VEC;
  float scale = alpha ? *alpha : 1.0f, most = 0;
  float sums[VEC][SUMS] = {};
  if (column < F) {
    sine_feature p[VEC];
    float bias[VEC];
    load_features<KIND, VEC>(in, column, scale, p, bias);
    int64_t rows = (N + gridDim.y - 1) / gridDim.y, first = blockIdx.y * rows, end = min(first + rows, N);
    using packed = raw_pack<T, VEC>;
    row_queue<T, VEC, BACKWARD_AHEAD> queue_z, queue_g;
    int64_t row = first + warp, step = WARPS * F / VEC, offset = (row * F + column) / VEC;
    int left = row < end ? (int)((end - row + WARPS - 1) / WARPS) : 0;
    const packed *at_z = (const packed *)z + offset, *at_g = (const packed *)da + offset;
    queue_z.fill(at_z, step, left);
    queue_g.fill(at_g, step, left);
    for (; left > 0; left -= BACKWARD_AHEAD, offset += BACKWARD_AHEAD * step) {
#pragma unroll
      for (int k = 0; k < BACKWARD_AHEAD; k++) {
        if (k >= left) break;
        float x[VEC], g[VEC], y[VEC], d[VEC];
        unpack<T, VEC>(queue_z.ahead[k], x);
        unpack<T, VEC>(queue_g.ahead[k], g);
        if (left - k > BACKWARD_AHEAD) {
          queue_z.ahead[k] = ((const packed *)z)[offset + (BACKWARD_AHEAD + k) * step];
          queue_g.ahead[k] = ((const packed *)da)[offset + (BACKWARD_AHEAD + k) * step];
        }
#pragma unroll
        for (int i = 0; i < VEC; i++) x[i] += bias[i];
        // The activation again is computed as the forward does, to the bit.
        if (any_far<KIND, VEC>(p, x)) {
          gradients<KIND, DECAY, true, sizeof(T) == 2, VEC>(p, scale, x, g, a != NULL, sums, d, y);
        } else {
          gradients<KIND, DECAY, false, sizeof(T) == 2, VEC>(p, scale, x, g, a != NULL, sums, d, y);
        }
        store_pack<T, VEC>(dz + (offset + k * step) * VEC, d);
        if constexpr (AMAX) {
#pragma unroll
          for (int i = 0; i < VEC; i++) most = fmaxf(most, fabsf(d[i]));
        }
        if (a) store_pack<T, VEC>(a + (offset + k * step) * VEC, y);
      }
    }
  }
  if constexpr (AMAX) add_amax<T>(amax, most);
#pragma unroll
  for (int k = 0; k < SUMS; k++)
#pragma unroll
    for (int i = 0; i < VEC; i++) shared[warp][k][i * WARP + lane] = sums[i][k];
  __syncthreads();
  for (int e = threadIdx.x; e < SUMS * WARP * VEC; e += THREADS) {
    int k = e / (WARP * VEC), j = e % (WARP * VEC);
    int64_t feature = (int64_t)blockIdx.x * WARP * VEC + (int64_t)(j % WARP) * VEC + j / WARP;
    float sum = 0;
#pragma unroll
    for (int w = 0; w < WARPS; w++) sum += shared[w][k][j];
    if (feature < F) partial[((int64_t)blockIdx.y * SUMS + k) * F + feature] = sum;
  }
}

struct finish_outputs {
  float *amplitude, *frequency, *damping, *bias, *dots;
};

__global__ void __launch_bounds__(WARP *PARTS)
    act_finish(int64_t F, int blocks, feature_inputs in, bool sine, const float *alpha, const float *partial,
               finish_outputs out) {
  __shared__ float shared[PARTS][WARP];
  int64_t j = (int64_t)blockIdx.x * WARP + threadIdx.x;
  float sum[SUMS];
#pragma unroll
  for (int k = 0; k < SUMS; k++) sum[k] = sum_partials<PARTS>(partial + k * F + j, blocks, SUMS * F, j < F, shared);
  if (j >= F || threadIdx.y != 0) return;
  if (out.bias) out.bias[j] = sum[SUM_BIAS];
  float value = sum[SUM_VALUE];
  if (sine) {
    const act_bounds &c = in.bounds;
    float A = in.amplitude[j], f = in.frequency[j], d = in.damping[j], scale = alpha ? *alpha : 1.0f;
    float effective_A = sine_of(A, f, d, c, scale).A;
    // A clamped parameter gets no gradient; both ends of the range still count as inside.
    float vA = softplus(A), vf = softplus(f) + 1e-6f, vd = softplus(d);
    bool free_A = vA >= c.amplitude_lo && vA <= c.amplitude_hi, free_f = vf >= c.frequency_lo && vf <= c.frequency_hi;
    bool free_d = vd >= c.damping_lo && vd <= c.damping_hi;
    if (out.amplitude) out.amplitude[j] = free_A ? softplus_slope(A) * scale * value : 0.0f;
    if (out.frequency) out.frequency[j] = free_f ? softplus_slope(f) * scale * effective_A * sum[SUM_FREQUENCY] : 0.0f;
    if (out.damping) out.damping[j] = free_d ? -softplus_slope(d) * scale * effective_A * sum[SUM_DAMPING] : 0.0f;
    value *= effective_A;
  }
  if (out.dots) out.dots[j] = value;
}

// One block: the order is fixed by the thread count.
__global__ void __launch_bounds__(1024)
    alpha_grad(int64_t M, const float *dots, int64_t D, const float *b2, const float *column_sums, float *dalpha) {
  __shared__ double shared[32];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < M; i += 1024) sum += dots[i];
  for (int64_t i = threadIdx.x; i < D; i += 1024) sum += (double)b2[i] * column_sums[i];
  sum = block_sum<32>(sum, shared);
  if (threadIdx.x == 0) *dalpha = (float)sum;
}

feature_inputs inputs_of(const act_spec *act, const void *bias) {
  return {(const float *)act->amplitude, (const float *)act->frequency, (const float *)act->damping,
          (const float *)bias, bounds_of(act)};
}

// Calls `use` with the compile-time kind and decay of `act`.
template <typename Use>
void with_activation(const act_spec *act, Use use) {
  if (act->kind == ACT_GELU) {
    use.template operator()<ACT_GELU, ACT_DECAY_NONE>();
  } else if (act->kind == ACT_RELU) {
    use.template operator()<ACT_RELU, ACT_DECAY_NONE>();
  } else if (act->decay == ACT_DECAY_ABS) {
    use.template operator()<ACT_SINE, ACT_DECAY_ABS>();
  } else if (act->decay == ACT_DECAY_RELU) {
    use.template operator()<ACT_SINE, ACT_DECAY_RELU>();
  } else {
    use.template operator()<ACT_SINE, ACT_DECAY_NONE>();
  }
}

// Types whose arrays become operands of 8 bits.
template <typename T>
constexpr bool has_amax = std::is_same_v<T, __nv_bfloat16>;

template <typename T, int VEC>
void forward(const launch *l, int64_t N, int64_t F, const act_spec *act, const void *bias, const void *z, void *a,
             void *amax) {
  int64_t columns = (F + WARP * VEC - 1) / (WARP * VEC), rows = (N + WARPS - 1) / WARPS;
  int64_t blocks = (FULL + columns - 1) / columns;
  dim3 grid((unsigned)columns, (unsigned)(rows < blocks ? rows : blocks));
  feature_inputs in = inputs_of(act, bias);
  with_activation(act, [&]<int KIND, int DECAY>() {
    auto kernel = act_forward<T, VEC, KIND, DECAY, false>;
    if constexpr (has_amax<T>) {
      if (amax) kernel = act_forward<T, VEC, KIND, DECAY, true>;
    }
    kernel<<<grid, THREADS, 0, l->stream>>>(N, F, in, (const T *)z, (T *)a, (float *)amax);
  });
}

template <typename T, int VEC>
void backward(const launch *l, int64_t N, int64_t F, const act_spec *act, const void *bias, const void *z,
              const void *da, const void *alpha, void *dz, void *a, float *partial, void *amax) {
  dim3 grid((unsigned)((F + WARP * VEC - 1) / (WARP * VEC)), (unsigned)sum_blocks(F, VEC));
  feature_inputs in = inputs_of(act, bias);
  with_activation(act, [&]<int KIND, int DECAY>() {
    auto kernel = act_backward<T, VEC, KIND, DECAY, false>;
    if constexpr (has_amax<T>) {
      if (amax) kernel = act_backward<T, VEC, KIND, DECAY, true>;
    }
    kernel<<<grid, THREADS, 0, l->stream>>>(N, F, in, (const T *)z, (const T *)da, (const float *)alpha, (T *)dz,
                                            (T *)a, partial, (float *)amax);
  });
}

}  // namespace

// Four features a thread, where their number allows it.
static bool in_fours(int64_t F) {
  return F % 4 == 0;
}

cudaError_t launch_act_forward(const launch *l, int64_t N, int64_t F, const act_spec *act, const void *bias,
                               const void *z, void *a, void *a_amax) {
  bool wide = in_fours(F);
  if (a_amax && l->compute != DTYPE_BF16) return cudaErrorInvalidValue;
  if (clear_amax(l->stream, a_amax) != cudaSuccess) return cudaGetLastError();
  if (l->compute == DTYPE_F32) {
    wide ? forward<float, 4>(l, N, F, act, bias, z, a, NULL) : forward<float, 1>(l, N, F, act, bias, z, a, NULL);
  } else if (l->compute == DTYPE_BF16) {
    wide ? forward<__nv_bfloat16, 4>(l, N, F, act, bias, z, a, a_amax)
         : forward<__nv_bfloat16, 1>(l, N, F, act, bias, z, a, a_amax);
  } else {
    wide ? forward<__half, 4>(l, N, F, act, bias, z, a, NULL) : forward<__half, 1>(l, N, F, act, bias, z, a, NULL);
  }
  return cudaGetLastError();
}

cudaError_t launch_act_backward(const launch *l, int64_t N, int64_t F, const act_spec *act, const void *bias,
                                const void *z, const void *da, const void *alpha, void *dz, void *a, float *partial,
                                void *dz_amax) {
  bool wide = in_fours(F);
  if (dz_amax && l->compute != DTYPE_BF16) return cudaErrorInvalidValue;
  if (clear_amax(l->stream, dz_amax) != cudaSuccess) return cudaGetLastError();
  if (l->compute == DTYPE_F32) {
    wide ? backward<float, 4>(l, N, F, act, bias, z, da, alpha, dz, a, partial, NULL)
         : backward<float, 1>(l, N, F, act, bias, z, da, alpha, dz, a, partial, NULL);
  } else if (l->compute == DTYPE_BF16) {
    wide ? backward<__nv_bfloat16, 4>(l, N, F, act, bias, z, da, alpha, dz, a, partial, dz_amax)
         : backward<__nv_bfloat16, 1>(l, N, F, act, bias, z, da, alpha, dz, a, partial, dz_amax);
  } else {
    wide ? backward<__half, 4>(l, N, F, act, bias, z, da, alpha, dz, a, partial, NULL)
         : backward<__half, 1>(l, N, F, act, bias, z, da, alpha, dz, a, partial, NULL);
  }
  return cudaGetLastError();
}

cudaError_t launch_act_finish(const launch *l, int64_t F, const act_spec *act, const void *alpha, const float *partial,
                              const act_grads *grads, void *dbias, float *dots) {
  finish_outputs out = {(float *)grads->amplitude, (float *)grads->frequency, (float *)grads->damping, (float *)dbias,
                        dots};
  act_finish<<<(unsigned)((F + WARP - 1) / WARP), dim3(WARP, PARTS), 0, l->stream>>>(
      F, sum_blocks(F, in_fours(F) ? 4 : 1), inputs_of(act, NULL), act->kind == ACT_SINE, (const float *)alpha, partial,
      out);
  return cudaGetLastError();
}

cudaError_t launch_alpha_grad(const launch *l, int64_t M, const float *dots, int64_t D, const void *b2,
                              const float *column_sums, void *dalpha) {
  alpha_grad<<<1, 1024, 0, l->stream>>>(M, dots, D, (const float *)b2, column_sums, (float *)dalpha);
  return cudaGetLastError();
}
