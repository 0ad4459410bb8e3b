#include "report/version.h"

#include <cblas.h>
#include <cjson/cJSON.h>
#include <hdf5.h>
#include <mpi.h>
#include <protobuf-c/protobuf-c.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "report/commit.h"

enum { LIBRARIES = 8, LIBRARY_TEXT = MPI_MAX_LIBRARY_VERSION_STRING };

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char versions[LIBRARIES][LIBRARY_TEXT];
static version_library libraries[LIBRARIES];
static char text[LIBRARIES * LIBRARY_TEXT + 512];

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown compiler"
#endif

const char *version_number(void) {
  return PSANN_VERSION;
}

const char *version_commit(void) {
  return PSANN_COMMIT;
}

const char *version_build(void) {
  return PSANN_BUILDTYPE ", " COMPILER ", " PSANN_MACHINE ", engines: cpu" PSANN_ENGINES;
}

/* "Open MPI v4.1.4, package: …" says enough up to the comma. */
static void mpi_version(char *out) {
  int length = 0;
  MPI_Get_library_version(out, &length);
  out[strcspn(out, ",\n")] = 0;
}

static void collect(void) {
  unsigned major = 0, minor = 0, release = 0;
  H5get_libversion(&major, &minor, &release);
  unsigned hash = XXH_versionNumber();
  mpi_version(versions[0]);
  snprintf(versions[1], LIBRARY_TEXT, "%u.%u.%u", major, minor, release);
  snprintf(versions[2], LIBRARY_TEXT, "%s", openblas_get_config());
  snprintf(versions[3], LIBRARY_TEXT, "%s", cJSON_Version());
  snprintf(versions[4], LIBRARY_TEXT, "%u.%u.%u", hash / 10000, hash / 100 % 100, hash % 100);
  snprintf(versions[5], LIBRARY_TEXT, "%s", PSANN_INIH_VERSION);
  snprintf(versions[6], LIBRARY_TEXT, "%s", PSANN_SENTENCEPIECE_VERSION);
  snprintf(versions[7], LIBRARY_TEXT, "%s", protobuf_c_version());
  static const char *const names[LIBRARIES] = {"MPI",    "HDF5", "OpenBLAS",      "cJSON",
                                               "xxHash", "inih", "SentencePiece", "protobuf-c"};
  size_t used = (size_t)snprintf(text, sizeof text, "psann %s (commit %s)\nbuild: %s\nlibraries:", version_number(),
                                 version_commit(), version_build());
  for (int i = 0; i < LIBRARIES; i++) {
    libraries[i] = (version_library){names[i], versions[i]};
    /* OpenBLAS says its own name and MPI the name of the implementation. */
    const char *prefix = strstr(versions[i], names[i]) != NULL ? "" : names[i];
    used += (size_t)snprintf(text + used, sizeof text - used, "%s %s%s%s", i == 0 ? "" : ",", prefix,
                             prefix[0] ? " " : "", versions[i]);
  }
}

const version_library *version_libraries(int *count) {
  pthread_once(&once, collect);
  *count = LIBRARIES;
  return libraries;
}

const char *version_text(void) {
  pthread_once(&once, collect);
  return text;
}
