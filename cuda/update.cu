// The update: nodes of the summation tree, squared norms per leaf, the clip factor, AdamW over a unit in one launch.
#include "device.cuh"
#include "kernels.h"

namespace {

__global__ void __launch_bounds__(256) add(float *sum, const float *x, const float *y, int64_t n) {
  int64_t i = ((int64_t)blockIdx.x * 256 + threadIdx.x) * 4;
  if (i + 4 <= n) {
    float4 a = *(const float4 *)(x + i), b = *(const float4 *)(y + i);
    *(float4 *)(sum + i) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
  } else {
    for (; i < n; i++) sum[i] = x[i] + y[i];
  }
}

constexpr int64_t LEAF_STEP = 1024 * 4;  // elements that a block takes at once
constexpr int LEAF_PACKS = 4;            // of a thread and an operand that are on their way together: 128 KiB a block
// A block of a sum fills a multiprocessor. Beside a product whose blocks stay on theirs, a sum that took all of them in
// turns would hold up each: of 132, this leaves the product a hundred for as long as the sum lasts.
constexpr int64_t BESIDE_BLOCKS = 32;

__device__ __forceinline__ double squares_of(float4 v) {
  return (double)v.x * v.x + (double)v.y * v.y + ((double)v.z * v.z + (double)v.w * v.w);
}

__global__ void __launch_bounds__(1024) leaf_squares(const float *grad, int64_t leaf, double *squares, int64_t stride) {
  __shared__ double shared[32];
  const float *g = grad + blockIdx.x * leaf;
  double sum = 0;
  for (int64_t i = (int64_t)threadIdx.x * 4; i < leaf; i += LEAF_STEP) sum += squares_of(*(const float4 *)(g + i));
  sum = block_sum<32>(sum, shared);
  if (threadIdx.x == 0) squares[blockIdx.x * stride] = sum;
}

// Block b takes leaves b, b + gridDim.x, …, each in the order of leaf_squares; `to` may be x or y. All loads of several
// steps are asked for before the first is used, at the end of a leaf, too, where some are left out.
__global__ void __launch_bounds__(1024, 1) add_leaf_squares(float *to, const float *x, const float *y, int64_t leaf,
                                                            int64_t n_leaves, double *squares, int64_t stride) {
  __shared__ double shared[32];
  for (int64_t l = blockIdx.x; l < n_leaves; l += gridDim.x) {
    double sum = 0;
    for (int64_t i = (int64_t)threadIdx.x * 4; i < leaf; i += LEAF_PACKS * LEAF_STEP) {
      float4 a[LEAF_PACKS], b[LEAF_PACKS];
      int64_t at = l * leaf + i;
#pragma unroll
      for (int k = 0; k < LEAF_PACKS; k++) {
        if (i + k * LEAF_STEP < leaf) {
          a[k] = *(const float4 *)(x + at + k * LEAF_STEP);
          b[k] = *(const float4 *)(y + at + k * LEAF_STEP);
        }
      }
#pragma unroll
      for (int k = 0; k < LEAF_PACKS; k++) {
        if (i + k * LEAF_STEP < leaf) {
          float4 v = make_float4(a[k].x + b[k].x, a[k].y + b[k].y, a[k].z + b[k].z, a[k].w + b[k].w);
          *(float4 *)(to + at + k * LEAF_STEP) = v;
          sum += squares_of(v);
        }
      }
    }
    sum = block_sum<32>(sum, shared);  // ends with all threads having read `shared`: the next leaf may write it
    if (threadIdx.x == 0) squares[l * stride] = sum;
  }
}

__global__ void __launch_bounds__(256)
    sum_parts(const float *parts, int count, int64_t n, bool accumulate, float *out) {
  int64_t i = (int64_t)blockIdx.x * 256 + threadIdx.x;
  if (i >= n) return;
  float sum = parts[i];
#pragma unroll 8
  for (int p = 1; p < count; p++) sum += parts[p * n + i];
  out[i] = accumulate ? out[i] + sum : sum;
}

// One block, so one order for any number of ranks.
__global__ void __launch_bounds__(1024)
    finish_norm(const step_state *state, const double *squares, int64_t n_squares, const double *losses,
                int64_t n_losses, double grad_clip, loss_scaling *scaling, spike_watch *spikes, step_result *result) {
  __shared__ double shared[32];
  double sum = 0, loss = 0;
  for (int64_t i = threadIdx.x; i < n_squares; i += 1024) sum += squares[i];
  for (int64_t i = threadIdx.x; i < n_losses; i += 1024) loss += losses[i];
  sum = block_sum<32>(sum, shared);
  loss = block_sum<32>(loss, shared) / (double)n_losses;
  if (threadIdx.x != 0) return;
  double divisor = state->micro_batches * state->loss_scale;
  double norm = sqrt(sum) / divisor;
  double clip = grad_clip > 0 && norm > 0 ? fmin(1.0, grad_clip / (norm + 1e-6)) : 1.0;
  bool finite = isfinite(norm) && isfinite(loss);
  result->grad_norm = norm;
  result->loss = loss;
  result->grad_scale = finite ? clip / divisor : 0.0;
  double loss_zscore = 0, norm_zscore = 0;
  bool spike = finite && spike_watch_after(spikes, loss, norm, &loss_zscore, &norm_zscore);
  result->skip = !finite || (spike && spikes->skip) ? 1 : 0;
  result->loss_scale = state->loss_scale;
  loss_scaling_after(scaling, finite);
  result->next = *scaling;
  result->spike = spike ? 1 : 0;
  result->loss_zscore = loss_zscore;
  result->norm_zscore = norm_zscore;
  result->spikes = *spikes;
}

struct adam_constants {
  float beta1, beta2, eps, weight_decay;
  double log_beta1, log_beta2;
};

__device__ __forceinline__ void adam_element(const adam_constants &c, float lr, float decay, float scale,
                                             float correct1, float correct2, float g, float &p, float &m, float &v) {
  g *= scale;
  m = c.beta1 * m + (1.0f - c.beta1) * g;
  v = c.beta2 * v + (1.0f - c.beta2) * g * g;
  p *= 1.0f - lr * decay;
  p -= lr * (m * correct1) / (sqrtf(v) * correct2 + c.eps);
}

// Elements [first, first + count) of a unit, four a thread at a time; a run's flags say what moves. What lies in no run
// is padding.
template <typename T>
__global__ void __launch_bounds__(256) adamw(int64_t first, int64_t count, const device_run *runs, int64_t n_runs,
                                             adam_constants c, const step_state *state, const step_result *result,
                                             const float *grad, float *master, float *m, float *v, T *weights) {
  if (result->skip) return;
  __shared__ float correct[2];
  if (threadIdx.x == 0) {
    double t = (double)(state->updates + 1);
    correct[0] = (float)(1.0 / (1.0 - exp(t * c.log_beta1)));
    correct[1] = (float)(1.0 / sqrt(1.0 - exp(t * c.log_beta2)));
  }
  __syncthreads();
  float lr = (float)state->lr, scale = (float)result->grad_scale, correct1 = correct[0], correct2 = correct[1];
  int64_t low = 0;
  for (int64_t i = ((int64_t)blockIdx.x * 256 + threadIdx.x) * 4; i < count; i += (int64_t)gridDim.x * 256 * 4) {
    int64_t element = first + i;
    while (low < n_runs && runs[low].end <= element) low++;
    float g4[4], p4[4], m4[4], v4[4];
    load_pack<float, 4>(grad + i, g4);
    load_pack<float, 4>(master + i, p4);
    load_pack<float, 4>(m + i, m4);
    load_pack<float, 4>(v + i, v4);
    int64_t run = low;
#pragma unroll
    for (int k = 0; k < 4; k++) {
      while (run < n_runs && runs[run].end <= element + k) run++;
      if (run >= n_runs || runs[run].first > element + k || !(runs[run].flags & 1)) continue;
      adam_element(c, lr, runs[run].flags & 2 ? c.weight_decay : 0.0f, scale, correct1, correct2, g4[k], p4[k], m4[k],
                   v4[k]);
    }
    store_pack<float, 4>(master + i, p4);
    store_pack<float, 4>(m + i, m4);
    store_pack<float, 4>(v + i, v4);
    if ((void *)weights != (void *)master) store_pack<T, 4>(weights + i, p4);
  }
}

}  // namespace

