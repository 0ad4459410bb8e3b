// A GPU of one multiprocessor in software, for kernels written against cuda/tensor_core.cuh: what a test includes in
// its place. Threads are fibers that run in a random order and change at barriers and at operations of a warp; bulk
// copies land at a random time. So a missing wait shows as a wrong result, in time, on a machine without a GPU.
// Fragments are laid out as the PTX manual says (mma.m16n8k16, ldmatrix, wgmma), and sums are truncated as the tensor
// cores do.
#pragma once

#include <stdint.h>
#include <string.h>
#include <ucontext.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "host_intrinsics.h"

#define __host__
#define __global__
#define __launch_bounds__(...)
#define __shared__ static

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};
struct float4 {
  float x, y, z, w;
};
struct uint4 {
  uint32_t x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) {
  return {x, y, z, w};
}
inline void __stcs(float4 *p, float4 v) {
  *p = v;
}

namespace emulated {

enum { WARP_SIZE = 32, STACK = 256 << 10 };

struct barrier {
  uint32_t arrivals, pending, phase;
  int64_t bytes;
};

struct copy {
  uint32_t to, bytes, barrier;
  const void *from;
};

// What the lanes of a warp bring to an operation and take from it.
struct exchange {
  int come = 0;
  unsigned generation = 0;
  uint32_t in[WARP_SIZE][16], out[WARP_SIZE][8];
};

struct fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  unsigned thread;
  bool done;
};

struct machine {
  dim3 grid, block_index, thread_index, block_size;
  std::vector<char> shared;
  std::map<uint32_t, barrier> barriers;
  std::vector<copy> copies;
  std::vector<exchange> warps;
  std::vector<fiber> fibers;
  fiber *running = nullptr;
  ucontext_t scheduler;
  int block_come = 0;
  unsigned block_generation = 0;
  std::function<void()> body;
  std::mt19937 random{1};
};

inline machine &gpu() {
  static machine m;
  return m;
}

inline void yield() {
  machine &m = gpu();
  swapcontext(&m.running->context, &m.scheduler);
}

inline void phase_check(barrier &b) {
  if (b.pending == 0 && b.bytes == 0) {
    b.phase ^= 1;
    b.pending = b.arrivals;
  }
}

inline void land(size_t i) {
  machine &m = gpu();
  copy c = m.copies[i];
  m.copies.erase(m.copies.begin() + (long)i);
  if (c.to + c.bytes > m.shared.size()) {
    fprintf(stderr, "a bulk copy leaves shared memory\n");
    abort();
  }
  memcpy(m.shared.data() + c.to, c.from, c.bytes);
  barrier &b = m.barriers.at(c.barrier);
  b.bytes -= c.bytes;
  phase_check(b);
}

inline void enter() {
  machine &m = gpu();
  m.body();
  m.running->done = true;
  yield();
}

inline void run_block(unsigned threads) {
  machine &m = gpu();
  m.barriers.clear();
  m.copies.clear();
  m.block_come = 0;
  for (char &c : m.shared) c = (char)0x7f;  // NaN when read as fp16 or fp32
  m.warps.assign(threads / WARP_SIZE, exchange());
  m.fibers.resize(threads);
  for (unsigned t = 0; t < threads; t++) {
    fiber &f = m.fibers[t];
    if (!f.stack) f.stack.reset(new char[STACK]);
    f.thread = t;
    f.done = false;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
  }
  // Warps in a random order, lanes in turn: half a warp seldom runs ahead of the rest.
  for (size_t left = threads, idle = 0; left > 0; idle++) {
    unsigned warp = m.random() % (threads / WARP_SIZE);
    for (unsigned lane = 0; lane < WARP_SIZE; lane++) {
      fiber &f = m.fibers[warp * WARP_SIZE + lane];
      if (f.done) continue;
      m.running = &f;
      m.thread_index.x = f.thread;
      swapcontext(&m.scheduler, &f.context);
      if (f.done) left--, idle = 0;
    }
    if (!m.copies.empty() && m.random() % 8 == 0) land(m.random() % m.copies.size());
    if (idle > 1u << 26) {
      fprintf(stderr, "the emulated block does not end\n");
      abort();
    }
  }
}

// Runs a kernel: grid blocks, one after the other, of so many threads with so many bytes of dynamic shared memory.
inline void run(dim3 grid, unsigned threads, size_t bytes, std::function<void()> body) {
  machine &m = gpu();
  m.grid = grid;
  m.body = body;
  m.block_size.x = threads;
  m.shared.assign(bytes, 0);
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        m.block_index = {x, y, z};
        run_block(threads);
      }
}

