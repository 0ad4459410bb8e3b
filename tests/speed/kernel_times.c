/* Loaded into any CUDA program by CUDA_INJECTION64_PATH, writes every kernel, copy and fill of the GPU to the file that
 * PSANN_KERNELS names, with "%r" replaced by the rank: start and end in nanoseconds, stream, name.
 * launch/gpu_profile.py makes a table of it. */
#include <cupti.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 8 << 20 };

static FILE *out;

static void CUPTIAPI give_buffer(uint8_t **buffer, size_t *size, size_t *records) {
  *size = BUFFER_BYTES;
  *records = 0;
  *buffer = aligned_alloc(8, BUFFER_BYTES);
}

static void line(uint64_t start, uint64_t end, uint32_t stream, const char *name) {
  fprintf(out, "%" PRIu64 "\t%" PRIu64 "\t%u\t%s\n", start, end, stream, name);
}

static const char *copy_name(uint8_t kind) {
  switch (kind) {
    case CUPTI_ACTIVITY_MEMCPY_KIND_HTOD:
      return "copy from the host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_DTOH:
      return "copy to the host";
    case CUPTI_ACTIVITY_MEMCPY_KIND_PTOP:
      return "copy to a peer";
    default:
      return "copy inside";
  }
}

static void write_record(CUpti_Activity *record) {
  if (record->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL) {
    const CUpti_ActivityKernel9 *k = (const CUpti_ActivityKernel9 *)record;
    line(k->start, k->end, k->streamId, k->name);
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
    const CUpti_ActivityMemcpy5 *c = (const CUpti_ActivityMemcpy5 *)record;
    line(c->start, c->end, c->streamId, copy_name(c->copyKind));
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMCPY2) {
    const CUpti_ActivityMemcpyPtoP4 *c = (const CUpti_ActivityMemcpyPtoP4 *)record;
    line(c->start, c->end, c->streamId, "copy to a peer");
  } else if (record->kind == CUPTI_ACTIVITY_KIND_MEMSET) {
    const CUpti_ActivityMemset4 *m = (const CUpti_ActivityMemset4 *)record;
    line(m->start, m->end, m->streamId, "fill");
  }
}

static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid) {
  (void)context;
  (void)stream;
  (void)size;
  CUpti_Activity *record = NULL;
  while (out != NULL && cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) {
    write_record(record);
  }
  free(buffer);
}

static void at_end(void) {
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  if (out != NULL) {
    fclose(out);
    out = NULL;
  }
}

static FILE *open_file(void) {
  const char *pattern = getenv("PSANN_KERNELS"), *rank = getenv("OMPI_COMM_WORLD_RANK");
  char path[4096];
  if (pattern == NULL || strlen(pattern) + 16 > sizeof path) {
    return NULL;
  }
  const char *place = strstr(pattern, "%r");
  if (place == NULL) {
    return fopen(pattern, "w");
  }
  snprintf(path, sizeof path, "%.*s%s%s", (int)(place - pattern), pattern, rank == NULL ? "0" : rank, place + 2);
  return fopen(path, "w");
}

int InitializeInjection(void); /* CUDA calls it */

int InitializeInjection(void) {
  static const CUpti_ActivityKind kinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                                             CUPTI_ACTIVITY_KIND_MEMCPY2, CUPTI_ACTIVITY_KIND_MEMSET};
  out = open_file();
  if (out == NULL) {
    fprintf(stderr, "kernel_times: PSANN_KERNELS must name a file that can be written\n");
    return 0;
  }
  bool works = cuptiActivityRegisterCallbacks(give_buffer, take_buffer) == CUPTI_SUCCESS;
  for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
    works = cuptiActivityEnable(kinds[i]) == CUPTI_SUCCESS && works;
  }
  if (!works) {
    fprintf(stderr, "kernel_times: CUPTI gives no records here\n");
  }
  atexit(at_end);
  return 1;
}
