/* Split products and attention in fp32 on a GPU: error against fp64 and against cuBLAS's fp32 arithmetic, equal bits,
 * odd shapes, and a table of speeds. Ends with 77 where there is no GPU. */
#include <cublasLt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"
#include "cuda_engine.h"
#include "gemm.h"
#include "kernels.h"
#include "split_gemm.h"

enum { SKIPPED = 77, WORKSPACE = 256 << 20, CHECKED_ROWS = 256 };

static int failures;
static const char *const variant_names[SPLIT_VARIANTS] = {[SPLIT_MMA] = "mma", [SPLIT_WGMMA] = "wgmma"};

typedef struct {
  cudaStream_t stream;
  cudaEvent_t start, stop;
  cublasLtHandle_t handle;
  gemm *pedantic;
  void *workspace;
  launch l;
} bench;

static void check(bool good, const char *what) {
  printf("%-4s %s\n", good ? "ok" : "FAIL", what);
  failures += !good;
}

static status device_memory(size_t bytes, void **out) {
  CUDA(cudaMalloc(out, bytes));
  return STATUS_OK;
}

/* n random numbers in device memory, the caller's to free. */
static status noise(bench *b, int64_t n, uint32_t number, float **x) {
  TRY(device_memory((size_t)n * sizeof(float) + 64, (void **)x));
  CUDA(launch_noise(&b->l, n, number, *x));
  CUDA(cudaStreamSynchronize(b->stream));
  return STATUS_OK;
}

static status to_host(const void *device, size_t bytes, void **out) {
  TRY(memory_new(out, bytes, 1, "a copy"));
  CUDA(cudaMemcpy(*out, device, bytes, cudaMemcpyDeviceToHost));
  return STATUS_OK;
}

/* fp64 copy of n device floats, in device memory. */
static status doubled(const float *x, int64_t n, double **out) {
  float *host;
  double *wide;
  TRY(to_host(x, (size_t)n * sizeof(float), (void **)&host));
  TRY(memory_new(&wide, (size_t)n, sizeof *wide, "fp64 operand"));
  for (int64_t i = 0; i < n; i++) {
    wide[i] = host[i];
  }
  TRY(device_memory((size_t)n * sizeof(double), (void **)out));
  CUDA(cudaMemcpy(*out, wide, (size_t)n * sizeof(double), cudaMemcpyHostToDevice));
  free(host);
  free(wide);
  return STATUS_OK;
}

/* x (n, k) · w (m, k)ᵀ in fp64, to the host. */
static status exact_product(bench *b, int64_t n, int64_t m, int64_t k, const float *x, const float *w, double **out) {
  double *dx, *dw, *dy, one = 1, zero = 0;
  TRY(doubled(x, n * k, &dx));
  TRY(doubled(w, m * k, &dw));
  TRY(device_memory((size_t)(n * m) * sizeof(double), (void **)&dy));
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, bb, c;
  cublasOperation_t t = CUBLAS_OP_T;
  CUBLAS(cublasLtMatmulDescCreate(&desc, CUBLAS_COMPUTE_64F, CUDA_R_64F));
  CUBLAS(cublasLtMatmulDescSetAttribute(desc, CUBLASLT_MATMUL_DESC_TRANSA, &t, sizeof t));
  CUBLAS(cublasLtMatrixLayoutCreate(&a, CUDA_R_64F, (uint64_t)k, (uint64_t)m, k));
  CUBLAS(cublasLtMatrixLayoutCreate(&bb, CUDA_R_64F, (uint64_t)k, (uint64_t)n, k));
  CUBLAS(cublasLtMatrixLayoutCreate(&c, CUDA_R_64F, (uint64_t)m, (uint64_t)n, m));
  CUBLAS(cublasLtMatmul(b->handle, desc, &one, dw, a, dx, bb, &zero, dy, c, dy, c, NULL, b->workspace, 64 << 20,
                        b->stream));
  CUDA(cudaStreamSynchronize(b->stream));
  TRY(to_host(dy, (size_t)(n * m) * sizeof(double), (void **)out));
  cublasLtMatrixLayoutDestroy(a);
  cublasLtMatrixLayoutDestroy(bb);
  cublasLtMatrixLayoutDestroy(c);
  cublasLtMatmulDescDestroy(desc);
  cudaFree(dx);
  cudaFree(dw);
  cudaFree(dy);
  return STATUS_OK;
}

