/* Ranks: who we are, launch checks, control messages. MPI is called by the main thread alone (FUNNELED). */
#ifndef PSANN_DIST_DIST_H
#define PSANN_DIST_DIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct {
  int rank, ranks;
  int local_rank, local_ranks; /* on this host */
  int hosts;
  char host[64];
  int part; /* 0: all ranks of the job; otherwise some of them: dist_split */
} dist;

/* One rank without MPI: what programs use that never run on several ranks. Every function below then returns at once.
 */
void dist_single(dist *d);

/* The same, for a program that starts ranks of its own: a user error that names `program` when it was itself started by
 * mpirun or the like. */
status dist_alone(const char *program, dist *d);

/* Starts MPI and tells the log who we are. N singletons in place of an N-rank job (the launcher's environment tells
 * more tasks than MPI's world has ranks): a user error. *d is valid afterwards in any case, and dist_end must be called
 * in any case. */
status dist_start(int *argc, char ***argv, dist *d);

/* The last call of a main: reports and ends. When `code` is a failure it prints status_message() through log_error, so
 * a main doesn't; a sentence that several ranks have is printed by the first of them alone. When all ranks get here
 * within a few seconds MPI is finalized and the caller returns its code; a rank that fails while others go on calls
 * MPI_Abort(code), so that no rank is left waiting. */
void dist_end(const dist *d, status code);

status dist_worst(const dist *d, status mine); /* what dist_agree returns */

/* Collective. All ranks return the worst status; ranks that were fine get a message that names the first rank that
 * failed so, ranks that failed keep their own. */
static inline status dist_agree(const dist *d, status mine) {
  status worst = dist_worst(d, mine);
  return worst != STATUS_OK ? worst : mine; /* `mine` is fine then; here it is said to analyzers of a single file */
}

/* Collective: a rank of each host acts first, then the others of that host. Files from elsewhere are looked at from
 * outside (base/wall.h) by the first alone. All ranks return the worst status, as dist_agree does. */
status dist_first_of_host(const dist *d, status (*act)(void *context), void *context);

/* The largest value over all ranks. */
status dist_max(const dist *d, int64_t mine, int64_t *largest);

/* rank 0's bytes to all; *data is freshly allocated on the other ranks (free with free), and NULL there when there are
 * none. */
status dist_broadcast(const dist *d, void **data, size_t *bytes);

/* Every rank gives `count` doubles, rank 0 gets (ranks, count). `all` is unused elsewhere. */
status dist_gather(const dist *d, const double *mine, int count, double *all);

/* The same, and all ranks get it. */
status dist_all_gather(const dist *d, const double *mine, int count, double *all);

/* A user error on all ranks when `text` differs between ranks; it names `what`, the first rank that differs from rank 0
 * and its host. */
status dist_same(const dist *d, const char *what, const char *text);

/* The same for short texts, both of which are named in the message, with what to do about it. */
status dist_alike(const dist *d, const char *what, const char *text, const char *advice);

/* Collective. The ranks of `d` that give the same `color` form a part of the job; in it they are numbered in their
 * order in `d`. All functions here then work on the part alone. local_rank, local_ranks and hosts stay those of `d`. */
status dist_split(const dist *d, int color, dist *part);
/* Collective over the part; harmless on what dist_split didn't make. */
void dist_part_free(dist *part);

/* Collective. The bytes of all ranks one behind the other, in order of rank, in rank 0's `all` of all_bytes bytes; a
 * failure when they are not as many. `all` is unused elsewhere. */
status dist_collect(const dist *d, const void *mine, size_t bytes, void *all, size_t all_bytes);

status dist_barrier(const dist *d);

#endif
