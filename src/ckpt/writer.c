/* Rank 0 says before each move how many parts may be sent: as many as it has room for. So ranks need no messages of
 * their own to ask for parts, a save that has failed asks for no more, and all learn of its end in the same call.
 */
#include "ckpt/writer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/activity.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "ckpt/file_thread.h"
#include "ckpt/snapshot.h"
#include "dist/pieces.h"
#include "shard/layout.h"

enum { MESSAGE = 4096, ENDED = 1 << 30 /* in place of a number of parts */ };

static const double SHARE = 0.01;     /* of training's time that may go into pushing pieces */
static const double PUSH_S = 0.002;   /* the same where nothing else is to be done */
static const long PAUSE_NS = 1000000; /* between looks at a save that is waited for */

/* Elements of a unit that a rank saves. */
typedef struct {
  int64_t first, count;
} range;

struct checkpoint_writer {
  checkpoint_writer_spec spec;
  snapshot *copy; /* NULL: saves are in the foreground */
  pieces *under_way;
  range *ranges;             /* rank 0: (ranks, units) */
  float *rooms[PIECE_LANES]; /* rank 0 of several: whole parts, part p in room p % PIECE_LANES */

  bool busy;
  ckpt_content content;
  file_thread *file;      /* rank 0 */
  int issued;             /* parts whose sends or receives were started */
  int arrived;            /* rank 0: parts that are complete */
  double started, pushed; /* clock: of the save, end of the last move */
  bool untold;            /* the outcome of a save that has ended */
  checkpoint_outcome outcome;
  char message[MESSAGE];
};

static int parts_of(const checkpoint_writer *b) {
  return ckpt_parts(b->spec.m);
}

double checkpoint_copy_bytes(const model *m, int ranks, int shard_ranks) {
  double bytes = 0;
  int64_t leaves = layout_most_leaves(shard_ranks);
  for (int u = 0; u < m->n_units; u++) {
    bytes += (double)TABLES * sizeof(float) * (double)(leaves * m->units[u].leaf);
  }
  bytes += ranks > 1 ? (double)PIECE_LANES * sizeof(float) * (double)model_largest_unit(m) : 0; /* rooms of rank 0 */
  return bytes;
}

/* Life. */

/* On rank 0. */
static range range_of(const checkpoint_writer *b, int rank, int u) {
  return b->ranges[(size_t)rank * (size_t)b->spec.m->n_units + (size_t)u];
}

/* A file with a hole would be worse than none. */
static status check_ranges(const checkpoint_writer *b) {
  for (int u = 0; u < b->spec.m->n_units; u++) {
    int64_t at = 0;
    for (int rank = 0; rank < b->spec.d->ranks; rank++) {
      range r = range_of(b, rank, u);
      REQUIRE(r.count == 0 || r.first == at, "unit %s: rank %d saves from element %lld, the one before it up to %lld",
              b->spec.m->units[u].name, rank, (long long)r.first, (long long)at);
      at += r.count;
    }
    REQUIRE(at == b->spec.m->units[u].count, "unit %s: the ranks save %lld of %lld elements", b->spec.m->units[u].name,
            (long long)at, (long long)b->spec.m->units[u].count);
  }
  return STATUS_OK;
}

static status gather_ranges(checkpoint_writer *b) {
  size_t units = (size_t)b->spec.m->n_units, all = units * (size_t)b->spec.d->ranks;
  const dist *d = b->spec.d;
  range *mine = NULL;
  status result = memory_new(&mine, units, sizeof *mine, "ranges of units");
  if (result == STATUS_OK && d->rank == 0) {
    result = memory_new(&b->ranges, all, sizeof *b->ranges, "ranges of units");
  }
  for (size_t u = 0; u < units && mine != NULL; u++) {
    mine[u] = (range){b->copy->first[u], b->copy->count[u]};
  }
  result = dist_agree(d, result);
  if (result == STATUS_OK) {
    result = dist_collect(d, mine, units * sizeof *mine, b->ranges, all * sizeof *mine);
  }
  free(mine);
  TRY(result);
  return dist_agree(d, d->rank == 0 ? check_ranges(b) : STATUS_OK);
}

/* This rank's memory. */
static status allocate(checkpoint_writer *b) {
  TRY(snapshot_create(b->spec.w, &b->copy));
  for (int lane = 0; lane < PIECE_LANES && b->spec.d->rank == 0 && b->spec.d->ranks > 1; lane++) {
    TRY(memory_new(&b->rooms[lane], (size_t)model_largest_unit(b->spec.m), sizeof *b->rooms[lane],
                   "a unit of the checkpoint"));
  }
  return STATUS_OK;
}

