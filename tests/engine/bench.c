/* Time of every operation of a training step on the CPU engine, with its rate where products dominate. Not a test.
 *
 *   engine_bench [D H M V T B [OPERATION]]          defaults: 128 4 512 256 128 16, all operations
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/engine.h"

enum { LAYERS = 4, MOST_OPS = 32 };

typedef struct {
  engine *e;
  int64_t B, T, D, H, M, V, Vp, N;
  float *x, *y, *n1, *n2, *qkv, *dqkv, *att, *datt, *z, *a, *dz, *dx, *dy, *lse, *stats, *scale, *dscale, *vectors,
      *dvectors;
  float *wqkv, *wo, *w1, *w2, *head, *embed, *dw, *master, *m, *v;
  int32_t *tokens, *order, *labels;
  double loss;
} bench;

static void must(status s) {
  if (s != STATUS_OK) {
    fprintf(stderr, "engine_bench: %s\n", status_message());
    exit(1);
  }
}

/* Processor time of this thread, which the machine's other work disturbs less than the time on the wall. */
static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static float *room(bench *b, int64_t n, float scale) {
  void *p;
  must(b->e->ops->alloc(b->e, (size_t)n * sizeof(float), "the bench", &p));
  float *x = p;
  uint32_t state = 12345;
  for (int64_t i = 0; i < n; i++) {
    state = state * 1664525u + 1013904223u;
    x[i] = scale * ((float)(state >> 8) * 0x1p-23f - 1.0f);
  }
  return x;
}

static void prepare(bench *b) {
  int64_t N = b->N, D = b->D, M = b->M, Vp = b->Vp;
  b->x = room(b, N * D, 1), b->y = room(b, N * D, 1), b->n1 = room(b, N * D, 1), b->n2 = room(b, N * D, 1);
  b->qkv = room(b, 3 * N * D, 1), b->dqkv = room(b, 3 * N * D, 1), b->att = room(b, N * D, 1),
  b->datt = room(b, N * D, 1);
  b->z = room(b, N * M, 3), b->a = room(b, N * M, 1), b->dz = room(b, N * M, 1), b->dx = room(b, N * D, 1),
  b->dy = room(b, N * D, 1);
  b->lse = room(b, b->B * b->H * b->T, 1), b->stats = room(b, 2 * N, 1), b->scale = room(b, D, 1),
  b->dscale = room(b, D, 1);
  b->vectors = room(b, 8 * M + D, 1), b->dvectors = room(b, 8 * M + D, 1);
  b->wqkv = room(b, 3 * D * D, 0.1f), b->wo = room(b, D * D, 0.1f), b->w1 = room(b, M * D, 0.1f),
  b->w2 = room(b, M * D, 0.1f);
  b->head = room(b, Vp * D, 0.1f), b->embed = room(b, b->V * D, 1);
  int64_t most = 3 * D * D > M * D ? 3 * D * D : M * D;
  most = most > Vp * D ? most : Vp * D;
  b->dw = room(b, most, 0.01f), b->master = room(b, most, 1), b->m = room(b, most, 0), b->v = room(b, most, 0);
  b->tokens = (int32_t *)room(b, N, 0), b->order = (int32_t *)room(b, N, 0), b->labels = (int32_t *)room(b, N, 0);
  int32_t n = 0;
  for (int32_t token = 0; token < b->V; token++) {
    for (int32_t i = token; i < N; i += (int32_t)b->V) {
      b->tokens[i] = b->labels[i] = token;
      b->order[n++] = i;
    }
  }
}

/* One operation of a layer or of the ends; `flops` of its products. */
typedef struct {
  const char *name;
  void (*call)(bench *);
  double times;
  double (*flops)(const bench *);
} operation;

static norm_spec norm_of(bench *b, float *y) {
  return (norm_spec){NORM_RMS, b->scale, NULL, y, b->stats};
}

static act_spec act_of(const bench *b) {
  const float *p = b->vectors;
  return (act_spec){ACT_SINE, ACT_DECAY_ABS, p,        p + b->M,  p + 2 * b->M, -INFINITY,
                    INFINITY, -INFINITY,     INFINITY, -INFINITY, INFINITY};
}

