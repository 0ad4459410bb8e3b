/* Parity with the reference: runs small models whose results were recorded, and compares. */
#ifndef PSANN_CHECK_GOLDEN_H
#define PSANN_CHECK_GOLDEN_H

#include <stdbool.h>

#include "base/status.h"
#include "config/config.h"

/* Runs each case (an HDF5 file) on the device in the precision, and prints one line a case: PASS, FAIL or skipped (a
 * base that is not offered), with the largest relative error of logits, loss, gradients, the run's losses, and final
 * parameters. A file that is damaged or doesn't fit the model that it describes is a case that fails, with the reason.
 * *all_passed: no case failed. Returns an error only when nothing can run: an unknown precision, no memory. */
status golden_run(int n_files, char **files, config_device device, config_precision precision, bool *all_passed);

#endif
