/* Spikes: a loss or gradient norm that lies far above what the steps before let expect. The level, and mean and
 * variance of the distance from it, are exponentially weighted over a window of steps; the mean distance takes out the
 * trend, so that a steep fall of the loss does not pass for noise. The whole memory is seven numbers, which a
 * checkpoint keeps. Engines decide with this function at the end of a step, before its update, from numbers that are
 * the same on every rank: no host has to wait and all ranks decide alike. CUDA kernels include this file.
 */
#ifndef PSANN_ENGINE_SPIKES_H
#define PSANN_ENGINE_SPIKES_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#ifdef __CUDACC__
#define SPIKE_FUNCTION static inline __host__ __device__
#else
#define SPIKE_FUNCTION static inline
#endif

typedef struct {
  double level;          /* weighted mean */
  double mean, variance; /* of the distance from the level before */
} spike_statistic;

typedef struct {
  spike_statistic loss, norm;
  int64_t count;  /* finite steps seen */
  int64_t window; /* steps; 0: nothing is watched */
  double zscore;  /* a spike lies more than this many deviations above what is expected */
  int64_t skip;   /* 1: the update of a spiking step is not applied */
} spike_watch;

/* How many deviations x lies above what is expected, and takes x in. A deviation is at least a thousandth of the level,
 * so that a curve without noise has no spikes. What lies above the limit counts as the limit: one spike does not hide
 * the next, but a level that stays is the new level after a while. */
SPIKE_FUNCTION double spike_statistic_after(spike_statistic *s, double x, const spike_watch *w) {
  double weight = 1.0 / (double)(w->count < w->window ? w->count + 1 : w->window);
  double deviation = fmax(sqrt(s->variance), 1e-3 * fabs(s->level));
  double away = w->count > 0 ? x - s->level : 0;
  double z = w->count < w->window || !(deviation > 0) ? 0 : (away - s->mean) / deviation;
  if (z > w->zscore) {
    away = s->mean + w->zscore * deviation;
  }
  double off = away - s->mean;
  s->level = w->count > 0 ? s->level + weight * away : x;
  s->mean += weight * off;
  s->variance = (1 - weight) * (s->variance + weight * off * off);
  return z;
}

/* Whether a step is a spike; its loss and norm are finite. */
SPIKE_FUNCTION bool spike_watch_after(spike_watch *w, double loss, double norm, double *loss_z, double *norm_z) {
  *loss_z = *norm_z = 0;
  if (w->window <= 0) {
    return false;
  }
  *loss_z = spike_statistic_after(&w->loss, loss, w);
  *norm_z = spike_statistic_after(&w->norm, norm, w);
  w->count++;
  return *loss_z > w->zscore || *norm_z > w->zscore;
}

#endif
