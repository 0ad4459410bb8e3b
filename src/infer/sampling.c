#include "infer/sampling.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/philox.h"

struct sampling {
  sampling_spec spec;
  int64_t vocab;
  double *score;   /* (vocab) logits after the penalty, then weights exp((logit − max) / temperature) */
  int32_t *heap;   /* (vocab) ids, a max-heap on score */
  int32_t *kept;   /* (vocab) ids that may be drawn, most probable first */
  int64_t *marked; /* (vocab) number of the draw in which the penalty last fell on this id */
  int64_t draws;
};

sampling_spec sampling_default(void) {
  return (sampling_spec){.temperature = 0.8, .top_k = 0, .top_p = 0.95, .repetition_penalty = 1, .seed = 0};
}

status sampling_check(const sampling_spec *spec) {
  if (!(spec->temperature >= 0 && spec->temperature <= 1000)) {
    USER_ERROR("temperature is %g: it must be 0 (the most probable token) or a number up to 1000", spec->temperature);
  }
  if (spec->top_k < 0) {
    USER_ERROR("top-k is %" PRId64 ": it must be 0 (off) or a number of tokens", spec->top_k);
  }
  if (!(spec->top_p > 0 && spec->top_p <= 1)) {
    USER_ERROR("top-p is %g: it must be above 0 and at most 1 (off)", spec->top_p);
  }
  if (!(spec->repetition_penalty > 0 && spec->repetition_penalty <= 1000)) {
    USER_ERROR("repetition penalty is %g: it must be above 0 and at most 1000; 1 is off", spec->repetition_penalty);
  }
  return STATUS_OK;
}

status sampling_create(int64_t vocab, const sampling_spec *spec, sampling **out) {
  *out = NULL;
  TRY(sampling_check(spec));
  REQUIRE(vocab > 0 && vocab <= INT32_MAX, "a vocabulary of %" PRId64 " can't be sampled from", vocab);
  sampling *s;
  TRY(memory_new(&s, 1, sizeof *s, "the sampler"));
  *s = (sampling){.spec = *spec, .vocab = vocab};
  size_t n = (size_t)vocab;
  status result = memory_new(&s->score, n, sizeof *s->score, "the sampler's scores");
  if (result == STATUS_OK) {
    result = memory_new(&s->heap, n, sizeof *s->heap, "the sampler's heap");
  }
  if (result == STATUS_OK) {
    result = memory_new(&s->kept, n, sizeof *s->kept, "the sampler's candidates");
  }
  if (result == STATUS_OK) {
    result = memory_new(&s->marked, n, sizeof *s->marked, "the sampler's marks");
  }
  if (result != STATUS_OK) {
    sampling_free(s);
    return result;
  }
  *out = s;
  return STATUS_OK;
}

void sampling_free(sampling *s) {
  if (s == NULL) {
    return;
  }
  free(s->score);
  free(s->heap);
  free(s->kept);
  free(s->marked);
  free(s);
}

/* Larger score first, smaller id among equals: a total order, so that the outcome has no choice left. */
static bool before(const sampling *s, int32_t a, int32_t b) {
  return s->score[a] > s->score[b] || (s->score[a] == s->score[b] && a < b);
}

static void sift_down(sampling *s, int64_t size, int64_t i) {
  int32_t id = s->heap[i];
  for (int64_t child; (child = 2 * i + 1) < size; i = child) {
    if (child + 1 < size && before(s, s->heap[child + 1], s->heap[child])) {
      child++;
    }
    if (!before(s, s->heap[child], id)) {
      break;
    }
    s->heap[i] = s->heap[child];
  }
  s->heap[i] = id;
}

static void heap_build(sampling *s) {
  for (int64_t i = 0; i < s->vocab; i++) {
    s->heap[i] = (int32_t)i;
  }
  for (int64_t i = s->vocab / 2; i-- > 0;) {
    sift_down(s, s->vocab, i);
  }
}

static int32_t heap_pop(sampling *s, int64_t *size) {
  int32_t top = s->heap[0];
  (*size)--;
  s->heap[0] = s->heap[*size];
  sift_down(s, *size, 0);
  return top;
}