static void release_memory(checkpoint_writer *b) {
  snapshot_free(b->copy);
  b->copy = NULL;
  for (int lane = 0; lane < PIECE_LANES; lane++) {
    free(b->rooms[lane]);
    b->rooms[lane] = NULL;
  }
}

static status prepare_background(checkpoint_writer *b) {
  if (dist_agree(b->spec.d, allocate(b)) != STATUS_OK) {
    log_line("checkpoints are written in the foreground: %s", status_message());
    release_memory(b);
    return STATUS_OK;
  }
  char text[32];
  log_line("checkpoints are written in the background, from a copy in host memory (%s a rank)",
           memory_text((double)b->copy->bytes, text));
  TRY(gather_ranges(b));
  return pieces_create(b->spec.d, &b->under_way);
}

status checkpoint_writer_create(const checkpoint_writer_spec *spec, bool background, checkpoint_writer **out) {
  status result = memory_new(out, 1, sizeof **out, "the writer of checkpoints");
  TRY(dist_agree(spec->d, result));
  checkpoint_writer *b = *out;
  b->spec = *spec;
  if (background) {
    result = prepare_background(b);
  }
  if (result != STATUS_OK) {
    checkpoint_writer_destroy(b);
    *out = NULL;
  }
  return result;
}

void checkpoint_writer_destroy(checkpoint_writer *b) {
  if (b == NULL) {
    return;
  }
  if (b->file != NULL && b->arrived == parts_of(b)) {
    if (file_thread_join(b->file) != STATUS_OK) {
      log_warning("the checkpoint of step %lld could not be written: %s", (long long)b->content.state.step,
                  status_message());
    }
  } else if (b->file != NULL) {
    file_thread_abandon(b->file);
  }
  pieces_destroy(b->under_way);
  release_memory(b);
  free(b->ranges);
  free(b);
}

/* A save. */

/* On the file thread: a whole part. What other ranks have is in its room already. */
static const float *values_of(void *context, int part) {
  checkpoint_writer *b = context;
  int u = part % b->spec.m->n_units;
  const float *own = b->copy->values[part];
  if (b->spec.d->ranks == 1) {
    return own;
  }
  float *room = b->rooms[part % PIECE_LANES];
  if (b->copy->count[u] > 0) {
    memcpy(room + b->copy->first[u], own, (size_t)b->copy->count[u] * sizeof *room);
  }
  return room;
}

static void end_save(checkpoint_writer *b, status result) {
  b->outcome.result = result;
  b->outcome.state = b->content.state;
  b->outcome.seconds = clock_seconds() - b->started;
  b->busy = false;
  b->untold = true;
  snprintf(b->message, sizeof b->message, "%s", result != STATUS_OK ? status_message() : "");
}

static status save_in_foreground(checkpoint_writer *b) {
  const checkpoint_writer_spec *s = &b->spec;
  if (s->before_naming != NULL && s->d->rank == 0) {
    s->before_naming(s->context);
  }
  end_save(b, checkpoint_save(s->folder, s->c, s->m, s->w, &b->content.state, s->tokenizer_of, s->d));
  b->outcome.waited = b->outcome.seconds;
  return STATUS_OK;
}

/* On one rank nothing has to travel. */
static void all_is_there(checkpoint_writer *b) {
  b->issued = b->arrived = parts_of(b);
  file_thread_ready(b->file, b->arrived);
}

status checkpoint_writer_start(checkpoint_writer *b, const run_state *state) {
  const checkpoint_writer_spec *s = &b->spec;
  REQUIRE(!b->busy, "the checkpoint of step %lld begins before that of step %lld has ended", (long long)state->step,
          (long long)b->content.state.step);
  b->started = clock_seconds();
  b->content = (ckpt_content){.folder = s->folder,
                              .c = s->c,
                              .m = s->m,
                              .tokenizer_of = s->tokenizer_of,
                              .d = s->d,
                              .state = *state,
                              .before_naming = s->before_naming,
                              .context = s->context};
  b->outcome = (checkpoint_outcome){0};
  b->issued = b->arrived = 0;
  b->busy = true;
  if (b->copy == NULL) {
    return save_in_foreground(b);
  }
  status result = snapshot_take(b->copy);
  if (result == STATUS_OK && s->d->rank == 0) {
    result = file_thread_start(&b->content, values_of, b, &b->file);
  }
  result = dist_agree(s->d, result);
  if (result != STATUS_OK && b->file != NULL) {
    file_thread_abandon(b->file);
    b->file = NULL;
  }
  if (result != STATUS_OK) {
    end_save(b, result);
  } else if (s->d->ranks == 1) {
    all_is_there(b);
  }
  b->pushed = clock_seconds();
  b->outcome.waited = b->outcome.copied = b->pushed - b->started;
  return STATUS_OK;
}

