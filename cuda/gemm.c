#include "gemm.h"

#include <cublasLt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/activity.h"
#include "base/memory.h"
#include "check.h"
#include "kernels.h"
#include "split_gemm.h"
#include "upload.h"

enum {
  CANDIDATES = 48,
  CUTS = 6,
  MOST_PARTS = 1 << (CUTS - 1),
  PART_ROWS = 64,
  TILE = 128,
  TILES = 2 * 132,
  FINAL = 6,
  ROUNDS = 5,
  TIMINGS = 4,
  ALGO_WORDS = 8,
  PLAN_LIMIT = 1024,
  SPLIT_MEMORY = 256 << 20,
  SPLIT_LEAST_ROWS = 128, /* splitting the right operand wants rows that use it */
  SPLIT_LEAST_K = 32,
  IN_FP8 = 8, /* plan_key.in of products in 8 bits: above every dtype; part of the table */
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
  int parts; /* of k, each a product of its own into the workspace, then added in order; 1 but for weight gradients */
  float tflops; /* 0: not timed */
  bool used;
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

static bool in_fp8(const plan_key *key) {
  return key->in == IN_FP8;
}

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
  TRY(cuda_upload(g->constants, constants, sizeof constants));
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
  k.in = a->fp8 ? IN_FP8 : (int32_t)a->in;
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

static status set_batch(cublasLtMatrixLayout_t layout, int parts, int64_t stride) {
  int32_t count = parts;
  CUBLAS(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count));
  CUBLAS(cublasLtMatrixLayoutSetAttribute(layout, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride));
  return STATUS_OK;
}

/* cuBLASLt's first operand is our right one. */
static status set_factors(const plan *p, const float *left, const float *right) {
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_A_SCALE_POINTER, (const void *)&right,
                                        sizeof right));
  CUBLAS(
      cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_B_SCALE_POINTER, (const void *)&left, sizeof left));
  return STATUS_OK;
}

/* cuBLASLt counts columns first: our row-major (r, c) is its (c, r) with leading dimension c. So result (n, m) is its m
 * × n, and the operands change places. */
static status plan_describe(const gemm *g, const plan_key *key, int parts, plan *p) {
  memset(p, 0, sizeof *p);
  p->key = *key;
  p->parts = parts;
  p->split = SPLIT_VARIANTS;
  bool fp8 = in_fp8(key);
  cublasOperation_t ta = fp8 || key->kind == GEMM_FORWARD ? CUBLAS_OP_T : CUBLAS_OP_N,
                    tb = !fp8 && key->kind == GEMM_WEIGHT_GRAD ? CUBLAS_OP_T : CUBLAS_OP_N;
  cublasLtPointerMode_t mode = CUBLASLT_POINTER_MODE_DEVICE;
  int64_t m = key->m, n = key->n, k = key->k / parts;
  CUBLAS(cublasLtMatmulDescCreate(&p->desc, compute_type(g->math), CUDA_R_32F));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &ta, sizeof ta));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &tb, sizeof tb));
  CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_POINTER_MODE, &mode, sizeof mode));
  int64_t a_rows = ta == CUBLAS_OP_T ? k : m, a_columns = ta == CUBLAS_OP_T ? m : k;
  int64_t b_rows = tb == CUBLAS_OP_T ? n : k, b_columns = tb == CUBLAS_OP_T ? k : n;
  cudaDataType_t right = fp8 ? CUDA_R_8F_E4M3 : cuda_type((dtype)key->in), out = cuda_type((dtype)key->out);
  cudaDataType_t left = fp8 && key->kind != GEMM_FORWARD ? CUDA_R_8F_E5M2 : right;
  /* Cut, the parts of operands whose rows are k long lie side by side. */
  int64_t a_step = fp8 ? key->k : a_rows, b_step = fp8 ? key->k : b_rows;
  CUBLAS(cublasLtMatrixLayoutCreate(&p->a, right, (uint64_t)a_rows, (uint64_t)a_columns, a_step));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->b, left, (uint64_t)b_rows, (uint64_t)b_columns, b_step));
  CUBLAS(cublasLtMatrixLayoutCreate(&p->c, out, (uint64_t)m, (uint64_t)n, m));
  if (fp8) {
    int8_t fast = key->kind == GEMM_FORWARD;
    CUBLAS(cublasLtMatmulDescSetAttribute(p->desc, CUBLASLT_MATMUL_DESC_FAST_ACCUM, &fast, sizeof fast));
    TRY(set_factors(p, g->constants, g->constants)); /* each run sets its own */
  }
  if (parts > 1) {
    TRY(set_batch(p->a, parts, fp8 ? k : k * m));
    TRY(set_batch(p->b, parts, fp8 ? k : k * n));
    TRY(set_batch(p->c, parts, m * n));
  }
  return STATUS_OK;
}

