#include "gemm.h"

#include <cublasLt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "check.h"
#include "split_gemm.h"

enum {
  CANDIDATES = 48,
  TIMINGS = 5,
  ALGO_WORDS = 8,
  PLAN_LIMIT = 256,
  SPLIT_MEMORY = 256 << 20,
  SPLIT_LEAST_ROWS = 128, /* splitting the right operand wants rows that use it */
  SPLIT_LEAST_K = 32,
};

/* What a plan belongs to. */
typedef struct {
  int32_t kind, in, out, math;
  int64_t n, m, k;
  int32_t device_alpha, pad;
} plan_key;

typedef struct {
  plan_key key;
  split_variant split; /* SPLIT_VARIANTS: cuBLASLt's algorithm below */
  cublasLtMatmulAlgo_t algo;
  cublasLtMatmulDesc_t desc;
  cublasLtMatrixLayout_t a, b, c;
  float tflops; /* 0: not timed */
} plan;

struct gemm {
  cublasLtHandle_t handle;
  gemm_math math;
  void *workspace;
  size_t workspace_bytes;
  void *split_memory;
  size_t split_bytes;
  bool timing;
  float *constants; /* device: 0, 1 */
  cudaEvent_t start, stop;
  char device[64];
  size_t version;
  plan plans[PLAN_LIMIT];
  int n_plans;
};

static cudaDataType_t cuda_type(dtype t) {
  return t == DTYPE_BF16 ? CUDA_R_16BF : t == DTYPE_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static cublasComputeType_t compute_type(gemm_math m) {
  return m == MATH_HALF   ? CUBLAS_COMPUTE_32F
         : m == MATH_TF32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                          : CUBLAS_COMPUTE_32F_PEDANTIC;
}

status gemm_create(size_t workspace_bytes, gemm_math math, gemm **out) {
  *out = NULL;
  gemm *g;
  TRY(memory_new(&g, 1, sizeof *g, "matrix products"));
  g->math = math;
  g->workspace_bytes = workspace_bytes;
  float constants[2] = {0.0f, 1.0f};
  int device;
  struct cudaDeviceProp properties;
  *out = g;
  CUBLAS(cublasLtCreate(&g->handle));
  CUDA(cudaMalloc(&g->workspace, workspace_bytes));
  if (math != MATH_HALF) {
    g->split_bytes = SPLIT_MEMORY;
    CUDA(cudaMalloc(&g->split_memory, g->split_bytes));
  }
  CUDA(cudaMalloc((void **)&g->constants, sizeof constants));
  CUDA(cudaMemcpy(g->constants, constants, sizeof constants, cudaMemcpyHostToDevice));
  CUDA(cudaEventCreate(&g->start));
  CUDA(cudaEventCreate(&g->stop));
  CUDA(cudaGetDevice(&device));
  CUDA(cudaGetDeviceProperties(&properties, device));
  snprintf(g->device, sizeof g->device, "%.63s", properties.name);
  for (char *p = g->device; *p; p++) {
    if (*p == ' ') *p = '_';
  }
  g->version = cublasLtGetVersion();
  return STATUS_OK;
}

static void plan_free(plan *p) {
  cublasLtMatmulDescDestroy(p->desc);
  cublasLtMatrixLayoutDestroy(p->a);
  cublasLtMatrixLayoutDestroy(p->b);
  cublasLtMatrixLayoutDestroy(p->c);
}

void gemm_free(gemm *g) {
  if (g == NULL) {
    return;
  }
  for (int i = 0; i < g->n_plans; i++) {
    plan_free(&g->plans[i]);
  }
  cudaEventDestroy(g->start);
  cudaEventDestroy(g->stop);
  cudaFree(g->constants);
  cudaFree(g->workspace);
  cudaFree(g->split_memory);
  cublasLtDestroy(g->handle);
  free(g);
}

size_t gemm_workspace(const gemm *g) {
  return g->workspace_bytes;
}

void *gemm_split_memory(const gemm *g, size_t *bytes) {
  *bytes = g->split_bytes;
  return g->split_memory;
}

void gemm_allow_timing(gemm *g, bool allowed) {
  g->timing = allowed;
}

static plan_key key_of(const gemm *g, const gemm_args *a) {
  plan_key k;
  memset(&k, 0, sizeof k);
  k.kind = a->kind;
  k.in = a->in;
  k.out = a->out;
  k.math = g->math;
  k.n = a->n;
  k.m = a->m;
  k.k = a->k;
  k.device_alpha = 1;
  return k;
}

static plan *plan_find(gemm *g, const plan_key *key) {
  for (int i = 0; i < g->n_plans; i++) {
    if (memcmp(&g->plans[i].key, key, sizeof *key) == 0) {
      return &g->plans[i];
    }
  }
  return NULL;
}

/* cuBLASLt counts columns first: our row-major (r, c) is its (c, r) with leading dimension c. So result (n, m) is its m
 * × n, and the operands change places. */
static status plan_describe(const gemm *g, const plan_key *key, plan *p) {
  p->key = *key;
  cublasOperation_t ta = key->kind == GEMM_FORWARD ? CUBLAS_OP_T : CUBLAS_OP_N,
                    tb = key->kind == GEMM_WEIGHT_GRAD ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtPointerMode_t mode = CUBLASLT_POINTER_MODE_DEVICE;
  uint64_t m = (uint64_t)key->m, n = (uint64_t)key->n, k = (uint64_t)key->k;
  CUBLAS(cublasLtMatmulDescCreate(&p->desc, compute_type(g->math), CUDA_R_32F));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->a, cuda_type((dtype)key->in), ta == CUBLAS_OP_T ? k : m,
                                    ta == CUBLAS_OP_T ? m : k, (int64_t)(ta == CUBLAS_OP_T ? k : m)));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->b, cuda_type((dtype)key->in), tb == CUBLAS_OP_T ? n : k,
                                    tb == CUBLAS_OP_T ? k : n, (int64_t)(tb == CUBLAS_OP_T ? n : k)));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->c, cuda_type((dtype)key->out), m, n, (int64_t)m));
  return STATUS_OK;
}

