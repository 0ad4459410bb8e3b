#include "report/tensorboard.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "report/append_file.h"
#include "report/tfevents.pb-c.h"
#include "report/tfrecord.h"

enum { SCALARS = 32 }; /* of one event, at most */

struct tensorboard {
  append_file file;
  uint8_t *record; /* where an event is packed */
  size_t capacity;
  double flushed; /* clock */
};

typedef Tensorboard__Event event;

static double wall_time(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void add_event(tensorboard *t, event *e, int64_t step) {
  e->has_wall_time = e->has_step = 1;
  e->wall_time = wall_time();
  e->step = step;
  size_t bytes = tensorboard__event__get_packed_size(e), whole = TFRECORD_HEAD + bytes + TFRECORD_TAIL;
  if (memory_grow(&t->record, &t->capacity, whole, 1, "an event of TensorBoard") != STATUS_OK) {
    return;
  }
  tensorboard__event__pack(e, t->record + TFRECORD_HEAD);
  tfrecord_frame(t->record, bytes);
  append_file_add(&t->file, t->record, whole);
  if (clock_seconds() - t->flushed > 1) {
    tensorboard_flush(t);
  }
}

/* One summary of n ≤ SCALARS numbers, without those that are left out as NaN. */
void tensorboard_numbers(tensorboard *t, int64_t step, const metrics_number *numbers, int n) {
  if (t == NULL) {
    return;
  }
  Tensorboard__Summary__Value values[SCALARS], *list[SCALARS];
  Tensorboard__Summary summary = TENSORBOARD__SUMMARY__INIT;
  for (int i = 0; i < n && i < SCALARS; i++) {
    if (isnan(numbers[i].value)) {
      continue;
    }
    size_t k = summary.n_value++;
    tensorboard__summary__value__init(&values[k]);
    values[k].tag = (char *)numbers[i].name;
    values[k].has_simple_value = 1;
    values[k].simple_value = (float)numbers[i].value;
    list[k] = &values[k];
  }
  if (summary.n_value == 0) {
    return;
  }
  summary.value = list;
  event e = TENSORBOARD__EVENT__INIT;
  e.summary = &summary;
  add_event(t, &e, step);
}

void tensorboard_step(tensorboard *t, const metrics_row *r) {
  const metrics_number numbers[] = {
      {"loss", r->loss},
      {"ppl", r->ppl},
      {"lr", r->lr},
      {"grad_norm", r->grad_norm},
      {"tok_s", r->tok_s},
      {"step_ms", r->step_ms},
      {"skipped", r->skipped},
      {"loss_scale", r->loss_scale},
      {"val_loss", r->val_loss},
      {"val_ppl", r->val_ppl},
      {"val_bits_per_byte", r->val_bits_per_byte},
  };
  tensorboard_numbers(t, r->step, numbers, (int)(sizeof numbers / sizeof numbers[0]));
}

void tensorboard_flush(tensorboard *t) {
  if (t != NULL) {
    append_file_flush(&t->file);
    t->flushed = clock_seconds();
  }
}

void tensorboard_go_back(tensorboard *t, int64_t last_step) {
  if (t == NULL) {
    return;
  }
  Tensorboard__SessionLog log = TENSORBOARD__SESSION_LOG__INIT;
  log.has_status = 1;
  log.status = TENSORBOARD__SESSION_LOG__SESSION_STATUS__START;
  event start = TENSORBOARD__EVENT__INIT;
  start.session_log = &log;
  add_event(t, &start, last_step + 1);
  tensorboard_flush(t);
}

/* Opening. */

#define STEM "events.out.tfevents."

/* The time for a name after all that are in the folder: readers go through the files in the order of their names. */
static long long next_time(const char *folder) {
  long long next = (long long)time(NULL);
  DIR *d = opendir(folder);
  for (struct dirent *entry; d != NULL && (entry = readdir(d)) != NULL;) {
    if (strncmp(entry->d_name, STEM, strlen(STEM)) == 0) {
      long long there = strtoll(entry->d_name + strlen(STEM), NULL, 10);
      next = there >= next && there < 9999999999LL ? there + 1 : next;
    }
  }
  if (d != NULL) {
    closedir(d);
  }
  return next;
}

static status open_file(const char *folder, const char *host, tensorboard *t) {
  char *name = NULL, *path = NULL;
  TRY(memory_format(&name, STEM "%010lld.%.200s.%ld", next_time(folder), host, (long)getpid()));
  for (char *p = name; *p != 0; p++) {
    *p = *p == '/' ? '_' : *p;
  }
  status s = file_join(&path, folder, name);
  if (s == STATUS_OK) {
    s = append_file_open(&t->file, path, true);
  }
  free(name);
  free(path);
  return s;
}

void tensorboard_open(const char *folder, int64_t last_step, const char *host, tensorboard **out) {
  *out = NULL;
  tensorboard *t = NULL;
  status s = memory_new(&t, 1, sizeof *t, "the events of TensorBoard");
  if (s == STATUS_OK) {
    t->file.file = -1;
    s = open_file(folder, host, t);
  }
  if (s != STATUS_OK) {
    log_warning("the run goes on without events for TensorBoard: %s", status_message());
    tensorboard_close(t);
    return;
  }
  event version = TENSORBOARD__EVENT__INIT;
  version.file_version = (char *)"brain.Event:2";
  add_event(t, &version, 0);
  tensorboard_go_back(t, last_step);
  *out = t;
}

void tensorboard_close(tensorboard *t) {
  if (t != NULL) {
    append_file_close(&t->file);
    free(t->record);
    free(t);
  }
}