cudaError_t launch_add(cudaStream_t stream, float *sum, const float *a, const float *b, int64_t n) {
  add<<<(unsigned)((n + 1023) / 1024), 256, 0, stream>>>(sum, a, b, n);
  return cudaGetLastError();
}

cudaError_t launch_sum_parts(cudaStream_t stream, const float *parts, int count, int64_t n, bool accumulate,
                             float *out) {
  sum_parts<<<(unsigned)((n + 255) / 256), 256, 0, stream>>>(parts, count, n, accumulate, out);
  return cudaGetLastError();
}

cudaError_t launch_leaf_squares(cudaStream_t stream, const float *grad, int64_t leaf, int64_t n_leaves, double *squares,
                                int64_t stride) {
  if (n_leaves > 0) leaf_squares<<<(unsigned)n_leaves, 1024, 0, stream>>>(grad, leaf, squares, stride);
  return cudaGetLastError();
}

cudaError_t launch_add_leaf_squares(cudaStream_t stream, float *sum, const float *a, const float *b, int64_t leaf,
                                    int64_t n_leaves, double *squares, int64_t stride, bool beside) {
  int64_t blocks = beside && n_leaves > BESIDE_BLOCKS ? BESIDE_BLOCKS : n_leaves;
  if (blocks > 0) add_leaf_squares<<<(unsigned)blocks, 1024, 0, stream>>>(sum, a, b, leaf, n_leaves, squares, stride);
  return cudaGetLastError();
}

