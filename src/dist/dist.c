#include "dist/dist.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/wall.h"
#include "dist/messages.h"
#include "dist/mpi_world.h"

enum { MESSAGE = 1024, DIST_PARTS = 8 };

static const double END_PATIENCE_S = 5.0; /* how long a failed rank waits for the others to come to their end too */

/* MPI is one per process, and so is this. */
static MPI_Comm world = MPI_COMM_NULL;
/* Of dist_split; number 0 is not used. */
static MPI_Comm parts[DIST_PARTS] = {[0 ... DIST_PARTS - 1] = MPI_COMM_NULL};
static MPI_Comm ending = MPI_COMM_NULL; /* apart, so that a rank at its end can't meet another's control message */
static bool silent_copy;                /* one of N singletons, not the first: that one prints the sentence */
static char told[MESSAGE];              /* what dist_agree said about another rank's failure */

MPI_Comm mpi_comm(const dist *d) {
  return d->part == 0 ? world : parts[d->part];
}

status mpi_status(int code, const char *call) {
  if (code == MPI_SUCCESS) {
    return STATUS_OK;
  }
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) {
    snprintf(text, sizeof text, "unknown MPI error %d", code);
  }
  FAIL("%.*s failed: %s", (int)strcspn(call, "("), call, text);
}

void dist_single(dist *d) {
  *d = (dist){.rank = 0, .ranks = 1, .local_rank = 0, .local_ranks = 1, .hosts = 1};
  if (gethostname(d->host, sizeof d->host - 1) != 0) {
    strcpy(d->host, "localhost");
  }
}

/* A positive number from the environment, or -1. */
static long environment_number(const char *name) {
  const char *text = getenv(name);
  if (text == NULL || *text == '\0') {
    return -1;
  }
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  return errno == 0 && *end == '\0' && value >= 0 ? value : -1;
}

/* What the launcher says about the job. */
typedef struct {
  long tasks;           /* -1: nothing is said */
  long task;            /* ours; -1: unknown */
  const char *variable; /* that told */
} launcher;

