/* What a run takes for a spike, and where its memory of the steps before stands. How it moves from step to step:
 * engine/spikes.h. */
#ifndef PSANN_OPTIM_SPIKES_H
#define PSANN_OPTIM_SPIKES_H

#include "config/config.h"
#include "engine/spikes.h"

/* Of a resolved config, with nothing seen yet; window 0 where watch.on_spike is off. */
spike_watch spike_watch_from(const config *c);

/* The same with the memory that a checkpoint has; of a watch that is off, none. */
spike_watch spike_watch_resumed(const config *c, int64_t count, spike_statistic loss, spike_statistic norm);

#endif
