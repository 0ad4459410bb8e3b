#include "watch/judge.h"

#include <stdio.h>
#include <string.h>

/* A rank is to be named within the time-out, so it is found before that: what remains is for beats under way and a
 * judge that is late. */
static const double SHARE = 0.75;

enum { NAMED_RANKS = 8 };

static double allowance(const rank_view *v, double timeout_s) {
  phase p = v->last.phase;
  bool may_last =
      p == PHASE_START || p == PHASE_SAVE || p == PHASE_RETURN || p == PHASE_END || v->last.steps_begun <= 1;
  return timeout_s * SHARE * (may_last ? WATCH_LONG : 1);
}

static finding judge_rank(const rank_view *v, int index, double now, double timeout_s) {
  double silent = now - v->heard, still = now - v->moved;
  if (v->closed) {
    return (finding){FINDING_DIED, index, silent};
  }
  if (silent > timeout_s * SHARE) {
    return (finding){FINDING_SILENT, index, silent};
  }
  if (!v->last.waiting && still > allowance(v, timeout_s)) {
    return (finding){FINDING_STUCK, index, still};
  }
  return (finding){.kind = FINDING_NONE};
}

/* A rank in a collective waits for the busy ones, which have their own allowance; nobody has one when all wait. */
static finding judge_waiting(const rank_view *views, int n, double now, double timeout_s) {
  finding f = {.kind = FINDING_ALL_WAIT, .index = 0, .seconds = now - views[0].moved};
  int64_t most = 0;
  for (int i = 0; i < n; i++) {
    double still = now - views[i].moved;
    if (views[i].ended || !views[i].last.waiting || still <= allowance(&views[i], timeout_s)) {
      return (finding){.kind = FINDING_NONE};
    }
    f.index = views[i].last.collectives < views[f.index].last.collectives ? i : f.index;
    most = views[i].last.collectives > most ? views[i].last.collectives : most;
    f.seconds = still < f.seconds ? still : f.seconds;
  }
  f.index = views[f.index].last.collectives < most ? f.index : -1;
  return f;
}

/* Whether f is to be said rather than g. On GPUs a rank that hangs soon makes the others look alike, since their queues
 * fill up behind an exchange that it never began: it is the one that has begun the fewest. */
static bool comes_before(const finding *f, const finding *g, const rank_view *views) {
  if (f->kind == FINDING_NONE || g->kind == FINDING_NONE || f->kind != g->kind) {
    return f->kind != FINDING_NONE && (g->kind == FINDING_NONE || f->kind < g->kind);
  }
  int64_t mine = views[f->index].last.collectives, other = views[g->index].last.collectives;
  if (f->kind == FINDING_STUCK && mine != other) {
    return mine < other;
  }
  return f->seconds > g->seconds;
}

finding watch_judge(const rank_view *views, int n, bool all, double now, double timeout_s) {
  finding worst = {.kind = FINDING_NONE};
  for (int i = 0; i < n; i++) {
    finding f = {.kind = FINDING_NONE};
    if (!views[i].ended) {
      f = judge_rank(&views[i], i, now, timeout_s);
    }
    if (comes_before(&f, &worst, views)) {
      worst = f;
    }
  }
  return worst.kind != FINDING_NONE || !all ? worst : judge_waiting(views, n, now, timeout_s);
}

/* "; ranks 0, 1 and 5 more wait in all_gather": the collective that most of the first ones wait in. */
static void add_waiting(const finding *f, const rank_view *views, int n, char *text, size_t size) {
  const char *collective = NULL;
  char list[NAMED_RANKS * 12] = "";
  int count = 0;
  for (int i = 0; i < n; i++) {
    const activity *a = &views[i].last;
    if (i == f->index || !a->waiting || (collective != NULL && strcmp(a->collective, collective) != 0)) {
      continue;
    }
    collective = a->collective;
    if (count < NAMED_RANKS) {
      size_t used = strlen(list);
      snprintf(list + used, sizeof list - used, "%s%d", count > 0 ? ", " : "", views[i].rank);
    }
    count++;
  }
  if (count > 0) {
    char more[32] = "";
    if (count > NAMED_RANKS) {
      snprintf(more, sizeof more, " and %d more", count - NAMED_RANKS);
    }
    size_t used = strlen(text);
    snprintf(text + used, size - used, "; rank%s %s%s wait%s in %s", count == 1 ? "" : "s", list, more,
             count == 1 ? "s" : "", collective);
  }
}

/* "rank 1 on host (process 7) died: step 3, loading data" */
static void say_who(const finding *f, const rank_view *v, bool stopped, char *text, size_t size) {
  char what[128] = "died";
  if (f->kind == FINDING_SILENT) {
    snprintf(what, sizeof what, "%s, without a sign of life for %.1f s", stopped ? "is stopped" : "does not answer",
             f->seconds);
  } else if (f->kind == FINDING_STUCK) {
    snprintf(what, sizeof what, "%s, without progress for %.1f s", stopped ? "is stopped" : "hangs", f->seconds);
  } else if (f->kind == FINDING_ALL_WAIT) {
    snprintf(what, sizeof what, "is furthest behind, and no rank has made progress for %.1f s", f->seconds);
  }
  snprintf(text, size, "rank %d on %s (process %lld) %s: step %lld, %s%s%s", v->rank, v->peer.host,
           (long long)v->peer.process.pid, what, (long long)v->last.step, phase_name(v->last.phase),
           v->last.waiting ? ", in " : "", v->last.waiting ? v->last.collective : "");
}

const char *watch_sentence(const finding *f, const rank_view *views, int n, bool stopped, char *text, size_t size) {
  if (f->index >= 0) {
    say_who(f, &views[f->index], stopped, text, size);
  } else {
    snprintf(
        text, size,
        "no rank has made progress for %.1f s, though all are alike far (step %lld, %s): the network between them, or "
        "a device, hangs",
        f->seconds, (long long)views[0].last.step, phase_name(views[0].last.phase));
  }
  add_waiting(f, views, n, text, size);
  size_t used = strlen(text);
  snprintf(text + used, size - used, "; the job ends, and goes on from its last checkpoint when it is started again");
  return text;
}
