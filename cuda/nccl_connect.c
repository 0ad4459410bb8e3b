#include "nccl_connect.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "base/activity.h"
#include "base/memory.h"
#include "check.h"

/* ncclCommInitRank on a thread of its own, since it can't be given up. A communicator that doesn't block would be no
 * way out: every later exchange on it would have to be asked again and again too. */
typedef struct {
  pthread_mutex_t lock;
  pthread_cond_t ended;
  bool done;
  int device, ranks, rank, policy;
  ncclUniqueId id;
  ncclResult_t result;
  ncclComm_t comm;
} attempt;

static void *connect_thread(void *argument) {
  attempt *a = argument;
  ncclComm_t comm = NULL;
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.CTAPolicy = a->policy;
  ncclResult_t result = cudaSetDevice(a->device) == cudaSuccess
                            ? ncclCommInitRankConfig(&comm, a->ranks, a->id, a->rank, &config)
                            : ncclUnhandledCudaError;
  pthread_mutex_lock(&a->lock);
  a->result = result;
  a->comm = comm;
  a->done = true;
  pthread_cond_signal(&a->ended);
  pthread_mutex_unlock(&a->lock);
  return NULL;
}

/* Whether the thread ended in time. */
static bool wait_for(attempt *a) {
  struct timespec limit;
  clock_gettime(CLOCK_REALTIME, &limit);
  limit.tv_sec += NCCL_PATIENCE_S;
  pthread_mutex_lock(&a->lock);
  int error = 0;
  while (!a->done && error != ETIMEDOUT) {
    error = pthread_cond_timedwait(&a->ended, &a->lock, &limit);
  }
  bool done = a->done;
  pthread_mutex_unlock(&a->lock);
  return done;
}

static status run(const dist *d, attempt *a, bool *left_behind) {
  pthread_t thread;
  REQUIRE(pthread_create(&thread, NULL, connect_thread, a) == 0, "no thread for the start of NCCL");
  activity_wait("the start of NCCL");
  bool in_time = wait_for(a);
  activity_waited();
  if (!in_time) {
    pthread_detach(thread);
    *left_behind = true;
    FAIL(
        "rank %d on %s: NCCL has not connected all %d ranks within %d s, so a peer is missing or can't be reached; "
        "NCCL_DEBUG=INFO shows where it waits, NCCL_SOCKET_IFNAME names the network between the hosts, and "
        "parallel.transport = mpi does without NCCL",
        d->rank, d->host, d->ranks, NCCL_PATIENCE_S);
  }
  pthread_join(thread, NULL);
  if (a->result != ncclSuccess) {
    FAIL("rank %d on %s: NCCL can't connect the %d ranks: %s (%s)", d->rank, d->host, d->ranks,
         ncclGetErrorString(a->result), ncclGetLastError(NULL));
  }
  return STATUS_OK;
}

static status share_id(const dist *d, ncclUniqueId *id) {
  void *data = id;
  size_t bytes = sizeof *id;
  status made = STATUS_OK;
  if (d->rank == 0) {
    ncclResult_t result = ncclGetUniqueId(id);
    if (result != ncclSuccess) {
      made = status_set(STATUS_FAILURE, __FILE__, __LINE__, "NCCL can't start: %s (%s)", ncclGetErrorString(result),
                        ncclGetLastError(NULL));
    }
  }
  TRY(dist_agree(d, made));
  TRY(dist_broadcast(d, &data, &bytes));
  if (d->rank != 0) {
    *id = *(ncclUniqueId *)data;
    free(data);
  }
  return STATUS_OK;
}

status nccl_connect(const dist *d, ncclComm_t *out) {
  *out = NULL;
  attempt *a;
  TRY(memory_new(&a, 1, sizeof *a, "the start of NCCL"));
  *a = (attempt){.lock = PTHREAD_MUTEX_INITIALIZER,
                 .ended = PTHREAD_COND_INITIALIZER,
                 .ranks = d->ranks,
                 .rank = d->rank,
                 .policy = d->hosts == 1 ? NCCL_CTA_POLICY_ZERO : NCCL_CTA_POLICY_DEFAULT};
  bool left_behind = false;
  status s = cudaGetDevice(&a->device) == cudaSuccess
                 ? share_id(d, &a->id)
                 : status_set(STATUS_FAILURE, __FILE__, __LINE__, "the GPU of this rank can't be told");
  if (s == STATUS_OK) {
    s = run(d, a, &left_behind);
  }
  if (!left_behind) { /* otherwise the thread still has it; the program ends */
    *out = a->comm;
    free(a);
  }
  return s;
}
