/* What a run does about spikes, beyond leaving an update out, which the engine does: say it, or go back. What a spike
 * is: engine/spikes.h. */
#ifndef PSANN_TRAIN_SPIKE_H
#define PSANN_TRAIN_SPIKE_H

#include "train/setup.h"

/* A warning and an event "spike", if that step was one and something is to be said about it. */
void spike_report(const training *t, const step_outcome *o);

/* Whether that step sends the run back. The same on all ranks. */
bool spike_rolls_back(const training *t, const step_outcome *o);

/* Collective. Weights, moments and state of the newest whole checkpoint of the run (or of the one that it was resumed
 * from), but the data go on after those of step o: what was read in between is not read again. What was issued since is
 * forgotten, and the lines of undone steps leave the metrics; an event "rollback" stands in their place. No save may be
 * under way. *done is false, and only the update of step o is left out, when there is no checkpoint yet. */
status spike_roll_back(training *t, const step_outcome *o, bool *done);

#endif