/* Must be read before MPI_Init: a singleton's MPI_Init sets some of these variables itself. */
static launcher read_launcher(void) {
  static const char *const process_managers[][2] = {
      {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"},
      {"PMI_SIZE", "PMI_RANK"},
      {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"},
  };
  for (size_t i = 0; i < sizeof process_managers / sizeof process_managers[0]; i++) {
    long tasks = environment_number(process_managers[i][0]);
    if (tasks > 0) {
      return (launcher){tasks, environment_number(process_managers[i][1]), process_managers[i][0]};
    }
  }
  long task = environment_number("PMIX_RANK"); /* PMIx has no variable for the size */
  if (task > 0) {
    return (launcher){task + 1, task, "PMIX_RANK"};
  }
  /* Slurm's variables also reach what mpirun starts inside an allocation, so they count only where no process manager
   * spoke. */
  static const char *const slurm[] = {"SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"};
  for (size_t i = 0; i < sizeof slurm / sizeof slurm[0]; i++) {
    long tasks = environment_number(slurm[i]);
    if (tasks > 0) {
      return (launcher){tasks, environment_number("SLURM_PROCID"), slurm[i]};
    }
  }
  return (launcher){-1, -1, NULL};
}

status dist_alone(const char *program, dist *d) {
  dist_single(d);
  launcher by = read_launcher();
  if (by.tasks > 0 && strncmp(by.variable, "SLURM", 5) != 0) {
    USER_ERROR("%s starts its ranks itself, but it was started by an MPI launcher (%s is set); start it without mpirun",
               program, by.variable);
  }
  return STATUS_OK;
}

static status check_launch(const dist *d, const launcher *by) {
  if (d->ranks > 1 || by->tasks <= 1) {
    return STATUS_OK;
  }
  silent_copy = by->task > 0;
  if (strncmp(by->variable, "SLURM", 5) == 0) {
    USER_ERROR(
        "Slurm tells of %ld tasks (%s), but MPI sees one rank alone: %ld copies were started instead of one job of %ld "
        "ranks; start "
        "with mpirun -np %ld … or srun --mpi=pmix …, or with mpirun -np 1 … for a single rank",
        by->tasks, by->variable, by->tasks, by->tasks, by->tasks);
  }
  if (strcmp(by->variable, "PMIX_RANK") == 0) {
    USER_ERROR(
        "this is copy number %ld (PMIX_RANK), but MPI sees one rank alone: several copies were started instead of one "
        "job of several "
        "ranks; start with mpirun -np N … of the MPI library that the program was built with",
        by->task);
  }
  USER_ERROR(
      "%ld copies were started instead of one job of %ld ranks (%s says %ld, MPI sees one rank alone); start with "
      "mpirun -np %ld … of "
      "the MPI library that the program was built with",
      by->tasks, by->tasks, by->variable, by->tasks, by->tasks);
}

static status find_hosts(dist *d) {
  MPI_Comm host;
  TRY_MPI(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, d->rank, MPI_INFO_NULL, &host));
  TRY_MPI(MPI_Comm_rank(host, &d->local_rank));
  TRY_MPI(MPI_Comm_size(host, &d->local_ranks));
  TRY_MPI(MPI_Comm_free(&host));
  int first = d->local_rank == 0 ? 1 : 0;
  TRY_MPI(MPI_Allreduce(&first, &d->hosts, 1, MPI_INT, MPI_SUM, world));
  return STATUS_OK;
}

status dist_start(int *argc, char ***argv, dist *d) {
  dist_single(d);
  launcher by = read_launcher();
  int provided = MPI_THREAD_SINGLE;
  /* Without it Open MPI starts a daemon for a lone rank, which only spawning processes would need, and whose start
   * hangs now and then. */
  setenv("OMPI_MCA_ess_singleton_isolated", "1", 0);
  TRY_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided));
  TRY_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
  TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &world));
  TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &ending));
  TRY_MPI(MPI_Comm_rank(world, &d->rank));
  TRY_MPI(MPI_Comm_size(world, &d->ranks));
  log_set_rank(d->rank, d->ranks, d->host);
  TRY(check_launch(d, &by));
  TRY(find_hosts(d));
  REQUIRE(provided >= MPI_THREAD_FUNNELED,
          "this MPI library gives thread level %d, but FUNNELED (%d) is needed; use one that was built with threads",
          provided, MPI_THREAD_FUNNELED);
  return STATUS_OK;
}

static bool told_by_agree(const char *message) {
  size_t length = strlen(message), tail = strlen(told);
  return tail > 0 && length >= tail && strcmp(message + length - tail, told) == 0;
}

/* What each rank says at its end. */
typedef struct {
  int64_t code;
  uint64_t message; /* hash */
  int64_t own;      /* 0: only heard of it */
} last_words;

/* Whether this rank prints: it is the first with its sentence, and what it knows is not hearsay, unless all is. */
static bool speaks(const last_words *all, int rank, int ranks) {
  bool any_own = false;
  for (int r = 0; r < ranks; r++) {
    any_own = any_own || (all[r].code != STATUS_OK && all[r].own);
  }
  if (all[rank].code == STATUS_OK || (any_own && !all[rank].own)) {
    return false;
  }
  for (int r = 0; r < rank; r++) {
    if (all[r].code != STATUS_OK && (all[r].own || !any_own) && all[r].message == all[rank].message) {
      return false;
    }
  }
  return true;
}

