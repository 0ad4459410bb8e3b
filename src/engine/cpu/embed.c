/* Embedding: token rows, the sinusoidal encoding, and the first norm. */
#include <string.h>

#include "engine/cpu/cpu_engine.h"
#include "engine/cpu/norm.h"
#include "engine/cpu/ops.h"

enum {
  TOKEN_BLOCK = 64,   /* tokens whose gradients one thread writes */
  SEGMENT = 64,       /* rows of one token that are added up before they meet others */
  SEGMENT_WIDTH = 256 /* features of a segment's sum */
};

status ENGINE_NAME(embed_forward)(engine *e, const embed_forward_args *a) {
  cpu_engine *cpu = cpu_of(e);
  int64_t N = a->B * a->T, D = a->D;
  if (a->sinusoidal) {
    TRY(sinusoid_table_cover(&cpu->sinusoid, D, positions_needed(a->past, a->B, a->T)));
  }
  const real *weight = a->weight;
  real *x = a->x;
  int64_t blocks = blocks_of(N, ROW_BLOCK);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(N, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      real *out = x + row * D;
      const real *in = weight + a->tokens[row] * D;
      if (a->sinusoidal) {
        int64_t position = row % a->T + (a->past ? a->past[row / a->T] : 0);
        const float *encoding = cpu->sinusoid.values + position * D;
#pragma omp simd
        for (int64_t j = 0; j < D; j++) {
          out[j] = in[j] + (real)encoding[j];
        }
      } else {
        memcpy(out, in, (size_t)D * sizeof(real));
      }
      norm_row(&a->norm, N, D, row, out);
    }
  }
  norm_amax(cpu->threads, &a->norm, N, D);
  return STATUS_OK;
}

/* First place in `order` whose token is not below `token`. */
static int64_t first_of(const int32_t *tokens, const int32_t *order, int64_t N, int64_t token) {
  int64_t lo = 0, hi = N;
  while (lo < hi) {
    int64_t middle = lo + (hi - lo) / 2;
    if (tokens[order[middle]] < token) {
      lo = middle + 1;
    } else {
      hi = middle;
    }
  }
  return lo;
}

/* out (D) = Σ of the rows order[0 … n − 1] of dx, segment by segment. */
static void sum_of_rows(const real *dx, const int32_t *order, int64_t n, int64_t D, real *out) {
  memset(out, 0, (size_t)D * sizeof(real));
  for (int64_t start = 0; start < n; start += SEGMENT) {
    int64_t end = min_i64(n, start + SEGMENT);
    for (int64_t first = 0; first < D; first += SEGMENT_WIDTH) {
      int64_t width = min_i64(SEGMENT_WIDTH, D - first);
      real sum[SEGMENT_WIDTH] = {0};
      for (int64_t i = start; i < end; i++) {
        const real *in = dx + order[i] * D + first;
#pragma omp simd
        for (int64_t j = 0; j < width; j++) {
          sum[j] += in[j];
        }
      }
#pragma omp simd
      for (int64_t j = 0; j < width; j++) {
        out[first + j] += sum[j];
      }
    }
  }
}

status ENGINE_NAME(embed_backward)(engine *e, const embed_backward_args *a) {
  int64_t N = a->B * a->T, D = a->D;
  real *dweight = a->dweight;
  int64_t blocks = blocks_of(a->V, TOKEN_BLOCK);
#pragma omp parallel for num_threads(cpu_of(e)->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(a->V, (block + 1) * TOKEN_BLOCK);
    int64_t at = first_of(a->tokens, a->order, N, block * TOKEN_BLOCK);
    for (int64_t token = block * TOKEN_BLOCK; token < end; token++) {
      int64_t n = 0;
      while (at + n < N && a->tokens[a->order[at + n]] == token) {
        n++;
      }
      sum_of_rows(a->dx, a->order + at, n, D, dweight + token * D);
      at += n;
    }
  }
  return STATUS_OK;
}
