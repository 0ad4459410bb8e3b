/* collectives.h over NCCL: exchanges run on STREAM_COMM, beside the products of STREAM_MAIN. */
#ifndef PSANN_CUDA_COLLECTIVES_NCCL_H
#define PSANN_CUDA_COLLECTIVES_NCCL_H

#include "dist/collectives.h"

/* Collective over all ranks of d; `e` is a CUDA engine. MPI hands round NCCL's id. */
status collectives_nccl_create(const dist *d, engine *e, collectives **out);

#endif