static status pedantic_product(bench *b, int64_t n, int64_t m, int64_t k, const float *x, const float *w, float *y) {
  const gemm_args a = {.kind = GEMM_FORWARD,
                       .n = n,
                       .m = m,
                       .k = k,
                       .in = DTYPE_F32,
                       .out = DTYPE_F32,
                       .left = x,
                       .right = w,
                       .result = y};
  return gemm_run(b->pedantic, b->stream, &a);
}

static status split_product(bench *b, split_variant v, int64_t n, int64_t m, int64_t k, const float *x, const float *w,
                            float *y, const float *alpha, bool accumulate) {
  const split_product_args a = {
      .n = n, .m = m, .k = k, .left = x, .right = w, .result = y, .alpha = alpha, .accumulate = accumulate};
  CUDA(launch_split_product(b->stream, v, &a, b->workspace, WORKSPACE));
  return STATUS_OK;
}

static double frobenius(const double *exact, const float *y, int64_t n) {
  double error = 0, norm = 0;
  for (int64_t i = 0; i < n; i++) {
    double d = y[i] - exact[i];
    error += d * d;
    norm += exact[i] * exact[i];
  }
  return sqrt(error / norm);
}

/* Error of the first rows of a product of n rows; how = SPLIT_VARIANTS: cuBLAS. */
static status error_of(bench *b, int how, int64_t n, int64_t m, int64_t k, const float *x, const float *w,
                       const double *exact, int64_t rows, double *error) {
  float *y, *host;
  TRY(device_memory((size_t)(n * m) * sizeof(float), (void **)&y));
  CUDA(cudaMemset(y, 0xff, (size_t)(n * m) * sizeof(float)));
  TRY(how == SPLIT_VARIANTS ? pedantic_product(b, n, m, k, x, w, y)
                            : split_product(b, (split_variant)how, n, m, k, x, w, y, NULL, false));
  CUDA(cudaStreamSynchronize(b->stream));
  TRY(to_host(y, (size_t)(rows * m) * sizeof(float), (void **)&host));
  *error = frobenius(exact, host, rows * m);
  free(host);
  cudaFree(y);
  return STATUS_OK;
}

static status accuracy(bench *b) {
  static const int64_t shapes[][3] = {{2048, 768, 256},   {2048, 256, 256},  {2048, 1024, 256},  {2048, 256, 1024},
                                      {2048, 32000, 256}, {2048, 2304, 768}, {2048, 50304, 768}, {2048, 8192, 2048},
                                      {2048, 2048, 8192}, {131, 333, 77},    {257, 130, 36},     {128, 7, 1000}};
  printf("relative Frobenius error against fp64\n%6s %6s %6s %10s", "n", "m", "k", "pedantic");
  for (int v = 0; v < SPLIT_VARIANTS; v++) {
    printf(" %9s", variant_names[v]);
  }
  printf("\n");
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    int64_t n = shapes[s][0], m = shapes[s][1], k = shapes[s][2], rows = n < CHECKED_ROWS ? n : CHECKED_ROWS;
    float *x, *w;
    double *exact, errors[SPLIT_VARIANTS + 1];
    TRY(noise(b, n * k, 1, &x));
    TRY(noise(b, m * k, 2, &w));
    TRY(exact_product(b, rows, m, k, x, w, &exact));
    for (int v = 0; v <= SPLIT_VARIANTS; v++) {
      TRY(error_of(b, v, n, m, k, x, w, exact, rows, &errors[v]));
    }
    printf("%6d %6d %6d  %.3e", (int)n, (int)m, (int)k, errors[SPLIT_VARIANTS]);
    bool good = true;
    for (int v = 0; v < SPLIT_VARIANTS; v++) {
      printf(" %.3e", errors[v]);
      good = good && errors[v] <= errors[SPLIT_VARIANTS];
    }
    printf("  %s\n", good ? "ok" : "FAIL");
    failures += !good;
    free(exact);
    cudaFree(x);
    cudaFree(w);
  }
  return STATUS_OK;
}

