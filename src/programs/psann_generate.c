/* Samples text from a checkpoint. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infer/arguments.h"
#include "infer/job.h"
#include "report/version.h"

static const char USAGE[] =
    "usage: [mpirun -np N] psann_generate CHECKPOINT [PROMPT…] [option…]\n"
    "\n"
    "Continues each PROMPT with the model in CHECKPOINT: a checkpoint file, or a run folder (its best checkpoint, "
    "otherwise\n"
    "its last). Without a prompt the text starts as a document does. Prints prompt and continuation; a single text is\n"
    "streamed as it comes. The same seed gives a prompt the same text, whatever else is generated beside it.\n"
    "\n"
    "  --prompts FILE           prompts from a file, one a line, after those of the command line (-: standard input)\n"
    "  --prompt-ids             prompts are token ids, separated by spaces\n"
    "  --max-tokens N           new tokens of a text, at most (128)\n"
    "  --temperature X          0: the most probable token each time; higher: freer (0.8)\n"
    "  --top-k N                draw among the N most probable tokens, ties kept; 0: off (0)\n"
    "  --top-p X                draw among the fewest tokens whose probabilities reach X; 1: off (0.95)\n"
    "  --repetition-penalty X   make tokens that occurred less probable: positive logits are divided by X, negative "
    "ones\n"
    "                           multiplied; 1: off (1)\n"
    "  --seed N                 of the draws (0)\n"
    "  --context N              stop a text when N tokens are read (what the model was trained with: data.seq_len)\n"
    "  --no-stop                go on past the end of a text\n"
    "  --batch N                prompts that are continued together (16)\n"
    "  --tokens                 print the new token ids in place of text, a line a prompt\n"
    "  --json                   print a JSON object a line: index, prompt, text, prompt_tokens, tokens, end\n"
    "  --device D               auto, cpu, cuda (the checkpoint's run.device)\n"
    "  --strategy S             how several ranks hold the weights: ddp (all on each), full_shard (together, for "
    "models too large "
    "for one);\n"
    "                           auto: as they fit (auto)\n"
    "  --help, --version\n";

/* The letters are names within this file; only the long forms are options. */
static const struct option OPTIONS[] = {{"prompts", required_argument, NULL, 'f'},
                                        {"prompt-ids", no_argument, NULL, 'i'},
                                        {"max-tokens", required_argument, NULL, 'n'},
                                        {"temperature", required_argument, NULL, 't'},
                                        {"top-k", required_argument, NULL, 'k'},
                                        {"top-p", required_argument, NULL, 'p'},
                                        {"repetition-penalty", required_argument, NULL, 'r'},
                                        {"seed", required_argument, NULL, 's'},
                                        {"context", required_argument, NULL, 'c'},
                                        {"no-stop", no_argument, NULL, 'N'},
                                        {"batch", required_argument, NULL, 'b'},
                                        {"tokens", no_argument, NULL, 'o'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"device", required_argument, NULL, 'd'},
                                        {"strategy", required_argument, NULL, 'S'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, 'v'},
                                        {NULL, 0, NULL, 0}};

/* Sets what an option says; *print is what to print instead of working. */
static status set_option(generate_job *job, int option, const char **print) {
  sampling_spec *s = &job->spec.sampling;
  int64_t seed;
  switch (option) {
    case 'f':
      job->prompts_file = optarg;
      return STATUS_OK;
    case 'i':
      job->prompts_are_ids = true;
      return STATUS_OK;
    case 'n':
      return argument_integer("--max-tokens", optarg, 1, INT32_MAX, &job->spec.max_tokens);
    case 't':
      return argument_number("--temperature", optarg, 0, 1000, &s->temperature);
    case 'k':
      return argument_integer("--top-k", optarg, 0, INT32_MAX, &s->top_k);
    case 'p':
      return argument_number("--top-p", optarg, 1e-9, 1, &s->top_p);
    case 'r':
      return argument_number("--repetition-penalty", optarg, 1e-3, 1000, &s->repetition_penalty);
    case 's':
      TRY(argument_integer("--seed", optarg, 0, INT64_MAX, &seed));
      s->seed = (uint64_t)seed;
      return STATUS_OK;
    case 'c':
      return argument_integer("--context", optarg, 1, INT32_MAX, &job->spec.context);
    case 'N':
      job->spec.stop = false;
      return STATUS_OK;
    case 'b':
      return argument_integer("--batch", optarg, 1, 65536, &job->batch);
    case 'o':
      job->form = WRITE_IDS;
      return STATUS_OK;
    case 'j':
      job->form = WRITE_JSON;
      return STATUS_OK;
    case 'd':
      job->device = optarg;
      return STATUS_OK;
    case 'S':
      job->strategy = optarg;
      return STATUS_OK;
    default:
      *print = option == 'v' ? version_text() : USAGE;
      return STATUS_OK;
  }
}

static status read_arguments(int argc, char **argv, generate_job *job, const char **print) {
  opterr = 0;
  for (int option; *print == NULL && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
    if (option == '?' || option == ':') {
      return argument_refused("psann_generate", option, optopt, optind, argv);
    }
    TRY(set_option(job, option, print));
  }
  if (*print != NULL) {
    return STATUS_OK;
  }
  if (optind >= argc) {
    USER_ERROR("no checkpoint given: psann_generate CHECKPOINT [PROMPT…]; psann_generate --help tells more");
  }
  job->checkpoint = argv[optind++];
  job->prompts = (const char **)(argv + optind);
  job->n_prompts = argc - optind;
  return STATUS_OK;
}

int main(int argc, char **argv) {
  dist d;
  generate_job job = generate_job_default();
  const char *print = NULL;
  status result = dist_start(&argc, &argv, &d);
  if (result == STATUS_OK) {
    result = read_arguments(argc, argv, &job, &print);
  }
  if (result == STATUS_OK && print != NULL && d.rank == 0) {
    printf("%s%s", print, print[strlen(print) - 1] == '\n' ? "" : "\n");
  } else if (result == STATUS_OK && print == NULL) {
    result = generate_job_run(&job, &d);
  }
  dist_end(&d, result);
  return result;
}