static void call_embed(bench *b) {
  embed_forward_args a = {b->B, b->T, b->D, b->V, b->tokens, b->embed, false, NULL, b->x, norm_of(b, b->n1)};
  must(b->e->ops->embed_forward(b->e, &a));
}

static void call_embed_backward(bench *b) {
  embed_backward_args a = {b->B, b->T, b->D, b->V, b->tokens, b->order, b->dx, b->dw};
  must(b->e->ops->embed_backward(b->e, &a));
}

static void call_qkv(bench *b) {
  qkv_forward_args a = {b->B, b->T, b->D, b->H, b->n1, b->wqkv, true, NULL, b->qkv};
  must(b->e->ops->qkv_forward(b->e, &a));
}

static void call_qkv_backward(bench *b) {
  qkv_backward_args a = {b->B, b->T, b->D, b->H, b->n1, b->wqkv, true, b->dqkv, b->dx, b->dw};
  must(b->e->ops->qkv_backward(b->e, &a));
}

static void call_attention(bench *b) {
  attention_forward_args a = {b->B, b->T, b->H, b->D / b->H, false, {0, 0}, b->qkv, b->att, b->lse};
  must(b->e->ops->attention_forward(b->e, &a));
}

static void call_attention_backward(bench *b) {
  attention_backward_args a = {b->B, b->T, b->H, b->D / b->H, false, {0, 0}, b->qkv, b->att, b->lse, b->datt, b->dqkv};
  must(b->e->ops->attention_backward(b->e, &a));
}

static void call_out(bench *b) {
  out_forward_args a = {b->B, b->T, b->D, b->D, b->att, b->wo, NULL, NULL, {0, 0}, b->x, b->y, norm_of(b, b->n2)};
  must(b->e->ops->out_forward(b->e, &a));
}

static void call_out_backward(bench *b) {
  out_backward_args a = {b->B, b->T, b->D, b->D, b->att, b->wo, {0, 0}, b->dy, b->datt, b->dw, NULL};
  must(b->e->ops->out_backward(b->e, &a));
}

static void call_up(bench *b) {
  up_forward_args a = {b->N, b->D, b->M, b->n2, b->w1, b->vectors + 3 * b->M, act_of(b), b->z, b->a};
  must(b->e->ops->up_forward(b->e, &a));
}

static void call_down(bench *b) {
  out_forward_args a = {b->B,       b->T,       b->D,   b->M, b->a, b->w2,
                        b->vectors, b->vectors, {0, 0}, b->y, b->x, norm_of(b, b->n1)};
  must(b->e->ops->out_forward(b->e, &a));
}

static void call_mlp_backward(bench *b) {
  float *d = b->dvectors;
  mlp_backward_args a = {.B = b->B,
                         .T = b->T,
                         .D = b->D,
                         .M = b->M,
                         .x = b->n2,
                         .z = b->z,
                         .a = b->a,
                         .scratch_z = b->dz,
                         .w1 = b->w1,
                         .w2 = b->w2,
                         .b2 = b->vectors,
                         .alpha = b->vectors,
                         .act = act_of(b),
                         .dy = b->dy,
                         .dx = b->dx,
                         .dw1 = b->dw,
                         .db1 = d,
                         .dw2 = b->dw,
                         .db2 = d + b->M,
                         .dalpha = d + 8 * b->M,
                         .dact = {d + 2 * b->M, d + 3 * b->M, d + 4 * b->M}};
  must(b->e->ops->mlp_backward(b->e, &a));
}

static void call_norm_backward(bench *b) {
  norm_backward_args a = {b->N, b->D, b->x, norm_of(b, NULL), b->dx, b->dy, b->datt, b->dscale, NULL};
  must(b->e->ops->norm_backward(b->e, &a));
}

static void call_head(bench *b) {
  head_train_args a = {b->N, b->D, b->V, b->Vp, b->N, b->n1, b->head, b->labels, 0, &b->loss, b->dx, b->dw};
  must(b->e->ops->head_train(b->e, &a));
}

