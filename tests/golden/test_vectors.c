/* Models whose parameters follow a closed formula: the reference's figures for forward, gradients and six updates. The
 * first argument is the file of figures. */
#include <cjson/cJSON.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../model/fixture.h"
#include "base/file.h"
#include "optim/schedule.h"
#include "shard/weight_store.h"

enum { V = 29, B = 2, T = 12, STEPS = 6 };
static const double tolerance = 1e-6;

static cJSON *figures;

static const model_variant variants[] = {
    {"sine, rope", "base=respsann"},
    {"sine, rope", "base=waveresnet"},
    {"sine, alibi", "base=respsann positional_encoding=alibi"},
    {"sine, sinusoidal", "base=respsann positional_encoding=sinusoidal"},
    {"gelu MLP, rope", "base=respsann mlp_activation=gelu"},
    {"wave", "base=waveresnet wave_interleave=true wave_dilation_growth=2 wave_padding=same"},
    {"transformer gelu", "base=transformer"},
    {"transformer relu", "base=transformer mlp_activation=relu"},
};

typedef struct {
  const char *name;
  const cJSON *wanted;
  model *m;
  engine *e;
  weight_store *store;
  model_run *run;
  test_batch *batch;
  double *loss;
} trial;

/* ---- parameters ---- */

static bool ends(const char *name, const char *end) {
  size_t a = strlen(name), b = strlen(end);
  return a >= b && strcmp(name + a - b, end) == 0;
}

static double formula(const char *name, int p, int64_t j) {
  double c = 0, a = 0.2;
  bool layer_norm = ends(name, "norm1.weight") || ends(name, "norm2.weight") || ends(name, "ln_f.weight");
  if (ends(name, "alpha") || ends(name, "scale") || layer_norm) {
    c = 1, a = 0.1;
  } else if (ends(name, "_A") || ends(name, "_f")) {
    c = 0.5;
  } else if (ends(name, "_d")) {
    c = -3;
  } else if (ends(name, "bias")) {
    a = 0.05;
  }
  return c + a * sin(0.7 * (p + 1) + 0.13 * (double)j);
}

/* The reference's order of tensors; what a model doesn't have is left out. */
static const char *const order_of_block[] = {
    "alpha",          "attn.q_proj.weight", "attn.k_proj.weight", "attn.v_proj.weight", "attn.o_proj.weight",
    "mlp.fc1.weight", "mlp.fc1.bias",       "mlp.act._A",         "mlp.act._f",         "mlp.act._d",
    "mlp.fc2.weight", "mlp.fc2.bias",       "mlp.0.weight",       "mlp.0.bias",         "mlp.2.weight",
    "mlp.2.bias",     "norm1.scale",        "norm1.weight",       "norm1.bias",         "norm2.scale",
    "norm2.weight",   "norm2.bias",         "wave.norm.scale",    "wave.dw.weight",     "wave.act._A",
    "wave.act._f",    "wave.act._d",        "wave.proj.weight",   "wave.proj.bias",
};

static void fill_tensor(const model *m, double **values, const char *name, int *p) {
  int unit_index;
  const tensor *t = model_tensor(m, name, &unit_index);
  for (int64_t j = 0; t != NULL && j < t->count; j++) {
    values[unit_index][t->offset + j] = formula(name, *p, j);
  }
  *p += t != NULL;
}

static void fill(trial *x) {
  const model *m = x->m;
  double **values = test_calloc((size_t)m->n_units, sizeof(double *));
  for (int u = 0; u < m->n_units; u++) {
    values[u] = test_calloc((size_t)m->units[u].count, sizeof(double));
  }
  int p = 0;
  fill_tensor(m, values, "embed.weight", &p);
  for (int i = 0; i < 2; i++) {
    for (size_t k = 0; k < sizeof(order_of_block) / sizeof(order_of_block[0]); k++) {
      char name[TENSOR_NAME];
      snprintf(name, sizeof(name), "blocks.%d.%s", i, order_of_block[k]);
      fill_tensor(m, values, name, &p);
    }
  }
  fill_tensor(m, values, "ln_f.scale", &p);
  fill_tensor(m, values, "ln_f.weight", &p);
  fill_tensor(m, values, "ln_f.bias", &p);
  fill_tensor(m, values, "lm_head.weight", &p);
  int tensors = 0;
  for (int u = 0; u < m->n_units; u++) {
    tensors += m->units[u].n_tensors;
    GOOD(x->store->ops->write(x->store, u, STATE_WEIGHTS, values[u]));
    test_free(values[u]);
  }
  assert_int_equal(tensors, p); /* the order names every tensor */
  test_free(values);
}

