/* The documents of a list of files as a stream of segments, in bounded memory. */
#ifndef PSANN_DATA_INPUT_READER_H
#define PSANN_DATA_INPUT_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/input_list.h"

/* What separates the documents of a text file. What separates is no part of a document. */
typedef enum {
  SPLIT_NONE,       /* a file is a document */
  SPLIT_LINE,       /* a line is a document, without its newline */
  SPLIT_BLANK_LINE, /* lines of nothing but white space separate */
  SPLIT_MARK        /* lines equal to `mark` separate */
} document_split;

typedef struct {
  document_split split;
  const char *mark;
  const char *text_key; /* of a JSON line */
  bool skip_bad_lines;  /* of JSON: count them instead of failing */
} input_options;

/* A document longer than INPUT_CUT is given in several segments: cut after the first newline from there on; when the
 * next INPUT_CUT bytes have none, before the last space in them; when they have no space either, between characters.
 */
enum { INPUT_CUT = 1 << 20, INPUT_JSON_LINE_LIMIT = 256 << 20 };

typedef struct {
  const char *text;  /* valid until the next call */
  size_t bytes;      /* at most 2 · INPUT_CUT + 1 */
  bool starts, ends; /* a document */
  input_role role;   /* of its file */
} input_segment;

typedef struct input_reader input_reader;

/* `list` and `options` must outlive the reader; reading fills the sources of `list`. */
status input_reader_open(input_list *list, const input_options *options, input_reader **out);
void input_reader_close(input_reader *r); /* NULL is fine */

/* *there is false at the end. Documents without text are passed over. */
status input_reader_next(input_reader *r, input_segment *segment, bool *there);

int64_t input_reader_bytes(const input_reader *r);     /* read so far */
int64_t input_reader_bad_lines(const input_reader *r); /* skipped so far */

#endif
