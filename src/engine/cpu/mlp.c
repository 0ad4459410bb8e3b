/* The MLP: up projection with its activation, and the backward of the whole branch from the kept z. */
#include <string.h>

#include "engine/cpu/activation.h"
#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/dropout.h"
#include "engine/cpu/fp8.h"
#include "engine/cpu/ops.h"
#include "engine/cpu/reduce.h"

enum { SLICE = 1024 }; /* features of a row at once: parameters and rows of a slice stay in the first-level cache */

status ENGINE_NAME(up_forward)(engine *e, const up_forward_args *a) {
  int64_t N = a->N, M = a->M;
  scratch s = scratch_open(e);
  real *room;
  TRY(scratch_take(&s, ACT_PREPARE_ROOM * M, sizeof(real), &room));
  act_params p;
  act_prepare(&a->act, M, room, &p);
  real *z = a->z ? a->z : a->a;
  TRY(layer_forward(s, N, M, a->D, a->x, a->x_amax, a->weight, z));
  int64_t blocks = blocks_of(N, ROW_BLOCK);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(N, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      for (int64_t first = 0; first < M; first += SLICE) {
        int64_t at = row * M + first;
        act_forward(&p, first, min_i64(SLICE, M - first), a->bias, z + at, a->z ? z + at : NULL, (real *)a->a + at);
      }
    }
  }
  note_amax(cpu_of(e)->threads, a->a, N * M, a->a_amax);
  return STATUS_OK;
}

/* The gradient at a becomes the gradient at z, in g; sums of the parameters' gradients and of db1. */
static status activation_backward(scratch s, const mlp_backward_args *a, real alpha, real *g, real *again) {
  int64_t N = a->B * a->T, M = a->M;
  int64_t blocks = blocks_of(N, ROW_BLOCK);
  real *room, *partial;
  TRY(scratch_take(&s, ACT_PREPARE_ROOM * M, sizeof(real), &room));
  TRY(scratch_take(&s, blocks * SUMS_PER_FEATURE * M, sizeof(real), &partial));
  act_params p;
  act_prepare(&a->act, M, room, &p);
  const real *z = a->z;
#pragma omp parallel for num_threads(s.e->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    real *sums = partial + block * SUMS_PER_FEATURE * M;
    memset(sums, 0, (size_t)(SUMS_PER_FEATURE * M) * sizeof(real));
    int64_t row = block * ROW_BLOCK, rows = min_i64(ROW_BLOCK, N - row);
    for (int64_t first = 0; first < M; first += SLICE) {
      int64_t at = row * M + first;
      act_sums slice = {sums + first, sums + M + first, sums + 2 * M + first, sums + 3 * M + first};
      act_backward(&p, first, min_i64(SLICE, M - first), rows, M, alpha, z + at, g + at, again ? again + at : NULL,
                   &slice);
    }
  }
  int64_t stride = SUMS_PER_FEATURE * M;
  if (a->act.kind == ACT_SINE) {
    sum_blocks(partial, blocks, stride, M, p.amplitude_d, a->dact.amplitude);
    sum_blocks(partial + M, blocks, stride, M, p.frequency_d, a->dact.frequency);
    sum_blocks(partial + 2 * M, blocks, stride, M, p.damping_d, a->dact.damping);
  }
  sum_blocks(partial + 3 * M, blocks, stride, M, NULL, a->db1);
  return STATUS_OK;
}

/* Turns dw2 and db2, so far those of g, into those of alpha · g, and gives alpha's gradient by a pass over the weight
 * in place of one over the activations: Σ g ⊙ (a W2ᵀ + b2) = Σ W2 ⊙ (gᵀ a) + Σ b2 ⊙ Σ g. */
static void finish_alpha(const mlp_backward_args *a, real alpha) {
  const real *w2 = a->w2, *b2 = a->b2;
  real *dw2 = a->dw2, *db2 = a->db2;
  double total = 0;
  for (int64_t i = 0; i < a->D; i++) {
    double dot = 0;
    const real *w = w2 + i * a->M;
    real *dw = dw2 + i * a->M;
#pragma omp simd reduction(+ : dot)
    for (int64_t j = 0; j < a->M; j++) {
      dot += (double)w[j] * (double)dw[j];
      dw[j] *= alpha;
    }
    total += dot + (double)b2[i] * (double)db2[i];
    db2[i] *= alpha;
  }
  if (a->dalpha) {
    *(real *)a->dalpha = (real)total;
  }
}

status ENGINE_NAME(mlp_backward)(engine *e, const mlp_backward_args *a) {
  int64_t N = a->B * a->T, D = a->D, M = a->M;
  scratch s = scratch_open(e);
  real alpha = a->alpha ? *(const real *)a->alpha : (real)1;
  const real *g = a->dy;
  const void *amax = a->dy_amax;
  if (a->dropout.p > 0) {
    real *masked;
    TRY(scratch_take(&s, N * D, sizeof(real), &masked));
    dropout_rows(e, &a->dropout, a->B, a->T, D, g, masked);
    g = masked;
    amax = NULL; /* its own */
  }
  real *dz = a->scratch_z;
  TRY(layer_backward(s, N, D, M, g, amax, a->w2, NULL, a->a_amax, dz, NULL));
  TRY(activation_backward(s, a, alpha, dz, a->a ? NULL : a->scratch_a));
  TRY(layer_backward(s, N, D, M, g, amax, NULL, a->a ? a->a : a->scratch_a, a->a_amax, NULL, a->dw2));
  real *partial;
  TRY(scratch_take(&s, blocks_of(N, ROW_BLOCK) * D, sizeof(real), &partial));
  column_sums(cpu_of(e)->threads, g, N, D, 1, partial, a->db2);
  if (a->alpha) {
    finish_alpha(a, alpha);
  }
  return layer_backward(s, N, M, D, dz, NULL, a->w1, a->x, a->x_amax, a->dx, a->dw1);
}