/* True when all ranks came here; *speak tells whether this one prints. A rank that failed waits a few seconds only. */
static bool meet_at_end(const dist *d, status code, bool *speak) {
  last_words mine = {code, digest_name(status_message()), !told_by_agree(status_message())};
  last_words *all = calloc((size_t)d->ranks, sizeof *all);
  *speak = code != STATUS_OK;
  MPI_Request request;
  if (all == NULL ||
      MPI_Iallgather(&mine, sizeof mine, MPI_BYTE, all, sizeof mine, MPI_BYTE, ending, &request) != MPI_SUCCESS) {
    free(all);
    return false;
  }
  double start = clock_seconds();
  int done = 0;
  while (!done) {
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS ||
        (!done && code != STATUS_OK && clock_seconds() - start > END_PATIENCE_S)) {
      return false; /* `all` stays with MPI, which may still write to it; the abort follows */
    }
    if (!done) {
      nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
  }
  *speak = speaks(all, d->rank, d->ranks);
  free(all);
  return true;
}

void dist_end(const dist *d, status code) {
  int started = 0, ended = 0;
  MPI_Initialized(&started);
  MPI_Finalized(&ended);
  bool speak = code != STATUS_OK && !silent_copy;
  bool met = true;
  if (started && !ended && d->ranks > 1) {
    activity_wait("the end of all ranks");
    met = ending != MPI_COMM_NULL && meet_at_end(d, code, &speak);
    activity_waited();
  }
  if (speak) {
    log_error("%s", status_message());
  }
  if (!started || ended) {
    return;
  }
  if (!met) {
    MPI_Abort(MPI_COMM_WORLD, code == STATUS_OK ? STATUS_FAILURE : code);
    return;
  }
  if (world != MPI_COMM_NULL) {
    MPI_Comm_free(&world);
  }
  if (ending != MPI_COMM_NULL) {
    MPI_Comm_free(&ending);
  }
  activity_wait("MPI_Finalize");
  MPI_Finalize();
  activity_waited();
}

status dist_worst(const dist *d, status mine) {
  if (d->ranks == 1) {
    return mine;
  }
  int worst = mine;
  TRY_COLLECTIVE("agreement", MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_INT, MPI_MAX, mpi_comm(d)));
  if (worst == STATUS_OK) {
    return STATUS_OK;
  }
  int first = mine == worst ? d->rank : d->ranks;
  TRY_COLLECTIVE("agreement", MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, mpi_comm(d)));
  struct {
    char host[sizeof d->host];
    char message[MESSAGE];
  } failure = {0};
  if (d->rank == first) {
    memcpy(failure.host, d->host, sizeof failure.host);
    snprintf(failure.message, sizeof failure.message, "%s", status_message());
  }
  TRY_COLLECTIVE("agreement", MPI_Bcast(&failure, sizeof failure, MPI_BYTE, first, mpi_comm(d)));
  if (mine == STATUS_OK) {
    status_set(worst, __FILE__, __LINE__, "rank %d on %s failed: %s", first, failure.host, failure.message);
    snprintf(told, sizeof told, "%s", status_message());
  }
  return worst;
}

status dist_first_of_host(const dist *d, status (*act)(void *context), void *context) {
  TRY(dist_agree(d, d->local_rank == 0 ? act(context) : STATUS_OK));
  if (d->ranks == 1) {
    return STATUS_OK;
  }
  wall_lower(true);
  status mine = d->local_rank != 0 ? act(context) : STATUS_OK;
  wall_lower(false);
  return dist_agree(d, mine);
}

status dist_max(const dist *d, int64_t mine, int64_t *largest) {
  *largest = mine;
  if (d->ranks > 1) {
    TRY_COLLECTIVE("agreement", MPI_Allreduce(MPI_IN_PLACE, largest, 1, MPI_INT64_T, MPI_MAX, mpi_comm(d)));
  }
  return STATUS_OK;
}

static status broadcast_piece(const dist *d, char *data, int count) {
  TRY_COLLECTIVE("broadcast from rank 0", MPI_Bcast(data, count, MPI_BYTE, 0, mpi_comm(d)));
  return STATUS_OK;
}