/* ---- comparison ---- */

static double number(const cJSON *item) {
  assert_non_null(item);
  return cJSON_IsString(item) ? strtod(item->valuestring, NULL) : item->valuedouble;
}

static void near(const trial *x, const char *what, double value, const cJSON *item) {
  double wanted = number(item);
  if (!(fabs(value - wanted) <= tolerance * fmax(1, fabs(wanted)))) {
    fail_msg("%s: %s is %.12g, recorded is %.12g", x->name, what, value, wanted);
  }
}

static double unit_norm(const double *values, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += values[i] * values[i];
  }
  return sum;
}

static void check_logits(trial *x) {
  double host[B * T * V], sum = 0;
  void *logits = engine_new(x->e, sizeof(host));
  GOOD(model_logits(x->run, &x->store->source, x->batch->batch.tokens, logits));
  engine_read(x->e, logits, host, B * T * V);
  for (int i = 0; i < B * T * V; i++) {
    sum += host[i];
  }
  for (int i = 0; i < 3; i++) {
    near(x, "logits[0, 0]", host[i], cJSON_GetArrayItem(cJSON_GetObjectItem(x->wanted, "logits00"), i));
    near(x, "logits[1, 11]", host[(B * T - 1) * V + i],
         cJSON_GetArrayItem(cJSON_GetObjectItem(x->wanted, "logits_last"), i));
  }
  near(x, "sum of logits", sum, cJSON_GetObjectItem(x->wanted, "logit_sum"));
  x->e->ops->free(x->e, logits);
}

static void check_gradients(trial *x) {
  const cJSON *wanted = cJSON_GetObjectItem(x->wanted, "grads"), *item;
  assert_true(cJSON_GetArraySize(wanted) >= 7);
  cJSON_ArrayForEach(item, wanted) {
    int unit_index;
    const tensor *t = model_tensor(x->m, item->string, &unit_index);
    if (t == NULL) {
      fail_msg("%s: no tensor %s", x->name, item->string);
      return;
    }
    double *grads = test_malloc((size_t)x->m->units[unit_index].count * sizeof(double));
    GOOD(x->store->ops->read(x->store, unit_index, STATE_GRADS, grads));
    near(x, item->string, sqrt(unit_norm(grads + t->offset, t->count)), item);
    test_free(grads);
  }
}

static void check_parameters(trial *x) {
  double sum = 0;
  for (int u = 0; u < x->m->n_units; u++) {
    double *values = test_malloc((size_t)x->m->units[u].count * sizeof(double));
    GOOD(x->store->ops->read(x->store, u, STATE_WEIGHTS, values));
    sum += unit_norm(values, x->m->units[u].count);
    test_free(values);
  }
  near(x, "norm of the parameters", sqrt(sum), cJSON_GetObjectItem(x->wanted, "final_param_l2"));
}

