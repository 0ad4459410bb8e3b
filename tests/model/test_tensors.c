/* The tensor table: names, shapes, counts, and the layout that checkpoints, optimizer and engine rely on. */
#include <stdio.h>
#include <string.h>

#include "fixture.h"

typedef struct {
  int64_t D, L, H, M, V, respsann, wave, transformer;
} count_row;

/* Numbers of parameters of the reference's own models. */
static const count_row counts[] = {
    {128, 2, 4, 512, 24, 404354, 439170, 401920},
    {128, 2, 4, 512, 31, 406146, 440962, 403712},
    {256, 4, 4, 1024, 32000, 19549444, 19819780, 19539456},
    {256, 4, 4, 1024, 305, 3321604, 3591940, 3311616},
    {256, 4, 4, 1024, 16384, 11554052, 11824388, 11544064},
    {256, 6, 4, 1024, 16384, 13136646, 13542150, 13121536},
    {512, 8, 8, 2048, 16384, 42021384, 44151304, 41980928},
    {512, 8, 8, 2048, 32000, 58012168, 60142088, 57971712},
    {512, 4, 4, 2048, 50257, 64085508, 65150468, 64065536},
    {1024, 16, 16, 4096, 50257, 304565264, 321473552, 304402432},
    {2048, 22, 16, 8192, 50257, 1314007062, 1406642198, 1313558528},
    {3072, 30, 24, 12288, 50257, 3707919390, 3991772190, 3707000832},
};

static int64_t count_of(const count_row *r, const char *base) {
  char keys[256];
  snprintf(keys, sizeof(keys), "%s d_model=%lld n_layers=%lld n_heads=%lld d_mlp=%lld vocab_size=%lld", base,
           (long long)r->D, (long long)r->L, (long long)r->H, (long long)r->M, (long long)r->V);
  config_model c = make_config(keys);
  model *m;
  GOOD(model_create(&c, NULL, &m));
  int64_t n = m->parameters;
  model_free(m);
  return n;
}

static void test_counts(void **unused) {
  for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
    assert_int_equal(count_of(&counts[i], "base=respsann"), counts[i].respsann);
    assert_int_equal(count_of(&counts[i], "base=waveresnet"), counts[i].respsann);
    assert_int_equal(count_of(&counts[i], "base=waveresnet wave_interleave=true"), counts[i].wave);
    assert_int_equal(count_of(&counts[i], "base=transformer"), counts[i].transformer);
  }
  /* GELU has no sine vectors. */
  assert_int_equal(count_of(&counts[0], "base=respsann mlp_activation=gelu"), counts[0].respsann - 2 * 3 * 512);
}

typedef struct {
  const char *name;
  int dims;
  int64_t shape[3];
} expected_tensor;

static void check_names(const char *keys, const expected_tensor *expected, int n) {
  config_model c = make_config(keys);
  model *m;
  GOOD(model_create(&c, NULL, &m));
  int there = 0;
  for (int i = 0; i < m->n_units; i++) {
    there += m->units[i].n_tensors;
  }
  assert_int_equal(there, n);
  for (int i = 0; i < n; i++) {
    const tensor *t = model_tensor(m, expected[i].name, NULL);
    if (t == NULL) {
      fail_msg("no tensor %s", expected[i].name);
      return;
    }
    assert_int_equal(t->dims, expected[i].dims);
    for (int d = 0; d < t->dims; d++) {
      assert_int_equal(t->shape[d], expected[i].shape[d]);
    }
  }
  assert_null(model_tensor(m, "blocks.1.alpha", NULL));
  model_free(m);
}

#define N_OF(array) (int)(sizeof(array) / sizeof((array)[0]))

