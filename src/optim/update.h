/* The constants of AdamW and clipping from a config. The update itself is an engine operation, called by the weight
 * store. */
#ifndef PSANN_OPTIM_UPDATE_H
#define PSANN_OPTIM_UPDATE_H

#include "config/config.h"
#include "shard/weight_store.h"

update_spec update_from(const config *c);

#endif