static status plan_run(gemm *g, cudaStream_t stream, const plan *p, const gemm_args *a) {
  if (p->split != SPLIT_VARIANTS) {
    const split_product_args args = {.n = a->n,
                                     .m = a->m,
                                     .k = a->k,
                                     .left = a->left,
                                     .right = a->right,
                                     .result = a->result,
                                     .alpha = a->alpha,
                                     .accumulate = a->accumulate};
    CUDA(launch_split_product(stream, p->split, &args, g->split_memory, g->split_bytes));
    return STATUS_OK;
  }
  const float *alpha = a->alpha ? a->alpha : g->constants + 1, *beta = g->constants + (a->accumulate ? 1 : 0);
  CUBLAS(cublasLtMatmul(g->handle, p->desc, alpha, a->right, p->a, a->left, p->b, beta, a->result, p->c, a->result,
                        p->c, &p->algo, g->workspace, g->workspace_bytes, stream));
  return STATUS_OK;
}

static bool split_serves(const gemm *g, const plan_key *key) {
  return g->math == MATH_SPLIT && key->kind == GEMM_FORWARD && key->in == DTYPE_F32 && key->out == DTYPE_F32 &&
         key->n >= SPLIT_LEAST_ROWS && key->k >= SPLIT_LEAST_K && split_product_fits(key->k, g->split_bytes);
}

