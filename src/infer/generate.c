#include "infer/generate.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/memory.h"

/* One call's buffers. */
typedef struct {
  const model *m;
  engine *e;
  weight_source *w;
  const generate_spec *spec;
  int32_t end_of_text;
  generate_row *rows;
  int64_t n_rows;
  generate_sink sink;
  void *sink_context;
  int64_t capacity; /* positions of the cache */
  model_cache *cache;
  sampling *chooser;
  int32_t *past;       /* (rows) positions fed */
  int32_t *tokens;     /* (capacity or rows) host */
  float *logits;       /* (V) host, one row */
  double *logits64;    /* (V) host, when the engine's state is fp64 */
  void *engine_tokens; /* int32 (capacity or rows) */
  void *engine_logits; /* state type (rows, V) */
} pass;

const char *generate_end_name(generate_end end) {
  switch (end) {
    case END_OF_TEXT:
      return "end_of_text";
    case END_MAX_TOKENS:
      return "max_tokens";
    case END_CONTEXT:
      return "context";
    default:
      return "none";
  }
}

/* Tokens that are fed before the first new one: the prompt, or end of text alone. */
static int64_t fed_length(const generate_row *row) {
  return row->prompt > 0 ? (int64_t)row->prompt : 1;
}

static status check_rows(pass *p) {
  int64_t longest = 0;
  for (int64_t i = 0; i < p->n_rows; i++) {
    generate_row *row = &p->rows[i];
    REQUIRE(row->count == row->prompt, "prompt %" PRId64 " holds %zu ids but is said to have %zu", row->number,
            row->count, row->prompt);
    if (row->prompt == 0 && p->end_of_text < 0) {
      USER_ERROR("prompt %" PRId64 " is empty and the tokenizer has no end-of-text token to start from: give a prompt",
                 row->number + 1);
    }
    int64_t length = fed_length(row);
    if (length > p->spec->context) {
      USER_ERROR("prompt %" PRId64 " has %" PRId64 " tokens, more than the context of %" PRId64
                 ": shorten it or allow more with --context",
                 row->number + 1, length, p->spec->context);
    }
    for (size_t j = 0; j < row->prompt; j++) {
      if (row->ids[j] < 0 || row->ids[j] >= p->m->config.vocab_size) {
        USER_ERROR("token %zu of prompt %" PRId64 " is %d, outside the vocabulary of %" PRId64, j, row->number + 1,
                   (int)row->ids[j], p->m->config.vocab_size);
      }
    }
    row->end = END_NONE;
    longest = length > longest ? length : longest;
  }
  p->capacity = longest;
  if (p->spec->max_tokens > 1) {
    /* The last new token is never fed. */
    int64_t more = p->spec->max_tokens - 1;
    p->capacity = more > p->spec->context - longest ? p->spec->context : longest + more;
  }
  return STATUS_OK;
}

static status allocate(pass *p) {
  size_t rows = (size_t)p->n_rows, vocab = (size_t)p->m->config.vocab_size;
  size_t tokens = p->capacity > p->n_rows ? (size_t)p->capacity : rows;
  TRY(sampling_create(p->m->config.vocab_size, &p->spec->sampling, &p->chooser));
  TRY(memory_new(&p->past, rows, sizeof *p->past, "positions of the rows"));
  TRY(memory_new(&p->tokens, tokens, sizeof *p->tokens, "tokens to feed"));
  TRY(memory_new(&p->logits, vocab, sizeof *p->logits, "logits of a row"));
  if (p->e->state == DTYPE_F64) {
    TRY(memory_new(&p->logits64, vocab, sizeof *p->logits64, "logits of a row"));
  }
  TRY(model_cache_create(p->m, p->e, p->n_rows, p->capacity, &p->cache));
  TRY(p->e->ops->alloc(p->e, tokens * sizeof(int32_t), "tokens to feed", &p->engine_tokens));
  return p->e->ops->alloc(p->e, rows * vocab * dtype_size(p->e->state), "logits", &p->engine_logits);
}

static void release(pass *p) {
  if (p->engine_tokens != NULL) {
    p->e->ops->free(p->e, p->engine_tokens);
  }
  if (p->engine_logits != NULL) {
    p->e->ops->free(p->e, p->engine_logits);
  }
  model_cache_free(p->cache);
  sampling_free(p->chooser);
  free(p->past);
  free(p->tokens);
  free(p->logits);
  free(p->logits64);
}

/* Feeds `T` tokens of the host buffer to one row, or to all (row −1). */
static status feed(pass *p, int64_t row, int64_t T) {
  size_t count = (size_t)(row < 0 ? p->n_rows * T : T);
  TRY(p->e->ops->copy(p->e, STREAM_MAIN, COPY_TO_ENGINE, p->engine_tokens, p->tokens, count * sizeof(int32_t)));
  const int32_t *past = row < 0 ? p->past : p->past + row;
  TRY(model_decode(p->cache, p->w, row, T, p->engine_tokens, past, p->engine_logits));
  return p->e->ops->synchronize(p->e);
}