/* The same bits again, with fewer rows, and when a product is added in place of overwritten and added. */
static status bits(bench *b, split_variant v) {
  int64_t n = 5000, m = 1000, k = 256, few = 300;
  size_t bytes = (size_t)(n * m) * sizeof(float);
  float *x, *w, *y[3], *host[3], third = 1.0f / 3, *alpha;
  TRY(noise(b, n * k, 1, &x));
  TRY(noise(b, m * k, 2, &w));
  TRY(device_memory(sizeof third, (void **)&alpha));
  CUDA(cudaMemcpy(alpha, &third, sizeof third, cudaMemcpyHostToDevice));
  for (int i = 0; i < 3; i++) {
    TRY(device_memory(bytes, (void **)&y[i]));
  }
  TRY(split_product(b, v, n, m, k, x, w, y[0], alpha, false));
  TRY(split_product(b, v, n, m, k, x, w, y[1], alpha, false));
  TRY(split_product(b, v, few, m, k, x + (n - few) * k, w, y[2], alpha, false));
  CUDA(cudaStreamSynchronize(b->stream));
  for (int i = 0; i < 3; i++) {
    TRY(to_host(y[i], bytes, (void **)&host[i]));
  }
  char what[80];
  snprintf(what, sizeof what, "%s: the same bits again", variant_names[v]);
  check(memcmp(host[0], host[1], bytes) == 0, what);
  snprintf(what, sizeof what, "%s: the same bits with fewer rows", variant_names[v]);
  check(memcmp(host[0] + (n - few) * m, host[2], (size_t)(few * m) * sizeof(float)) == 0, what);
  TRY(split_product(b, v, n, m, k, x, w, y[1], alpha, true));
  CUDA(cudaStreamSynchronize(b->stream));
  CUDA(cudaMemcpy(host[1], y[1], bytes, cudaMemcpyDeviceToHost));
  bool same = true;
  for (int64_t i = 0; i < n * m; i++) {
    same = same && host[1][i] == host[0][i] + host[0][i];
  }
  snprintf(what, sizeof what, "%s: accumulating is overwriting and adding", variant_names[v]);
  check(same, what);
  for (int i = 0; i < 3; i++) {
    cudaFree(y[i]);
    free(host[i]);
  }
  cudaFree(x);
  cudaFree(w);
  cudaFree(alpha);
  return STATUS_OK;
}

static status time_start(bench *b) {
  CUDA(cudaStreamSynchronize(b->stream));
  CUDA(cudaEventRecord(b->start, b->stream));
  return STATUS_OK;
}

static status time_stop(bench *b, double *ms) {
  float elapsed;
  CUDA(cudaEventRecord(b->stop, b->stream));
  CUDA(cudaEventSynchronize(b->stop));
  CUDA(cudaEventElapsedTime(&elapsed, b->start, b->stop));
  *ms = elapsed;
  return STATUS_OK;
}

static status speeds(bench *b) {
  static const int64_t shapes[][3] = {{131072, 768, 256},  {131072, 256, 256},   {131072, 1024, 256},
                                      {131072, 256, 1024}, {131072, 32000, 256}, {16384, 2304, 768},
                                      {8192, 8192, 2048}};
  enum { RUNS = 3 };
  printf("products: ms, TFLOP/s\n%6s %6s %6s %20s", "n", "m", "k", "pedantic");
  for (int v = 0; v < SPLIT_VARIANTS; v++) {
    printf(" %20s", variant_names[v]);
  }
  printf("\n");
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    int64_t n = shapes[s][0], m = shapes[s][1], k = shapes[s][2];
    float *x, *w, *y;
    TRY(noise(b, n * k, 1, &x));
    TRY(noise(b, m * k, 2, &w));
    TRY(device_memory((size_t)(n * m) * sizeof(float), (void **)&y));
    printf("%6d %6d %6d", (int)n, (int)m, (int)k);
    for (int i = 0; i <= SPLIT_VARIANTS; i++) {
      int how = (i + SPLIT_VARIANTS) % (SPLIT_VARIANTS + 1); /* cuBLAS first */
      double ms;
      for (int run = 0; run <= RUNS; run++) {
        if (run == 1)
          TRY(time_start(b));
        TRY(how == SPLIT_VARIANTS ? pedantic_product(b, n, m, k, x, w, y)
                                  : split_product(b, (split_variant)how, n, m, k, x, w, y, NULL, false));
      }
      TRY(time_stop(b, &ms));
      printf(" %9.3f %10.1f", ms / RUNS, 2.0 * (double)n * (double)m * (double)k * RUNS / ms * 1e-9);
    }
    printf("\n");
    cudaFree(x);
    cudaFree(w);
    cudaFree(y);
  }
  return STATUS_OK;
}