static void call_adamw(bench *b) {
  const optim_run run = {0, b->D * b->D, true, true};
  adamw_args a = {0, b->D * b->D, &run, 1, 0.9, 0.95, 1e-8, 0.01, b->dw, b->master, b->m, b->v, b->master};
  must(b->e->ops->adamw(b->e, &a));
}

static double product(const bench *b, int64_t in, int64_t out) {
  return 2.0 * (double)b->N * (double)in * (double)out;
}
static double flops_none(const bench *b) {
  return b ? 0 : 0;
}
static double flops_qkv(const bench *b) {
  return product(b, b->D, 3 * b->D);
}
static double flops_qkv2(const bench *b) {
  return 2 * flops_qkv(b);
}
static double flops_out(const bench *b) {
  return product(b, b->D, b->D);
}
static double flops_out2(const bench *b) {
  return 2 * flops_out(b);
}
static double flops_mlp(const bench *b) {
  return product(b, b->D, b->M);
}
static double flops_mlp4(const bench *b) {
  return 4 * flops_mlp(b);
}
static double flops_attention(const bench *b) {
  return 2 * product(b, b->D, b->T + 1) / 2;
}
static double flops_attention2(const bench *b) {
  return 2.5 * flops_attention(b);
}
static double flops_head(const bench *b) {
  return 3 * product(b, b->D, b->V);
}

static const operation operations[] = {
    {"embed", call_embed, 1, flops_none},
    {"qkv", call_qkv, LAYERS, flops_qkv},
    {"attention", call_attention, LAYERS, flops_attention},
    {"out", call_out, LAYERS, flops_out},
    {"up", call_up, LAYERS, flops_mlp},
    {"down", call_down, LAYERS, flops_mlp},
    {"head", call_head, 1, flops_head},
    {"mlp backward", call_mlp_backward, LAYERS, flops_mlp4},
    {"norm backward", call_norm_backward, 2 * LAYERS + 1, flops_none},
    {"out backward", call_out_backward, LAYERS, flops_out2},
    {"attention backward", call_attention_backward, LAYERS, flops_attention2},
    {"qkv backward", call_qkv_backward, LAYERS, flops_qkv2},
    {"embed backward", call_embed_backward, 1, flops_none},
    {"adamw, D² elements", call_adamw, 12 * LAYERS + 4, flops_none},
};

int main(int argc, char **argv) {
  bench b = {.B = 16, .T = 128, .D = 128, .H = 4, .M = 512, .V = 256};
  int64_t *sizes[] = {&b.D, &b.H, &b.M, &b.V, &b.T, &b.B};
  for (int i = 1; i < argc && i <= 6; i++) {
    *sizes[i - 1] = atoll(argv[i]);
  }
  b.N = b.B * b.T;
  b.Vp = (b.V + 127) / 128 * 128;
  must(engine_cpu_create(DTYPE_F32, 1, 1, &b.e));
  engine_limits limits = {b.B, b.T, b.D, b.H, b.M, b.V, b.Vp, b.N};
  must(b.e->ops->prepare(b.e, &limits));
  prepare(&b);
  printf("%s\nD %lld, H %lld, M %lld, V %lld, T %lld, B %lld, %d layers; best of many runs\n", b.e->description,
         (long long)b.D, (long long)b.H, (long long)b.M, (long long)b.V, (long long)b.T, (long long)b.B, LAYERS);
  double total = 0;
  for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
    const operation *o = &operations[i];
    if (argc > 7 && strcmp(argv[7], o->name) != 0) {
      continue;
    }
    double best = INFINITY, started = seconds();
    for (int round = 0; round < 5 || seconds() - started < 0.7; round++) {
      double t = seconds();
      o->call(&b);
      best = fmin(best, seconds() - t);
    }
    double flops = o->flops(&b);
    printf("%-20s %8.3f ms × %2.0f = %8.3f ms", o->name, 1e3 * best, o->times, 1e3 * best * o->times);
    printf(flops > 0 ? "  %6.1f GFLOP/s\n" : "\n", flops / best * 1e-9);
    total += best * o->times;
  }
  printf("sum %.2f ms a step: %.0f tok/s\n", 1e3 * total, (double)b.N / total);
  b.e->ops->destroy(b.e);
  return 0;
}
