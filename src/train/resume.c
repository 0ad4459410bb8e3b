#include "train/resume.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "optim/loss_scale.h"

/* What rank 0 tells the others. */
typedef struct {
  run_state state;
  int64_t micro_batch; /* of the checkpoint; 0: none */
} start_point;

run_state training_fresh_state(const training *t) {
  run_state s = {
      .loss_scale = loss_scaling_from(t->c).scale, .best_val_loss = INFINITY, .best_step = -1, .val_loss = NAN};
  if (t->train_store != NULL) {
    snprintf(s.train_digest, sizeof s.train_digest, "%s", t->train_store->digest);
  }
  return s;
}

static status open_folder(training *t) {
  char *path = NULL;
  TRY(file_make_folder(t->c->run.dir));
  TRY(file_join(&path, t->c->run.dir, ".lock"));
  status s = file_lock(path, &t->lock);
  free(path);
  TRY(s);
  TRY(file_make_folder(t->checkpoints));
  TRY(file_join(&path, t->c->run.dir, "log.txt"));
  s = log_open_file(path);
  free(path);
  return s;
}

/* The checkpoint that this launch continues from; *path NULL: none. */
static status choose(const training *t, char **path) {
  const char *resume = t->c->run.resume;
  *path = NULL;
  if (strcmp(resume, "auto") == 0) {
    return checkpoint_newest(t->checkpoints, path);
  }
  char *newest = NULL;
  TRY(checkpoint_newest(t->checkpoints, &newest));
  if (newest == NULL) {
    return strcmp(resume, "never") == 0 ? STATUS_OK : memory_format(path, "%s", resume);
  }
  status s;
  if (strcmp(resume, "never") == 0) {
    s = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                   "run.resume = never, but the run folder '%s' holds checkpoints (the newest is '%s'); choose another "
                   "run.dir, or set run.resume = auto "
                   "to continue",
                   t->c->run.dir, newest);
  } else {
    s = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                   "run.resume = %s, but the run folder '%s' holds checkpoints of its own (the newest is '%s'); choose "
                   "another run.dir, or set "
                   "run.resume = auto to continue from that one",
                   resume, t->c->run.dir, newest);
  }
  free(newest);
  return s;
}

static status find_on_first_rank(training *t, start_point *start) {
  TRY(open_folder(t));
  TRY(choose(t, &t->resumed_from));
  if (t->resumed_from == NULL) {
    return STATUS_OK;
  }
  TRY(checkpoint_open(t->resumed_from, false, &t->from));
  start->state = t->from->state;
  start->micro_batch = t->from->config->train.micro_batch;
  return STATUS_OK;
}

status resume_find(training *t) {
  start_point start = {.state = training_fresh_state(t)};
  if (!t->request->plan_only) {
    TRY(dist_agree(t->d, file_join(&t->checkpoints, t->c->run.dir, "checkpoints")));
    TRY(dist_agree(t->d, t->d->rank == 0 ? find_on_first_rank(t, &start) : STATUS_OK));
    void *bytes = &start;
    size_t count = sizeof start;
    TRY(dist_broadcast(t->d, &bytes, &count));
    if (t->d->rank != 0) {
      memcpy(&start, bytes, sizeof start);
      free(bytes);
    }
  }
  t->state = start.state;
  t->first_step = start.state.step;
  if (t->c->train.micro_batch == 0 && start.micro_batch > 0 && training_batch(t) % start.micro_batch == 0) {
    t->c->train.micro_batch = start.micro_batch;
  }
  return STATUS_OK;
}

status resume_check(training *t) {
  return dist_agree(t->d, t->from != NULL ? checkpoint_compatible(t->from, t->c, t->train_store) : STATUS_OK);
}

status resume_load(training *t) {
  if (t->first_step == 0) {
    return STATUS_OK;
  }
  double began = clock_seconds();
  TRY(checkpoint_load(t->from, t->m, t->w, true, t->d));
  log_line("[load] step=%lld dt=%.1fs", (long long)t->first_step, clock_seconds() - began);
  if (t->from != NULL) {
    checkpoint_close(t->from);
    t->from = NULL;
  }
  return STATUS_OK;
}
