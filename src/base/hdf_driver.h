/* An HDF5 file driver over pread and pwrite that outlives a failing disk. HDF5 cannot close a file whose last writes
 * fail; here the first failure is noted, later writes go nowhere, HDF5 closes in peace, and the caller reads what
 * happened. Files are ordinary HDF5 files. No file locks are taken: many network file systems lack them, and a run
 * folder has a lock of its own.
 *
 * What a file from elsewhere may ask HDF5 for is not done: a file that is read leads to no other file (external links),
 * filters are not looked for on the disk (plugins), and a file that is written is not reached over a symbolic link.
 */
#ifndef PSANN_BASE_HDF_DRIVER_H
#define PSANN_BASE_HDF_DRIVER_H

#include <hdf5.h>
#include <stdbool.h>
#include <stdint.h>

/* What went wrong with a file; must live until the file is closed. */
typedef struct {
  int error;   /* errno of the first failure; 0: none */
  bool opened; /* one file a fault: what a file that is read links to is not opened */
} hdf_driver_fault;

/* File-access properties of this driver; `fault` starts at 0. Negative when HDF5 fails. The caller closes them with
 * H5Pclose. */
hid_t hdf_driver_access(hdf_driver_fault *fault);

/* Whether the elements of a dataset lie in its own file in one piece; if so where, and how many bytes they have. Asks
 * the file for its length: what a dataset says of itself is not believed. */
bool hdf_one_piece(hid_t set, int64_t *offset, uint64_t *bytes);

/* The descriptor of a file that was opened by this driver, for pread; −1 when HDF5 fails. */
int hdf_descriptor(hid_t file);

#endif