status dist_broadcast(const dist *d, void **data, size_t *bytes) {
  if (d->ranks == 1) {
    return STATUS_OK;
  }
  uint64_t total = d->rank == 0 ? *bytes : 0;
  TRY_COLLECTIVE("broadcast from rank 0", MPI_Bcast(&total, 1, MPI_UINT64_T, 0, mpi_comm(d)));
  status allocated = STATUS_OK;
  if (d->rank != 0) {
    *bytes = total;
    *data = NULL;
    allocated = total > 0 ? memory_new(data, total, 1, "data from rank 0") : STATUS_OK;
  }
  status s = dist_agree(d, allocated); /* nobody sends to a rank that has no room */
  for (uint64_t at = 0; s == STATUS_OK && at < total; at += MPI_CHUNK_BYTES) {
    uint64_t left = total - at;
    int count = (int)(left < MPI_CHUNK_BYTES ? left : MPI_CHUNK_BYTES);
    s = broadcast_piece(d, (char *)*data + at, count);
  }
  if (s != STATUS_OK && d->rank != 0) {
    free(*data);
    *data = NULL;
  }
  return s;
}

status dist_gather(const dist *d, const double *mine, int count, double *all) {
  if (d->ranks == 1) {
    memcpy(all, mine, (size_t)count * sizeof *all);
    return STATUS_OK;
  }
  TRY_COLLECTIVE("gather to rank 0", MPI_Gather(mine, count, MPI_DOUBLE, all, count, MPI_DOUBLE, 0, mpi_comm(d)));
  return STATUS_OK;
}

status dist_all_gather(const dist *d, const double *mine, int count, double *all) {
  if (d->ranks == 1) {
    memcpy(all, mine, (size_t)count * sizeof *all);
    return STATUS_OK;
  }
  TRY_COLLECTIVE("agreement", MPI_Allgather(mine, count, MPI_DOUBLE, all, count, MPI_DOUBLE, mpi_comm(d)));
  return STATUS_OK;
}

/* The first rank whose text is not that of rank 0, and its host; d->ranks: there is none. */
static status first_that_differs(const dist *d, const char *text, int *rank, char host[sizeof d->host]) {
  *rank = d->ranks;
  if (d->ranks == 1) {
    return STATUS_OK;
  }
  char mine[DIGEST_TEXT], first[DIGEST_TEXT];
  digest_of(text, strlen(text), mine);
  memcpy(first, mine, sizeof first);
  TRY_COLLECTIVE("comparison of ranks", MPI_Bcast(first, sizeof first, MPI_CHAR, 0, mpi_comm(d)));
  *rank = strcmp(mine, first) != 0 ? d->rank : d->ranks;
  TRY_COLLECTIVE("comparison of ranks", MPI_Allreduce(MPI_IN_PLACE, rank, 1, MPI_INT, MPI_MIN, mpi_comm(d)));
  if (*rank < d->ranks) {
    memcpy(host, d->host, sizeof d->host);
    TRY_COLLECTIVE("comparison of ranks", MPI_Bcast(host, sizeof d->host, MPI_CHAR, *rank, mpi_comm(d)));
  }
  return STATUS_OK;
}

status dist_same(const dist *d, const char *what, const char *text) {
  int differs;
  char host[sizeof d->host];
  TRY(first_that_differs(d, text, &differs, host));
  if (differs == d->ranks) {
    return STATUS_OK;
  }
  USER_ERROR(
      "%s differs between ranks: rank %d on %s has another one than rank 0; give all ranks the same, for example from "
      "a shared file system",
      what, differs, host);
}

