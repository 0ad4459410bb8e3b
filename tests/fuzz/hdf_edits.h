/* Changes to a whole HDF5 file, so that a reader sees files that are sound to the library and wrong to us: attributes
 * and datasets that are missing, of another type, shape or layout, links elsewhere. Flipped bytes are no way to get
 * there: checksums catch them.
 */
#ifndef TESTS_FUZZ_HDF_EDITS_H
#define TESTS_FUZZ_HDF_EDITS_H

#include "fuzz.h"

/* `places`: "path" of a group or dataset, or "path@name" of an attribute. Takes what it needs of `b`. */
void hdf_edit(const char *file, const char *const *places, size_t count, fuzz_bytes *b);

#endif
