#include "watch/watchdog.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "watch/judge.h"
#include "watch/meet.h"
#include "watch/terminal.h"
#include "watch/wire.h"

enum {
  BEATS = 20,        /* in a time-out, */
  INTERRUPT_S = 2,   /* the same after the user's second Ctrl-C */
  LAST_RESORT_S = 5, /* the process ends after this, whatever hangs on the way */
  EXCHANGES = 2,
  DEPUTIES = 3, /* ranks that speak one after the other when rank 0 is gone; the rest speaks with the last */
};

static const double MOST_INTERVAL_S = 1, LEAST_INTERVAL_S = 0.02, FLUSH_S = 1, INTERRUPT_FLUSH_S = 0.3, DEPUTY_S = 1,
                    FAULT_S = 2;
static const long GIVE_UP_NS = 500000000;

/* What rank 0 tells the others to do. */
typedef struct {
  int32_t rank; /* whom it is about */
  watch_peer peer;
} verdict;

static struct {
  bool running;
  const dist *d;
  double timeout_s, interval;
  wire *wires;      /* (ranks); other ranks than 0 have the first alone */
  rank_view *views; /* rank 0: (ranks); others: rank 0 and themselves */
  int n_views;
  int wake;            /* eventfd */
  double found_at;     /* when rank 0 was found wanting; 0: it wasn't */
  double faulty_since; /* own failure; 0: none */
  bool told_end;
  pthread_t thread;
  atomic_bool ending, stopping;
  atomic_int interrupted; /* the code to end with; 0: not */
  pthread_mutex_t lock;   /* of what follows: an exchange is not destroyed while the watchdog looks at it */
  collectives *exchanges[EXCHANGES];
} w = {.wake = -1, .lock = PTHREAD_MUTEX_INITIALIZER};

/* Sends until all is on its way or the patience is over. */
static void flush(double patience) {
  double start = clock_seconds();
  bool left = true;
  while (left && clock_seconds() - start < patience) {
    left = false;
    for (int r = 0; r < w.d->ranks; r++) {
      left = left || (w.wires[r].socket >= 0 && !wire_flush(&w.wires[r]));
    }
    if (left) {
      poll(NULL, 0, 1);
    }
  }
}

static void tell_all(message_type type, const void *payload, size_t bytes) {
  for (int r = 0; r < w.d->ranks; r++) {
    wire_send(&w.wires[r], type, payload, bytes);
  }
}

/* The end. From here on nothing may keep this process: not the log, not a device, not MPI. */

static void last_resort(void) {
  sigset_t it;
  sigemptyset(&it);
  sigaddset(&it, SIGALRM);
  signal(SIGALRM, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &it, NULL); /* this thread takes it, whatever the others block */
  alarm(LAST_RESORT_S);
}

static void *give_up(void *unused) {
  for (int i = 0; i < EXCHANGES; i++) {
    collectives *c = w.exchanges[i];
    if (c != NULL && c->ops->abort != NULL) {
      c->ops->abort(c);
    }
  }
  return unused;
}

/* On a thread of its own and for a moment, since it may last for ever: NCCL frees GPU memory, for which CUDA first
 * waits until the device is idle, and a copy engine that waits for a rank that is gone is not to be told otherwise. The
 * end of the process takes all of it away in any case. */
static void give_up_exchanges(void) {
  pthread_mutex_lock(&w.lock); /* for good */
  bool any = false;
  for (int i = 0; i < EXCHANGES; i++) {
    any = any || (w.exchanges[i] != NULL && w.exchanges[i]->ops->abort != NULL);
  }
  pthread_t thread;
  struct timespec until;
  if (!any || pthread_create(&thread, NULL, give_up, NULL) != 0) {
    return;
  }
  clock_gettime(CLOCK_MONOTONIC, &until);
  until.tv_nsec += GIVE_UP_NS;
  until.tv_sec += until.tv_nsec / 1000000000;
  until.tv_nsec %= 1000000000;
  pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until);
}

static _Noreturn void end_process(int code) {
  activity_halt(); /* what an exchange leaves that is given up is no result */
  give_up_exchanges();
  terminal_give_back();
  _exit(code);
}