// All lanes bring `count` words; the last to come calls combine, then each takes its row of `out`.
template <typename F>
uint32_t *meet(const uint32_t *words, int count, F combine) {
  machine &m = gpu();
  unsigned lane = m.running->thread % WARP_SIZE;
  exchange &e = m.warps[m.running->thread / WARP_SIZE];
  memcpy(e.in[lane], words, (size_t)count * 4);
  unsigned generation = e.generation;
  if (++e.come == WARP_SIZE) {
    combine(e);
    e.come = 0;
    e.generation++;
  }
  while (e.generation == generation) yield();
  return e.out[lane];
}

inline float half_of(uint32_t word, int upper) {
  uint16_t bits = (uint16_t)(upper ? word >> 16 : word);
  _Float16 h;
  memcpy(&h, &bits, 2);
  return (float)h;
}
inline uint32_t half_bits(float x) {
  _Float16 h = (_Float16)x;
  uint16_t bits;
  memcpy(&bits, &h, 2);
  return bits;
}

// c + Σ a·b: products exact, aligned to the largest and cut to 25 bits, the sum cut to fp32's 24.
inline float tensor_sum(const float *a, const float *b, int n, float c) {
  double term[65], sum = 0;
  int top = -10000;
  for (int i = 0; i < n; i++) term[i] = (double)a[i] * b[i];
  term[n] = c;
  for (int i = 0; i <= n; i++) {
    int e;
    if (!std::isfinite(term[i])) return NAN;
    if (term[i] != 0 && (frexp(term[i], &e), e > top)) top = e;
  }
  if (top == -10000) return 0;
  double unit = ldexp(1.0, top - 26);
  for (int i = 0; i <= n; i++) sum += trunc(term[i] / unit) * unit;
  int e;
  if (sum == 0) return 0;
  frexp(sum, &e);
  unit = ldexp(1.0, e - 24);
  return (float)(trunc(sum / unit) * unit);
}

}  // namespace emulated

#define threadIdx (emulated::gpu().thread_index)
#define blockIdx (emulated::gpu().block_index)
#define gridDim (emulated::gpu().grid)
#define blockDim (emulated::gpu().block_size)

inline void __syncthreads() {
  emulated::machine &m = emulated::gpu();
  unsigned generation = m.block_generation;
  if (++m.block_come == (int)m.fibers.size()) {
    m.block_come = 0;
    m.block_generation++;
  }
  while (m.block_generation == generation) emulated::yield();
  m.thread_index.x = m.running->thread;
}

inline void __syncwarp() {
  emulated::meet(nullptr, 0, [](emulated::exchange &) {});
}

inline float __shfl_xor_sync(uint32_t, float x, int d) {
  uint32_t w = __float_as_uint(x);
  uint32_t *r = emulated::meet(&w, 1, [d](emulated::exchange &e) {
    for (int l = 0; l < 32; l++) e.out[l][0] = e.in[l ^ d][0];
  });
  return __uint_as_float(r[0]);
}

constexpr int SHARED_SLACK = 0;
inline uint32_t dynamic_shared() {
  return 0;
}

inline void split_pair(float x, float y, uint32_t &hi, uint32_t &lo) {
  using namespace emulated;
  hi = half_bits(x) | half_bits(y) << 16;
  lo = half_bits(x - half_of(hi, 0)) | half_bits(y - half_of(hi, 1)) << 16;
}

inline float exp2_fast(float x) {
  return x < -126 ? 0.0f : exp2f(x);
}

inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  using namespace emulated;
  uint32_t in[10];
  memcpy(in, a, 16);
  in[4] = b0, in[5] = b1;
  memcpy(in + 6, d, 16);
  uint32_t *r = meet(in, 10, [](exchange &e) {
    float A[16][16], B[8][16];
    for (int l = 0; l < 32; l++) {
      int g = l / 4, q = l % 4;
      for (int h = 0; h < 2; h++) {
        A[g][2 * q + h] = half_of(e.in[l][0], h);
        A[g + 8][2 * q + h] = half_of(e.in[l][1], h);
        A[g][2 * q + 8 + h] = half_of(e.in[l][2], h);
        A[g + 8][2 * q + 8 + h] = half_of(e.in[l][3], h);
        B[g][2 * q + h] = half_of(e.in[l][4], h);
        B[g][2 * q + 8 + h] = half_of(e.in[l][5], h);
      }
    }
    for (int l = 0; l < 32; l++)
      for (int c = 0; c < 4; c++)
        e.out[l][c] = __float_as_uint(
            tensor_sum(A[l / 4 + c / 2 * 8], B[l % 4 * 2 + c % 2], 16, __uint_as_float(e.in[l][6 + c])));
  });
  memcpy(d, r, 16);
}
inline void mma_first(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  d[0] = d[1] = d[2] = d[3] = 0;
  mma(d, a, b0, b1);
}

