/* An HDF5 file driver over pread and pwrite that outlives a failing disk. HDF5 cannot close a file whose last writes
 * fail; here the first failure is noted, later writes go nowhere, HDF5 closes in peace, and the caller reads what
 * happened. Files are ordinary HDF5 files. No file locks are taken: many network file systems lack them, and a run
 * folder has a lock of its own.
 */
#ifndef PSANN_BASE_HDF_DRIVER_H
#define PSANN_BASE_HDF_DRIVER_H

#include <hdf5.h>

/* What went wrong with a file; must live until the file is closed. */
typedef struct {
  int error; /* errno of the first failure; 0: none */
} hdf_driver_fault;

/* File-access properties of this driver; `fault` starts at 0. Negative when HDF5 fails. The caller closes them with
 * H5Pclose. */
hid_t hdf_driver_access(hdf_driver_fault *fault);

#endif
