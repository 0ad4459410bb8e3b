#include "infer/job.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "infer/loaded.h"

/* Larger than any list of prompts that a person means. */
static const size_t PROMPTS_LIMIT = (size_t)1 << 30;

typedef struct {
  const generate_job *job;
  const dist *d;
  generate_spec spec;
  loaded *l;
  tokenizer *t; /* NULL: the tokenizer is external */
  const char **prompts;
  size_t n_prompts, capacity;
  char *file_text; /* lines of the prompts' file, cut in place */
  text_stream stream;
} work;

generate_job generate_job_default(void) {
  return (generate_job){.batch = 16,
                        .form = WRITE_TEXT,
                        .spec = {.sampling = sampling_default(), .max_tokens = 128, .context = 0, .stop = true}};
}

static status add_prompt(work *w, const char *prompt) {
  TRY(memory_grow(&w->prompts, &w->capacity, w->n_prompts + 1, sizeof *w->prompts, "prompts"));
  w->prompts[w->n_prompts++] = prompt;
  return STATUS_OK;
}

/* Standard input, for one, is rank 0's alone. */
static status share_prompts_file(work *w, const char *path, size_t *bytes) {
  status mine = STATUS_OK;
  if (w->d->rank == 0) {
    mine = file_read(strcmp(path, "-") == 0 ? "/dev/stdin" : path, PROMPTS_LIMIT, &w->file_text, bytes);
  }
  TRY(dist_agree(w->d, mine));
  if (w->d->ranks == 1) {
    return STATUS_OK;
  }
  void *text = w->file_text;
  size_t with_end = *bytes + 1; /* lines are cut in place, the last one at the end */
  TRY(dist_broadcast(w->d, &text, &with_end));
  w->file_text = text;
  *bytes = with_end - 1;
  return STATUS_OK;
}

static status read_prompts_file(work *w) {
  const char *path = w->job->prompts_file;
  size_t bytes = 0;
  TRY(share_prompts_file(w, path, &bytes));
  if (bytes > 0 && memchr(w->file_text, 0, bytes) != NULL) {
    USER_ERROR("%s holds zero bytes: prompts are text, one a line", path);
  }
  size_t before = w->n_prompts;
  for (char *line = w->file_text; line < w->file_text + bytes;) {
    char *end = strchr(line, '\n');
    char *next = end == NULL ? w->file_text + bytes : end + 1;
    if (end != NULL) {
      *end = 0;
      if (end > line && end[-1] == '\r') {
        end[-1] = 0;
      }
    }
    TRY(add_prompt(w, line));
    line = next;
  }
  if (w->n_prompts == before) {
    USER_ERROR("%s holds no prompt: put one on each line", path);
  }
  return STATUS_OK;
}

static status collect_prompts(work *w) {
  for (int64_t i = 0; i < w->job->n_prompts; i++) {
    TRY(add_prompt(w, w->job->prompts[i]));
  }
  if (w->job->prompts_file != NULL) {
    TRY(read_prompts_file(w));
  }
  return w->n_prompts == 0 ? add_prompt(w, "") : STATUS_OK;
}

static status read_ids(const char *text, int64_t vocab, generate_row *row) {
  const char *space = " \t\r\n";
  for (const char *at = text + strspn(text, space); *at != 0; at += strspn(at, space)) {
    char *end;
    errno = 0;
    long long id = strtoll(at, &end, 10);
    if (end == at || (*end != 0 && strchr(space, *end) == NULL)) {
      USER_ERROR("prompt %" PRId64 " holds '%.*s': with --prompt-ids prompts are token ids, separated by spaces",
                 row->number + 1, (int)strcspn(at, space), at);
    }
    if (errno == ERANGE || id < 0 || id >= vocab) {
      USER_ERROR("prompt %" PRId64 " holds token id %.*s, outside the vocabulary of %" PRId64, row->number + 1,
                 (int)(end - at), at, vocab);
    }
    TRY(memory_grow(&row->ids, &row->capacity, row->count + 1, sizeof *row->ids, "a prompt's ids"));
    row->ids[row->count++] = (int32_t)id;
    at = end;
  }
  return STATUS_OK;
}

