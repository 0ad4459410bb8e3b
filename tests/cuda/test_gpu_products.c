/* Accuracy of the engine's fp32 products: their error against fp64 in Frobenius norm is no larger than that of cuBLAS
 * in CUBLAS_COMPUTE_32F_PEDANTIC. Over the products of the bench's models, forward, gradient of the data and gradient
 * of the weight, with K and M as in the model and fewer rows.
 *
 *   test_gpu_products             judged against cuBLAS's first suggestion that sums K in one pass, as the engine must
 *                                 (its bits may not depend on how a sum is cut)
 *   test_gpu_products --strict    also against its first suggestion of all, which may split K: shorter sums, less error
 *
 * Prints a line a product. Exit 77 where there is no GPU.
 */
#include <cublasLt.h>
#include <cuda_runtime_api.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../engine/support.h"
#include "check.h"
#include "cuda_engine.h"
#include "gemm.h"
#include "kernels.h"

enum { ROWS = 2048, HEAD_ROWS = 512, SKIPPED = 77 };
static const size_t WORKSPACE = (size_t)64 << 20;
/* Two algorithms of equal merit differ by their orders of summation. */
static const double EQUAL = 1.01;

typedef struct {
  const char *name;
  int64_t D, M, V; /* V 0: without the head */
  bool wide;       /* elements of magnitudes from 2^-8 to 2^8 */
} bench_model;

static const bench_model models[] = {{"tiny", 256, 1024, 32000, false},   {"small", 512, 2048, 32000, false},
                                     {"small, wide", 512, 2048, 0, true}, {"124m", 768, 3072, 50304, false},
                                     {"350m", 1024, 4096, 32000, false},  {"1b3", 2048, 8192, 32000, false},
                                     {"1b5", 1536, 13440, 0, false}};
static const char *const kinds[] = {"forward", "data grad", "weight grad"};

/* Operands of a layer (to, from) on n rows, in fp32 and fp64, and room for a result; device memory. */
typedef struct {
  int64_t n, to, from;
  void *x, *w, *dy, *x64, *w64, *dy64, *result, *result64;
} layer;

static struct {
  engine *e;
  cublasLtHandle_t lt;
  void *workspace;
  cudaStream_t stream;
  bool strict;
  int bad;
} bench;

static uint32_t noise_number = 1;

static status make_operand(int64_t n, bool wide, void **x, void **x64) {
  launch l = {.stream = bench.stream, .compute = DTYPE_F32};
  CUDA(cudaMalloc(x, (size_t)n * sizeof(float)));
  CUDA(cudaMalloc(x64, (size_t)n * sizeof(double)));
  CUDA(launch_noise(&l, n, noise_number++, *x));
  CUDA(cudaStreamSynchronize(bench.stream));
  float *host = malloc((size_t)n * sizeof *host);
  double *host64 = malloc((size_t)n * sizeof *host64);
  REQUIRE(host && host64, "no host memory for %lld numbers", (long long)n);
  CUDA(cudaMemcpy(host, *x, (size_t)n * sizeof *host, cudaMemcpyDeviceToHost));
  for (int64_t i = 0; i < n; i++) {
    if (wide) {
      host[i] = ldexpf(host[i], (int)((uint64_t)i * 0x9E3779B97F4A7C15u >> 60) - 8);
    }
    host64[i] = (double)host[i];
  }
  CUDA(cudaMemcpy(*x, host, (size_t)n * sizeof *host, cudaMemcpyHostToDevice));
  CUDA(cudaMemcpy(*x64, host64, (size_t)n * sizeof *host64, cudaMemcpyHostToDevice));
  free(host);
  free(host64);
  return STATUS_OK;
}

static int64_t most(int64_t a, int64_t b) {
  return a > b ? a : b;
}

static status make_layer(int64_t n, int64_t to, int64_t from, bool wide, layer *l) {
  *l = (layer){.n = n, .to = to, .from = from};
  TRY(make_operand(n * from, wide, &l->x, &l->x64));
  TRY(make_operand(to * from, wide, &l->w, &l->w64));
  TRY(make_operand(n * to, wide, &l->dy, &l->dy64));
  size_t size = (size_t)most(most(n * to, n * from), to * from);
  CUDA(cudaMalloc(&l->result, size * sizeof(float)));
  CUDA(cudaMalloc(&l->result64, size * sizeof(double)));
  return STATUS_OK;
}

static void free_layer(layer *l) {
  void *parts[] = {l->x, l->w, l->dy, l->x64, l->w64, l->dy64, l->result, l->result64};
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    cudaFree(parts[i]);
  }
}

/* n, m and k of a product, as gemm.h counts. */
typedef struct {
  gemm_kind kind;
  int64_t n, m, k;
} product_shape;

static product_shape shape_of(const layer *l, gemm_kind kind) {
  switch (kind) {
    case GEMM_FORWARD:
      return (product_shape){kind, l->n, l->to, l->from};
    case GEMM_DATA_GRAD:
      return (product_shape){kind, l->n, l->from, l->to};
    default:
      return (product_shape){kind, l->to, l->from, l->n};
  }
}

