#include "ckpt/file_thread.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"

enum { MESSAGE = 4096 };

struct file_thread {
  pthread_t thread;
  const ckpt_content *content;
  const float *(*values)(void *context, int part);
  void *context;

  pthread_mutex_t lock; /* guards what follows */
  pthread_cond_t changed;
  int ready, written;
  bool abandoned, ended;
  status result;
  char message[MESSAGE]; /* status_message() belongs to its thread */
};

/* Waits for a part. */
static status part_ready(file_thread *t, int part) {
  pthread_mutex_lock(&t->lock);
  while (t->ready <= part && !t->abandoned) {
    pthread_cond_wait(&t->changed, &t->lock);
  }
  bool there = t->ready > part;
  pthread_mutex_unlock(&t->lock);
  REQUIRE(there, "the checkpoint of step %lld was given up", (long long)t->content->state.step);
  return STATUS_OK;
}

static status write_parts(file_thread *t, ckpt_write *file) {
  for (int part = 0; part < ckpt_parts(t->content->m); part++) {
    TRY(part_ready(t, part));
    TRY(ckpt_write_part(file, t->values(t->context, part)));
    pthread_mutex_lock(&t->lock);
    t->written = part + 1;
    pthread_mutex_unlock(&t->lock);
  }
  return ckpt_write_end(file);
}

static void *run(void *context) {
  file_thread *t = context;
  ckpt_write *file = NULL;
  status result = ckpt_write_begin(t->content, &file);
  if (result == STATUS_OK) {
    result = write_parts(t, file);
  }
  ckpt_write_free(file);
  pthread_mutex_lock(&t->lock);
  t->result = result;
  snprintf(t->message, sizeof t->message, "%s", result != STATUS_OK ? status_message() : "");
  t->ended = true;
  pthread_mutex_unlock(&t->lock);
  return NULL;
}

/* Signals are the main thread's: a stop request must interrupt it, and not a write. */
static int start(file_thread *t) {
  sigset_t all, before;
  sigfillset(&all);
  int error = pthread_sigmask(SIG_SETMASK, &all, &before);
  if (error == 0) {
    error = pthread_create(&t->thread, NULL, run, t);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
  }
  return error;
}

static void release(file_thread *t) {
  pthread_cond_destroy(&t->changed);
  pthread_mutex_destroy(&t->lock);
  free(t);
}

status file_thread_start(const ckpt_content *content, const float *(*values)(void *context, int part), void *context,
                         file_thread **out) {
  file_thread *t;
  *out = NULL;
  TRY(memory_new(&t, 1, sizeof *t, "the thread that writes a checkpoint"));
  t->content = content;
  t->values = values;
  t->context = context;
  pthread_mutex_init(&t->lock, NULL);
  pthread_cond_init(&t->changed, NULL);
  int error = start(t);
  if (error != 0) {
    release(t);
    FAIL("the thread that writes the checkpoint could not be started: %s; raise the limit on processes (ulimit -u)",
         strerror(error));
  }
  *out = t;
  return STATUS_OK;
}

void file_thread_ready(file_thread *t, int parts) {
  pthread_mutex_lock(&t->lock);
  t->ready = parts;
  pthread_cond_signal(&t->changed);
  pthread_mutex_unlock(&t->lock);
}

int file_thread_written(file_thread *t, bool *ended) {
  pthread_mutex_lock(&t->lock);
  int written = t->written;
  *ended = t->ended;
  pthread_mutex_unlock(&t->lock);
  return written;
}

status file_thread_join(file_thread *t) {
  pthread_join(t->thread, NULL);
  status result = t->result;
  if (result != STATUS_OK) {
    status_set(result, __FILE__, __LINE__, "%s", t->message);
  }
  release(t);
  return result;
}

void file_thread_abandon(file_thread *t) {
  pthread_mutex_lock(&t->lock);
  t->abandoned = true;
  pthread_cond_signal(&t->changed);
  pthread_mutex_unlock(&t->lock);
  pthread_join(t->thread, NULL);
  release(t);
}