static status attend(bench *b, const attention_forward_args *a, bool split) {
  CUDA(split ? launch_attention_split_forward(&b->l, a, b->workspace, WORKSPACE) : launch_attention_forward(&b->l, a));
  return STATUS_OK;
}

static float slope_of(int64_t head, int64_t H) {
  int64_t c = 1;
  while (c * 2 <= H) {
    c *= 2;
  }
  return exp2f(head < c ? -8.0f / (float)c * (float)(head + 1) : -4.0f / (float)c * (float)(2 * (head - c) + 1));
}

/* One row of attention in fp64: out (h), returns the log of the sum. */
static double attend_row(const attention_forward_args *a, const float *qkv, int64_t b, int64_t head, int64_t i,
                         double *p, double *out) {
  int64_t D = a->H * a->h;
  const float *row = qkv + b * a->T * 3 * D + head * a->h, *q = row + i * 3 * D;
  double top = -INFINITY, total = 0, slope = a->alibi ? (double)slope_of(head, a->H) : 0;
  for (int64_t j = 0; j <= i; j++) {
    double dot = 0;
    for (int64_t d = 0; d < a->h; d++) {
      dot += (double)q[d] * row[j * 3 * D + D + d];
    }
    p[j] = dot / sqrt((double)a->h) - slope * (double)(i - j);
    top = fmax(top, p[j]);
  }
  for (int64_t j = 0; j <= i; j++) {
    total += p[j] = exp(p[j] - top);
  }
  for (int64_t d = 0; d < a->h; d++) {
    out[d] = 0;
    for (int64_t j = 0; j <= i; j++) {
      out[d] += p[j] * row[j * 3 * D + 2 * D + d];
    }
    out[d] /= total;
  }
  return top + log(total);
}

/* Errors of out (Frobenius, relative) and lse (largest) over every STEP-th row. */
static status attention_errors(const attention_forward_args *a, const float *qkv, double *error, double *lse_error) {
  enum { STEP = 7 };
  int64_t D = a->H * a->h;
  float *out, *lse;
  double *p, *exact, sum = 0, norm = 0;
  TRY(to_host(a->out, (size_t)(a->B * a->T * D) * sizeof(float), (void **)&out));
  TRY(to_host(a->lse, (size_t)(a->B * a->H * a->T) * sizeof(float), (void **)&lse));
  TRY(memory_new(&p, (size_t)a->T, sizeof *p, "probabilities"));
  TRY(memory_new(&exact, (size_t)a->h, sizeof *exact, "a row"));
  *lse_error = 0;
  for (int64_t r = 0; r < a->B * a->H * a->T; r += STEP) {
    int64_t b = r / a->T / a->H, head = r / a->T % a->H, i = r % a->T;
    double l = attend_row(a, qkv, b, head, i, p, exact), d = fabs(lse[r] - l);
    *lse_error = d > *lse_error || isnan(d) ? d : *lse_error;
    for (int64_t e = 0; e < a->h; e++) {
      d = out[(b * a->T + i) * D + head * a->h + e] - exact[e];
      sum += d * d;
      norm += exact[e] * exact[e];
    }
  }
  *error = sqrt(sum / norm);
  free(out);
  free(lse);
  free(p);
  free(exact);
  return STATUS_OK;
}

