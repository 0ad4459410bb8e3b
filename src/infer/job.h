/* What psann_generate does: prompts in, texts out. */
#ifndef PSANN_INFER_JOB_H
#define PSANN_INFER_JOB_H

#include <stdbool.h>
#include <stdint.h>

#include "dist/dist.h"
#include "infer/generate.h"
#include "infer/writer.h"

typedef struct {
  const char *checkpoint;   /* file or run folder */
  const char *device;       /* NULL: the checkpoint's own */
  const char *strategy;     /* NULL: auto */
  const char **prompts;     /* (n_prompts) not owned */
  int64_t n_prompts;        /* 0 and no file: one empty prompt */
  const char *prompts_file; /* one prompt a line, after those of `prompts`; NULL: none; "-": standard input */
  bool prompts_are_ids;     /* prompts are token ids, separated by white space */
  int64_t batch;            /* prompts that are decoded together */
  write_form form;
  generate_spec spec; /* context 0: data.seq_len of the checkpoint */
} generate_job;

generate_job generate_job_default(void);

/* Collective: all ranks compute the same texts. Rank 0 reads the prompts' file and writes to standard output; notes on
 * why a text ended go to standard error. */
status generate_job_run(const generate_job *job, const dist *d);

#endif
