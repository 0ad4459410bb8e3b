/* The part of HDF5 that checkpoints need, with errors as statuses. `path` names the file in messages. On reading, what
 * is missing or of another kind is a user error that calls the file damaged. HDF5's own printing of errors is off in
 * this library.
 */
#ifndef PSANN_CKPT_HDF_H
#define PSANN_CKPT_HDF_H

#include <hdf5.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/status.h"
#include "base/hdf_driver.h"

enum { HDF_DIMS = 3 };

#define DAMAGED(path, ...) return hdf_damaged(__FILE__, __LINE__, path, __VA_ARGS__)

/* "<path> is damaged or no psann checkpoint (…): …"; a user error. */
status hdf_damaged(const char *file, int line, const char *path, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* A new file (truncated if there), and an existing one for reading. `fault` must live until the file is closed. */
status hdf_create(const char *path, hdf_driver_fault *fault, hid_t *file);
status hdf_open(const char *path, hdf_driver_fault *fault, hid_t *file);

/* Closes a file that was written; what failed since its creation is reported here. */
status hdf_finish(const char *path, const hdf_driver_fault *fault, hid_t file);
/* The failure noted so far, if any. */
status hdf_fault(const char *path, const hdf_driver_fault *fault);

/* Writing. Groups keep the order in which their members are made. */
status hdf_make_group(hid_t parent, const char *name, hid_t *group);
status hdf_put_text(hid_t object, const char *name, const char *text);
status hdf_put_int(hid_t object, const char *name, int64_t value);
status hdf_put_real(hid_t object, const char *name, double value);
/* A contiguous dataset of `type` (H5T_IEEE_F32LE or H5T_STD_U8LE; `data` is laid out as the file) with its attribute
 * `digest`. */
status hdf_put_data(hid_t group, const char *name, hid_t type, int dims, const int64_t *shape, const void *data,
                    char text[DIGEST_TEXT]);

/* Reading. *text is the caller's. */
status hdf_open_group(hid_t file, const char *path, const char *name, hid_t *group);
status hdf_get_text(hid_t object, const char *path, const char *name, char **text);
status hdf_get_digest(hid_t object, const char *path, const char *name, char text[DIGEST_TEXT]);
status hdf_get_int(hid_t object, const char *path, const char *name, int64_t *value);
status hdf_get_real(hid_t object, const char *path, const char *name, double *value);
/* Shape and digest of a dataset of `type`; its size agrees with the file. */
status hdf_data_shape(hid_t group, const char *path, const char *name, hid_t type, int *dims, int64_t *shape,
                      char text[DIGEST_TEXT]);
/* All elements, `bytes` in total, verified against the digest `recorded`. */
status hdf_get_data(hid_t group, const char *path, const char *name, hid_t type, size_t bytes, const char *recorded,
                    void *data);
/* The same without keeping the elements: takes a fixed amount of memory, whatever the size. */
status hdf_check_data(hid_t group, const char *path, const char *name, hid_t type, size_t bytes, const char *recorded);

/* The name of a group's member i in the order of making; *name is the caller's. */
status hdf_members(hid_t group, const char *path, int64_t *count);
status hdf_member(hid_t group, const char *path, int64_t i, char **name);

#endif
