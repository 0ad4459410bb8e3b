/* A program that starts and ends as a trainer does, in a way that its argument names; launch_checks.sh runs it. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "dist/dist.h"

static status refuse(const char *what) {
  USER_ERROR("%s has no value 'x'; give one of y, z", what);
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
