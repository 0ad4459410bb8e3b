/* GPU-08: a checkpoint that is loaded and saved again is the same; a run that continues from it ends where the unbroken
 * one does; both write the same text. */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/json.h"
#include "bench/sample.h"
#include "bench/steps.h"
#include "ckpt/checkpoint.h"
#include "ckpt/record.h"
#include "engine/select.h"

enum { PROMPT = 8, NEW_TOKENS = 24 };

static const double RUN_LIMIT_S = 300;

/* Everything of a checkpoint, on the way from file to file. */
typedef struct {
  checkpoint *k;
  token_store *store; /* of its tokenizer */
  model *m;
  engine *e;
  weight_store *w;
} carrier;

static status load(const validation *v, const char *path, carrier *c) {
  TRY(checkpoint_open(path, false, &c->k));
  const config *k = c->k->config;
  TRY(token_store_open(v->train_store, &c->store));
  TRY(model_create(&k->model, k->train.decay_exclude, &c->m));
  TRY(engine_create(k->run.device, k->train.precision, 0, (int)k->cpu.threads, (uint64_t)k->run.seed, &c->e));
  TRY(weight_store_create(c->m, c->e, &v->d, NULL, STRATEGY_AUTO, OFFLOAD_NONE, 1, (uint64_t)k->run.seed + 1, true,
                          &c->w));
  return checkpoint_load(c->k, c->m, c->w, true, &v->d);
}

static void put_down(carrier *c) {
  weight_store_destroy(c->w);
  if (c->e != NULL) {
    c->e->ops->destroy(c->e);
  }
  model_free(c->m);
  token_store_close(c->store);
  checkpoint_close(c->k);
}

/* Loads the file and saves it in `folder`. */
static status load_and_save(const validation *v, const char *path, const char *folder) {
  carrier c = {0};
  status s = load(v, path, &c);
  s = s != STATUS_OK ? s : file_make_folder(folder);
  s = s != STATUS_OK ? s : checkpoint_save(folder, c.k->config, c.m, c.w, &c.k->state, c.store, &v->d);
  put_down(&c);
  return s;
}

static status compare_parts(const char *a, const char *b, cJSON *result) {
  checkpoint *x = NULL, *y = NULL;
  status s = checkpoint_open(a, false, &x);
  s = s != STATUS_OK ? s : checkpoint_open(b, false, &y);
  s = s != STATUS_OK ? s : checkpoint_verify(x);
  s = s != STATUS_OK ? s : checkpoint_verify(y);
  if (s == STATUS_OK) {
    const ckpt_digests *p = &x->parts->digests, *q = &y->parts->digests;
    bool params = strcmp(p->model, q->model) == 0, moments = strcmp(p->optim, q->optim) == 0;
    bool position = strcmp(p->state, q->state) == 0 && x->state.sequences == y->state.sequences;
    cJSON_AddBoolToObject(result, "params_equal", params);
    cJSON_AddBoolToObject(result, "moments_equal", moments);
    cJSON_AddBoolToObject(result, "position_equal", position);
    json_number(result, "sequences", (double)y->state.sequences);
    judge(result, params && moments && position && x->state.sequences > 0,
          "parameters, moments and data position are equal after load and save",
          "parameters %s, moments %s, position %s", params ? "equal" : "differ", moments ? "equal" : "differ",
          position ? "equal" : "differs");
  }
  checkpoint_close(x);
  checkpoint_close(y);
  return s;
}

static status compare_texts(const validation *v, const char *a, const char *b, cJSON *result) {
  loaded *x = NULL, *y = NULL;
  token_store *store = NULL;
  generate_row first = {0}, second = {0}, again = {0};
  status s = loaded_open(a, NULL, NULL, &v->d, &x);
  s = s != STATUS_OK ? s : loaded_open(b, NULL, NULL, &v->d, &y);
  s = s != STATUS_OK ? s : token_store_open(v->val_store, &store);
  s = s != STATUS_OK ? s : sample_write(x, store, PROMPT, NEW_TOKENS, 7, &first);
  s = s != STATUS_OK ? s : sample_write(y, store, PROMPT, NEW_TOKENS, 7, &second);
  s = s != STATUS_OK ? s : sample_write(x, store, PROMPT, NEW_TOKENS, 7, &again);
  if (s == STATUS_OK) {
    bool equal = sample_equal(&first, &second) && sample_equal(&first, &again);
    cJSON_AddBoolToObject(result, "gen_equal", equal);
    judge(result, equal && first.count > first.prompt, "the same seed gives the same text, from either and again",
          "texts %s", equal ? "equal" : "differ");
  }
  sample_free(&first);
  sample_free(&second);
  sample_free(&again);
  token_store_close(store);
  loaded_close(x);
  loaded_close(y);
  return s;
}

static status continue_run(validation *v, const char *from, char **run) {
  char *resume = NULL;
  TRY(memory_format(&resume, "run.resume=%s", from));
  const char *const overrides[] = {resume, NULL};
  status s = validation_train(v, "continued", 1, overrides, RUN_LIMIT_S, run);
  free(resume);
  return s;
}

static status compare(validation *v, const char *half, const char *copy, const char *unbroken, cJSON *result) {
  char *run = NULL;
  bool same = false;
  TRY(compare_parts(half, copy, result));
  TRY(continue_run(v, copy, &run)); /* from the copy: what it lost would show */
  status s = checkpoint_diff(unbroken, run, &same);
  if (s == STATUS_OK) {
    cJSON_AddBoolToObject(result, "continued_equal", same);
    judge(result, same, "the continued run ends as the unbroken one, bit for bit", "continued run %s",
          same ? "equal" : "differs");
    s = compare_texts(v, unbroken, run, result);
  }
  free(run);
  return s;
}

status step_continues(validation *v, cJSON *result) {
  char *half = NULL, *folder = NULL, *copy = NULL;
  TRY(validation_baseline(v));
  status s = memory_format(&half, "%s/checkpoints/step_%08d.h5", v->baseline, VALIDATION_STEPS / 2);
  s = s != STATUS_OK ? s : file_join(&folder, v->work, "copy");
  s = s != STATUS_OK ? s : memory_format(&copy, "%s/step_%08d.h5", folder, VALIDATION_STEPS / 2);
  s = s != STATUS_OK ? s : load_and_save(v, half, folder);
  s = s != STATUS_OK ? s : compare(v, half, copy, v->baseline, result);
  if (v->o->keep) {
    cJSON_AddStringToObject(result, "ckpt_path", copy != NULL ? copy : "");
  } else {
    cJSON_AddNullToObject(result, "ckpt_path"); /* gone with the work folder: --keep leaves it */
  }
  free(half);
  free(folder);
  free(copy);
  return s;
}
