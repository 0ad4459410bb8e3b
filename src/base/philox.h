/* Philox4x32-10: random numbers that are counted, not drawn (Salmon et al., "Parallel random numbers: as easy as 1, 2,
 * 3", SC 2011).
 *
 * A number is a pure function of (seed, purpose, counter); nothing depends on order, rank or thread.
 */
#ifndef PSANN_BASE_PHILOX_H
#define PSANN_BASE_PHILOX_H

#include <stdint.h>

typedef enum {
  PHILOX_WEIGHTS = 1, /* counter: (hash of the tensor's name, logical element) */
  PHILOX_DROPOUT = 2, /* counter: (sequence in the job, site, element / 4) */
  PHILOX_DATA = 3,    /* counter: Feistel rounds of the sampler */
  PHILOX_SAMPLING = 4 /* counter: (prompt, position) in generation */
} philox_purpose;

typedef struct {
  uint32_t x[4];
} philox_block;

/* The block of four 32-bit numbers for a 64-bit seed, a purpose and a 128-bit counter. The key is
 * (seed low, seed high XOR purpose · 0x9E3779B9). */
static inline philox_block philox(uint64_t seed, philox_purpose purpose, uint32_t c0, uint32_t c1, uint32_t c2,
                                  uint32_t c3) {
  uint32_t k0 = (uint32_t)seed;
  uint32_t k1 = (uint32_t)(seed >> 32) ^ ((uint32_t)purpose * 0x9E3779B9u);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)0xD2511F53u * c0;
    uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
    uint32_t n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return (philox_block){{c0, c1, c2, c3}};
}

/* Uniform in [0, 1) with 24 bits, exact in fp32. */
static inline float philox_uniform(uint32_t x) {
  return (float)(x >> 8) * 0x1p-24f;
}

/* Uniform in (0, 1), for Box-Muller and ranges: an odd multiple of 2^-53. (With one random bit more the half would not
 * fit into a double, and the largest value would round to 1.) */
static inline double philox_uniform53(uint32_t hi, uint32_t lo) {
  uint64_t bits = ((uint64_t)hi << 20) | (lo >> 12);
  return ((double)bits + 0.5) * 0x1p-52;
}

#endif