status dist_split(const dist *d, int color, dist *part) {
  *part = *d;
  if (d->ranks == 1) {
    return STATUS_OK;
  }
  int number = 1;
  while (number < DIST_PARTS && parts[number] != MPI_COMM_NULL) {
    number++;
  }
  REQUIRE(number < DIST_PARTS, "a job is in more than %d parts", DIST_PARTS - 1);
  TRY_COLLECTIVE("forming of groups", MPI_Comm_split(mpi_comm(d), color, d->rank, &parts[number]));
  part->part = number;
  TRY_MPI(MPI_Comm_rank(mpi_comm(part), &part->rank));
  TRY_MPI(MPI_Comm_size(mpi_comm(part), &part->ranks));
  return STATUS_OK;
}

void dist_part_free(dist *part) {
  int ended = 0;
  MPI_Finalized(&ended);
  if (part->part > 0 && !ended) {
    MPI_Comm_free(&parts[part->part]);
  }
  *part = (dist){0};
}

status dist_collect(const dist *d, const void *mine, size_t bytes, void *all, size_t all_bytes) {
  if (d->ranks == 1) {
    REQUIRE(bytes == all_bytes, "%zu bytes were expected, there are %zu", all_bytes, bytes);
    memcpy(all, mine, bytes);
    return STATUS_OK;
  }
  uint64_t size = bytes, *sizes = NULL;
  TRY(memory_new(&sizes, (size_t)d->ranks, sizeof *sizes, "sizes of the ranks' data"));
  activity_wait("gather to rank 0");
  status s = mpi_status(MPI_Allgather(&size, 1, MPI_UINT64_T, sizes, 1, MPI_UINT64_T, mpi_comm(d)), "MPI_Allgather");
  uint64_t sum = 0, wanted = all_bytes;
  for (int r = 0; r < d->ranks; r++) {
    sum += sizes[r];
  }
  if (s == STATUS_OK) {
    s = mpi_status(MPI_Bcast(&wanted, 1, MPI_UINT64_T, 0, mpi_comm(d)), "MPI_Bcast");
  }
  activity_waited();
  if (s == STATUS_OK && sum != wanted) {
    s = status_set(STATUS_FAILURE, __FILE__, __LINE__, "%llu bytes were expected of %d ranks, there are %llu",
                   (unsigned long long)wanted, d->ranks, (unsigned long long)sum);
  }
  messages m = {.comm = mpi_comm(d), .chunk = MPI_CHUNK_BYTES, .what = "gather to rank 0"};
  if (s == STATUS_OK && d->rank != 0) {
    s = messages_send(&m, 0, mine, (int64_t)size);
  } else if (s == STATUS_OK) {
    char *to = all;
    memcpy(to, mine, bytes);
    for (int r = 1; r < d->ranks && s == STATUS_OK; r++) {
      to += sizes[r - 1];
      s = messages_receive(&m, r, to, (int64_t)sizes[r]);
    }
  }
  if (s == STATUS_OK) {
    s = messages_wait(&m);
  } else {
    messages_settle(&m);
  }
  free(m.requests);
  free(sizes);
  return s;
}

status dist_alike(const dist *d, const char *what, const char *text, const char *advice) {
  enum { SHOWN = 128 };
  int differs;
  char host[sizeof d->host], first[SHOWN], other[SHOWN];
  TRY(first_that_differs(d, text, &differs, host));
  if (differs == d->ranks) {
    return STATUS_OK;
  }
  snprintf(first, sizeof first, "%s", text);
  snprintf(other, sizeof other, "%s", text);
  TRY_COLLECTIVE("comparison of ranks", MPI_Bcast(first, sizeof first, MPI_CHAR, 0, mpi_comm(d)));
  TRY_COLLECTIVE("comparison of ranks", MPI_Bcast(other, sizeof other, MPI_CHAR, differs, mpi_comm(d)));
  USER_ERROR("%s differs between ranks: rank 0 has %s, rank %d on %s has %s; %s", what, first, differs, host, other,
             advice);
}

status dist_barrier(const dist *d) {
  if (d->ranks > 1) {
    TRY_COLLECTIVE("barrier", MPI_Barrier(world));
  }
  return STATUS_OK;
}
