#include "engine/cpu/dropout.h"

#include <math.h>

#include "base/philox.h"
#include "engine/cpu/cpu_engine.h"

enum { PHILOX_LANES = 16 }; /* blocks of four words that are computed together */

/* philox() of base/philox.h for consecutive values of the counter's last word, in vector lanes: words[4 i + w] is word
 * w of counter c3 + i. */
static void philox_run(uint64_t seed, uint32_t c0_all, uint32_t c1_all, uint32_t c2_all, uint32_t c3_first,
                       uint32_t words[4 * PHILOX_LANES]) {
  uint32_t c0[PHILOX_LANES], c1[PHILOX_LANES], c2[PHILOX_LANES], c3[PHILOX_LANES];
  for (uint32_t i = 0; i < PHILOX_LANES; i++) {
    c0[i] = c0_all;
    c1[i] = c1_all;
    c2[i] = c2_all;
    c3[i] = c3_first + i;
  }
  uint32_t k0 = (uint32_t)seed;
  uint32_t k1 = (uint32_t)(seed >> 32) ^ ((uint32_t)PHILOX_DROPOUT * 0x9E3779B9u);
  for (int round = 0; round < 10; round++) {
#pragma omp simd
    for (int i = 0; i < PHILOX_LANES; i++) {
      uint64_t p0 = (uint64_t)0xD2511F53u * c0[i];
      uint64_t p1 = (uint64_t)0xCD9E8D57u * c2[i];
      c0[i] = (uint32_t)(p1 >> 32) ^ c1[i] ^ k0;
      c2[i] = (uint32_t)(p0 >> 32) ^ c3[i] ^ k1;
      c1[i] = (uint32_t)p1;
      c3[i] = (uint32_t)p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int i = 0; i < PHILOX_LANES; i++) {
    words[4 * i] = c0[i];
    words[4 * i + 1] = c1[i];
    words[4 * i + 2] = c2[i];
    words[4 * i + 3] = c3[i];
  }
}

void dropout_mask(const dropout_spec *d, uint64_t seed, int64_t sequence, int64_t first, int64_t n, real *mask) {
  /* philox_uniform(x) < p, in integers: its 24 bits are below the first integer that isn't below p · 2²⁴. */
  uint32_t threshold = (uint32_t)ceil(d->p * 0x1p24);
  real kept = (real)(1.0 / (1.0 - d->p));
  int64_t skip = first & 3;
  int64_t counter = first >> 2;
  for (int64_t done = 0; done < n; counter += PHILOX_LANES, skip = 0) {
    uint32_t words[4 * PHILOX_LANES];
    philox_run(seed, (uint32_t)sequence, (uint32_t)((uint64_t)sequence >> 32), d->site, (uint32_t)counter, words);
    int64_t count = min_i64(4 * PHILOX_LANES - skip, n - done);
    for (int64_t i = 0; i < count; i++) {
      mask[done + i] = (words[skip + i] >> 8) < threshold ? (real)0 : kept;
    }
    done += count;
  }
}

void dropout_rows(const engine *e, const dropout_spec *d, int64_t B, int64_t T, int64_t D, const real *x, real *y) {
  const cpu_engine *cpu = (const cpu_engine *)e;
  int64_t rows = B * T;
  int64_t blocks = blocks_of(rows, ROW_BLOCK);
#pragma omp parallel for num_threads(cpu->threads) schedule(static)
  for (int64_t block = 0; block < blocks; block++) {
    int64_t end = min_i64(rows, (block + 1) * ROW_BLOCK);
    for (int64_t row = block * ROW_BLOCK; row < end; row++) {
      int64_t sequence = cpu->step.first_sequence + row / T;
      for (int64_t j = 0; j < D; j += COLUMN_BLOCK) {
        real mask[COLUMN_BLOCK];
        int64_t count = min_i64(COLUMN_BLOCK, D - j);
        dropout_mask(d, e->seed, sequence, (row % T) * D + j, count, mask);
        for (int64_t i = 0; i < count; i++) {
          y[row * D + j + i] = mask[i] * x[row * D + j + i];
        }
      }
    }
  }
}