/* Of the workspace, the library's part: where k is cut, the other half holds the parts' results. */
static size_t library_bytes(const gemm *g, int parts) {
  return parts > 1 ? g->workspace_bytes / 2 : g->workspace_bytes;
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
  if (a->fp8) {
    TRY(set_factors(p, a->left_factor, a->right_factor));
  }
  bool whole = p->parts == 1;
  const float *alpha = a->alpha ? a->alpha : g->constants + 1, *beta = g->constants + (whole && a->accumulate ? 1 : 0);
  size_t bytes = library_bytes(g, p->parts);
  void *result = whole ? a->result : (void *)((char *)g->workspace + bytes);
  CUBLAS(cublasLtMatmul(g->handle, p->desc, alpha, a->right, p->a, a->left, p->b, beta, result, p->c, result, p->c,
                        &p->algo, g->workspace, bytes, stream));
  if (!whole) {
    CUDA(launch_sum_parts(stream, result, p->parts, a->n * a->m, a->accumulate, a->result));
  }
  return STATUS_OK;
}

static bool split_serves(const gemm *g, const plan_key *key) {
  return g->math == MATH_SPLIT && key->kind == GEMM_FORWARD && key->in == DTYPE_F32 && key->out == DTYPE_F32 &&
         key->n >= SPLIT_LEAST_ROWS && key->k >= SPLIT_LEAST_K && split_product_fits(key->k, g->split_bytes);
}

/* Candidates without the library's split-K: its partial sums would make "accumulate" another order than "overwrite,
 * then add". */
