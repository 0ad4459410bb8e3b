#include "data/tokenize.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"

/* Text that one thread encodes at a time. */
enum { BATCH_BYTES = INPUT_CUT };

/* A segment within a batch. */
typedef struct {
  size_t text_end, ids_end; /* it starts where the one before ends */
  bool ends, held_out;
} part;

typedef enum { FREE, FILLED, TAKEN, ENCODED } batch_state;

typedef struct {
  batch_state state;
  char *text;
  size_t bytes, capacity;
  part *parts;
  size_t part_count, part_capacity;
  int32_t *ids;
  size_t id_count, id_capacity;
  status result;
  char *message; /* of a failure, which is the encoding thread's own */
} batch;

/* Batches go round: the main thread fills at `filled`, threads take at `taken`, the main thread writes at `written`;
 * all count up. */
typedef struct {
  tokenizer *tokenizer;
  batch *batches;
  uint64_t size, filled, taken, written;
  bool stop;
  pthread_mutex_t lock;
  pthread_cond_t work, done;
} ring;

static status encode_batch(tokenizer *t, batch *b) {
  size_t start = 0;
  int32_t end_of_text = tokenizer_end_of_text(t);
  b->id_count = 0;
  for (size_t i = 0; i < b->part_count; i++) {
    part *p = &b->parts[i];
    TRY(tokenizer_encode(t, b->text + start, p->text_end - start, &b->ids, &b->id_count, &b->id_capacity));
    if (p->ends) {
      TRY(memory_grow(&b->ids, &b->id_capacity, b->id_count + 1, sizeof *b->ids, "the tokens of a text"));
      b->ids[b->id_count++] = end_of_text;
    }
    start = p->text_end;
    p->ids_end = b->id_count;
  }
  return STATUS_OK;
}

static void *encode_batches(void *context) {
  ring *r = context;
  pthread_mutex_lock(&r->lock);
  for (;;) {
    while (!r->stop && r->taken == r->filled) {
      pthread_cond_wait(&r->work, &r->lock);
    }
    if (r->stop) {
      break;
    }
    batch *b = &r->batches[r->taken++ % r->size];
    b->state = TAKEN;
    pthread_mutex_unlock(&r->lock);
    b->result = encode_batch(r->tokenizer, b);
    if (b->result != STATUS_OK) {
      b->message = strdup(status_message());
    }
    pthread_mutex_lock(&r->lock);
    b->state = ENCODED;
    pthread_cond_signal(&r->done);
  }
  pthread_mutex_unlock(&r->lock);
  return NULL;
}

typedef struct {
  ring ring;
  input_reader *reader;
  const holdout *split;
  store_writer *train, *val;
  tokenize_counts *counts;
  int64_t total_bytes, document_bytes;
  bool held_out; /* the document being read */
  bool more;
  input_segment segment; /* the next */
  double start, shown;
} job;

static status write_batch(job *j, batch *b) {
  if (b->result != STATUS_OK) {
    return status_set(b->result, __FILE__, __LINE__, "%s", b->message != NULL ? b->message : "out of memory");
  }
  int32_t unknown = tokenizer_unknown(j->ring.tokenizer);
  size_t ids = 0, text = 0;
  for (size_t i = 0; i < b->part_count; i++) {
    const part *p = &b->parts[i];
    store_writer *to = p->held_out ? j->val : j->train;
    int64_t *unknowns = p->held_out ? &j->counts->unknown_val : &j->counts->unknown_train;
    TRY(store_writer_add(to, b->ids + ids, p->ids_end - ids));
    for (; ids < p->ids_end; ids++) {
      *unknowns += b->ids[ids] == unknown;
    }
    j->document_bytes += (int64_t)(p->text_end - text);
    text = p->text_end;
    if (p->ends) {
      TRY(store_writer_end_document(to, j->document_bytes));
      j->document_bytes = 0;
    }
  }
  return STATUS_OK;
}

static void show_progress(job *j) {
  double now = clock_seconds(), every = log_is_terminal() ? 0.2 : 30;
  if (now - j->shown < every) {
    return;
  }
  j->shown = now;
  double bytes = (double)input_reader_bytes(j->reader), total = (double)j->total_bytes;
  double speed = bytes / (now - j->start);
  char left[32], read[32];
  clock_duration(speed > 0 ? (total - bytes) / speed : 0, left);
  void (*show)(const char *, ...) = log_is_terminal() ? log_progress : log_line;
  show("tokenizing: %3.0f %%  %s  %.1f MB/s  %s left", total > 0 ? 100 * bytes / total : 100.0,
       memory_text(bytes, read), speed / 1e6, left);
}

