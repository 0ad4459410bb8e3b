#include "model/model.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/memory.h"
#include "model/bases.h"
#include "model/tensors.h"

static status check_shapes(const config_model *c) {
  if (c->vocab_size < 1 || c->vocab_size > INT32_MAX) {
    USER_ERROR("model.vocab_size = %lld, but a vocabulary has 1 to %d tokens", (long long)c->vocab_size, INT32_MAX);
  }
  REQUIRE(c->d_model > 0 && c->n_layers > 0 && c->n_heads > 0 && c->d_mlp > 0 && c->n_layers < 1 << 20,
          "the model's config is not resolved: d_model %lld, n_layers %lld, n_heads %lld, d_mlp %lld",
          (long long)c->d_model, (long long)c->n_layers, (long long)c->n_heads, (long long)c->d_mlp);
  REQUIRE(c->mlp_activation != ACTIVATION_AUTO, "the model's config is not resolved: mlp_activation is auto");
  if (c->d_model % c->n_heads != 0) {
    USER_ERROR("model.d_model = %lld is not divisible by model.n_heads = %lld", (long long)c->d_model,
               (long long)c->n_heads);
  }
  if (c->positional_encoding == POSITION_ROPE && c->d_model / c->n_heads % 2 != 0) {
    USER_ERROR("rope turns pairs, but d_model / n_heads = %lld is odd; use an even head width, alibi or sinusoidal",
               (long long)(c->d_model / c->n_heads));
  }
  if (c->positional_encoding == POSITION_SINUSOIDAL && c->d_model % 2 != 0) {
    USER_ERROR("model.d_model = %lld is odd, which the sinusoidal encoding can't serve; use an even width",
               (long long)c->d_model);
  }
  return STATUS_OK;
}

static status embed_tensors(tensor_table *t, const model *m) {
  int64_t V = m->config.vocab_size;
  return table_matrix(t, "embed.weight", V, m->config.d_model, V, init_normal(0.02));
}

static status head_tensors(tensor_table *t, const model *m) {
  int64_t V = m->config.vocab_size, D = m->config.d_model;
  TRY(table_matrix(t, "lm_head.weight", V, D, m->vocab_padded, init_xavier(V, D)));
  return norm_tensors(t, &m->base->final_norm, D, true);
}

static status build_unit(model *m, int index) {
  char name[32], prefix[40] = "";
  tensor_table t = {.prefix = prefix};
  status result;
  if (index == 0) {
    snprintf(name, sizeof(name), "embed");
    result = embed_tensors(&t, m);
  } else if (index == m->n_units - 1) {
    snprintf(name, sizeof(name), "head");
    result = head_tensors(&t, m);
  } else {
    snprintf(name, sizeof(name), "blocks.%d", index - 1);
    snprintf(prefix, sizeof(prefix), "%s.", name);
    result = m->base->tensors(&t, &m->config);
  }
  if (result == STATUS_OK) {
    result = unit_layout(&t, name, &m->units[index]);
  }
  table_free(&t);
  return result;
}

static status build(model *m, const char *decay_exclude) {
  const config_model *c = &m->config;
  const char *name = config_base_name(c->base);
  m->base = model_base_find(name);
  REQUIRE(m->base != NULL, "the base '%s' is not in the table of bases", name);
  TRY(check_shapes(c));
  TRY(m->base->check(c));
  m->vocab_padded = (c->vocab_size + VOCAB_ALIGN - 1) / VOCAB_ALIGN * VOCAB_ALIGN;
  TRY(memory_new(&m->units, (size_t)c->n_layers + 2, sizeof(unit), "units of the model"));
  m->n_units = (int)c->n_layers + 2;
  for (int i = 0; i < m->n_units; i++) {
    TRY(build_unit(m, i));
    for (int j = 0; j < m->units[i].n_tensors; j++) {
      m->parameters += m->units[i].tensors[j].count;
    }
  }
  return decay_exclude_apply(m, decay_exclude);
}

status model_create(const config_model *c, const char *decay_exclude, model **out) {
  *out = NULL;
  model *m = NULL;
  TRY(memory_new(&m, 1, sizeof(model), "model"));
  m->config = *c;
  status result = build(m, decay_exclude);
  if (result != STATUS_OK) {
    model_free(m);
    return result;
  }
  *out = m;
  return STATUS_OK;
}

void model_free(model *m) {
  if (m == NULL) {
    return;
  }
  for (int i = 0; i < m->n_units; i++) {
    unit_free(&m->units[i]);
  }
  free(m->units);
  free(m);
}

const tensor *model_tensor(const model *m, const char *name, int *unit_index) {
  for (int i = 0; i < m->n_units; i++) {
    const tensor *t = unit_tensor(&m->units[i], "", name);
    if (t != NULL) {
      if (unit_index != NULL) {
        *unit_index = i;
      }
      return t;
    }
  }
  return NULL;
}

enum { CHUNK_ROWS = 128 };

static int64_t loss_chunk(int64_t logits, int64_t rows, int64_t vocab_padded) {
  int64_t chunk = logits / vocab_padded / CHUNK_ROWS * CHUNK_ROWS;
  chunk = chunk < CHUNK_ROWS ? CHUNK_ROWS : chunk;
  return chunk < rows ? chunk : rows;
}

void model_limits(const model *m, const engine *e, int64_t B, int64_t T, engine_limits *limits) {
  const config_model *c = &m->config;
  *limits = (engine_limits){.B = B,
                            .T = T,
                            .D = c->d_model,
                            .H = c->n_heads,
                            .M = c->d_mlp,
                            .V = c->vocab_size,
                            .Vp = m->vocab_padded,
                            .chunk = loss_chunk(e->chunk_logits, B * T, m->vocab_padded)};
}

int64_t model_largest_unit(const model *m) {
  int64_t largest = 0;
  for (int u = 0; u < m->n_units; u++) {
    largest = m->units[u].count > largest ? m->units[u].count : largest;
  }
  return largest;
}