/* `kills`: the process in question can't be left to end by itself. */
static _Noreturn void end_failed(bool kills, const watch_peer *peer) {
  if (kills && strcmp(peer->host, w.d->host) == 0) {
    process_kill(&peer->process);
  }
  end_process(STATUS_FAILURE);
}

/* Those that don't know it yet are told: rank 0 by the rank that was asked, the others by rank 0. What comes of the
 * ranks' connections in the meantime is no death. */
static _Noreturn void end_interrupted(int code, bool tell) {
  const int32_t said = code;
  watch_end_within(INTERRUPT_S, code);
  if (tell) {
    flush(INTERRUPT_FLUSH_S); /* a beat that is still on its way would keep the message back */
    tell_all(MESSAGE_INTERRUPT, &said, sizeof said);
    flush(INTERRUPT_FLUSH_S);
  }
  for (int r = 0; r < w.d->ranks; r++) {
    wire_close(&w.wires[r]); /* in order: a reset would overtake the message */
  }
  end_process(code);
}

static _Noreturn void end_job(int about, const watch_peer *peer, const char *sentence) {
  last_resort();
  log_last_words("%s", sentence);
  if (w.d->rank == 0) {
    const verdict v = {about, *peer};
    tell_all(MESSAGE_VERDICT, &v, sizeof v);
    flush(FLUSH_S);
  }
  end_failed(about != w.d->rank, peer);
}

/* What comes in. */

static void take_beat(rank_view *v, const message *m, double now) {
  activity a;
  if (m->bytes != sizeof a) {
    return;
  }
  memcpy(&a, m->payload, sizeof a);
  a.collective[sizeof a.collective - 1] = '\0';
  if (a.progress != v->last.progress) {
    v->moved = now;
  }
  v->last = a;
}

static void take_message(rank_view *v, const message *m, double now) {
  v->heard = now;
  if (m->type == MESSAGE_BEAT) {
    take_beat(v, m, now);
  } else if (m->type == MESSAGE_END) {
    v->ended = true;
  } else if (m->type == MESSAGE_FAULT && w.d->rank == 0) {
    char sentence[MESSAGE_BYTES + 256];
    snprintf(sentence, sizeof sentence, "rank %d on %s (process %lld): %.*s", v->rank, v->peer.host,
             (long long)v->peer.process.pid, (int)m->bytes, m->payload);
    end_job(v->rank, &v->peer, sentence);
  } else if (m->type == MESSAGE_VERDICT && w.d->rank != 0 && m->bytes == sizeof(verdict)) {
    verdict of;
    memcpy(&of, m->payload, sizeof of);
    of.peer.host[sizeof of.peer.host - 1] = '\0';
    last_resort();
    end_failed(of.rank != 0 && of.rank != w.d->rank, &of.peer); /* rank 0 has just spoken */
  } else if (m->type == MESSAGE_INTERRUPT && m->bytes == sizeof(int32_t)) {
    int32_t code;
    memcpy(&code, m->payload, sizeof code);
    end_interrupted(code, w.d->rank == 0);
  }
}

static void receive(double now) {
  static message m; /* one thread */
  int n = w.d->rank == 0 ? w.d->ranks : 1;
  for (int r = w.d->rank == 0 ? 1 : 0; r < n; r++) {
    wire_event e = WIRE_NOTHING;
    while (w.wires[r].socket >= 0 && (e = wire_receive(&w.wires[r], &m)) == WIRE_MESSAGE) {
      take_message(&w.views[r], &m, now);
    }
    if (e == WIRE_CLOSED) {
      wire_close(&w.wires[r]);
      w.views[r].closed = true;
    }
  }
}

/* What is made of it. */

static void look_at_self(double now) {
  rank_view *v = &w.views[w.d->rank == 0 ? 0 : 1];
  activity a = activity_now();
  if (a.progress != v->last.progress) {
    v->moved = now;
  }
  v->last = a;
  v->heard = now;
  v->ended = w.d->rank != 0 || atomic_load(&w.ending); /* other ranks than 0 judge rank 0 alone */
  if (w.d->rank != 0) {
    w.views[0].moved = now; /* rank 0 judges itself, as long as it lives */
  }
}

