// Launches of split_gemm_kernels.cuh: a product is cut into slabs whose operands fit the workspace.
#include "split_gemm.h"
#include "split_gemm_kernels.cuh"

namespace {

using namespace split_gemm;

enum { STREAMING_BYTES = 16 << 20 };

int64_t blocks_along(int64_t k) {
  return (k + SPLIT_K - 1) / SPLIT_K;
}

size_t row_bytes(int64_t k) {
  return (size_t)(blocks_along(k) * SPLIT_LINE) + sizeof(float);
}

int64_t round_up(int64_t x, int64_t to) {
  return (x + to - 1) / to * to;
}

// Rows of each operand in a slab. The right operand, usually weights, gets half of the workspace at most; the left what
// is left.
struct slabs {
  int64_t left, right;
};

slabs slabs_of(int64_t n, int64_t m, int64_t k, size_t bytes) {
  int64_t each = (int64_t)row_bytes(k), all = (int64_t)bytes / each;
  int64_t right = all / 2 / TILE_COLUMNS * TILE_COLUMNS;
  if (right > round_up(m, TILE_COLUMNS)) right = round_up(m, TILE_COLUMNS);
  int64_t left = (all - right) / TILE_ROWS * TILE_ROWS;
  if (left > round_up(n, TILE_ROWS)) left = round_up(n, TILE_ROWS);
  return {left, right};
}

bool aligned(const void *p) {
  return (uintptr_t)p % 16 == 0;
}

// An operand's slab in the workspace; what comes behind it.
blocks blocks_at(char *memory, int64_t rows, int64_t k_blocks, char **behind) {
  blocks b = {memory, (float *)(memory + rows * k_blocks * SPLIT_LINE)};
  *behind = (char *)(b.scale + rows);
  return b;
}

template <bool RIGHT>
cudaError_t split(cudaStream_t stream, const float *x, int64_t rows, int64_t padded, int64_t k, blocks out) {
  source s = {x, rows, k};
  int k_blocks = (int)blocks_along(k);
  unsigned grid = (unsigned)(padded / SPLIT_WARPS);
  if (k % 4 == 0 && aligned(x))
    split_rows<RIGHT, true><<<grid, SPLIT_WARPS * 32, 0, stream>>>(s, out, k_blocks);
  else
    split_rows<RIGHT, false><<<grid, SPLIT_WARPS * 32, 0, stream>>>(s, out, k_blocks);
  return cudaGetLastError();
}

cudaError_t processors(int *count) {
  int device;
  cudaError_t e = cudaGetDevice(&device);
  return e != cudaSuccess ? e : cudaDeviceGetAttribute(count, cudaDevAttrMultiProcessorCount, device);
}

template <typename K>
cudaError_t run(K kernel, cudaStream_t stream, unsigned threads, const product &p) {
  int count, bytes = SHARED_BYTES + SHARED_SLACK;
  cudaError_t e = processors(&count);
  if (e == cudaSuccess) e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  int64_t tiles = (int64_t)p.row_tiles * p.column_tiles;
  kernel<<<(unsigned)(tiles < count ? tiles : count), threads, (size_t)bytes, stream>>>(p);
  return cudaGetLastError();
}

}  // namespace

bool split_product_fits(int64_t k, size_t workspace_bytes) {
  slabs s = slabs_of(TILE_ROWS, TILE_COLUMNS, k, workspace_bytes);
  return s.left > 0 && s.right > 0;
}

cudaError_t launch_split_product(cudaStream_t stream, split_variant variant, const split_product_args *a,
                                 void *workspace, size_t workspace_bytes) {
  if (!split_product_fits(a->k, workspace_bytes)) return cudaErrorInvalidValue;
  slabs s = slabs_of(a->n, a->m, a->k, workspace_bytes);
  int64_t k_blocks = blocks_along(a->k);
  char *behind;
  product p = {};
  p.right = blocks_at((char *)workspace, s.right, k_blocks, &behind);
  p.left = blocks_at(behind, s.left, k_blocks, &behind);
  p.k_blocks = (int)k_blocks;
  p.stride = a->m;
  p.alpha = a->alpha;
  p.accumulate = a->accumulate;
  p.streaming = a->n > STREAMING_BYTES / (int64_t)sizeof(float) / a->m;
  p.wide = a->m % 4 == 0 && aligned(a->result);
  cudaError_t e = cudaSuccess;
  for (int64_t column = 0; column < a->m && e == cudaSuccess; column += s.right) {
    p.columns = a->m - column < s.right ? a->m - column : s.right;
    p.column_tiles = (int)(round_up(p.columns, TILE_COLUMNS) / TILE_COLUMNS);
    e = split<true>(stream, a->right + column * a->k, p.columns, round_up(p.columns, TILE_COLUMNS), a->k, p.right);
    for (int64_t row = 0; row < a->n && e == cudaSuccess; row += s.left) {
      p.rows = a->n - row < s.left ? a->n - row : s.left;
      p.row_tiles = (int)(round_up(p.rows, TILE_ROWS) / TILE_ROWS);
      p.result = a->result + row * a->m + column;
      e = split<false>(stream, a->left + row * a->k, p.rows, round_up(p.rows, TILE_ROWS), a->k, p.left);
      if (e == cudaSuccess)
        e = variant == SPLIT_WGMMA ? run(product_wgmma, stream, WARPS * 32, p)
                                   : run(product_mma, stream, WARPS * 32, p);
    }
  }
  return e;
}
