// Places in shared memory that are filled and emptied in turn: each has a barrier that says it is full and one that
// says it is empty, eight bytes apart from those of the next place. Barriers: tensor_core.cuh.
#pragma once

#include "device.cuh"
#include "tensor_core.cuh"

// A use of one of PLACES places in turn.
template <int PLACES>
struct use_of {
  int count;  // of uses, modulo two turns
  __device__ __forceinline__ uint32_t place() const { return (uint32_t)(count < PLACES ? count : count - PLACES); }
  // The parity of its turn at that place.
  __device__ __forceinline__ uint32_t turn() const { return count < PLACES ? 0 : 1; }
  __device__ __forceinline__ use_of next() const { return {count + 1 < 2 * PLACES ? count + 1 : 0}; }
  __device__ __forceinline__ void advance() { *this = next(); }
};

// `first`: the address of the first place's barrier.
template <int PLACES>
__device__ __forceinline__ uint32_t barrier_of(uint32_t first, use_of<PLACES> u) {
  return first + 8 * u.place();
}
template <int PLACES>
__device__ __forceinline__ void wait_full(uint32_t first, use_of<PLACES> u) {
  barrier_wait(barrier_of(first, u), u.turn());
}
template <int PLACES>
__device__ __forceinline__ void wait_empty(uint32_t first, use_of<PLACES> u) {
  barrier_wait(barrier_of(first, u), u.turn() ^ 1);  // a place's first user finds it empty
}

// One arrival a warp, once all its threads have come.
__device__ __forceinline__ void warp_arrives(uint32_t barrier) {
  __syncwarp();
  if (threadIdx.x % WARP == 0) barrier_arrive(barrier);
}
template <int PLACES>
__device__ __forceinline__ void warp_arrives(uint32_t first, use_of<PLACES> u) {
  warp_arrives(barrier_of(first, u));
}