static void judge(double now) {
  finding f = watch_judge(w.views, w.n_views, w.d->rank == 0, now, w.timeout_s);
  bool ending = atomic_load(&w.ending); /* then others may wait for this rank, which is no fault of theirs */
  if (f.kind == FINDING_NONE || (ending && f.kind != FINDING_DIED && f.kind != FINDING_SILENT)) {
    w.found_at = 0;
    return;
  }
  if (w.found_at == 0) {
    w.found_at = now;
  }
  int turn = w.d->rank - 1 < DEPUTIES ? w.d->rank - 1 : DEPUTIES;
  if (w.d->rank > 0 && now - w.found_at < turn * DEPUTY_S) {
    return;
  }
  const rank_view *v = &w.views[f.index >= 0 ? f.index : 0]; /* where it is nobody, it is rank 0 that judges */
  bool here = strcmp(v->peer.host, w.d->host) == 0;
  char sentence[MESSAGE_BYTES];
  watch_sentence(&f, w.views, w.n_views, here && process_look(&v->peer.process) == PROCESS_STOPPED, sentence,
                 sizeof sentence);
  end_job(v->rank, &v->peer, sentence);
}

static status check_exchanges(void) {
  status s = STATUS_OK;
  pthread_mutex_lock(&w.lock);
  for (int i = 0; i < EXCHANGES && s == STATUS_OK && !atomic_load(&w.ending); i++) {
    collectives *c = w.exchanges[i];
    s = c != NULL && c->ops->check != NULL ? c->ops->check(c) : STATUS_OK;
  }
  pthread_mutex_unlock(&w.lock);
  return s;
}

/* A failure of this rank's own exchange. Rank 0 is to say it; without an answer this rank does so itself. */
static void look_at_exchanges(double now) {
  status s = check_exchanges();
  if (s == STATUS_OK || (w.faulty_since != 0 && now - w.faulty_since < FAULT_S)) {
    return;
  }
  const watch_peer *me = &w.views[w.d->rank == 0 ? 0 : 1].peer;
  if (w.d->rank == 0 || w.faulty_since != 0) {
    end_job(w.d->rank, me, status_message());
  }
  if (wire_send(&w.wires[0], MESSAGE_FAULT, status_message(), strlen(status_message()))) {
    w.faulty_since = now;
  }
}

static void beat(double now) {
  activity a = activity_now();
  tell_all(MESSAGE_BEAT, &a, sizeof a);
  judge(now); /* first: a rank that died says more than the exchange that failed with it */
  look_at_exchanges(now);
}

/* After a time in which this thread itself did not run (the whole host stood still, or the job was suspended) the
 * others get their time anew. */
static void pardon(double now) {
  for (int i = 0; i < w.n_views; i++) {
    w.views[i].heard = w.views[i].moved = now;
  }
}

static void wait_for_news(double until) {
  struct pollfd waits[1 + w.d->ranks];
  int n = 0;
  waits[n++] = (struct pollfd){.fd = w.wake, .events = POLLIN};
  for (int r = 0; r < w.d->ranks; r++) {
    if (w.wires[r].socket >= 0) {
      waits[n++] = (struct pollfd){.fd = w.wires[r].socket, .events = POLLIN};
    }
  }
  double left = until - clock_seconds();
  poll(waits, (nfds_t)n, left > 0 ? (int)(1000 * left) + 1 : 0);
  uint64_t count;
  ssize_t ignored = read(w.wake, &count, sizeof count);
  (void)ignored;
}

static void *watch(void *unused) {
  (void)unused;
  double last = clock_seconds(), next = last;
  while (!atomic_load(&w.stopping)) {
    wait_for_news(next);
    int code = atomic_load(&w.interrupted);
    if (code != 0) {
      end_interrupted(code, true);
    }
    double now = clock_seconds();
    receive(now);
    if (now - last > w.timeout_s / 4) {
      pardon(now);
    }
    last = now;
    look_at_self(now);
    if (atomic_load(&w.ending) && !w.told_end) {
      tell_all(MESSAGE_END, NULL, 0);
      flush(FLUSH_S);
      w.told_end = true;
    }
    bool lost = false;
    for (int i = 0; i < w.n_views; i++) {
      lost = lost || (w.views[i].closed && !w.views[i].ended);
    }
    if (now >= next || lost) {
      beat(now);
      next = now + w.interval;
    }
  }
  return unused;
}

