#include "data/tokenizer_train.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "data/utf8.h"

/* Walks the training documents. `take` gets each segment. */
static status each_training_segment(input_list *list, const input_options *options, const holdout *split,
                                    status (*take)(void *context, const char *text, size_t bytes), void *context) {
  input_reader *reader;
  input_segment segment;
  bool there = true, held_out = false;
  TRY(input_reader_open(list, options, &reader));
  status s = STATUS_OK;
  double shown = clock_seconds();
  while (s == STATUS_OK) {
    s = input_reader_next(reader, &segment, &there);
    if (s != STATUS_OK || !there) {
      break;
    }
    held_out = segment.starts ? holdout_takes(split, &segment) : held_out;
    if (!held_out) {
      s = take(context, segment.text, segment.bytes);
    }
    if (clock_seconds() - shown > 0.2) {
      shown = clock_seconds();
      log_progress("reading for the tokenizer: %3.0f %%",
                   100.0 * (double)input_reader_bytes(reader) / (double)(list->bytes > 0 ? list->bytes : 1));
    }
  }
  input_reader_close(reader);
  return s;
}

static status note_characters(void *context, const char *text, size_t bytes) {
  bool *occurs = context;
  size_t length;
  for (size_t at = 0; at < bytes; at += length) {
    int32_t point = utf8_read(text + at, bytes - at, &length);
    if (point >= 0) {
      occurs[point] = true;
    }
  }
  return STATUS_OK;
}

status tokenizer_train_chars(input_list *list, const input_options *options, const holdout *split, tokenizer **out) {
  bool *occurs;
  uint32_t *points = NULL;
  size_t count = 0;
  *out = NULL;
  TRY(memory_new(&occurs, UTF8_LARGEST + 1, sizeof *occurs, "the characters that occur"));
  status s = each_training_segment(list, options, split, note_characters, occurs);
  if (s == STATUS_OK) {
    s = memory_new(&points, UTF8_LARGEST + 1, sizeof *points, "the characters of a tokenizer");
  }
  if (s == STATUS_OK) {
    for (uint32_t p = 0; p <= UTF8_LARGEST; p++) {
      if (occurs[p]) {
        points[count++] = p;
      }
    }
    s = count > 0
            ? tokenizer_create("chars", points, count * sizeof *points, (int64_t)count + 2, 0, out)
            : status_set(
                  STATUS_USER_ERROR, __FILE__, __LINE__,
                  "there is no character to make a chars tokenizer of; give training inputs that hold UTF-8 text");
  }
  free(occurs);
  free(points);
  return s;
}

/* The lines that were drawn, end to end. */
typedef struct {
  char *text;
  size_t bytes, capacity;
  size_t *ends;
  size_t lines, line_capacity;
  uint64_t seed, number; /* lines seen */
  double share;          /* of the lines that is taken */
} sample;

static status take_line(sample *s, const char *line, size_t bytes) {
  uint64_t hash = XXH3_64bits_withSeed(&s->number, sizeof s->number, s->seed);
  s->number++;
  if (bytes == 0 || (double)(hash >> 11) * 0x1p-53 >= s->share) {
    return STATUS_OK;
  }
  TRY(memory_grow(&s->text, &s->capacity, s->bytes + bytes, 1, "the tokenizer's sample"));
  TRY(memory_grow(&s->ends, &s->line_capacity, s->lines + 1, sizeof *s->ends, "the tokenizer's sample"));
  memcpy(s->text + s->bytes, line, bytes);
  s->bytes += bytes;
  s->ends[s->lines++] = s->bytes;
  return STATUS_OK;
}

/* Cuts a text into lines for the trainer: at newlines, at what goes round the library (NUL, U+2581, invalid bytes),
 * and, in very long lines, before a space.
 */
static status sample_lines(void *context, const char *text, size_t bytes) {
  sample *s = context;
  size_t start = 0, length, space = 0; /* space: the last one in the line, 0: none */
  for (size_t at = 0; at < bytes; at += length) {
    int32_t point = utf8_read(text + at, bytes - at, &length);
    if (at + length - start > SENTENCEPIECE_LINE) {
      size_t end = space > start ? space : at;
      TRY(take_line(s, text + start, end - start));
      start = end;
    }
    if (point == ' ') {
      space = at;
    }
    if (point <= 0 || point == '\n' || point == 0x2581) {
      TRY(take_line(s, text + start, at - start));
      start = at + length;
    }
  }
  return take_line(s, text + start, bytes - start);
}

status tokenizer_train_sentencepiece(input_list *list, const input_options *options, const holdout *split,
                                     const sentencepiece_options *training, int64_t sample_bytes, tokenizer **out) {
  sample s = {.seed = split->seed};
  char *model = NULL, size[32];
  size_t model_bytes = 0;
  *out = NULL;
  s.share = list->bytes > sample_bytes ? (double)sample_bytes / (double)list->bytes : 1.0;
  status result = each_training_segment(list, options, split, sample_lines, &s);
  if (result == STATUS_OK && s.lines == 0) {
    result = status_set(STATUS_USER_ERROR, __FILE__, __LINE__,
                        "there is no text to train a tokenizer on; give training inputs that hold UTF-8 text");
  }
  if (result == STATUS_OK) {
    double start = clock_seconds();
    char took[32];
    log_line("training a %s tokenizer of %" PRId64 " tokens on %zu lines, %s …", training->model_type,
             training->vocab_size, s.lines, memory_text((double)s.bytes, size));
    result = sentencepiece_train(s.text, s.ends, s.lines, training, &model, &model_bytes);
    if (result == STATUS_OK) {
      log_line("  trained in %s", clock_duration(clock_seconds() - start, took));
    }
  }
  free(s.text);
  free(s.ends);
  if (result == STATUS_OK) {
    result = tokenizer_create("sentencepiece", model, model_bytes, training->vocab_size, 0, out);
  }
  free(model);
  return result;
}