static status prepare_row(const work *w, int64_t number, generate_row *row) {
  const char *prompt = w->prompts[number];
  row->number = number;
  if (w->job->prompts_are_ids) {
    TRY(read_ids(prompt, w->l->m->config.vocab_size, row));
  } else if (prompt[0] != 0) {
    if (w->t == NULL) {
      USER_ERROR(
          "%s was trained on token ids made elsewhere and holds no tokenizer: give prompts as ids with --prompt-ids",
          w->l->k->path);
    }
    TRY(tokenizer_encode(w->t, prompt, strlen(prompt), &row->ids, &row->count, &row->capacity));
  }
  row->prompt = row->count;
  return STATUS_OK;
}

static status show(void *context, const generate_row *row) {
  work *w = context;
  return text_stream_show(&w->stream, row, row->end != END_NONE);
}

static bool streams(const work *w) {
  return w->d->rank == 0 && w->n_prompts == 1 && w->job->form == WRITE_TEXT;
}

static status finish_row(work *w, const generate_row *row) {
  if (w->d->rank != 0) {
    return STATUS_OK;
  }
  if (streams(w)) {
    /* Also the prompt of a text that ended at once, and the line's end. */
    TRY(text_stream_show(&w->stream, row, true));
    putchar('\n');
    if (fflush(stdout) != 0) {
      FAIL("can't write the text: %s", strerror(errno));
    }
  } else {
    const char *prompt = w->job->prompts_are_ids ? NULL : w->prompts[row->number];
    TRY(write_row(stdout, w->job->form, w->t, row, prompt, w->n_prompts > 1));
  }
  if (row->end == END_CONTEXT && w->job->form != WRITE_JSON) {
    fprintf(stderr, "psann_generate: text %" PRId64 " stopped at the context of %" PRId64 " tokens%s\n",
            row->number + 1, w->spec.context,
            w->job->spec.context > 0 ? "" : " that the model was trained with; --context allows more, less reliably");
  }
  return STATUS_OK;
}

static status run_batch(work *w, int64_t first, int64_t count, generate_row *rows) {
  for (int64_t i = 0; i < count; i++) {
    TRY(prepare_row(w, first + i, &rows[i]));
  }
  if (streams(w)) {
    w->stream = (text_stream){.out = stdout, .t = w->t};
  }
  TRY(generate(w->l->m, w->l->e, &w->l->w->source, &w->spec, w->l->k->end_of_text, rows, count,
               streams(w) ? show : NULL, w));
  for (int64_t i = 0; i < count; i++) {
    TRY(finish_row(w, &rows[i]));
  }
  return STATUS_OK;
}

static status run_all(work *w) {
  int64_t total = (int64_t)w->n_prompts;
  for (int64_t first = 0; first < total; first += w->job->batch) {
    int64_t count = total - first < w->job->batch ? total - first : w->job->batch;
    generate_row *rows;
    TRY(memory_new(&rows, (size_t)count, sizeof *rows, "texts"));
    status result = run_batch(w, first, count, rows);
    for (int64_t i = 0; i < count; i++) {
      free(rows[i].ids);
    }
    free(rows);
    TRY(result);
  }
  return STATUS_OK;
}

static status open_all(work *w) {
  TRY(loaded_open(w->job->checkpoint, w->job->device, w->job->strategy, w->d, &w->l));
  if (w->spec.context == 0) {
    w->spec.context = w->l->k->config->data.seq_len;
  }
  if (strcmp(w->l->k->tokenizer, "external") != 0) {
    return loaded_tokenizer(w->l, &w->t);
  }
  if (w->job->form == WRITE_TEXT) {
    USER_ERROR("%s was trained on token ids made elsewhere and holds no tokenizer: ask for ids with --tokens or --json",
               w->l->k->path);
  }
  return STATUS_OK;
}

status generate_job_run(const generate_job *job, const dist *d) {
  REQUIRE(job->batch > 0, "%" PRId64 " prompts can't be decoded together", job->batch);
  TRY(sampling_check(&job->spec.sampling));
  work w = {.job = job, .d = d, .spec = job->spec};
  status result = collect_prompts(&w);
  if (result == STATUS_OK) {
    result = open_all(&w);
  }
  if (result == STATUS_OK) {
    result = run_all(&w);
  }
  tokenizer_free(w.t);
  loaded_close(w.l);
  free(w.prompts);
  free(w.file_text);
  return result;
}