static status start_thread(void) {
  w.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (w.wake < 0) {
    FAIL("the watchdog cannot be started: %s", strerror(errno));
  }
  sigset_t all, before; /* signals are the main thread's */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int error = pthread_create(&w.thread, NULL, watch, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (error != 0) {
    FAIL("the watchdog cannot be started: %s", strerror(error));
  }
  w.running = true;
  return STATUS_OK;
}

static void set_views(const watch_peer *peers) {
  const dist *d = w.d;
  w.n_views = d->rank == 0 ? d->ranks : 2;
  for (int i = 0; i < w.n_views; i++) {
    int rank = d->rank == 0 || i == 0 ? i : d->rank;
    w.views[i] = (rank_view){.rank = rank, .peer = peers[rank], .last.progress = -1};
  }
  pardon(clock_seconds());
}

static status allocate(int ranks, watch_peer **peers) {
  TRY(memory_new(&w.wires, (size_t)ranks, sizeof *w.wires, "the watchdog's connections"));
  TRY(memory_new(&w.views, (size_t)ranks, sizeof *w.views, "the watchdog's view of the ranks"));
  return memory_new(peers, (size_t)ranks, sizeof **peers, "the watchdog's peers");
}

static void release(void) {
  for (int r = 0; w.wires != NULL && r < w.d->ranks; r++) {
    wire_close(&w.wires[r]);
  }
  free(w.wires);
  free(w.views);
  w.wires = NULL;
  w.views = NULL;
  if (w.wake >= 0) {
    close(w.wake);
  }
  w.wake = -1;
}

status watch_start(const dist *d, double timeout_s) {
  if (d->ranks == 1 || timeout_s <= 0) {
    return STATUS_OK;
  }
  w.d = d;
  w.timeout_s = timeout_s;
  w.interval = timeout_s / BEATS < MOST_INTERVAL_S ? timeout_s / BEATS : MOST_INTERVAL_S;
  w.interval = w.interval > LEAST_INTERVAL_S ? w.interval : LEAST_INTERVAL_S;
  watch_peer *peers = NULL;
  status s = dist_agree(d, allocate(d->ranks, &peers));
  if (s != STATUS_OK) {
    free(peers);
    free(w.wires); /* not connected yet */
    w.wires = NULL;
    release();
    return s;
  }
  if (watch_meet(d, w.wires, peers) != STATUS_OK) {
    log_warning("%s; the run goes on without the watchdog, watch.timeout_s = 0 leaves it out", status_message());
    free(peers);
    release();
    return STATUS_OK;
  }
  set_views(peers);
  free(peers);
  s = dist_agree(d, start_thread());
  if (s != STATUS_OK) {
    watch_stop();
    release();
  }
  return s;
}

void watch_exchange(collectives *a, collectives *b) {
  pthread_mutex_lock(&w.lock);
  w.exchanges[0] = a;
  w.exchanges[1] = b;
  pthread_mutex_unlock(&w.lock);
}

static void wake(void) {
  ssize_t ignored = write(w.wake, &(uint64_t){1}, sizeof(uint64_t));
  (void)ignored;
}

void watch_ending(void) {
  if (w.running) {
    atomic_store(&w.ending, true);
    wake();
  }
}

void watch_stop(void) {
  if (!w.running) {
    return;
  }
  atomic_store(&w.ending, true);
  atomic_store(&w.stopping, true);
  wake();
  pthread_join(w.thread, NULL);
  if (!w.told_end) {
    tell_all(MESSAGE_END, NULL, 0);
    flush(FLUSH_S);
  }
  w.running = false;
  release();
}

bool watch_interrupt(int code) {
  if (!w.running) {
    return false;
  }
  atomic_store(&w.interrupted, code);
  watch_end_within(INTERRUPT_S, code);
  wake();
  return true;
}

static volatile sig_atomic_t late_code;

static void end_late(int signal_number) {
  (void)signal_number;
  _exit(late_code);
}

void watch_end_within(int seconds, int code) {
  late_code = code;
  signal(SIGALRM, end_late);
  alarm((unsigned)seconds);
}
