/* Attention's gradients on the tensor cores: those of many sequences at once, whose blocks wait for each other in
 * rounds of some heads, are those of each sequence alone, bit for bit. Their values are test_gpu_operations' matter.
 *
 * Prints a line a shape. Exit 77 where there is no GPU.
 */
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/support.h"
#include "check.h"
#include "engine/select.h"
#include "kernels.h"

enum { SKIPPED = 77, RUNS = 3 };

/* Above the scores of noise, so that no probability overflows; the kernel does not ask whether it is their sum's. */
static const float LSE = 8;

typedef struct {
  dtype compute;
  int64_t B, T, H, h;
} shape;

static const shape shapes[] = {{DTYPE_BF16, 5, 2048, 13, 128}, {DTYPE_BF16, 12, 1024, 8, 128},
                               {DTYPE_F16, 9, 700, 16, 128},   {DTYPE_BF16, 1, 4500, 3, 128},
                               {DTYPE_BF16, 6, 1000, 7, 64},   {DTYPE_F16, 40, 300, 5, 64}};

typedef struct {
  void *qkv, *out, *dout, *lse, *workspace;
  uint16_t *dqkv;
} memory;

static status noise(const launch *l, int64_t n, uint32_t number, void **x) {
  CUDA(cudaMalloc(x, (size_t)n * 2));
  CUDA(launch_noise(l, n, number, *x));
  return STATUS_OK;
}

static status make(const launch *l, const shape *s, memory *m) {
  int64_t N = s->B * s->T, D = s->H * s->h;
  TRY(noise(l, N * 3 * D, 1, &m->qkv));
  TRY(noise(l, N * D, 2, &m->out));
  TRY(noise(l, N * D, 3, &m->dout));
  CUDA(cudaMalloc((void **)&m->dqkv, (size_t)(N * 3 * D) * 2));
  CUDA(cudaMalloc(&m->workspace, attention_wgmma_bytes(s->B, s->T, s->H, s->h)));
  float *lse = (float *)zeros((size_t)(N * s->H), sizeof *lse);
  for (int64_t i = 0; i < N * s->H; i++) {
    lse[i] = LSE;
  }
  CUDA(cudaMalloc(&m->lse, (size_t)(N * s->H) * sizeof *lse));
  CUDA(cudaMemcpy(m->lse, lse, (size_t)(N * s->H) * sizeof *lse, cudaMemcpyHostToDevice));
  return STATUS_OK;
}

/* The gradients of `count` sequences from `first` on, into where those of all of them lie. */
static status gradients(const launch *l, const shape *s, const memory *m, int64_t first, int64_t count) {
  int64_t row = first * s->T, D = s->H * s->h;
  attention_backward_args a = {.B = count, .T = s->T, .H = s->H, .h = s->h};
  a.qkv = (const uint16_t *)m->qkv + row * 3 * D;
  a.out = (const uint16_t *)m->out + row * D;
  a.dout = (const uint16_t *)m->dout + row * D;
  a.lse = (const float *)m->lse + row * s->H;
  a.dqkv = m->dqkv + row * 3 * D;
  CUDA(launch_attention_wgmma_backward(l, &a, m->workspace));
  return STATUS_OK;
}

/* Copies the result to the host and clears it, and what the kernel works in, with what would be found: NaN. */
static status collect(const shape *s, const memory *m, uint16_t *to) {
  size_t bytes = (size_t)(s->B * s->T * 3 * s->H * s->h) * 2;
  CUDA(cudaDeviceSynchronize());
  if (to != NULL) {
    CUDA(cudaMemcpy(to, m->dqkv, bytes, cudaMemcpyDeviceToHost));
  }
  CUDA(cudaMemset(m->dqkv, 0xff, bytes));
  CUDA(cudaMemset(m->workspace, 0xff, attention_wgmma_bytes(s->B, s->T, s->H, s->h)));
  return STATUS_OK;
}

static void release(memory *m) {
  void *all[] = {m->qkv, m->out, m->dout, m->lse, m->workspace, m->dqkv};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    cudaFree(all[i]);
  }
  free_all();
}

static void check(const shape *s) {
  launch l = {.compute = s->compute};
  memory m = {0};
  size_t n = (size_t)(s->B * s->T * 3 * s->H * s->h), differ = 0, strange = 0;
  uint16_t exponent = s->compute == DTYPE_BF16 ? 0x7f80 : 0x7c00;
  assert_true(attention_wgmma_takes(s->compute, s->B, s->T, s->H, s->h, false, 0));
  OK(make(&l, s, &m));
  uint16_t *alone = (uint16_t *)zeros(n, sizeof *alone), *together = (uint16_t *)zeros(n, sizeof *together);
  OK(collect(s, &m, NULL));
  for (int64_t b = 0; b < s->B; b++) {
    OK(gradients(&l, s, &m, b, 1));
  }
  OK(collect(s, &m, alone));
  for (int run = 0; run < RUNS; run++) {
    OK(gradients(&l, s, &m, 0, s->B));
    OK(collect(s, &m, together));
    for (size_t i = 0; i < n; i++) {
      differ += alone[i] != together[i];
      strange += (together[i] & exponent) == exponent;
    }
  }
  printf("%s %2lld x %lld, %2lld heads of %lld: %zu of %zu differ, %zu not finite\n",
         s->compute == DTYPE_BF16 ? "bf16" : "fp16", (long long)s->B, (long long)s->T, (long long)s->H, (long long)s->h,
         differ, n, strange);
  release(&m);
  assert_true(differ == 0 && strange == 0);
}

static void test_alone_and_together(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    check(&shapes[i]);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_alone_and_together)};
  if (engine_gpus() == 0) {
    printf("skipped: no GPU\n");
    return SKIPPED;
  }
  return cmocka_run_group_tests(tests, NULL, NULL);
}
