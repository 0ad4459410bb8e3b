/* For tests that faulty_calls.c is linked into. */
#ifndef TESTS_CKPT_FAULTY_CALLS_H
#define TESTS_CKPT_FAULTY_CALLS_H

/* Faults from now on, in place of those before, in the form of PSANN_FAULT; "": none. */
void faulty_calls_set(const char *faults);

/* Calls since then that went wrong, and all that counted. */
long faulty_calls_wrong(long *all);

#endif