static status load_scores(sampling *s, const float *logits, const int32_t *seen, int64_t n_seen, int64_t prompt,
                          int64_t position) {
  for (int64_t v = 0; v < s->vocab; v++) {
    if (!isfinite(logits[v])) {
      FAIL("the model's logit of token %" PRId64 " is %g at position %" PRId64 " of prompt %" PRId64
           ": the weights are damaged or have diverged",
           v, (double)logits[v], position, prompt);
    }
    s->score[v] = (double)logits[v];
  }
  s->draws++;
  for (int64_t i = 0; s->spec.repetition_penalty != 1 && i < n_seen; i++) {
    int32_t id = seen[i];
    REQUIRE(id >= 0 && id < s->vocab, "token %d lies outside the vocabulary of %" PRId64, (int)id, s->vocab);
    if (s->marked[id] != s->draws) {
      s->marked[id] = s->draws;
      s->score[id] =
          s->score[id] > 0 ? s->score[id] / s->spec.repetition_penalty : s->score[id] * s->spec.repetition_penalty;
    }
  }
  return STATUS_OK;
}

/* Fills `kept` with what top-k leaves, most probable first; returns how many. */
static int64_t keep_top_k(sampling *s) {
  int64_t size = s->vocab, n = 0;
  heap_build(s);
  while (size > 0) {
    if (n >= s->spec.top_k && s->score[s->heap[0]] < s->score[s->kept[n - 1]]) {
      break;
    }
    s->kept[n++] = heap_pop(s, &size);
  }
  return n;
}

/* Fills `kept` with the tokens that may be drawn; afterwards score holds their weights. Returns how many. */
static int64_t keep(sampling *s, double *mass) {
  double largest = s->score[0];
  for (int64_t v = 1; v < s->vocab; v++) {
    largest = s->score[v] > largest ? s->score[v] : largest;
  }
  bool some_k = s->spec.top_k > 0 && s->spec.top_k < s->vocab;
  int64_t n = some_k ? keep_top_k(s) : s->vocab;
  double total = 0;
  for (int64_t i = 0; i < n; i++) {
    int32_t id = some_k ? s->kept[i] : (int32_t)i;
    s->kept[i] = id;
    s->score[id] = exp((s->score[id] - largest) / s->spec.temperature);
    total += s->score[id];
  }
  if (s->spec.top_p < 1) {
    double wanted = s->spec.top_p * total;
    int64_t size = s->vocab, count = 0;
    if (!some_k) {
      heap_build(s);
    }
    for (total = 0; count < n && (count == 0 || total < wanted); count++) {
      if (!some_k) {
        s->kept[count] = heap_pop(s, &size);
      }
      total += s->score[s->kept[count]];
    }
    n = count;
  }
  *mass = total;
  return n;
}

status sampling_draw(sampling *s, const float *logits, const int32_t *seen, int64_t n_seen, int64_t prompt,
                     int64_t position, int32_t *token) {
  TRY(load_scores(s, logits, seen, n_seen, prompt, position));
  if (s->spec.temperature == 0) {
    int32_t best = 0;
    for (int32_t v = 1; v < s->vocab; v++) {
      best = s->score[v] > s->score[best] ? v : best;
    }
    *token = best;
    return STATUS_OK;
  }
  double mass;
  int64_t n = keep(s, &mass);
  philox_block random = philox(s->spec.seed, PHILOX_SAMPLING, (uint32_t)prompt, (uint32_t)((uint64_t)prompt >> 32),
                               (uint32_t)position, (uint32_t)((uint64_t)position >> 32));
  double left = philox_uniform53(random.x[0], random.x[1]) * mass;
  int64_t i = 0;
  for (; i < n - 1 && left >= s->score[s->kept[i]]; i++) {
    left -= s->score[s->kept[i]];
  }
  /* Rounding may carry the walk to the very end, onto a token that underflowed to nothing. */
  while (i > 0 && s->score[s->kept[i]] == 0) {
    i--;
  }
  *token = s->kept[i];
  return STATUS_OK;
}
