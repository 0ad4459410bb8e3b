/* What this build is: version, commit, build options, and the libraries that answer at run time. */
#ifndef PSANN_REPORT_VERSION_H
#define PSANN_REPORT_VERSION_H

/* Several lines for people, without a newline at the end: what --version of every program prints. */
const char *version_text(void);

const char *version_number(void); /* "0.1.0" */
const char *version_commit(
    void); /* "1a2b3c4d5e6f", with "-dirty" when the tree had changes; "unknown" outside a git checkout */
const char *version_build(void); /* "release, gcc 12.2.0, x86-64, engines: cpu" */

typedef struct {
  const char *name, *version;
} version_library;

/* The libraries of this process; *count of them. Valid for the life of the process. */
const version_library *version_libraries(int *count);

#endif
