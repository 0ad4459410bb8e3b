/* How fp32 operands lie in memory once they are split for the tensor cores.
 *
 * x = 2^-e · (hi + lo), hi and lo fp16, e chosen so that the largest element of a row (of a tile in attention) lies in
 * [2^14, 2^15): hi holds eleven bits of a large element and lo eleven of the rest. A product of two such numbers is
 * lo·hi' + hi·lo' + hi·hi' and what is left out, lo·lo', is below 2^-22 of it. fp16 products run at twice the rate of
 * TF32's, which have as many bits; the common exponent makes up for the smaller range.
 *
 * A block is some rows × SPLIT_K elements: a row is one line of 128 bytes, four chunks of eight hi, four of eight lo.
 * Chunk c of row r lies at place c ^ (r mod 8), the 128-byte swizzle of Hopper's shared memory: reading one chunk of
 * eight successive rows touches every bank once. A block is contiguous, so it is copied to shared memory as it is.
 */
#ifndef PSANN_CUDA_SPLIT_LAYOUT_H
#define PSANN_CUDA_SPLIT_LAYOUT_H

#ifdef __CUDACC__
#define SPLIT_INLINE static __host__ __device__ __forceinline__
#else
#define SPLIT_INLINE static inline
#endif

enum {
  SPLIT_K = 32,           /* elements of a row in a block */
  SPLIT_LINE = 128,       /* bytes of a row in a block */
  SPLIT_LO = 4,           /* first chunk of lo */
  SPLIT_ROWS = 128,       /* rows of a block of a product's operand */
  SPLIT_PEAK = 14,        /* the largest element lies in [2^SPLIT_PEAK, 2^(SPLIT_PEAK + 1)) */
  SPLIT_PEAK_LIMIT = 126, /* largest e */
};

/* Offset in bytes of a chunk in its block. */
SPLIT_INLINE int split_chunk(int row, int chunk) {
  return row * SPLIT_LINE + ((chunk ^ (row & 7)) << 4);
}

/* Where row r of the right operand lies among its sixteen neighbours. A thread of a tensor-core product holds columns
 * 2q and 2q + 1 of each tile of eight; with this order those of two tiles are the columns 4q … 4q + 3 of the result. */
SPLIT_INLINE int split_column_place(int r) {
  return (r & ~15) | (r & 2) << 2 | (r & 12) >> 1 | (r & 1);
}

#endif
