#include "infer/measure.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "base/log.h"
#include "infer/loaded.h"
#include "train/evaluate.h"

typedef struct {
  const measure_job *job;
  loaded *l;
  token_store *store;
  evaluation *v;
  evaluation_result r;
} measure;

static void progress(int64_t done, int64_t of) {
  log_progress("evaluating: %" PRId64 " of %" PRId64 " batches", done, of);
}

static status open_store(measure *x) {
  TRY(token_store_open(x->job->store, &x->store));
  return loaded_fits_store(x->l, x->store);
}

static status compute(measure *x) {
  const measure_job *job = x->job;
  const config *c = x->l->k->config;
  int64_t B = job->micro_batch > 0 ? job->micro_batch : c->train.micro_batch;
  int64_t T = job->seq_len > 0 ? job->seq_len : c->data.seq_len;
  B = B > 0 ? B : 1;
  const dist *d = &x->l->d;
  TRY(dist_agree(d, evaluation_create(x->l->m, x->l->e, &x->l->w->source, d, x->store, B, T, job->batches, &x->v)));
  return evaluation_run(x->v, &x->r, job->json ? NULL : progress);
}

static status print_json(const measure *x) {
  const checkpoint *k = x->l->k;
  cJSON *o = cJSON_CreateObject();
  bool added = cJSON_AddStringToObject(o, "checkpoint", k->path) != NULL;
  added = added && cJSON_AddNumberToObject(o, "step", (double)k->state.step) != NULL;
  added = added && cJSON_AddStringToObject(o, "store", x->store->path) != NULL;
  added = added && cJSON_AddNumberToObject(o, "loss", x->r.loss) != NULL;
  added = added && cJSON_AddNumberToObject(o, "ppl", x->r.ppl) != NULL;
  added =
      added && (isnan(x->r.bits_per_byte) ? cJSON_AddNullToObject(o, "bits_per_byte")
                                          : cJSON_AddNumberToObject(o, "bits_per_byte", x->r.bits_per_byte)) != NULL;
  added = added && cJSON_AddNumberToObject(o, "accuracy", x->r.accuracy) != NULL;
  added = added && cJSON_AddNumberToObject(o, "tokens", (double)x->r.tokens) != NULL;
  added = added && cJSON_AddNumberToObject(o, "seconds", x->r.seconds) != NULL;
  char *text = added ? cJSON_PrintUnformatted(o) : NULL;
  cJSON_Delete(o);
  REQUIRE(text != NULL, "out of memory: the result as JSON");
  log_line("%s", text);
  free(text);
  return STATUS_OK;
}

static void print_text(const measure *x) {
  const checkpoint *k = x->l->k;
  const evaluation_result *r = &x->r;
  log_line("checkpoint   %s (step %" PRId64 ")", k->path, k->state.step);
  log_line("token store  %s (%" PRId64 " tokens, %" PRId64 " documents)", x->store->path, x->store->tokens,
           x->store->documents);
  log_line("evaluated    %" PRId64 " tokens in %.1f s", r->tokens, r->seconds);
  log_line("loss         %.4f nats a token", r->loss);
  log_line("perplexity   %.3f", r->ppl);
  if (isnan(r->bits_per_byte)) {
    log_line("bits/byte    unknown: the store was made from token ids and doesn't know its bytes of text");
  } else {
    bool all = r->tokens == x->store->tokens - 1;
    log_line("bits/byte    %.4f%s", r->bits_per_byte, all ? "" : " (with the whole store's bytes a token)");
  }
  log_line("accuracy     %.2f %%", 100 * r->accuracy);
}

status measure_run(const measure_job *job, const dist *d) {
  measure x = {.job = job};
  status result = loaded_open(job->checkpoint, job->device, job->strategy, d, &x.l);
  if (result == STATUS_OK) {
    result = dist_agree(d, open_store(&x));
  }
  if (result == STATUS_OK) {
    result = compute(&x);
  }
  if (result == STATUS_OK && d->rank == 0) {
    result = job->json ? print_json(&x) : (print_text(&x), STATUS_OK);
  }
  evaluation_free(x.v);
  token_store_close(x.store);
  loaded_close(x.l);
  return result;
}
