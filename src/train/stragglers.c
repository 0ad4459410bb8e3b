#include "train/stragglers.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"

enum { GATHERED = 3, MOST_MEDIAN = 4096 };

static const double TOO_SLOW = 1.3;

status stragglers_init(stragglers *s, const dist *d) {
  size_t ranks = (size_t)d->ranks;
  *s = (stragglers){.d = d, .slow = -1};
  status made = memory_new(&s->all, ranks, GATHERED * sizeof *s->all, "seconds of the ranks");
  if (made == STATUS_OK) {
    made = memory_new(&s->busy, ranks, sizeof *s->busy, "seconds of the ranks");
  }
  if (made == STATUS_OK) {
    made = memory_new(&s->waiting, ranks, sizeof *s->waiting, "seconds of the ranks");
  }
  if (made == STATUS_OK) {
    made = memory_new(&s->hosts, ranks, sizeof *s->hosts, "hosts of the ranks");
  }
  TRY(dist_agree(d, made));
  double mine[RANK_HOST / sizeof(double)]; /* the bytes of a name */
  memcpy(mine, d->host, sizeof mine);
  return dist_gather(d, mine, RANK_HOST / sizeof(double), (double *)(void *)s->hosts);
}

void stragglers_free(stragglers *s) {
  free(s->all);
  free(s->busy);
  free(s->waiting);
  free(s->hosts);
  *s = (stragglers){.slow = -1};
}

void stragglers_count(stragglers *s, double busy, double waiting) {
  s->mine_busy += busy;
  s->mine_waiting += waiting;
  s->mine_steps++;
}

status stragglers_agree(stragglers *s, int64_t flag, int64_t *largest) {
  const double mine[GATHERED] = {(double)flag, s->mine_busy, s->mine_waiting};
  TRY(dist_all_gather(s->d, mine, GATHERED, s->all));
  *largest = flag;
  for (int r = 0; r < s->d->ranks; r++) {
    const double *each = s->all + (size_t)r * GATHERED;
    *largest = (int64_t)each[0] > *largest ? (int64_t)each[0] : *largest;
    s->busy[r] += each[1];
    s->waiting[r] += each[2];
  }
  s->steps += s->mine_steps;
  s->mine_busy = s->mine_waiting = 0;
  s->mine_steps = 0;
  return STATUS_OK;
}

static int ascending(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

bool stragglers_slowest(const double *busy, int ranks, metrics_ranks *r) {
  double sorted[MOST_MEDIAN]; /* of very many ranks the first ones stand for all */
  int n = ranks < MOST_MEDIAN ? ranks : MOST_MEDIAN;
  memcpy(sorted, busy, (size_t)n * sizeof *sorted);
  qsort(sorted, (size_t)n, sizeof *sorted, ascending);
  r->slowest = 0;
  for (int i = 1; i < ranks; i++) {
    r->slowest = busy[i] > busy[r->slowest] ? i : r->slowest;
  }
  r->least = sorted[0];
  r->median = (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
  r->most = busy[r->slowest];
  double others = n > 1 ? (sorted[(n - 2) / 2] + sorted[(n - 1) / 2]) / 2 : r->most; /* the last one is the slowest */
  return r->most > TOO_SLOW * others;
}

static void warn(stragglers *s, metrics *m, int64_t step, const metrics_ranks *r, bool slow, double now) {
  if (!slow || r->slowest != s->slow) {
    s->slow = slow ? r->slowest : -1;
    s->reports = 0;
    s->since = now;
    s->told = false;
  }
  s->reports += slow;
  if (!slow || s->told || s->reports < SLOW_REPORTS || now - s->since < SLOW_SECONDS) {
    return;
  }
  s->told = true;
  log_warning(
      "rank %d on %s is slow: it computes for %.1f ms a step, where the median of all ranks is %.1f ms, and the "
      "others wait for it; look for other work, heat or throttling on that host",
      r->slowest, s->hosts[r->slowest], r->most, r->median);
  if (m != NULL) {
    const metrics_number numbers[] = {{"rank", r->slowest}, {"busy_ms", r->most}, {"busy_ms_median", r->median}};
    metrics_event(m, step, "straggler", numbers, 3, "%s", s->hosts[r->slowest]);
  }
}

void stragglers_report(stragglers *s, metrics *m, int64_t step, double now) {
  if (s->d->rank != 0 || s->d->ranks == 1 || s->steps == 0) {
    return;
  }
  for (int r = 0; r < s->d->ranks; r++) {
    s->busy[r] *= 1000 / (double)s->steps;
    s->waiting[r] *= 1000 / (double)s->steps;
  }
  metrics_ranks r = {.ranks = s->d->ranks, .busy_ms = s->busy, .waiting_ms = s->waiting};
  bool slow = stragglers_slowest(s->busy, s->d->ranks, &r);
  if (m != NULL) {
    metrics_of_ranks(m, step, &r);
  }
  warn(s, m, step, &r, slow, now);
  memset(s->busy, 0, (size_t)s->d->ranks * sizeof *s->busy);
  memset(s->waiting, 0, (size_t)s->d->ranks * sizeof *s->waiting);
  s->steps = 0;
}