static void test_names(void **unused) {
  const expected_tensor wave[] = {
      {"embed.weight", 2, {37, 12}},
      {"blocks.0.alpha", 1, {1}},
      {"blocks.0.attn.q_proj.weight", 2, {12, 12}},
      {"blocks.0.attn.k_proj.weight", 2, {12, 12}},
      {"blocks.0.attn.v_proj.weight", 2, {12, 12}},
      {"blocks.0.attn.o_proj.weight", 2, {12, 12}},
      {"blocks.0.mlp.fc1.weight", 2, {20, 12}},
      {"blocks.0.mlp.fc1.bias", 1, {20}},
      {"blocks.0.mlp.act._A", 1, {20}},
      {"blocks.0.mlp.act._f", 1, {20}},
      {"blocks.0.mlp.act._d", 1, {20}},
      {"blocks.0.mlp.fc2.weight", 2, {12, 20}},
      {"blocks.0.mlp.fc2.bias", 1, {12}},
      {"blocks.0.norm1.scale", 1, {12}},
      {"blocks.0.norm2.scale", 1, {12}},
      {"blocks.0.wave.norm.scale", 1, {12}},
      {"blocks.0.wave.dw.weight", 3, {12, 1, 5}},
      {"blocks.0.wave.act._A", 1, {12}},
      {"blocks.0.wave.act._f", 1, {12}},
      {"blocks.0.wave.act._d", 1, {12}},
      {"blocks.0.wave.proj.weight", 2, {12, 12}},
      {"blocks.0.wave.proj.bias", 1, {12}},
      {"ln_f.scale", 1, {12}},
      {"lm_head.weight", 2, {37, 12}},
  };
  const expected_tensor transformer[] = {
      {"embed.weight", 2, {37, 12}},
      {"blocks.0.attn.q_proj.weight", 2, {12, 12}},
      {"blocks.0.attn.k_proj.weight", 2, {12, 12}},
      {"blocks.0.attn.v_proj.weight", 2, {12, 12}},
      {"blocks.0.attn.o_proj.weight", 2, {12, 12}},
      {"blocks.0.mlp.0.weight", 2, {20, 12}},
      {"blocks.0.mlp.0.bias", 1, {20}},
      {"blocks.0.mlp.2.weight", 2, {12, 20}},
      {"blocks.0.mlp.2.bias", 1, {12}},
      {"blocks.0.norm1.weight", 1, {12}},
      {"blocks.0.norm1.bias", 1, {12}},
      {"blocks.0.norm2.weight", 1, {12}},
      {"blocks.0.norm2.bias", 1, {12}},
      {"ln_f.weight", 1, {12}},
      {"ln_f.bias", 1, {12}},
      {"lm_head.weight", 2, {37, 12}},
  };
  check_names(
      "base=waveresnet wave_interleave=true wave_kernel_size=5 d_model=12 n_layers=1 n_heads=3 d_mlp=20 "
      "vocab_size=37",
      wave, N_OF(wave));
  check_names("base=transformer d_model=12 n_layers=1 n_heads=3 d_mlp=20 vocab_size=37", transformer,
              N_OF(transformer));
}

static void check_unit(const model *m, const unit *u) {
  assert_int_equal(u->count, UNIT_LEAVES * u->leaf);
  assert_int_equal(u->leaf % LEAF_ALIGN, 0);
  assert_int_equal(u->vectors % GROUP_ALIGN, 0);
  assert_int_equal(u->n_runs, u->n_tensors);
  int64_t end = 0;
  for (int i = 0; i < u->n_tensors; i++) {
    const tensor *t = &u->tensors[i];
    bool joins = strstr(t->name, "k_proj") != NULL || strstr(t->name, "v_proj") != NULL;
    if (joins) {
      assert_int_equal(t->offset, end);
    } else {
      assert_int_equal(t->offset % GROUP_ALIGN, 0);
      assert_true(t->offset >= end);
    }
    assert_true(t->matrix ? t->offset + t->count <= u->vectors : t->offset >= u->vectors);
    assert_int_equal(u->runs[i].first, t->offset);
    assert_int_equal(u->runs[i].count, t->count);
    assert_int_equal(u->runs[i].trainable, t->trainable);
    assert_int_equal(u->runs[i].decay, t->decay);
    end = t->offset + t->count;
    if (strcmp(t->name, "lm_head.weight") == 0) {
      end = t->offset + m->vocab_padded * m->config.d_model; /* padded rows belong to it */
    }
  }
  assert_true(end <= u->count);
}

static void test_layout(void **unused) {
  test_seed();
  for (int i = 0; i < n_model_variants; i++) {
    char keys[512];
    snprintf(keys, sizeof(keys), "d_model=12 n_heads=2 n_layers=3 vocab_size=%lld %s",
             (long long)(2 + random_below(300)), model_variants[i].keys);
    config_model c = make_config(keys);
    model *m;
    GOOD(model_create(&c, NULL, &m));
    assert_int_equal(m->n_units, 5);
    assert_int_equal(m->vocab_padded % VOCAB_ALIGN, 0);
    assert_true(m->vocab_padded >= c.vocab_size && m->vocab_padded < c.vocab_size + VOCAB_ALIGN);
    assert_string_equal(m->units[0].name, "embed");
    assert_string_equal(m->units[2].name, "blocks.1");
    assert_string_equal(m->units[4].name, "head");
    for (int u = 0; u < m->n_units; u++) {
      check_unit(m, &m->units[u]);
    }
    int unit_index = -1;
    assert_non_null(model_tensor(m, "blocks.2.attn.o_proj.weight", &unit_index));
    assert_int_equal(unit_index, 3);
    model_free(m);
  }
}

static bool trains(const model *m, const char *name) {
  const tensor *t = model_tensor(m, name, NULL);
  assert_non_null(t);
  return t->trainable;
}

