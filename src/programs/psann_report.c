/* Makes a page, for a browser, of a run or of several runs and benchmarks. */
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "infer/arguments.h"
#include "report/report_page.h"
#include "report/version.h"

static const char USAGE[] =
    "usage: psann_report FOLDER… [-o FILE]\n"
    "\n"
    "  FOLDER         a run folder: its curves, evaluations, events, configuration, machine, and how to make it "
    "again.\n"
    "                 Any other folder: all runs and all results of psann_bench throughput, psann_bench validate and\n"
    "                 launch/tiny_corpus.sh in it and below it, the runs' curves over each other, and what their\n"
    "                 configurations differ in. Several folders: all of them\n"
    "  -o, --output FILE   (report.html in the first folder)\n"
    "  --title TEXT        of the page (the name of the run or of the first folder)\n"
    "  --help, --version\n"
    "\n"
    "The page is one file that needs no network. Pictures are drawn by gnuplot; without it the page has none and says\n"
    "so. A run may be going on: the page has what it has written. Ends with 0 when the page is written, 2 when a "
    "folder\n"
    "is missing or holds nothing to report.\n";

static const struct option OPTIONS[] = {{"output", required_argument, NULL, 'o'},
                                        {"title", required_argument, NULL, 't'},
                                        {"help", no_argument, NULL, 'h'},
                                        {"version", no_argument, NULL, 'v'},
                                        {NULL, 0, NULL, 0}};

typedef struct {
  const char *output, *title; /* NULL: not given */
  int n_folders;
  char **folders;
  const char *print; /* what to print instead of working */
} arguments;

static status read_arguments(int argc, char **argv, arguments *a) {
  opterr = 0;
  for (int option; (option = getopt_long(argc, argv, ":o:", OPTIONS, NULL)) != -1;) {
    if (option == '?' || option == ':') {
      return argument_refused("psann_report", option, optopt, optind, argv);
    }
    if (option == 'h' || option == 'v') {
      a->print = option == 'v' ? version_text() : USAGE;
      return STATUS_OK;
    }
    *(option == 'o' ? &a->output : &a->title) = optarg;
  }
  a->folders = argv + optind;
  a->n_folders = argc - optind;
  if (a->n_folders == 0) {
    USER_ERROR("no folder given; give the run.dir of a training run, or a folder with several");
  }
  return STATUS_OK;
}

static status make(const arguments *a, const report_sources *s, const char *path) {
  page p = {0};
  status result = report_page(&p, s, a->title);
  if (result == STATUS_OK) {
    result = html_write(&p.h, path);
  }
  if (result == STATUS_OK && p.trouble[0] != 0) {
    log_warning("the report has no pictures: %s", p.trouble);
  }
  page_free(&p);
  return result;
}

static status run(const arguments *a) {
  report_sources sources = {0};
  char *path = NULL;
  status result = STATUS_OK;
  for (int i = 0; i < a->n_folders && result == STATUS_OK; i++) {
    result = report_sources_add(&sources, a->folders[i]);
  }
  if (result == STATUS_OK) {
    result = a->output != NULL ? memory_format(&path, "%s", a->output) : file_join(&path, a->folders[0], "report.html");
  }
  if (result == STATUS_OK) {
    result = make(a, &sources, path);
  }
  if (result == STATUS_OK) {
    char what[128];
    report_sources_line(&sources, what, sizeof what);
    log_line("%s: %s", path, what);
  }
  free(path);
  report_sources_free(&sources);
  return result;
}

int main(int argc, char **argv) {
  arguments a = {0};
  status result = read_arguments(argc, argv, &a);
  if (result == STATUS_OK && a.print != NULL) {
    printf("%s%s", a.print, a.print[strlen(a.print) - 1] == '\n' ? "" : "\n");
    return EXIT_SUCCESS;
  }
  if (result == STATUS_OK) {
    result = run(&a);
  }
  if (result != STATUS_OK) {
    log_error("%s", status_message());
  }
  return result;
}
