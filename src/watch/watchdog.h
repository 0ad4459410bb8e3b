/* The watchdog: a thread in every rank, apart from MPI. Ranks send rank 0 a beat with what their main thread is doing,
 * rank 0 sends beats to them. A rank that died closes its connection, a stopped one falls silent, one that hangs shows
 * no progress: rank 0 then says which one, where and in what, tells the others, and all end with STATUS_FAILURE. When
 * it is rank 0 itself, the first of the others does the same. A stopped process is killed by the ranks on its host.
 */
#ifndef PSANN_WATCH_WATCHDOG_H
#define PSANN_WATCH_WATCHDOG_H

#include "dist/collectives.h"
#include "dist/dist.h"

/* Collective. `d` must outlive the watch. Nothing happens on one rank or with timeout_s = 0. When the ranks can't
 * connect to each other, a warning says so and the job goes on without. */
status watch_start(const dist *d, double timeout_s);

/* Exchanges whose failures the watchdog looks for and which it gives up before it ends the process; NULL: none, and to
 * be said before they are destroyed. */
void watch_exchange(collectives *a, collectives *b);

/* This rank has failed and comes to its end: it is judged no more, but goes on to watch. */
void watch_ending(void);

/* The same, and the thread ends. Harmless when nothing runs. */
void watch_stop(void);

/* The user wants the job to end at once: this rank tells the others, and all end with `code`, within two seconds. False
 * where nothing runs: the caller ends by itself. For a signal handler. */
bool watch_interrupt(int code);

/* The process ends with this code after so many seconds, unless it has ended before: for its last steps after a failure,
 * when a device may wait for an exchange that another rank never began, and nobody watches any more. */
void watch_end_within(int seconds, int code);

#endif