cudaError_t launch_finish_norm(cudaStream_t stream, const step_state *state, const double *squares, int64_t n_squares,
                               const double *losses, int64_t n_losses, double grad_clip, loss_scaling *scaling,
                               spike_watch *spikes, step_result *result) {
  finish_norm<<<1, 1024, 0, stream>>>(state, squares, n_squares, losses, n_losses, grad_clip, scaling, spikes, result);
  return cudaGetLastError();
}

cudaError_t launch_adamw(const launch *l, const adamw_args *a, const device_run *runs, const step_result *result) {
  if (a->count == 0) return cudaSuccess;
  adam_constants c = {(float)a->beta1,        (float)a->beta2, (float)a->eps,
                      (float)a->weight_decay, log(a->beta1),   log(a->beta2)};
  int64_t blocks = (a->count / 4 + 255) / 256;
  unsigned grid = (unsigned)(blocks < 2048 ? blocks : 2048);
  const float *grad = (const float *)a->grad;
  float *master = (float *)a->master, *m = (float *)a->m, *v = (float *)a->v;
  if (l->compute == DTYPE_F32) {
    adamw<float><<<grid, 256, 0, l->stream>>>(a->first, a->count, runs, a->n_runs, c, l->step, result, grad, master, m,
                                              v, (float *)a->weights);
  } else if (l->compute == DTYPE_BF16) {
    adamw<__nv_bfloat16><<<grid, 256, 0, l->stream>>>(a->first, a->count, runs, a->n_runs, c, l->step, result, grad,
                                                      master, m, v, (__nv_bfloat16 *)a->weights);
  } else {
    adamw<__half><<<grid, 256, 0, l->stream>>>(a->first, a->count, runs, a->n_runs, c, l->step, result, grad, master, m,
                                               v, (__half *)a->weights);
  }
  return cudaGetLastError();
}

namespace {

__global__ void set_step(step_state *target, step_state value, const loss_scaling *scaling) {
  if (value.loss_scale == 0) value.loss_scale = scaling->scale;
  *target = value;
}

}  // namespace

cudaError_t launch_set_step(cudaStream_t stream, step_state *target, const step_state *value,
                            const loss_scaling *scaling) {
  set_step<<<1, 1, 0, stream>>>(target, *value, scaling);
  return cudaGetLastError();
}