static void test_what_learns(void **unused) {
  const char *shape = "d_model=8 n_heads=2 n_layers=1 vocab_size=9";
  char keys[256];
  model *m;
  snprintf(keys, sizeof(keys), "base=respsann sine_learnable=frequency,decay %s", shape);
  config_model c = make_config(keys);
  GOOD(model_create(&c, NULL, &m));
  assert_false(trains(m, "blocks.0.mlp.act._A"));
  assert_true(trains(m, "blocks.0.mlp.act._f"));
  assert_true(trains(m, "blocks.0.mlp.act._d"));
  model_free(m);

  snprintf(keys, sizeof(keys), "base=waveresnet sine_trainable=false wave_interleave=true %s", shape);
  c = make_config(keys);
  GOOD(model_create(&c, NULL, &m));
  assert_false(trains(m, "blocks.0.mlp.act._d"));
  assert_false(trains(m, "blocks.0.wave.act._A"));
  assert_true(trains(m, "blocks.0.alpha"));
  model_free(m);

  snprintf(keys, sizeof(keys), "base=waveresnet wave_interleave=true wave_replace=true %s", shape);
  c = make_config(keys);
  GOOD(model_create(&c, NULL, &m));
  assert_false(trains(m, "blocks.0.alpha"));
  assert_true(trains(m, "blocks.0.norm2.scale"));
  assert_null(model_tensor(m, "blocks.0.mlp.fc1.weight", NULL));
  model_free(m);

  snprintf(keys, sizeof(keys), "base=waveresnet wave_replace=true %s", shape);
  c = make_config(keys);
  GOOD(model_create(&c, NULL, &m));
  assert_false(trains(m, "blocks.0.alpha"));
  assert_false(trains(m, "blocks.0.norm2.scale"));
  model_free(m);
}

static bool decays(const char *exclude, const char *name) {
  config_model c = make_config("base=respsann d_model=8 n_heads=2 n_layers=2 vocab_size=9");
  model *m;
  int unit_index;
  GOOD(model_create(&c, exclude, &m));
  const tensor *t = model_tensor(m, name, &unit_index);
  assert_non_null(t);
  bool decay = t->decay;
  assert_int_equal(m->units[unit_index].runs[t - m->units[unit_index].tensors].decay, decay);
  model_free(m);
  return decay;
}

static void test_decay(void **unused) {
  assert_true(decays(NULL, "blocks.0.norm1.scale"));
  assert_true(decays("", "embed.weight"));
  assert_false(decays("vectors", "blocks.1.mlp.act._A"));
  assert_true(decays("vectors", "blocks.1.mlp.fc1.weight"));
  assert_false(decays(" vectors , embed", "embed.weight"));
  assert_true(decays("embed", "lm_head.weight"));
  assert_false(decays("*.norm1.scale", "blocks.0.norm1.scale"));
  assert_true(decays("*.norm1.scale", "blocks.0.norm2.scale"));
  config_model c = make_config("base=respsann d_model=8 n_heads=2 n_layers=2 vocab_size=9");
  model *m;
  assert_int_equal(model_create(&c, "embed,*.norm3.scale", &m), STATUS_USER_ERROR);
  assert_null(m);
  assert_non_null(strstr(status_message(), "*.norm3.scale"));
}

static void test_bad_shapes(void **unused) {
  config_model c = make_config("base=respsann d_model=8 n_heads=2 n_layers=2 vocab_size=9");
  model *m;
  c.vocab_size = 0;
  assert_int_equal(model_create(&c, NULL, &m), STATUS_USER_ERROR);
  assert_non_null(strstr(status_message(), "vocab_size"));
  c = make_config("base=respsann d_model=8 n_heads=2 n_layers=2 vocab_size=9");
  c.n_heads = 3;
  assert_int_equal(model_create(&c, NULL, &m), STATUS_USER_ERROR);
  c.n_heads = 8;
  assert_int_equal(model_create(&c, NULL, &m), STATUS_USER_ERROR); /* rope on heads of one */
  c.n_heads = 2;
  c.wave_interleave = true;
  assert_int_equal(model_create(&c, NULL, &m), STATUS_USER_ERROR);
  c.base = BASE_TRANSFORMER;
  c.wave_interleave = false;
  assert_int_equal(model_create(&c, NULL, &m), STATUS_USER_ERROR); /* a sine */
  c.mlp_activation = ACTIVATION_GELU;
  GOOD(model_create(&c, NULL, &m));
  model_free(m);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_counts),      cmocka_unit_test(test_names), cmocka_unit_test(test_layout),
      cmocka_unit_test(test_what_learns), cmocka_unit_test(test_decay), cmocka_unit_test(test_bad_shapes),
  };
  return cmocka_run_group_tests_name("model tensors", tests, NULL, NULL);
}