/* Candidates without split-K: its partial sums would make "accumulate" another order than "overwrite, then add". */
static status plan_candidates(gemm *g, const plan *p, cublasLtMatmulHeuristicResult_t *results, int *found) {
  cublasLtMatmulPreference_t preference;
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 256;
  CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
  CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &g->workspace_bytes,
                                              sizeof g->workspace_bytes));
  CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes,
                                              sizeof schemes));
  CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &alignment,
                                              sizeof alignment));
  CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &alignment,
                                              sizeof alignment));
  CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &alignment,
                                              sizeof alignment));
  CUBLAS(cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &alignment,
                                              sizeof alignment));
  cublasStatus_t s = cublasLtMatmulAlgoGetHeuristic(g->handle, p->desc, p->a, p->b, p->c, p->c, preference, CANDIDATES,
                                                    results, found);
  cublasLtMatmulPreferenceDestroy(preference);
  if (s != CUBLAS_STATUS_SUCCESS || *found == 0) {
    FAIL("cuBLASLt has no algorithm for a product of %" PRId64 " × %" PRId64 " × %" PRId64 " (kind %d): %s", p->key.n,
         p->key.m, p->key.k, p->key.kind, cublasLtGetStatusString(s));
  }
  return STATUS_OK;
}

static status time_plan(gemm *g, cudaStream_t stream, const plan *p, const gemm_args *a, float *ms) {
  TRY(plan_run(g, stream, p, a));
  CUDA(cudaEventRecord(g->start, stream));
  for (int i = 0; i < TIMINGS; i++) {
    TRY(plan_run(g, stream, p, a));
  }
  CUDA(cudaEventRecord(g->stop, stream));
  CUDA(cudaEventSynchronize(g->stop));
  CUDA(cudaEventElapsedTime(ms, g->start, g->stop));
  *ms /= TIMINGS;
  return STATUS_OK;
}

static status plan_choose(gemm *g, cudaStream_t stream, plan *p, const gemm_args *a) {
  cublasLtMatmulHeuristicResult_t results[CANDIDATES];
  int found = 0, splits = split_serves(g, &p->key) ? SPLIT_VARIANTS : 0;
  TRY(plan_candidates(g, p, results, &found));
  plan best = *p;
  best.split = splits > 0 ? SPLIT_MMA : SPLIT_VARIANTS;
  best.algo = results[0].algo;
  float best_ms = 0, ms;
  for (int i = 0; i < found + splits && g->timing && !a->accumulate && found + splits > 1; i++) {
    p->split = i < found ? SPLIT_VARIANTS : (split_variant)(i - found);
    p->algo = results[i < found ? i : 0].algo;
    if (time_plan(g, stream, p, a, &ms) == STATUS_OK && (best_ms == 0 || ms < best_ms)) {
      best_ms = ms;
      best = *p;
    }
  }
  *p = best;
  p->tflops = best_ms > 0 ? (float)(2.0 * (double)a->n * (double)a->m * (double)a->k / best_ms * 1e-9) : 0;
  return STATUS_OK;
}

status gemm_run(gemm *g, cudaStream_t stream, const gemm_args *a) {
  plan_key key = key_of(g, a);
  plan *p = plan_find(g, &key);
  if (p == NULL) {
    REQUIRE(g->n_plans < PLAN_LIMIT, "more than %d shapes of matrix products in one run", PLAN_LIMIT);
    p = &g->plans[g->n_plans];
    memset(p, 0, sizeof *p);
    TRY(plan_describe(g, &key, p));
    TRY(plan_choose(g, stream, p, a));
    g->n_plans++;
  }
  return plan_run(g, stream, p, a);
}

static int by_line(const void *x, const void *y) {
  return strcmp(*(char *const *)x, *(char *const *)y);
}

static const char *const split_names[SPLIT_VARIANTS] = {[SPLIT_MMA] = "split:mma", [SPLIT_WGMMA] = "split:wgmma"};

/* An algorithm as text: a split product's name, or the words of cuBLASLt's in hexadecimal. */
static void algorithm_text(const plan *p, char text[16 * ALGO_WORDS + 1]) {
  if (p->split != SPLIT_VARIANTS) {
    strcpy(text, split_names[p->split]);
    return;
  }
  uint64_t words[ALGO_WORDS];
  memcpy(words, &p->algo, sizeof words);
  for (int w = 0; w < ALGO_WORDS; w++) {
    snprintf(text + 16 * w, 17, "%016" PRIx64, words[w]);
  }
}