static void check_updates(trial *x) {
  const update_spec u = {.beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .weight_decay = 0.01, .grad_clip = 1.0};
  const schedule rate = {.lr = 1e-2, .warmup_steps = 2, .steps = STEPS};
  for (int step = 1; step <= STEPS; step++) {
    step_state state = {
        .step = step, .updates = step - 1, .lr = schedule_lr(&rate, step), .loss_scale = 1, .micro_batches = 1};
    step_result result;
    near(x, "rate", state.lr, cJSON_GetArrayItem(cJSON_GetObjectItem(x->wanted, "lrs"), step - 1));
    GOOD(x->e->ops->set_step(x->e, &state));
    GOOD(x->store->ops->begin_micro_batch(x->store, 0));
    GOOD(model_train(x->run, &x->store->source, &x->batch->batch, x->loss));
    GOOD(x->store->ops->finish(x->store, x->loss, &u));
    GOOD(x->e->ops->get_result(x->e, &result));
    near(x, "loss", result.loss, cJSON_GetArrayItem(cJSON_GetObjectItem(x->wanted, "traj"), step - 1));
    near(x, "norm of the gradient", result.grad_norm,
         cJSON_GetArrayItem(cJSON_GetObjectItem(x->wanted, "norms"), step - 1));
    if (step == 1) {
      near(x, "loss", result.loss, cJSON_GetObjectItem(x->wanted, "loss"));
      near(x, "norm of the gradient", result.grad_norm, cJSON_GetObjectItem(x->wanted, "grad_norm"));
      check_gradients(x);
    }
  }
}

/* ---- a variant ---- */

static const cJSON *find_variant(const char *name) {
  const cJSON *item;
  cJSON_ArrayForEach(item, cJSON_GetObjectItem(figures, "variants")) {
    if (strcmp(cJSON_GetObjectItem(item, "variant")->valuestring, name) == 0) {
      return item;
    }
  }
  fail_msg("no variant '%s' in the file of figures", name);
  return NULL;
}

static test_batch *make_batch(engine *e) {
  test_batch *batch = test_batch_create(e, B, T, V);
  for (int b = 0; b < B; b++) {
    for (int t = 0; t < T; t++) {
      batch->host_tokens[b * T + t] = (7 * b + 3 * t + t * t) % V;
      batch->host_labels[b * T + t] = (7 * b + 3 * (t + 1) + (t + 1) * (t + 1)) % V;
    }
  }
  test_batch_upload(batch);
  return batch;
}

static void run_variant(const model_variant *v) {
  static const dist alone = {.ranks = 1, .local_ranks = 1, .hosts = 1};
  trial x = {.name = v->name, .wanted = find_variant(v->name)};
  char keys[256];
  snprintf(keys, sizeof(keys), "vocab_size=29 d_model=16 n_layers=2 n_heads=2 d_mlp=24 %s", v->keys);
  config_model c = make_config(keys);
  run_spec spec = {.B = B, .T = T, .training = true};
  GOOD(model_create(&c, NULL, &x.m));
  assert_true((double)x.m->parameters == number(cJSON_GetObjectItem(x.wanted, "params")));
  GOOD(engine_cpu_create(DTYPE_F64, 1, 0, &x.e));
  GOOD(weight_store_create(x.m, x.e, &alone, NULL, STRATEGY_DDP, OFFLOAD_NONE, 1, 0, true, &x.store));
  GOOD(model_run_create(x.m, x.e, &spec, &x.run));
  x.batch = make_batch(x.e);
  x.loss = engine_new(x.e, sizeof(double));
  fill(&x);
  check_logits(&x);
  check_updates(&x);
  check_parameters(&x);
  x.e->ops->free(x.e, x.loss);
  test_batch_free(x.batch);
  model_run_free(x.run);
  weight_store_destroy(x.store);
  x.e->ops->destroy(x.e);
  model_free(x.m);
}

static void test_variants(void **unused) {
  for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
    run_variant(&variants[i]);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_variants)};
  char *text = NULL;
  size_t bytes;
  if (argc != 2 || file_read(argv[1], 1 << 24, &text, &bytes) != STATUS_OK) {
    fprintf(stderr, "usage: %s FIGURES.json\n", argv[0]);
    return 2;
  }
  figures = cJSON_Parse(text);
  free(text);
  if (figures == NULL) {
    fprintf(stderr, "%s is no JSON\n", argv[1]);
    return 2;
  }
  int failed = cmocka_run_group_tests_name("golden vectors", tests, NULL, NULL);
  cJSON_Delete(figures);
  return failed;
}
