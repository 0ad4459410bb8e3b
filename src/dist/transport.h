/* Which collectives a job gets: `parallel.transport` against the engine and the GPUs of each host. */
#ifndef PSANN_DIST_TRANSPORT_H
#define PSANN_DIST_TRANSPORT_H

#include "config/config.h"
#include "dist/collectives.h"

/* Resolves auto: nccl on GPUs, mpi on the CPU. More ranks than GPUs on a host is a user error, unless the transport is mpi; so is nccl on the CPU. `gpus`: that this rank sees. */
status transport_resolve(const dist *d, config_device device, int gpus, config_transport *transport);

/* The collectives of a resolved transport; *out is NULL on one rank. Collective. */
status transport_create(const dist *d, config_transport transport, engine *e, collectives **out);

#endif
