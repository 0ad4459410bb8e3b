#include "optim/spikes.h"

spike_watch spike_watch_from(const config *c) {
  if (c->watch.on_spike == SPIKE_OFF) {
    return (spike_watch){.window = 0};
  }
  return (spike_watch){.window = c->watch.spike_window,
                       .zscore = c->watch.spike_zscore,
                       .skip = c->watch.on_spike == SPIKE_SKIP || c->watch.on_spike == SPIKE_ROLLBACK};
}

spike_watch spike_watch_resumed(const config *c, int64_t count, spike_statistic loss, spike_statistic norm) {
  spike_watch w = spike_watch_from(c);
  if (w.window > 0) {
    w.count = count;
    w.loss = loss;
    w.norm = norm;
  }
  return w;
}