inline void load_matrices_either(uint32_t (&r)[4], uint32_t address, bool transposed) {
  using namespace emulated;
  uint32_t *out = meet(&address, 1, [transposed](exchange &e) {
    for (int l = 0; l < 32; l++)
      for (int i = 0; i < 4; i++) {
        uint16_t two[2];
        for (int h = 0; h < 2; h++) {
          int row = transposed ? l % 4 * 2 + h : l / 4, column = transposed ? l / 4 : l % 4 * 2 + h;
          uint32_t line = e.in[8 * i + row][0];
          if (line % 16 != 0 || line + 16 > gpu().shared.size()) {
            fprintf(stderr, "ldmatrix at %u\n", line);
            abort();
          }
          memcpy(&two[h], gpu().shared.data() + line + 2 * column, 2);
        }
        e.out[l][i] = two[0] | (uint32_t)two[1] << 16;
      }
  });
  memcpy(r, out, 16);
}
inline void load_matrices(uint32_t (&r)[4], uint32_t address) {
  load_matrices_either(r, address, false);
}
inline void load_matrices_transposed(uint32_t (&r)[4], uint32_t address) {
  load_matrices_either(r, address, true);
}

inline void barrier_init(uint32_t b, uint32_t arrivals) {
  emulated::gpu().barriers[b] = {arrivals, arrivals, 0, 0};
}
inline void barrier_init_done() {}
inline void barrier_arrive_expect(uint32_t at, uint32_t bytes) {
  emulated::barrier &b = emulated::gpu().barriers.at(at);
  if (b.pending == 0) {
    fprintf(stderr, "too many arrivals at a barrier\n");
    abort();
  }
  b.bytes += bytes;
  b.pending--;
  emulated::phase_check(b);
}
inline void barrier_arrive(uint32_t at) {
  barrier_arrive_expect(at, 0);
}
inline void barrier_wait(uint32_t at, uint32_t parity) {
  while (emulated::gpu().barriers.at(at).phase == parity) emulated::yield();
}
inline void bulk_copy(uint32_t to, const void *from, uint32_t bytes, uint32_t barrier) {
  emulated::gpu().copies.push_back({to, bytes, barrier, from});
}

inline uint64_t matrix_descriptor(uint32_t address) {
  return (uint64_t)(address >> 4 & 0x3fff) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
}
inline void wgmma_begin() {}
inline void wgmma_finish(float (&)[64]) {}

// Element (line, i) of a described matrix: the swizzle takes the line within its 1024 bytes from the address itself.
inline float described(uint64_t descriptor, int line, int i) {
  uint32_t address = (uint32_t)(descriptor & 0x3fff) << 4;
  address += (uint32_t)(line / 8) * ((uint32_t)(descriptor >> 32 & 0x3fff) << 4) + (uint32_t)(line % 8) * 128 +
             (uint32_t)i * 2;
  address ^= (address >> 7 & 7) << 4;
  uint16_t bits;
  memcpy(&bits, emulated::gpu().shared.data() + address, 2);
  return emulated::half_of(bits, 0);
}

// Each warp by itself, at once.
inline void wgmma(float (&d)[64], uint64_t a, uint64_t b, bool add) {
  using namespace emulated;
  unsigned thread = gpu().running->thread;
  int lane = (int)thread % 32, first = (int)(thread / 32 % 4) * 16;
  float A[2][16], B[16];
  for (int r = 0; r < 2; r++)
    for (int i = 0; i < 16; i++) A[r][i] = described(a, first + lane / 4 + 8 * r, i);
  for (int j = 0; j < 16; j++)
    for (int c = 0; c < 2; c++) {
      for (int i = 0; i < 16; i++) B[i] = described(b, 8 * j + lane % 4 * 2 + c, i);
      for (int r = 0; r < 2; r++) {
        float &x = d[4 * j + 2 * r + c];
        x = tensor_sum(A[r], B, 16, add ? x : 0.0f);
      }
    }
}