typedef struct {
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, c;
} lt_product;

/* cuBLASLt counts columns first, so the operands change places. */
static status describe(const product_shape *s, cublasComputeType_t compute, cudaDataType_t type, lt_product *p) {
  cublasOperation_t ta = s->kind == GEMM_FORWARD ? CUBLAS_OP_T : CUBLAS_OP_N,
                    tb = s->kind == GEMM_WEIGHT_GRAD ? CUBLAS_OP_T : CUBLAS_OP_N;
  uint64_t n = (uint64_t)s->n, m = (uint64_t)s->m, k = (uint64_t)s->k;
  uint64_t a_rows = ta == CUBLAS_OP_T ? k : m, b_rows = tb == CUBLAS_OP_T ? n : k;
  CUBLAS(cublasLtMatmulDescCreate(&p->desc, compute, type));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->a, type, a_rows, m * k / a_rows, (int64_t)a_rows));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->b, type, b_rows, n * k / b_rows, (int64_t)b_rows));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->c, type, m, n, (int64_t)m));
  return STATUS_OK;
}

static void forget(lt_product *p) {
  cublasLtMatmulDescDestroy(p->desc);
  cublasLtMatrixLayoutDestroy(p->a);
  cublasLtMatrixLayoutDestroy(p->b);
  cublasLtMatrixLayoutDestroy(p->c);
}

/* The library's first suggestion; *split: into how many parts it cuts K. */
static status suggest(const lt_product *p, bool may_split, cublasLtMatmulAlgo_t *algo, int *split) {
  cublasLtMatmulPreference_t preference;
  cublasLtMatmulHeuristicResult_t result;
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE;
  int found = 0;
  CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
  CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &WORKSPACE,
                                              sizeof WORKSPACE));
  if (!may_split) {
    CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                                sizeof schemes));
  }
  CUBLAS(cublasLtMatmulAlgoGetHeuristic(bench.lt, p->desc, p->a, p->b, p->c, p->c, preference, 1, &result, &found));
  cublasLtMatmulPreferenceDestroy(preference);
  REQUIRE(found == 1, "cuBLASLt suggests no algorithm");
  *algo = result.algo;
  int32_t parts = 1;
  size_t written;
  CUBLAS(cublasLtMatmulAlgoConfigGetAttribute(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &parts, sizeof parts, &written));
  *split = parts > 1 ? parts : 1;
  return STATUS_OK;
}

static status run_library(const layer *l, const product_shape *s, cublasComputeType_t compute, bool may_split,
                          int *split) {
  bool wide = compute == CUBLAS_COMPUTE_64F;
  const void *x = wide ? l->x64 : l->x, *w = wide ? l->w64 : l->w, *dy = wide ? l->dy64 : l->dy;
  const void *left = s->kind == GEMM_FORWARD ? x : dy, *right = s->kind == GEMM_WEIGHT_GRAD ? x : w;
  void *out = wide ? l->result64 : l->result;
  double one64 = 1, zero64 = 0;
  float one = 1, zero = 0;
  lt_product p;
  cublasLtMatmulAlgo_t algo;
  TRY(describe(s, compute, wide ? CUDA_R_64F : CUDA_R_32F, &p));
  TRY(suggest(&p, may_split, &algo, split));
  CUBLAS(cublasLtMatmul(bench.lt, p.desc, wide ? (void *)&one64 : (void *)&one, right, p.a, left, p.b,
                        wide ? (void *)&zero64 : (void *)&zero, out, p.c, out, p.c, &algo, bench.workspace, WORKSPACE,
                        bench.stream));
  CUDA(cudaStreamSynchronize(bench.stream));
  forget(&p);
  return STATUS_OK;
}

/* The same product by the engine's operations. */
static status run_engine(const layer *l, gemm_kind kind) {
  const engine_ops *ops = bench.e->ops;
  void *other, *bias;
  CUDA(cudaMalloc(&other, (size_t)most(most(l->n * l->to, l->n * l->from), l->to * l->from) * sizeof(float)));
  CUDA(cudaMalloc(&bias, (size_t)l->to * sizeof(float)));
  CUDA(cudaMemset(bias, 0, (size_t)l->to * sizeof(float)));
  CUDA(cudaDeviceSynchronize());
  if (kind == GEMM_FORWARD) {
    up_forward_args a = {.N = l->n, .D = l->from, .M = l->to, .x = l->x, .weight = l->w, .bias = bias};
    a.act.kind = ACT_RELU;
    a.z = l->result;
    a.a = other;
    TRY(ops->up_forward(bench.e, &a));
  } else {
    out_backward_args a = {.B = 1, .T = l->n, .D = l->to, .K = l->from, .in = l->x, .weight = l->w, .dy = l->dy};
    a.din = kind == GEMM_DATA_GRAD ? l->result : other;
    a.dweight = kind == GEMM_WEIGHT_GRAD ? l->result : other;
    TRY(ops->out_backward(bench.e, &a));
  }
  TRY(ops->synchronize(bench.e));
  CUDA(cudaFree(other));
  CUDA(cudaFree(bias));
  return STATUS_OK;
}