/* Waits for the oldest batch in the ring and writes it. */
static status write_oldest(job *j) {
  ring *r = &j->ring;
  batch *b = &r->batches[r->written % r->size];
  pthread_mutex_lock(&r->lock);
  while (b->state != ENCODED) {
    pthread_cond_wait(&r->done, &r->lock);
  }
  pthread_mutex_unlock(&r->lock);
  TRY(write_batch(j, b));
  b->state = FREE;
  r->written++;
  show_progress(j);
  return STATUS_OK;
}

static status add_segment(job *j, batch *b) {
  const input_segment *s = &j->segment;
  if (s->starts) {
    j->held_out = j->val != NULL && holdout_takes(j->split, s);
  }
  TRY(memory_grow(&b->text, &b->capacity, b->bytes + s->bytes, 1, "a batch of text"));
  TRY(memory_grow(&b->parts, &b->part_capacity, b->part_count + 1, sizeof *b->parts, "a batch of text"));
  memcpy(b->text + b->bytes, s->text, s->bytes);
  b->bytes += s->bytes;
  b->parts[b->part_count++] = (part){.text_end = b->bytes, .ends = s->ends, .held_out = j->held_out};
  return input_reader_next(j->reader, &j->segment, &j->more);
}

/* Fills batches until the inputs end, keeping the threads busy, then writes what is in the ring. */
static status run(job *j) {
  ring *r = &j->ring;
  TRY(input_reader_next(j->reader, &j->segment, &j->more));
  while (j->more) {
    if (r->filled - r->written == r->size) {
      TRY(write_oldest(j));
    }
    batch *b = &r->batches[r->filled % r->size];
    b->bytes = b->part_count = 0;
    while (j->more && (b->part_count == 0 || b->bytes + j->segment.bytes <= BATCH_BYTES)) {
      TRY(add_segment(j, b));
    }
    pthread_mutex_lock(&r->lock);
    b->state = FILLED;
    r->filled++;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
  }
  while (r->written < r->filled) {
    TRY(write_oldest(j));
  }
  return STATUS_OK;
}

/* Ends the threads, whatever is still in the ring. */
static void stop_threads(ring *r, pthread_t *threads, int count) {
  pthread_mutex_lock(&r->lock);
  r->stop = true;
  pthread_cond_broadcast(&r->work);
  pthread_mutex_unlock(&r->lock);
  for (int i = 0; i < count; i++) {
    pthread_join(threads[i], NULL);
  }
}

static status run_threads(job *j, int jobs) {
  pthread_t *threads;
  TRY(memory_new(&threads, (size_t)jobs, sizeof *threads, "the threads"));
  int started = 0;
  while (started < jobs && pthread_create(&threads[started], NULL, encode_batches, &j->ring) == 0) {
    started++;
  }
  status s = started > 0 ? run(j)
                         : status_set(STATUS_FAILURE, __FILE__, __LINE__,
                                      "cannot start a thread; raise the limit on processes (ulimit -u)");
  stop_threads(&j->ring, threads, started);
  free(threads);
  return s;
}

static void free_ring(ring *r) {
  for (uint64_t i = 0; r->batches != NULL && i < r->size; i++) {
    free(r->batches[i].text);
    free(r->batches[i].parts);
    free(r->batches[i].ids);
    free(r->batches[i].message);
  }
  free(r->batches);
  pthread_mutex_destroy(&r->lock);
  pthread_cond_destroy(&r->work);
  pthread_cond_destroy(&r->done);
}

status tokenize(input_list *list, const input_options *options, const holdout *split, tokenizer *t, int jobs,
                store_writer *train, store_writer *val, tokenize_counts *counts) {
  job j = {.split = split, .train = train, .val = val, .counts = counts, .total_bytes = list->bytes};
  j.start = j.shown = clock_seconds();
  j.ring.tokenizer = t;
  j.ring.size = 2 * (uint64_t)jobs + 2;
  *counts = (tokenize_counts){0};
  pthread_mutex_init(&j.ring.lock, NULL);
  pthread_cond_init(&j.ring.work, NULL);
  pthread_cond_init(&j.ring.done, NULL);
  status s = memory_new(&j.ring.batches, j.ring.size, sizeof *j.ring.batches, "the batches of text");
  if (s == STATUS_OK) {
    s = input_reader_open(list, options, &j.reader);
  }
  if (s == STATUS_OK) {
    s = run_threads(&j, jobs);
    counts->bad_lines = input_reader_bad_lines(j.reader);
    counts->seconds = clock_seconds() - j.start;
  }
  input_reader_close(j.reader);
  free_ring(&j.ring);
  return s;
}
