/* How heads in 16 bits are read in boxes of 64 columns by the copy engine, each line of 128 bytes swizzled as the tensor
 * cores take it. */
#ifndef PSANN_CUDA_BOX_MAP_H
#define PSANN_CUDA_BOX_MAP_H

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { BOX_MAP_COLUMNS = 64 }; /* of a box: 128 bytes */

/* heads (B, T, parts, BOX_MAP_COLUMNS), 16-bit elements, on 16 bytes: a head of 128 is two parts. Boxes of `rows` (up to
 * 256) positions of one part. A box's coordinates: 0, position, part, sequence. cudaErrorNotSupported where the driver has no such maps. */
cudaError_t box_map_make(const void *heads, int64_t B, int64_t T, int64_t parts, int rows, CUtensorMap *map);

#ifdef __cplusplus
}
#endif

#endif
