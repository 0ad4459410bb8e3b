/* A program that starts and ends as a trainer does, in a way that its argument names; launch_checks.sh runs it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dist/collectives.h"
#include "dist/dist.h"

static status refuse(const char *what) {
  USER_ERROR("%s has no value 'x'; give one of y, z", what);
}

static status synchronize(engine *e) {
  (void)e;
  return STATUS_OK;
}

/* The last rank fails in the middle of a step, when one exchange is under way and the others have started the next. */
static status exchange(const dist *d) {
  enum { COUNT = 1 << 20, RANKS = 8 };
  static const engine_ops ops = {.synchronize = synchronize};
  engine e = {.ops = &ops};
  int64_t starts[RANKS + 1];
  for (int r = 0; r <= d->ranks && r <= RANKS; r++) {
    starts[r] = (int64_t)COUNT * r / d->ranks;
  }
  collectives *c = NULL;
  float *sent = calloc(2 * COUNT, sizeof *sent), *got = calloc(4 * COUNT, sizeof *got);
  status s = sent != NULL && got != NULL ? collectives_mpi_create(d, &e, &c) : STATUS_FAILURE;
  if (s == STATUS_OK) {
    s = c->ops->all_to_all(c, sent, DTYPE_F32, starts, got);
  }
  if (s == STATUS_OK && d->rank == d->ranks - 1) {
    s = refuse("the key");
  }
  if (s == STATUS_OK) {
    s = c->ops->all_to_all(c, sent + COUNT, DTYPE_F32, starts, got + 2 * COUNT);
  }
  if (s == STATUS_OK) {
    s = c->ops->wait(c);
  }
  if (c != NULL) {
    c->ops->destroy(c);
  }
  free(sent);
  free(got);
  return s;
}

static status run(const dist *d, const char *mode) {
  int last = d->ranks - 1;
  if (strcmp(mode, "well") == 0) {
    return dist_barrier(d);
  }
  if (strcmp(mode, "all-refuse") == 0) {
    return refuse("the key");
  }
  if (strcmp(mode, "each-refuses") == 0) {
    char name[32];
    snprintf(name, sizeof name, "the key of %d", d->rank);
    return refuse(name);
  }
  if (strcmp(mode, "agree") == 0) {
    return dist_agree(d, d->rank == last ? refuse("the key") : STATUS_OK);
  }
  if (strcmp(mode, "alone") == 0) { /* the others wait for a partner that never comes */
    return d->rank == last ? refuse("the key") : dist_barrier(d);
  }
  if (strcmp(mode, "alone-at-end") == 0) { /* the others are done, and wait at the end only */
    return d->rank == last ? refuse("the key") : STATUS_OK;
  }
  if (strcmp(mode, "alone-in-exchange") == 0) {
    return exchange(d);
  }
  if (strcmp(mode, "differ") == 0) {
    return dist_same(d, "the config", d->rank == last ? "a" : "b");
  }
  if (strcmp(mode, "die") == 0) {
    if (d->rank == last) {
      raise(SIGKILL);
    }
    return dist_barrier(d);
  }
  USER_ERROR("no mode %s", mode);
}

int main(int argc, char **argv) {
  dist d;
  status s = dist_start(&argc, &argv, &d);
  if (s == STATUS_OK) {
    s = run(&d, argc > 1 ? argv[1] : "");
  }
  if (s == STATUS_OK) {
    printf("rank %d of %d is well\n", d.rank, d.ranks);
    fflush(stdout);
  }
  dist_end(&d, s);
  return s;
}
