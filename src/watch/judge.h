/* Whether a rank is dead, stopped or stuck, judged from what is known of each. Nothing here waits or talks. */
#ifndef PSANN_WATCH_JUDGE_H
#define PSANN_WATCH_JUDGE_H

#include <stddef.h>

#include "base/activity.h"
#include "watch/meet.h"

/* What is known of a rank. Times are those of the judge's clock. */
typedef struct {
  int rank;
  watch_peer peer;
  activity last;
  double heard; /* last word from it; of the judge itself: now */
  double moved; /* its progress was last seen to grow */
  bool closed;  /* its connection ended without a word */
  bool ended;   /* it comes to its end in order, and is judged no more */
} rank_view;

typedef enum {
  FINDING_NONE,
  FINDING_DIED,
  FINDING_SILENT,   /* stopped, or its host is */
  FINDING_STUCK,    /* its main thread makes no progress, and waits for nobody */
  FINDING_ALL_WAIT, /* all are in collectives and nothing moves */
} finding_kind;

typedef struct {
  finding_kind kind;
  int index; /* of the view; FINDING_ALL_WAIT: of the rank that has entered the fewest; −1: all have entered as many */
  double seconds; /* without a word, or without progress */
} finding;

/* A rank is found before `timeout_s` has gone by since its last word. Set-up, the first step, checkpoints and the run's
 * end may have long stretches without a sign of progress (a search for plans, a slow disk): they have WATCH_LONG times
 * as much for it. Ranks that wait in a collective for a busy one are not judged. all: the views are those of every
 * rank, not a part. */
enum { WATCH_LONG = 12 };
finding watch_judge(const rank_view *views, int n, bool all, double now, double timeout_s);

/* What is found, as one sentence: rank, host, process, what became of it, step, phase, collective, and what the others
 * wait in. `stopped`: the system says so. Returns text. */
const char *watch_sentence(const finding *f, const rank_view *views, int n, bool stopped, char *text, size_t size);

#endif
