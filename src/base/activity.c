#include "base/activity.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"

/* Published with relaxed order: a reader wants to know that something moved, not what it was exactly in between. */
static struct {
  _Atomic int phase;
  _Atomic int64_t step, steps_begun, progress, collectives, helped;
  _Atomic(const char *) collective;
  atomic_bool waiting, leaning, halted;
} now;

/* The main thread's own. */
static double wait_began, waited;
static int depth; /* of calls between wait and waited, lean and stand */

static struct {
  bool on, in_collective, hang;
  phase phase;
  int64_t step;
  int rank;
} held;

static const char *const words[PHASES] = {"start",      "load", "pass",   "update", "between",
                                          "evaluation", "save", "return", "end"};

static void add_one(_Atomic int64_t *count) { /* one writer, so no read-modify-write is needed */
  atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1, memory_order_relaxed);
}

static void hold(void) {
  held.on = false;
  fprintf(stderr, "held: rank %d, process %ld, phase %s, step %lld\n", held.rank, (long)getpid(),
          held.in_collective ? "collective" : words[held.phase], (long long)now.step);
  for (;;) {
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    if (!held.hang) {
      activity_tick();
    }
  }
}

static bool hold_reached(void) {
  return held.on && atomic_load_explicit(&now.step, memory_order_relaxed) >= held.step;
}

void activity_enter(phase p) {
  atomic_store_explicit(&now.phase, (int)p, memory_order_relaxed);
  activity_tick();
  if (hold_reached() && !held.in_collective && held.phase == p) {
    hold();
  }
}

void activity_step(int64_t step) {
  atomic_store_explicit(&now.step, step, memory_order_relaxed);
  add_one(&now.steps_begun);
  activity_tick();
}

static bool main_thread(void) {
  static _Thread_local int known = -1;
  if (known < 0) {
    known = gettid() == getpid();
  }
  return known;
}

void activity_tick(void) {
  if (main_thread()) {
    while (atomic_load_explicit(&now.halted, memory_order_relaxed)) {
      pause();
    }
    add_one(&now.progress);
  } else { /* there may be several */
    atomic_fetch_add_explicit(&now.helped, 1, memory_order_relaxed);
  }
}

void activity_wait(const char *collective) {
  if (depth++ > 0) {
    return;
  }
  atomic_store_explicit(&now.collective, collective, memory_order_relaxed);
  add_one(&now.collectives);
  activity_tick();
  atomic_store_explicit(&now.waiting, true, memory_order_relaxed);
  if (hold_reached() && held.in_collective) {
    hold();
  }
  wait_began = clock_seconds();
}

void activity_waited(void) {
  if (--depth > 0) {
    return;
  }
  waited += clock_seconds() - wait_began;
  atomic_store_explicit(&now.waiting, false, memory_order_relaxed);
  activity_tick();
}

void activity_issue(void) {
  add_one(&now.collectives);
  activity_tick();
}

void activity_lean(void) {
  if (depth++ == 0) {
    add_one(&now.collectives);
    activity_tick();
    atomic_store_explicit(&now.leaning, true, memory_order_relaxed);
  }
}

void activity_stand(void) {
  if (--depth == 0) {
    atomic_store_explicit(&now.leaning, false, memory_order_relaxed);
    activity_tick();
  }
}

void activity_halt(void) {
  atomic_store_explicit(&now.halted, true, memory_order_relaxed);
}

double activity_waiting_seconds(void) {
  return waited;
}

activity activity_now(void) {
  activity a = {.phase = (phase)atomic_load_explicit(&now.phase, memory_order_relaxed),
                .step = atomic_load_explicit(&now.step, memory_order_relaxed),
                .steps_begun = atomic_load_explicit(&now.steps_begun, memory_order_relaxed),
                .progress = atomic_load_explicit(&now.progress, memory_order_relaxed),
                .collectives = atomic_load_explicit(&now.collectives, memory_order_relaxed),
                .waiting = atomic_load_explicit(&now.waiting, memory_order_relaxed)};
  if (atomic_load_explicit(&now.leaning, memory_order_relaxed)) {
    a.progress += atomic_load_explicit(&now.helped, memory_order_relaxed);
  }
  const char *collective = atomic_load_explicit(&now.collective, memory_order_relaxed);
  snprintf(a.collective, sizeof a.collective, "%s", collective != NULL ? collective : "");
  return a;
}

const char *phase_name(phase p) {
  static const char *const names[PHASES] = {
      "start",      "loading data",         "forward and backward",       "exchange and update", "between steps",
      "evaluation", "writing a checkpoint", "going back to a checkpoint", "the run's end"};
  return p >= 0 && p < PHASES ? names[p] : "an unknown phase";
}

void activity_hold_from_environment(int rank) {
  const char *text = getenv("PSANN_DEBUG_HOLD");
  if (text == NULL || *text == '\0') {
    return;
  }
  char word[16], hang[8] = "";
  int wanted;
  long long step;
  int fields = sscanf(text, "%d:%15[a-z]:%lld:%7s", &wanted, word, &step, hang);
  held.in_collective = strcmp(fields >= 3 ? word : "", "collective") == 0;
  bool known = held.in_collective;
  for (int p = 0; fields >= 3 && p < PHASES; p++) {
    if (strcmp(words[p], word) == 0) {
      held.phase = (phase)p;
      known = true;
    }
  }
  held.hang = strcmp(hang, "hang") == 0;
  if (fields < 3 || !known || (fields == 4 && !held.hang)) {
    log_warning("PSANN_DEBUG_HOLD = '%s' is ignored; it takes RANK:PHASE:STEP or RANK:PHASE:STEP:hang", text);
    return;
  }
  held.step = step;
  held.rank = rank;
  held.on = rank == wanted;
}
