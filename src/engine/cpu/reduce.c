#include "engine/cpu/reduce.h"

#include <string.h>

#include "engine/cpu/cpu_engine.h"

void sum_blocks(const real *partial, int64_t blocks, int64_t stride, int64_t n, const real *factor, real *out) {
  if (!out) {
    return;
  }
  for (int64_t first = 0; first < n; first += COLUMN_BLOCK) {
    int64_t count = min_i64(COLUMN_BLOCK, n - first);
    double total[COLUMN_BLOCK] = {0};
    for (int64_t block = 0; block < blocks; block++) {
      const real *p = partial + block * stride + first;
#pragma omp simd
      for (int64_t j = 0; j < count; j++) {
        total[j] += (double)p[j];
      }
    }
    for (int64_t j = 0; j < count; j++) {
      out[first + j] = (real)(factor ? total[j] * (double)factor[first + j] : total[j]);
    }
  }
}

void column_sums(int threads, const real *x, int64_t rows, int64_t n, real scale, real *partial, real *out) {
  int64_t blocks = blocks_of(rows, ROW_BLOCK);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    real *sum = partial + block * n;
    memset(sum, 0, (size_t)n * sizeof *sum);
    int64_t end = min_i64(rows, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      const real *in = x + row * n;
#pragma omp simd
      for (int64_t j = 0; j < n; j++) {
        sum[j] += in[j];
      }
    }
  }
  sum_blocks(partial, blocks, n, n, NULL, out);
  for (int64_t j = 0; j < n && scale != (real)1; j++) {
    out[j] *= scale;
  }
}
