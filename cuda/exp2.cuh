// The exponential that the kernels use.
#pragma once

constexpr float LOG2_E = 1.44269504f;

// 2^x by the hardware, 2 units in the last place; results below the normal range become 0. On the host, where tests
// compile the formulas, the library's.
__device__ __forceinline__ float exp2_fast(float x) {
#ifdef __CUDA_ARCH__
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}
