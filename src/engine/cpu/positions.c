#include "engine/cpu/positions.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

/* Enough for doubling to be rare; a table that is grown is computed anew, since positions are cheap. */
static int64_t grown(int64_t have, int64_t need) {
  int64_t n = have > 0 ? have : 64;
  while (n < need) {
    n *= 2;
  }
  return n;
}

float rope_frequency(int64_t i, int64_t half) { return 1.0f / (float)pow(10000.0, (double)((float)i / (float)half)); }

float sinusoid_frequency(int64_t i, int64_t D) {
  float step = (float)(-log(10000.0) / (double)D);
  return (float)exp((double)((float)i * step));
}

status rope_table_cover(rope_table *t, int64_t h, int64_t positions) {
  if (t->h == h && t->positions >= positions) {
    return STATUS_OK;
  }
  int64_t half = h / 2;
  int64_t n = grown(t->h == h ? t->positions : 0, positions);
  rope_table_free(t);
  TRY(memory_new(&t->cosines, (size_t)(n * half), sizeof(float), "the cosines of RoPE"));
  TRY(memory_new(&t->sines, (size_t)(n * half), sizeof(float), "the sines of RoPE"));
  for (int64_t i = 0; i < half; i++) {
    float frequency = rope_frequency(i, half);
    for (int64_t p = 0; p < n; p++) {
      float angle = (float)p * frequency;
      t->cosines[p * half + i] = (float)cos((double)angle);
      t->sines[p * half + i] = (float)sin((double)angle);
    }
  }
  t->h = h;
  t->positions = n;
  return STATUS_OK;
}

void rope_table_free(rope_table *t) {
  free(t->cosines);
  free(t->sines);
  *t = (rope_table){0};
}

status sinusoid_table_cover(sinusoid_table *t, int64_t D, int64_t positions) {
  if (t->D == D && t->positions >= positions) {
    return STATUS_OK;
  }
  int64_t n = grown(t->D == D ? t->positions : 0, positions);
  sinusoid_table_free(t);
  TRY(memory_new(&t->values, (size_t)(n * D), sizeof(float), "the sinusoidal encoding"));
  for (int64_t i = 0; i < D; i += 2) {
    float frequency = sinusoid_frequency(i, D);
    for (int64_t p = 0; p < n; p++) {
      float angle = (float)p * frequency;
      t->values[p * D + i] = (float)sin((double)angle);
      if (i + 1 < D) {
        t->values[p * D + i + 1] = (float)cos((double)angle);
      }
    }
  }
  t->D = D;
  t->positions = n;
  return STATUS_OK;
}

void sinusoid_table_free(sinusoid_table *t) {
  free(t->values);
  *t = (sinusoid_table){0};
}

int64_t positions_needed(const int32_t *past, int64_t B, int64_t T) {
  int64_t most = 0;
  for (int64_t b = 0; past && b < B; b++) {
    most = past[b] > most ? past[b] : most;
  }
  return most + T;
}

float alibi_slope(int64_t i, int64_t H) {
  int64_t c = 1;
  int log2_c = 0;
  while (2 * c <= H) {
    c *= 2;
    log2_c++;
  }
  if (i < c) {
    return (float)exp2(-exp2(3.0 - log2_c) * (double)(i + 1));
  }
  return (float)exp2(-exp2(3.0 - (log2_c + 1)) * (double)(2 * (i - c) + 1));
}