static bool algorithm_read(const char *text, plan *p) {
  for (int v = 0; v < SPLIT_VARIANTS; v++) {
    if (strcmp(text, split_names[v]) == 0) {
      p->split = (split_variant)v;
      return true;
    }
  }
  uint64_t words[ALGO_WORDS];
  p->split = SPLIT_VARIANTS;
  if (strlen(text) != 16 * ALGO_WORDS || strspn(text, "0123456789abcdef") != 16 * ALGO_WORDS) {
    return false;
  }
  for (int w = 0; w < ALGO_WORDS; w++) {
    char hex[17] = {0};
    memcpy(hex, text + 16 * w, 16);
    words[w] = strtoull(hex, NULL, 16);
  }
  memcpy(&p->algo, words, sizeof p->algo);
  return true;
}

static status plan_line(const gemm *g, const plan *p, char **line) {
  char algorithm[16 * ALGO_WORDS + 1];
  algorithm_text(p, algorithm);
  return memory_format(line, "%s %zu %d %d %d %d %" PRId64 " %" PRId64 " %" PRId64 " %s %.0f\n", g->device, g->version,
                       p->key.kind, p->key.in, p->key.out, p->key.math, p->key.n, p->key.m, p->key.k, algorithm,
                       (double)p->tflops);
}

status gemm_table_text(const gemm *g, char **text) {
  char **lines;
  size_t bytes = 1;
  TRY(memory_new(&lines, (size_t)g->n_plans + 1, sizeof *lines, "plan table"));
  status result = STATUS_OK;
  for (int i = 0; i < g->n_plans && result == STATUS_OK; i++) {
    result = plan_line(g, &g->plans[i], &lines[i]);
    bytes += lines[i] ? strlen(lines[i]) : 0;
  }
  if (result == STATUS_OK) {
    qsort(lines, (size_t)g->n_plans, sizeof *lines, by_line);
    result = memory_new(text, bytes, 1, "plan table");
  }
  for (int i = 0; i < g->n_plans; i++) {
    if (result == STATUS_OK) {
      strcat(*text, lines[i]);
    }
    free(lines[i]);
  }
  free(lines);
  return result;
}

static status read_line(gemm *g, const char *line) {
  char device[64], algorithm[16 * ALGO_WORDS + 1];
  size_t version;
  plan p;
  memset(&p, 0, sizeof p);
  int n = sscanf(line, "%63s %zu %d %d %d %d %" SCNd64 " %" SCNd64 " %" SCNd64 " %128s", device, &version, &p.key.kind,
                 &p.key.in, &p.key.out, &p.key.math, &p.key.n, &p.key.m, &p.key.k, algorithm);
  if (n != 10 || !algorithm_read(algorithm, &p)) {
    FAIL("a plan has nine fields and an algorithm: %d digits, %s or %s", 16 * ALGO_WORDS, split_names[SPLIT_MMA],
         split_names[SPLIT_WGMMA]);
  }
  p.key.device_alpha = 1;
  if (strcmp(device, g->device) != 0 || version != g->version || p.key.math != (int)g->math ||
      plan_find(g, &p.key) != NULL || g->n_plans >= PLAN_LIMIT) {
    return STATUS_OK;
  }
  REQUIRE(p.split == SPLIT_VARIANTS || split_serves(g, &p.key), "%s does not serve this product", algorithm);
  plan_key key = p.key;
  TRY(plan_describe(g, &key, &p));
  g->plans[g->n_plans++] = p;
  return STATUS_OK;
}

status gemm_table_read(gemm *g, const char *text, const char *origin) {
  int number = 0;
  for (const char *p = text; *p;) {
    const char *end = strchrnul(p, '\n');
    number++;
    char line[512];
    if (end > p && *p != '#') {
      snprintf(line, sizeof line, "%.*s", (int)(end - p < 511 ? end - p : 511), p);
      status s = read_line(g, line);
      if (s != STATUS_OK) {
        return status_prefix(s, "%s:%d", origin, number);
      }
    }
    p = *end ? end + 1 : end;
  }
  return STATUS_OK;
}