/* Row `slot` of the engine's logits to the host. */
static status fetch_logits(pass *p, int64_t slot) {
  size_t vocab = (size_t)p->m->config.vocab_size, bytes = vocab * dtype_size(p->e->state);
  const char *from = (const char *)p->engine_logits + (size_t)slot * bytes;
  void *to = p->e->state == DTYPE_F64 ? (void *)p->logits64 : (void *)p->logits;
  TRY(p->e->ops->copy(p->e, STREAM_MAIN, COPY_TO_HOST, to, from, bytes));
  TRY(p->e->ops->synchronize(p->e));
  for (size_t v = 0; p->e->state == DTYPE_F64 && v < vocab; v++) {
    p->logits[v] = (float)p->logits64[v];
  }
  return STATUS_OK;
}

/* Chooses the row's next token from the fetched logits and says whether the row has ended. */
static status extend(pass *p, int64_t b) {
  generate_row *row = &p->rows[b];
  int32_t token;
  TRY(sampling_draw(p->chooser, p->logits, row->ids, (int64_t)row->count, row->number, p->past[b], &token));
  if (p->spec->stop && token == p->end_of_text) {
    row->end = END_OF_TEXT;
    return STATUS_OK;
  }
  TRY(memory_grow(&row->ids, &row->capacity, row->count + 1, sizeof *row->ids, "new tokens"));
  row->ids[row->count++] = token;
  if ((int64_t)(row->count - row->prompt) >= p->spec->max_tokens) {
    row->end = END_MAX_TOKENS;
  } else if (p->past[b] >= p->spec->context) {
    row->end = END_CONTEXT;
  }
  return p->sink != NULL ? p->sink(p->sink_context, row) : STATUS_OK;
}

static status feed_prompts(pass *p) {
  for (int64_t b = 0; b < p->n_rows; b++) {
    const generate_row *row = &p->rows[b];
    int64_t length = fed_length(row);
    p->tokens[0] = p->end_of_text;
    for (size_t j = 0; j < row->prompt; j++) {
      p->tokens[j] = row->ids[j];
    }
    TRY(feed(p, b, length));
    p->past[b] = (int32_t)length;
    TRY(fetch_logits(p, 0));
    TRY(extend(p, b));
  }
  return STATUS_OK;
}

/* One token for every row. A row that has ended is fed its last token once more at a place that it has: what comes of
 * it is not looked at. */
static status decode_step(pass *p) {
  for (int64_t b = 0; b < p->n_rows; b++) {
    const generate_row *row = &p->rows[b];
    p->tokens[b] = row->count > 0 ? row->ids[row->count - 1] : p->end_of_text;
    if (row->end != END_NONE) {
      p->past[b] = 0;
    }
  }
  TRY(feed(p, -1, 1));
  for (int64_t b = 0; b < p->n_rows; b++) {
    if (p->rows[b].end == END_NONE) {
      p->past[b]++;
      TRY(fetch_logits(p, b));
      TRY(extend(p, b));
    }
  }
  return STATUS_OK;
}

static bool any_left(const pass *p) {
  for (int64_t b = 0; b < p->n_rows; b++) {
    if (p->rows[b].end == END_NONE) {
      return true;
    }
  }
  return false;
}

static status run(pass *p) {
  TRY(check_rows(p));
  TRY(allocate(p));
  TRY(feed_prompts(p));
  while (any_left(p)) {
    TRY(decode_step(p));
  }
  return STATUS_OK;
}

status generate(const model *m, engine *e, weight_source *w, const generate_spec *spec, int32_t end_of_text,
                generate_row *rows, int64_t n_rows, generate_sink sink, void *sink_context) {
  if (spec->max_tokens < 1) {
    USER_ERROR("max-tokens is %" PRId64 ": it must be at least 1", spec->max_tokens);
  }
  if (spec->context < 1 || spec->context > INT32_MAX) {
    USER_ERROR("context is %" PRId64 ": it must be between 1 and %d", spec->context, INT32_MAX);
  }
  REQUIRE(n_rows > 0, "%" PRId64 " rows can't be generated", n_rows);
  REQUIRE(end_of_text < m->config.vocab_size, "end of text is token %d of a vocabulary of %" PRId64, (int)end_of_text,
          m->config.vocab_size);
  pass p = {.m = m,
            .e = e,
            .w = w,
            .spec = spec,
            .end_of_text = end_of_text,
            .rows = rows,
            .n_rows = n_rows,
            .sink = sink,
            .sink_context = sink_context};
  status result = run(&p);
  release(&p);
  return result;
}
