/* Evaluates a checkpoint on a token store. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "infer/arguments.h"
#include "infer/measure.h"
#include "report/version.h"

static const char USAGE[] =
    "usage: [mpirun -np N] psann_eval CHECKPOINT STORE [option…]\n"
    "\n"
    "Loss, perplexity, bits per byte and top-1 accuracy of the model in CHECKPOINT (a checkpoint file, or a run "
    "folder: its\n"
    "best checkpoint, otherwise its last) on a token store that psann_data made with the same tokenizer. By default "
    "every\n"
    "token of the store but the first is predicted. Bits per byte are all nats, ends of text included, over ln 2 times "
    "the\n"
    "UTF-8 bytes of the text. The figures are the same, bit for bit, on any number of ranks.\n"
    "\n"
    "  --batches N      evaluate N batches, spread evenly over the store; 0: all (0)\n"
    "  --micro-batch N  sequences of a batch (the training's)\n"
    "  --seq-len N      tokens of a sequence (the training's)\n"
    "  --json           print one JSON object\n"
    "  --device D       auto, cpu, cuda (the checkpoint's run.device)\n"
    "  --strategy S     how several ranks hold the weights: ddp (all on each), full_shard (together); auto: as they "
    "fit (auto)\n"
    "  --help, --version\n";

/* The letters are names within this file; only the long forms are options. */
static const struct option OPTIONS[] = {{"batches", required_argument, NULL, 'b'},
                                        {"micro-batch", required_argument, NULL, 'm'},
                                        {"seq-len", required_argument, NULL, 't'},
                                        {"json", no_argument, NULL, 'j'},
                                        {"device", required_argument, NULL, 'd'},
                                        {"strategy", required_argument, NULL, 's'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, 'v'},
                                        {NULL, 0, NULL, 0}};

/* Sets what an option says; *print is what to print instead of working. */
static status set_option(measure_job *job, int option, const char **print) {
  switch (option) {
    case 'b':
      return argument_integer("--batches", optarg, 0, INT32_MAX, &job->batches);
    case 'm':
      return argument_integer("--micro-batch", optarg, 1, 65536, &job->micro_batch);
    case 't':
      return argument_integer("--seq-len", optarg, 1, 1 << 20, &job->seq_len);
    case 'j':
      job->json = true;
      return STATUS_OK;
    case 'd':
      job->device = optarg;
      return STATUS_OK;
    case 's':
      job->strategy = optarg;
      return STATUS_OK;
    default:
      *print = option == 'v' ? version_text() : USAGE;
      return STATUS_OK;
  }
}

static status read_arguments(int argc, char **argv, measure_job *job, const char **print) {
  opterr = 0;
  for (int option; *print == NULL && (option = getopt_long(argc, argv, ":", OPTIONS, NULL)) != -1;) {
    if (option == '?' || option == ':') {
      return argument_refused("psann_eval", option, optopt, optind, argv);
    }
    TRY(set_option(job, option, print));
  }
  if (*print != NULL) {
    return STATUS_OK;
  }
  if (argc - optind != 2) {
    USER_ERROR("psann_eval takes a checkpoint and a token store, not %d argument%s; psann_eval --help tells more",
               argc - optind, argc - optind == 1 ? "" : "s");
  }
  job->checkpoint = argv[optind];
  job->store = argv[optind + 1];
  return STATUS_OK;
}

int main(int argc, char **argv) {
  dist d;
  measure_job job = {0};
  const char *print = NULL;
  status result = dist_start(&argc, &argv, &d);
  if (result == STATUS_OK) {
    result = read_arguments(argc, argv, &job, &print);
  }
  if (result == STATUS_OK && print != NULL && d.rank == 0) {
    printf("%s%s", print, print[strlen(print) - 1] == '\n' ? "" : "\n");
  }
  if (result == STATUS_OK && print == NULL) {
    result = measure_run(&job, &d);
  }
  dist_end(&d, result);
  return result;
}