/* On rank 0: how many parts may be sent in all, or ENDED. */
static int granted(const checkpoint_writer *b) {
  bool ended;
  int written = file_thread_written(b->file, &ended);
  if (ended) {
    return b->arrived == b->issued ? ENDED : b->issued;
  }
  int room = written + PIECE_LANES;
  return room < parts_of(b) ? room : parts_of(b);
}

static status issue(checkpoint_writer *b, int part) {
  int u = part % b->spec.m->n_units, lane = part % PIECE_LANES;
  if (b->spec.d->rank != 0) {
    return pieces_send(b->under_way, lane, b->copy->values[part], b->copy->count[u] * (int64_t)sizeof(float));
  }
  for (int rank = 1; rank < b->spec.d->ranks; rank++) {
    range r = range_of(b, rank, u);
    TRY(pieces_receive(b->under_way, lane, rank, b->rooms[lane] + r.first, r.count * (int64_t)sizeof(float)));
  }
  return STATUS_OK;
}

/* Pushes what was issued, for at most `seconds`; *done: all of it is there. Rank 0 hands whole parts on. */
static status push(checkpoint_writer *b, double seconds, bool *done) {
  double start = clock_seconds();
  do {
    bool lanes[PIECE_LANES];
    *done = true;
    for (int lane = 0; lane < PIECE_LANES; lane++) {
      TRY(pieces_test(b->under_way, lane, &lanes[lane]));
      *done = *done && lanes[lane];
    }
    int before = b->arrived;
    while (b->arrived < b->issued && lanes[b->arrived % PIECE_LANES]) {
      b->arrived++;
    }
    if (b->file != NULL && b->arrived > before) {
      file_thread_ready(b->file, b->arrived);
    }
  } while (!*done && clock_seconds() - start < seconds);
  return STATUS_OK;
}

/* Every rank's part of the end; rank 0 knows how it ended. */
static status finish(checkpoint_writer *b) {
  bool done = false;
  while (!done) { /* rank 0 has all that was sent, so this doesn't last */
    TRY(push(b, PUSH_S, &done));
  }
  status result = STATUS_OK;
  if (b->file != NULL) {
    result = file_thread_join(b->file);
    b->file = NULL;
  }
  end_save(b, dist_agree(b->spec.d, result));
  return STATUS_OK;
}

static status move(checkpoint_writer *b, bool wait) {
  int64_t agreed;
  bool done;
  TRY(dist_max(b->spec.d, b->file != NULL ? granted(b) : 0, &agreed));
  if (agreed == ENDED) {
    return finish(b);
  }
  int issued = b->issued, arrived = b->arrived;
  for (; b->issued < (int)agreed; b->issued++) {
    TRY(issue(b, b->issued));
  }
  TRY(push(b, wait ? PUSH_S : SHARE * (clock_seconds() - b->pushed), &done));
  if (wait && b->issued == issued && b->arrived == arrived) {
    nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
  }
  return STATUS_OK;
}

/* Rank 0 waits for its thread, the others for rank 0. */
static status move_to_end(checkpoint_writer *b) {
  status result = STATUS_OK;
  bool leans = b->file != NULL;
  if (leans) {
    activity_lean();
  } else {
    activity_wait("the end of a checkpoint");
  }
  while (b->busy && result == STATUS_OK) {
    result = move(b, true);
  }
  if (leans) {
    activity_stand();
  } else {
    activity_waited();
  }
  return result;
}

status checkpoint_writer_advance(checkpoint_writer *b, bool wait, checkpoint_outcome *o) {
  double start = clock_seconds();
  *o = (checkpoint_outcome){.state.step = -1};
  if (b->busy) {
    TRY(wait ? move_to_end(b) : move(b, false));
    b->pushed = clock_seconds();
    b->outcome.waited += b->pushed - start;
  }
  if (b->untold) {
    b->untold = false;
    *o = b->outcome;
    o->waited = o->waited < o->seconds ? o->waited : o->seconds; /* the end is a little before this look's */
    if (o->result != STATUS_OK) {
      status_set(o->result, __FILE__, __LINE__, "%s", b->message);
    }
  }
  return STATUS_OK;
}

int64_t checkpoint_writer_busy(const checkpoint_writer *b) {
  return b->busy ? b->content.state.step : -1;
}
