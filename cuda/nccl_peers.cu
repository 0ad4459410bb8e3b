// Where the ranks' blocks of a window stand in this GPU's address space.
#include <nccl_device.h>

#include "nccl_memory.h"

namespace {

__global__ void peer_places(ncclWindow_t window, int ranks, void **places) {
  for (int r = threadIdx.x; r < ranks; r += blockDim.x) places[r] = ncclGetLsaPointer(window, 0, r);
}

}  // namespace

cudaError_t launch_peer_places(ncclWindow_t window, int ranks, void **places) {
  peer_places<<<1, 32>>>(window, ranks, places);
  return cudaGetLastError();
}