static status plan_candidates(gemm *g, const plan *p, cublasLtMatmulHeuristicResult_t *results, int *found) {
  cublasLtMatmulPreference_t preference;
  uint32_t schemes = CUBLASLT_REDUCTION_SCHEME_NONE, alignment = 256;
  size_t bytes = library_bytes(g, p->parts);
  CUBLAS(cublasLtMatmulPreferenceCreate(&preference));
  CUBLAS(
      cublasLtMatmulPreferenceSetAttribute(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof bytes));
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
  if (in_fp8(&p->key) && (s == CUBLAS_STATUS_NOT_SUPPORTED || (s == CUBLAS_STATUS_SUCCESS && *found == 0))) {
    *found = 0; /* for some shapes there is one only when k is cut */
    return STATUS_OK;
  }
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

/* A way to compute a product. */
typedef struct {
  plan *p;
  split_variant split;
  cublasLtMatmulAlgo_t algo;
  float ms;
} candidate;

static int by_time(const void *x, const void *y) {
  float a = ((const candidate *)x)->ms, b = ((const candidate *)y)->ms;
  return (a > b) - (a < b);
}

static status time_candidate(gemm *g, cudaStream_t stream, candidate *c, const gemm_args *a, float *ms) {
  plan p = *c->p;
  p.split = c->split;
  p.algo = c->algo;
  return time_plan(g, stream, &p, a, ms);
}

/* One more, unless it can't be run; timed where it may be. */
static status add_candidate(gemm *g, cudaStream_t stream, plan *p, split_variant split,
                            const cublasLtMatmulAlgo_t *algo, const gemm_args *a, bool timing, candidate *all, int *n) {
  candidate c = {.p = p, .split = split, .algo = *algo};
  activity_tick(); /* a search over many products may take minutes */
  if (!timing || time_candidate(g, stream, &c, a, &c.ms) == STATUS_OK) {
    all[(*n)++] = c;
  }
  return STATUS_OK;
}

/* Adds the library's suggestions for a described plan, with the time of each where it may be taken. */
static status add_candidates(gemm *g, cudaStream_t stream, plan *p, const gemm_args *a, bool timing, candidate *all,
                             int *n) {
  cublasLtMatmulHeuristicResult_t results[CANDIDATES];
  int found = 0;
  TRY(plan_candidates(g, p, results, &found));
  for (int i = 0; i < found; i++) {
    TRY(add_candidate(g, stream, p, SPLIT_VARIANTS, &results[i].algo, a, timing, all, n));
    if (!timing) {
      break;
    }
  }
  return STATUS_OK;
}

/* The best few again, in turns: one after the other, the chip's clock would favour those that are timed while it is
 * cool. */
static status final_rounds(gemm *g, cudaStream_t stream, const gemm_args *a, candidate *all, int n) {
  for (int i = 0; i < n; i++) {
    all[i].ms = 0;
  }
  for (int round = 0; round < ROUNDS; round++) {
    for (int i = 0; i < n; i++) {
      float ms;
      TRY(time_candidate(g, stream, &all[i], a, &ms));
      all[i].ms += ms / ROUNDS;
    }
  }
  qsort(all, (size_t)n, sizeof *all, by_time);
  return STATUS_OK;
}

/* A weight gradient has a small result and a long sum: uncut, it would keep few multiprocessors busy. */
static bool parts_serve(const gemm *g, const gemm_args *a, int parts) {
  int64_t tiles = ((a->n + TILE - 1) / TILE) * ((a->m + TILE - 1) / TILE);
  size_t bytes = (size_t)(a->n * a->m) * sizeof(float) * (size_t)parts;
  return a->kind == GEMM_WEIGHT_GRAD && a->out == DTYPE_F32 && a->k % ((int64_t)parts * PART_ROWS) == 0 &&
         bytes <= library_bytes(g, parts) && tiles * parts <= (int64_t)2 * TILES;
}

static status choose_among(gemm *g, cudaStream_t stream, const plan_key *key, const gemm_args *a, plan *plans,
                           candidate *all, const candidate **best) {
  bool timing = g->timing && !a->accumulate;
  int n = 0;
  for (int i = 0, parts = 1; i < CUTS; i++, parts *= 2) {
    if (parts == 1 || ((timing || n == 0) && parts_serve(g, a, parts))) {
      TRY(plan_describe(g, key, parts, &plans[i]));
      TRY(add_candidates(g, stream, &plans[i], a, timing, all, &n));
    }
  }
  const cublasLtMatmulAlgo_t none = {0};
  for (int v = 0; v < SPLIT_VARIANTS && split_serves(g, key); v++) {
    if (timing || v == SPLIT_MMA) {
      n = timing ? n : 0; /* untimed, the split product is the better guess */
      TRY(add_candidate(g, stream, &plans[0], (split_variant)v, &none, a, timing, all, &n));
    }
  }
  if (n == 0) {
    FAIL("none of cuBLASLt's algorithms runs a product of %" PRId64 " × %" PRId64 " × %" PRId64, a->n, a->m, a->k);
  }
  if (timing) {
    qsort(all, (size_t)n, sizeof *all, by_time);
    TRY(final_rounds(g, stream, a, all, n < FINAL ? n : FINAL));
  }
  *best = all;
  return STATUS_OK;
}

static status plan_choose(gemm *g, cudaStream_t stream, const plan_key *key, const gemm_args *a, plan *p) {
  plan plans[CUTS];
  candidate *all;
  const candidate *best = NULL;
  memset(plans, 0, sizeof plans);
  TRY(memory_new(&all, CUTS * CANDIDATES + SPLIT_VARIANTS, sizeof *all, "candidates of a product"));
  status s = choose_among(g, stream, key, a, plans, all, &best);
  if (s == STATUS_OK) {
    *p = *best->p;
    p->algo = best->algo;
    p->split = best->split;
    p->tflops = best->ms > 0 ? (float)(2.0 * (double)a->n * (double)a->m * (double)a->k / best->ms * 1e-9) : 0;
  }
  for (int i = 0; i < CUTS; i++) {
    if (plans[i].parts > 0 && (best == NULL || &plans[i] != best->p)) {
      plan_free(&plans[i]);
    }
  }
  free(all);
  return s;
}

status gemm_run(gemm *g, cudaStream_t stream, const gemm_args *a) {
  plan_key key = key_of(g, a);
  plan *p = plan_find(g, &key);
  if (p == NULL) {
    REQUIRE(g->n_plans < PLAN_LIMIT, "more than %d shapes of matrix products in one run", PLAN_LIMIT);
    p = &g->plans[g->n_plans];
    TRY(plan_choose(g, stream, &key, a, p));
    g->n_plans++;
  }
  p->used = true;
  return plan_run(g, stream, p, a);
}

static int by_line(const void *x, const void *y) {
  return strcmp(*(char *const *)x, *(char *const *)y);
}

#define HEX ((size_t)16) /* digits of a word */

static const char *const split_names[SPLIT_VARIANTS] = {[SPLIT_MMA] = "split:mma", [SPLIT_WGMMA] = "split:wgmma"};

/* An algorithm as text: a split product's name, or the words of cuBLASLt's in hexadecimal. */
static void algorithm_text(const plan *p, char text[HEX * ALGO_WORDS + 1]) {
  if (p->split != SPLIT_VARIANTS) {
    snprintf(text, HEX * ALGO_WORDS + 1, "%s", split_names[p->split]);
    return;
  }
  uint64_t words[ALGO_WORDS];
  memcpy(words, &p->algo, sizeof words);
  for (int w = 0; w < ALGO_WORDS; w++) {
    snprintf(text + HEX * (size_t)w, HEX + 1, "%016" PRIx64, words[w]);
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
  if (strlen(text) != HEX * ALGO_WORDS || strspn(text, "0123456789abcdef") != HEX * ALGO_WORDS) {
    return false;
  }
  for (int w = 0; w < ALGO_WORDS; w++) {
    char hex[HEX + 1] = {0};
    memcpy(hex, text + HEX * (size_t)w, HEX);
    words[w] = strtoull(hex, NULL, 16);
  }
  memcpy(&p->algo, words, sizeof p->algo);
  return true;
}

static status plan_line(const gemm *g, const plan *p, bool rate, char **line) {
  char algorithm[16 * ALGO_WORDS + 1], measured[32] = "";
  algorithm_text(p, algorithm);
  if (rate) {
    snprintf(measured, sizeof measured, " %.0f", (double)p->tflops);
  }
  return memory_format(line, "%s %zu %d %d %d %d %" PRId64 " %" PRId64 " %" PRId64 " %d %s%s\n", g->device, g->version,
                       p->key.kind, p->key.in, p->key.out, p->key.math, p->key.n, p->key.m, p->key.k, p->parts,
                       algorithm, measured);
}

static status lines_text(const gemm *g, bool used_only, char **text) {
  char **lines;
  size_t bytes = 1;
  int n = 0;
  TRY(memory_new(&lines, (size_t)g->n_plans + 1, sizeof *lines, "plan table"));
  status result = STATUS_OK;
  for (int i = 0; i < g->n_plans && result == STATUS_OK; i++) {
    if (g->plans[i].used || !used_only) {
      result = plan_line(g, &g->plans[i], !used_only, &lines[n]);
      bytes += lines[n] ? strlen(lines[n]) : 0;
      n++;
    }
  }
  if (result == STATUS_OK) {
    qsort(lines, (size_t)n, sizeof *lines, by_line);
    result = memory_new(text, bytes, 1, "plan table");
  }
  char *end = result == STATUS_OK ? *text : NULL;
  for (int i = 0; i < n; i++) {
    if (result == STATUS_OK) {
      end = stpcpy(end, lines[i]); /* there is room for all */
    }
    free(lines[i]);
  }
  free(lines);
  return result;
}

status gemm_table_text(const gemm *g, char **text) {
  return lines_text(g, false, text);
}

status gemm_used_text(const gemm *g, char **text) {
  return lines_text(g, true, text);
}

static status read_line(gemm *g, const char *line) {
  char device[64], algorithm[16 * ALGO_WORDS + 1];
  size_t version;
  plan p;
  memset(&p, 0, sizeof p);
  int n = sscanf(line, "%63s %zu %d %d %d %d %" SCNd64 " %" SCNd64 " %" SCNd64 " %d %128s", device, &version,
                 &p.key.kind, &p.key.in, &p.key.out, &p.key.math, &p.key.n, &p.key.m, &p.key.k, &p.parts, algorithm);
  if (n != 11 || p.parts < 1 || p.parts > MOST_PARTS || !algorithm_read(algorithm, &p)) {
    FAIL("a plan has ten fields and an algorithm: %d digits, %s or %s", 16 * ALGO_WORDS, split_names[SPLIT_MMA],
         split_names[SPLIT_WGMMA]);
  }
  p.key.device_alpha = 1;
  if (strcmp(device, g->device) != 0 || version != g->version || p.key.math != (int)g->math ||
      plan_find(g, &p.key) != NULL || g->n_plans >= PLAN_LIMIT) {
    return STATUS_OK;
  }
  REQUIRE(p.split == SPLIT_VARIANTS || split_serves(g, &p.key), "%s does not serve this product", algorithm);
  plan described;
  TRY(plan_describe(g, &p.key, p.parts, &described));
  described.algo = p.algo;
  described.split = p.split;
  g->plans[g->n_plans++] = described;
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