/* ‖result − result64‖ / ‖result64‖; infinity for a NaN. */
static status frobenius(const layer *l, const product_shape *s, double *error) {
  size_t n = (size_t)(s->n * s->m);
  float *a = malloc(n * sizeof *a);
  double *b = malloc(n * sizeof *b), difference = 0, norm = 0;
  REQUIRE(a && b, "no host memory for %zu numbers", n);
  CUDA(cudaMemcpy(a, l->result, n * sizeof *a, cudaMemcpyDeviceToHost));
  CUDA(cudaMemcpy(b, l->result64, n * sizeof *b, cudaMemcpyDeviceToHost));
  for (size_t i = 0; i < n; i++) {
    difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    norm += b[i] * b[i];
  }
  free(a);
  free(b);
  *error = sqrt(difference / norm);
  *error = isnan(*error) ? INFINITY : *error;
  return STATUS_OK;
}

static status check_product(const char *model, const char *name, const layer *l, gemm_kind kind) {
  product_shape s = shape_of(l, kind);
  int split, one;
  double engine_error, pedantic, any;
  size_t bytes = (size_t)(s.n * s.m) * sizeof(float);
  TRY(run_library(l, &s, CUBLAS_COMPUTE_64F, true, &split));
  CUDA(cudaMemset(l->result, 0xFF, bytes));
  TRY(run_engine(l, kind));
  TRY(frobenius(l, &s, &engine_error));
  TRY(run_library(l, &s, CUBLAS_COMPUTE_32F_PEDANTIC, false, &one));
  TRY(frobenius(l, &s, &pedantic));
  TRY(run_library(l, &s, CUBLAS_COMPUTE_32F_PEDANTIC, true, &split));
  TRY(frobenius(l, &s, &any));
  bool good = engine_error <= EQUAL * pedantic && (!bench.strict || engine_error <= EQUAL * any);
  bench.bad += !good;
  printf("%-12s %-5s %-12s %6lld %6lld %6lld  %9.3g  %9.3g %6.3f  %9.3g %4d %6.3f%s\n", model, name, kinds[kind],
         (long long)s.n, (long long)s.m, (long long)s.k, engine_error, pedantic, engine_error / pedantic, any, split,
         engine_error / any, good ? "" : "  WORSE");
  return STATUS_OK;
}

static status check_layer(const bench_model *m, const char *name, int64_t n, int64_t to, int64_t from) {
  layer l;
  engine_limits limits = limits_of(1, n, from, from, to, 128);
  TRY(bench.e->ops->prepare(bench.e, &limits));
  TRY(make_layer(n, to, from, m->wide, &l));
  for (int kind = 0; kind < 3; kind++) {
    TRY(check_product(m->name, name, &l, (gemm_kind)kind));
  }
  free_layer(&l);
  return STATUS_OK;
}

static status check_model(const bench_model *m) {
  TRY(check_layer(m, "qkv", ROWS, 3 * m->D, m->D));
  TRY(check_layer(m, "out", ROWS, m->D, m->D));
  TRY(check_layer(m, "fc1", ROWS, m->M, m->D));
  TRY(check_layer(m, "fc2", ROWS, m->D, m->M));
  if (m->V > 0) {
    TRY(check_layer(m, "head", HEAD_ROWS, m->V, m->D));
  }
  return STATUS_OK;
}

/* An engine a model: an engine knows a limited number of shapes. */
static status open_bench(void) {
  cuda_engine_spec spec = {.compute = DTYPE_F32, .seed = 1};
  TRY(engine_cuda_create(&spec, &bench.e));
  bench.stream = engine_cuda_stream(bench.e, STREAM_MAIN);
  CUBLAS(cublasLtCreate(&bench.lt));
  CUDA(cudaMalloc(&bench.workspace, WORKSPACE));
  return STATUS_OK;
}

static void close_bench(void) {
  cudaFree(bench.workspace);
  cublasLtDestroy(bench.lt);
  close_engine(bench.e);
}

static void test_products(void **state) {
  (void)state;
  printf("\nrelative error in Frobenius norm   n      m      k     engine   pedantic  ratio   any algo split  ratio\n");
  for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
    OK(open_bench());
    OK(check_model(&models[i]));
    close_bench();
  }
  assert_int_equal(bench.bad, 0);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_products)};
  bench.strict = argc == 2 && strcmp(argv[1], "--strict") == 0;
  if (argc > 1 && !bench.strict) {
    fprintf(stderr, "test_gpu_products [--strict]\n");
    return 2;
  }
  if (cuda_device_count() == 0) {
    printf("skipped: no GPU\n");
    return SKIPPED;
  }
  return cmocka_run_group_tests(tests, NULL, NULL);
}
