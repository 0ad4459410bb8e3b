/* The driver's function is asked for at run time, so that the program also starts where there is no driver. */
#include "box_map.h"

typedef CUresult (*encode_tiled)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                                 const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

static cudaError_t find_encode(encode_tiled *out) {
  enum { SINCE = 12000 }; /* CUDA's version that the function came with */
  static void *found;
  if (found == NULL) {
    enum cudaDriverEntryPointQueryResult what;
    cudaError_t error =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, SINCE, cudaEnableDefault, &what);
    if (error != cudaSuccess) {
      return error;
    }
    if (what != cudaDriverEntryPointSuccess || found == NULL) {
      return cudaErrorNotSupported;
    }
  }
  *out = (encode_tiled)found;
  return cudaSuccess;
}

cudaError_t box_map_make(const void *heads, int64_t B, int64_t T, int64_t parts, int rows, CUtensorMap *map) {
  enum { LINE = BOX_MAP_COLUMNS * 2 };
  encode_tiled encode;
  cudaError_t error = find_encode(&encode);
  if (error != cudaSuccess) {
    return error;
  }
  const cuuint64_t size[] = {BOX_MAP_COLUMNS, (cuuint64_t)T, (cuuint64_t)parts, (cuuint64_t)B};
  const cuuint64_t stride[] = {(cuuint64_t)parts * LINE, LINE, (cuuint64_t)(T * parts) * LINE};
  const cuuint32_t box[] = {BOX_MAP_COLUMNS, (cuuint32_t)rows, 1, 1}, every[] = {1, 1, 1, 1};
  /* Elements are only moved: to the copy engine both types of 16 bits are the same. */
  CUresult r = encode(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, (void *)heads, size, stride, box, every,
                      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return r == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}
