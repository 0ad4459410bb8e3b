#include "watch/judge.h"

#include <stdio.h>
#include <string.h>

/* A rank is to be named within the time-out, so it is found before that: what remains is for beats under way and a
 * judge that is late. */
static const double SHARE = 0.75;

enum { NAMED_RANKS = 8 };

static double allowance(const rank_view *v, double timeout_s) {
  bool first = v->last.phase == PHASE_START || v->last.steps_begun <= 1;
  return timeout_s * SHARE * (first ? 6 : v->last.phase == PHASE_SAVE ? 4 : 1);
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
  for (int i = 0; i < n; i++) {
    double still = now - views[i].moved;
    if (views[i].ended || !views[i].last.waiting || still <= allowance(&views[i], timeout_s)) {
      return (finding){.kind = FINDING_NONE};
    }
    f.index = views[i].last.collectives < views[f.index].last.collectives ? i : f.index;
    f.seconds = still < f.seconds ? still : f.seconds;
  }
  return f;
}

finding watch_judge(const rank_view *views, int n, bool all, double now, double timeout_s) {
  finding worst = {.kind = FINDING_NONE};
  for (int i = 0; i < n; i++) {
    finding f = views[i].ended ? worst : judge_rank(&views[i], i, now, timeout_s);
    if (f.kind != FINDING_NONE && (worst.kind == FINDING_NONE || f.kind < worst.kind)) {
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

const char *watch_sentence(const finding *f, const rank_view *views, int n, bool stopped, char *text, size_t size) {
  const rank_view *v = &views[f->index];
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
  add_waiting(f, views, n, text, size);
  size_t used = strlen(text);
  snprintf(text + used, size - used, "; the job ends, and goes on from its last checkpoint when it is started again");
  return text;
}
