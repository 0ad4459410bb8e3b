/* One run of an operation on one engine: inputs are put into the engine's memory, results read back from it, and every
 * buffer lies between guard zones. The same operation is run as several trials, on other engines or again, and the
 * trials are compared.
 *
 * A trial on the fp64 CPU engine is the reference. It runs first; all trials of a case get its inputs, already rounded
 * to the types of the engine under test, so that only the operation's own rounding makes a difference.
 */
#ifndef PSANN_TESTS_ENGINE_TRIAL_H
#define PSANN_TESTS_ENGINE_TRIAL_H

#include "support.h"

/* Element types by the legend of engine.h: compute and state type of the engine, int32, double. */
typedef enum { KIND_C, KIND_S, KIND_I32, KIND_F64 } element_kind;

/* Unit roundoffs of a precision. */
typedef struct {
  const char *name;
  dtype storage_type;
  double storage; /* of activations and matrices in memory */
  double product; /* of what a matrix product makes of its operands */
  double sum;     /* of a step of a long sum */
} precision_spec;

extern const precision_spec precision_fp32, precision_tf32, precision_bf16, precision_fp16, precision_fp8;

/* What makes a result inexact; `tolerance_of` turns it into a bound. */
typedef struct {
  int stored;    /* roundings to the type of activations on the way */
  int fed;       /* roundings of values that a matrix product then reads: these count in TF32, too */
  int64_t terms; /* of the longest sum */
  double scale;  /* errors are measured by the result's root mean square, or by this where it is larger */
  double slack;  /* an error of this size is allowed anyway */
  bool exact;    /* no rounding at all */
  bool wide;     /* computed in fp64 by every engine */
  bool product;  /* went through the CPU engine's matrix library, whose bits depend on its threads */
} rounding;

/* Bound for the error of a result in a precision. */
double tolerance_of(const rounding *r, const precision_spec *p);

/* The inputs of a case, made once and shared by its trials. */
typedef struct inputs inputs;
inputs *inputs_new(const precision_spec *p);

typedef struct {
  const char *name; /* of a result; NULL: an input or scratch */
  element_kind kind;
  int64_t n;
  rounding r;
  char *base;        /* engine memory, guards included */
  const void *given; /* inputs: the bytes that must still be there */
  char *bytes;       /* results: what the engine wrote */
  double *values;    /* results as numbers */
} trial_buffer;

enum { TRIAL_BUFFERS = 64 };

typedef struct {
  engine *e;
  inputs *in;
  bool reference;
  trial_buffer list[TRIAL_BUFFERS];
  int n;
} trial;

const precision_spec *trial_precision(const trial *t);

/* The named input of a case: n numbers of mean 0 and deviation `scale` (at most 3.5 times that), rounded to the kind's
 * type, in engine memory. Lives as long as the trial, as all that follows. */
void *given(trial *t, element_kind kind, const char *name, int64_t n, double scale);

/* Host memory for an input that a test fills itself: *fresh says that it must. Then `put` uploads it. Values are
 * rounded by `put`, in place. */
double *numbers(trial *t, const char *name, int64_t n, bool *fresh);
int32_t *integers(trial *t, const char *name, int64_t n, bool *fresh);
void *put(trial *t, element_kind kind, const void *values, int64_t n);

/* An input that the reference computed: the reference's trial takes it from `from` (its engine's memory), later trials
 * get the same, rounded to the kind's type. */
double *shared(trial *t, element_kind kind, const char *name, const void *from, int64_t n);

/* Memory for a result, filled with NaN. */
void *result(trial *t, element_kind kind, const char *name, int64_t n, rounding r);

/* The same, that holds `before` (host) when the operation starts. */
void *changed(trial *t, element_kind kind, const char *name, const double *before, int64_t n, rounding r);

/* Memory that the operation may leave in any state. */
void *scratch(trial *t, element_kind kind, int64_t n);

/* A result that lies on the host. */
void noted(trial *t, const char *name, const double *values, int64_t n, rounding r);

/* A stretch of a result under a name and a rounding of its own; call after the operation. The whole is then compared by
 * its stretches alone, but must have no NaN. */
void stretch(trial *t, void *of, const char *name, int64_t first, int64_t n, rounding r);

/* Waits, reads the results, and checks guard zones and inputs; *clean tells whether nothing was written where nothing
 * may be, otherwise what was is printed. An engine that failed gives its status. */
status trial_collect(trial *t, bool *clean);

/* Frees the trial's engine memory; results stay until free_all. */
void trial_end(trial *t);

/* Compares the results with those of the reference, prints those that are beyond their tolerance, and returns the
 * largest error over its tolerance: at most 1 where all is well, infinity for a NaN. An error is max |a − b| over the
 * root mean square of the reference. */
double trial_compare(const char *what, const trial *t, const trial *reference, const precision_spec *p);

/* Whether the results have the same bits, all of them or only those without a product of the matrix library; prints the
 * first that has not. Both trials are of engines of the same types. */
bool same_bits(const char *what, const trial *a, const trial *b, bool products_too);

#endif
