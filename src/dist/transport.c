#include "dist/transport.h"

#include "dist/collectives_staged.h"
#ifdef PSANN_CUDA
#include "collectives_nccl.h"
#endif

status transport_resolve(const dist *d, config_device device, int gpus, config_transport *transport) {
  if (*transport == TRANSPORT_AUTO) {
    *transport = device == DEVICE_CUDA ? TRANSPORT_NCCL : TRANSPORT_MPI;
  }
  if (*transport == TRANSPORT_NCCL && device != DEVICE_CUDA) {
    USER_ERROR("parallel.transport = nccl moves data between GPUs, but run.device is cpu; use mpi or auto");
  }
  if (*transport == TRANSPORT_NCCL && d->local_ranks > gpus) {
    USER_ERROR("%d ranks on %s share %d GPU%s: start at most one rank a GPU, or set parallel.transport = mpi (slow, meant for tests)", d->local_ranks, d->host, gpus, gpus == 1 ? "" : "s");
  }
  return STATUS_OK;
}

status transport_create(const dist *d, config_transport transport, engine *e, collectives **out) {
  *out = NULL;
  if (d->ranks == 1) {
    return STATUS_OK;
  }
  if (transport == TRANSPORT_NCCL) {
#ifdef PSANN_CUDA
    return collectives_nccl_create(d, e, out);
#else
    FAIL("this build has no NCCL");
#endif
  }
  TRY(collectives_mpi_create(d, e, out));
  return e->host_memory ? STATUS_OK : collectives_staged_create(d, e, *out, out);
}
