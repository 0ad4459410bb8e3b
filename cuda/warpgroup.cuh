// What the warpgroups of a block work by in 16 bits: products of 64 rows, registers that they hand to each other, and
// boxes that the copy engine brings. Barriers and descriptors: tensor_core.cuh.
#pragma once

#include <cuda.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "tensor_core.cuh"

// A box of a tensor of four dimensions that `map` describes (box_map.h), from these coordinates on, into shared memory;
// its arrival counts at the barrier. What lies outside of the tensor arrives as zeros.
__device__ __forceinline__ void box_copy(uint32_t to, const CUtensorMap *map, int x, int y, int z, int w,
                                         uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(to),
      "l"(map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
      : "memory");
}

// The other way: a box from shared memory, but for what lies outside of the tensor. copies_read waits until no more
// than LEFT of this thread's copies have not read theirs.
__device__ __forceinline__ void box_copy_back(const CUtensorMap *map, int x, int y, int z, int w, uint32_t from) {
  asm volatile("cp.async.bulk.tensor.4d.global.shared::cta.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
               "r"(from), "r"(x), "r"(y), "r"(z), "r"(w)
               : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
template <int LEFT>
__device__ __forceinline__ void copies_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(LEFT) : "memory");
}

// Registers a thread of this warpgroup may use from here on: fewer or more than it was launched with.
template <int COUNT>
__device__ __forceinline__ void registers_release() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(COUNT));
}
template <int COUNT>
__device__ __forceinline__ void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(COUNT));
}

// What this thread wrote to shared memory is there for the tensor cores and the copy engine.
__device__ __forceinline__ void shared_written() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Two floats rounded to T; x is the lower half. And back.
template <typename T>
__device__ __forceinline__ uint32_t pair_of_floats(float x, float y) {
  uint32_t pair;
  if constexpr (std::is_same_v<T, __half>)
    asm("cvt.rn.f16x2.f32 %0, %2, %1;" : "=r"(pair) : "f"(x), "f"(y));
  else
    asm("cvt.rn.bf16x2.f32 %0, %2, %1;" : "=r"(pair) : "f"(x), "f"(y));
  return pair;
}
template <typename T>
__device__ __forceinline__ float2 floats_of_pair(uint32_t pair) {
  if constexpr (std::is_same_v<T, __half>) return __half22float2(*reinterpret_cast<__half2 *>(&pair));
  return make_float2(__uint_as_float(pair << 16), __uint_as_float(pair & 0xffff0000u));
}

// COUNT threads, whole warps, at the barrier of this number (from 1 on; 0 is __syncthreads').
template <int COUNT>
__device__ __forceinline__ void threads_wait(int number) {
  asm volatile("bar.sync %0, %1;" ::"r"(number), "n"(COUNT) : "memory");
}

// Four matrices of 8 × 8 as load_matrices and load_matrices_transposed get them.
__device__ __forceinline__ void store_matrices(uint32_t address, uint32_t r0, uint32_t r1, uint32_t r2, uint32_t r3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(r0), "r"(r1),
               "r"(r2), "r"(r3)
               : "memory");
}
__device__ __forceinline__ void store_matrices_transposed(uint32_t address, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

// Products of a warpgroup: d (64 × 64) = a (64 × 16) · b (16 × 64), plus d where `add`; d as wgmma of tensor_core.cuh
// has it. a lies in shared memory, described by matrix_descriptor, or in registers: those of mma for the warp's 16
// rows. b lies there as (64 × 16), described by matrix_descriptor, or, ALONG, as (16 × 64), described by
// along_descriptor. They run from wgmma_begin until wgmma_left says that no more than so many groups have not finished;
// wgmma_group ends a group. d is not to be touched before, and a in registers may be read but not written; wgmma_seen
// keeps reads of d behind.
__device__ __forceinline__ void wgmma_group() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int LEFT>
__device__ __forceinline__ void wgmma_left() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(LEFT) : "memory");
}
template <int N>
__device__ __forceinline__ void wgmma_seen(float (&d)[N]) {
#pragma unroll
  for (int i = 0; i < N; i++) asm volatile("" : "+f"(d[i])::"memory");
}

#define WGMMA_32(types, operands, a_bind, b, add)                                                                   \
  asm volatile(                                                                                                     \
      "{\n"                                                                                                         \
      ".reg .pred p;\n"                                                                                             \
      "setp.ne.b32 p, %33, 0;\n"                                                                                    \
      "wgmma.mma_async.sync.aligned.m64n64k16.f32." types                                                           \
      " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, %22, " \
      "%23, %24, %25, %26, %27, %28, %29, %30, %31}, " operands "}\n"                                               \
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), \
        "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]),      \
        "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]), "+f"(d[24]),     \
        "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31])                   \
      : "l"(b), "r"((int)(add)), a_bind)

// Both operands in shared memory.
template <typename T>
__device__ __forceinline__ void wgmma(float (&d)[32], uint64_t a, uint64_t b, bool add) {
  if constexpr (std::is_same_v<T, __half>)
    WGMMA_32("f16.f16", "%34, %32, p, 1, 1, 0, 0;\n", "l"(a), b, add);
  else
    WGMMA_32("bf16.bf16", "%34, %32, p, 1, 1, 0, 0;\n", "l"(a), b, add);
}

// b ALONG; a in shared memory, or in registers.
template <typename T>
__device__ __forceinline__ void wgmma_along(float (&d)[32], uint64_t a, uint64_t b, bool add) {
  if constexpr (std::is_same_v<T, __half>)
    WGMMA_32("f16.f16", "%34, %32, p, 1, 1, 0, 1;\n", "l"(a), b, add);
  else
    WGMMA_32("bf16.bf16", "%34, %32, p, 1, 1, 0, 1;\n", "l"(a), b, add);
}
#define FOUR_REGISTERS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3])
template <typename T>
__device__ __forceinline__ void wgmma_along(float (&d)[32], const uint32_t (&a)[4], uint64_t b, bool add) {
  if constexpr (std::is_same_v<T, __half>)
    WGMMA_32("f16.f16", "{%34, %35, %36, %37}, %32, p, 1, 1, 1;\n", FOUR_REGISTERS, b, add);
  else
    WGMMA_32("bf16.bf16", "{%34, %35, %36, %37}, %32, p, 1, 1, 1;\n", FOUR_REGISTERS, b, add);
}
#undef FOUR_REGISTERS
#undef WGMMA_32

// Boxes of 64 columns, a line of 128 bytes with the 128-byte swizzle for each k, eight lines every 1024 bytes; the
// first on 1024 bytes, the address moved by 2048 bytes for each further 16 k.
__device__ __forceinline__ uint64_t along_descriptor(uint32_t address) {
  return matrix_descriptor(address);
}