static status attention_accuracy(bench *b) {
  static const struct {
    int64_t B, T, H, h;
    bool alibi;
  } shapes[] = {{1, 1024, 2, 64, false}, {2, 300, 3, 64, true}, {1, 777, 2, 128, false}, {2, 129, 4, 96, true},
                {3, 70, 2, 32, false},   {1, 1, 1, 20, false},  {1, 2048, 1, 64, false}};
  printf("attention: relative error of out, largest error of lse\n");
  for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
    attention_forward_args a = {
        .B = shapes[s].B, .T = shapes[s].T, .H = shapes[s].H, .h = shapes[s].h, .alibi = shapes[s].alibi};
    int64_t elements = a.B * a.T * a.H * a.h;
    float *qkv, *host;
    double error[2], lse_error[2];
    TRY(noise(b, 3 * elements, 3, &qkv));
    a.qkv = qkv;
    TRY(device_memory((size_t)elements * sizeof(float), &a.out));
    TRY(device_memory((size_t)(a.B * a.H * a.T) * sizeof(float), &a.lse));
    TRY(to_host(qkv, (size_t)elements * 3 * sizeof(float), (void **)&host));
    for (int split = 0; split < 2; split++) {
      CUDA(cudaMemset(a.out, 0xff, (size_t)elements * sizeof(float)));
      CUDA(cudaMemset(a.lse, 0xff, (size_t)(a.B * a.H * a.T) * sizeof(float)));
      TRY(attend(b, &a, split));
      CUDA(cudaStreamSynchronize(b->stream));
      TRY(attention_errors(&a, host, &error[split], &lse_error[split]));
    }
    char what[160];
    snprintf(what, sizeof what, "B %d T %4d H %d h %3d%s: FFMA %.3e, %.1e; split %.3e, %.1e", (int)a.B, (int)a.T,
             (int)a.H, (int)a.h, a.alibi ? " ALiBi" : "", error[0], lse_error[0], error[1], lse_error[1]);
    check(error[1] <= 2 * error[0] + 1e-9 && lse_error[1] <= 2 * lse_error[0] + 1e-6, what);
    cudaFree(qkv);
    cudaFree(a.out);
    cudaFree(a.lse);
    free(host);
  }
  return STATUS_OK;
}

static status attention_speed(bench *b, int64_t B, int64_t T, int64_t H, int64_t h) {
  enum { RUNS = 3 };
  attention_forward_args a = {.B = B, .T = T, .H = H, .h = h};
  float *qkv;
  double ms[2];
  TRY(noise(b, 3 * B * T * H * h, 3, &qkv));
  a.qkv = qkv;
  TRY(device_memory((size_t)(B * T * H * h) * sizeof(float), &a.out));
  TRY(device_memory((size_t)(B * T * H) * sizeof(float), &a.lse));
  for (int split = 0; split < 2; split++) {
    for (int run = 0; run <= RUNS; run++) {
      if (run == 1)
        TRY(time_start(b));
      TRY(attend(b, &a, split));
    }
    TRY(time_stop(b, &ms[split]));
    ms[split] /= RUNS;
  }
  double flop = 2.0 * (double)(B * H * T) * (double)(T * h) * 1e-9;
  printf("attention B %d T %d H %d h %d: FFMA %.3f ms, %.1f TFLOP/s; split %.3f ms, %.1f TFLOP/s\n", (int)B, (int)T,
         (int)H, (int)h, ms[0], flop / ms[0], ms[1], flop / ms[1]);
  cudaFree(qkv);
  cudaFree(a.out);
  cudaFree(a.lse);
  return STATUS_OK;
}

static status run(void) {
  bench b = {0};
  CUDA(cudaSetDevice(0));
  CUDA(cudaStreamCreate(&b.stream));
  CUDA(cudaEventCreate(&b.start));
  CUDA(cudaEventCreate(&b.stop));
  CUBLAS(cublasLtCreate(&b.handle));
  TRY(gemm_create(64 << 20, MATH_PEDANTIC, &b.pedantic));
  TRY(device_memory(WORKSPACE, &b.workspace));
  b.l = (launch){.stream = b.stream, .compute = DTYPE_F32, .seed = 1};
  TRY(accuracy(&b));
  for (int v = 0; v < SPLIT_VARIANTS; v++) {
    TRY(bits(&b, (split_variant)v));
  }
  TRY(attention_accuracy(&b));
  TRY(speeds(&b));
  TRY(attention_speed(&b, 32, 4096, 4, 64));
  TRY(attention_speed(&b, 4, 4096, 16, 128));
  gemm_free(b.pedantic);
  cublasLtDestroy(b.handle);
  cudaFree(b.workspace);
  return STATUS_OK;
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (cuda_device_count() == 0) {
    printf("skipped: no GPU\n");
    return SKIPPED;
  }
  status s = run();
  if (s != STATUS_OK) {
    printf("FAIL %s (%s)\n", status_message(), status_place());
    return 1;
  }
  printf(failures ? "%d checks failed\n" : "all checks passed\n", failures);
  return failures != 0;
}
