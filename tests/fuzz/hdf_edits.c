#include "hdf_edits.h"

#include <hdf5.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_EDITS = 6, DIMS = 5, LARGEST = 1 << 14 };

/* A type that a file may have where another is expected. */
static hid_t pick_type(fuzz_bytes *b) {
  uint8_t how = fuzz_byte(b);
  hid_t type;
  switch (how % 12) {
    case 0:
      return H5Tcopy(H5T_STD_I64LE);
    case 1:
      return H5Tcopy(H5T_IEEE_F32LE);
    case 2:
      return H5Tcopy(H5T_IEEE_F64BE);
    case 3:
      return H5Tcopy(H5T_STD_U8LE);
    case 4:
      return H5Tcopy(H5T_STD_U16LE);
    case 5:
      return H5Tcopy(H5T_STD_U64LE);
    case 6: /* text, with or without an end */
    case 7:
      type = H5Tcopy(H5T_C_S1);
      H5Tset_size(type, 1 + fuzz_number(b, 2) % 600);
      H5Tset_strpad(type, how & 64 ? H5T_STR_NULLPAD : H5T_STR_NULLTERM);
      return type;
    case 8:
      type = H5Tcopy(H5T_C_S1);
      H5Tset_size(type, H5T_VARIABLE);
      return type;
    case 9:
      type = H5Tcreate(H5T_COMPOUND, 16);
      H5Tinsert(type, "a", 0, H5T_STD_I64LE);
      H5Tinsert(type, "b", 8, H5T_IEEE_F64LE);
      return type;
    case 10: {
      hsize_t length = 1 + fuzz_byte(b);
      return H5Tarray_create2(H5T_STD_I32LE, 1, &length);
    }
    default: {
      int8_t yes = 1, no = 0;
      type = H5Tenum_create(H5T_STD_I8LE);
      H5Tenum_insert(type, how & 64 ? "TRUE" : "MAYBE", &yes);
      H5Tenum_insert(type, "FALSE", &no);
      return type;
    }
  }
}

static hid_t pick_space(fuzz_bytes *b, bool small) {
  uint8_t how = fuzz_byte(b);
  if (how % 4 == 0) {
    return H5Screate(H5S_SCALAR);
  }
  if (how % 16 == 1) {
    return H5Screate(H5S_NULL);
  }
  hsize_t shape[DIMS], size = 1;
  int dims = 1 + (how >> 4) % (small ? 1 : DIMS);
  for (int i = 0; i < dims; i++) {
    shape[i] = fuzz_number(b, small ? 1 : 2);
    size *= shape[i];
  }
  if (small && size > 64) {
    shape[0] = 64;
  }
  return H5Screate_simple(dims, shape, NULL);
}

/* Content for a whole attribute or dataset of the type; NULL when that is too large to be written. */
static void *content(hid_t type, hid_t space, fuzz_bytes *b) {
  hssize_t count = H5Sget_simple_extent_npoints(space);
  size_t size = H5Tget_size(type);
  if (count <= 0 || (size_t)count > LARGEST / size) {
    return NULL;
  }
  char *data = calloc((size_t)count, size);
  if (H5Tis_variable_str(type) > 0) {
    static char text[] = "a text of any length";
    for (hssize_t i = 0; i < count; i++) {
      memcpy(data + (size_t)i * size, &(char *){text}, sizeof(char *));
    }
    return data;
  }
  for (size_t i = 0; i < (size_t)count * size && b->at < b->end; i++) {
    data[i] = (char)fuzz_byte(b);
  }
  return data;
}

static void edit_attribute(hid_t object, const char *name, fuzz_bytes *b) {
  bool made = fuzz_byte(b) % 4 != 0;
  H5Adelete(object, name);
  if (!made) {
    return;
  }
  hid_t type = pick_type(b), space = pick_space(b, true);
  hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
  void *data = attribute < 0 ? NULL : content(type, space, b);
  if (data != NULL) {
    H5Awrite(attribute, type, data);
  }
  free(data);
  H5Aclose(attribute);
  H5Sclose(space);
  H5Tclose(type);
}

static void make_dataset(hid_t file, const char *name, fuzz_bytes *b) {
  hid_t type = pick_type(b), space = pick_space(b, false), plist = H5Pcreate(H5P_DATASET_CREATE);
  uint8_t layout = fuzz_byte(b) % 6;
  if (layout == 0) {
    H5Pset_layout(plist, H5D_COMPACT);
  } else if (layout == 1) {
    hsize_t chunk[DIMS] = {3, 3, 3, 3, 3};
    H5Pset_chunk(plist, H5Sget_simple_extent_ndims(space), chunk);
    H5Pset_deflate(plist, 1);
  } else if (layout == 2) {
    H5Pset_external(plist, "/proc/self/status", 0, H5F_UNLIMITED);
  } else if (layout == 3) {
    H5Pset_virtual(plist, space, "/nonexistent.h5", "/a", space);
  }
  hid_t set = H5Dcreate2(file, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
  void *data = set < 0 || layout == 2 || layout == 3 ? NULL : content(type, space, b);
  if (data != NULL) {
    H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
  }
  free(data);
  if (set >= 0) {
    hid_t text = H5Tcopy(H5T_C_S1), scalar = H5Screate(H5S_SCALAR);
    H5Tset_size(text, 33);
    hid_t digest = H5Acreate2(set, "digest", text, scalar, H5P_DEFAULT, H5P_DEFAULT);
    H5Awrite(digest, text, "0123456789abcdef0123456789abcdef");
    H5Aclose(digest);
    H5Sclose(scalar);
    H5Tclose(text);
    H5Dclose(set);
  }
  H5Pclose(plist);
  H5Sclose(space);
  H5Tclose(type);
}

static void edit_object(hid_t file, const char *name, const char *other, fuzz_bytes *b) {
  uint8_t how = fuzz_byte(b) % 8;
  if (how == 0) {
    H5Lmove(file, name, file, other, H5P_DEFAULT, H5P_DEFAULT);
    return;
  }
  H5Ldelete(file, name, H5P_DEFAULT);
  switch (how) {
    case 1:
      return;
    case 2:
      H5Lcreate_soft(other, file, name, H5P_DEFAULT, H5P_DEFAULT);
      return;
    case 3:
      H5Lcreate_external("/nonexistent.h5", "/", file, name, H5P_DEFAULT, H5P_DEFAULT);
      return;
    case 4:
      H5Lcreate_hard(file, other, file, name, H5P_DEFAULT, H5P_DEFAULT);
      return;
    case 5:
      H5Gclose(H5Gcreate2(file, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
      return;
    default:
      make_dataset(file, name, b);
  }
}

void hdf_edit(const char *path, const char *const *places, size_t count, fuzz_bytes *b) {
  H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
  hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
  if (file < 0) {
    fuzz_failed(__FILE__, __LINE__, "the template opens");
  }
  for (int i = 0; i < MOST_EDITS && b->at < b->end; i++) {
    char name[256];
    snprintf(name, sizeof name, "%s", places[fuzz_byte(b) % count]);
    char *attribute = strchr(name, '@');
    if (attribute == NULL) {
      const char *other = places[fuzz_byte(b) % count];
      edit_object(file, name, strchr(other, '@') != NULL ? "/elsewhere" : other, b);
      continue;
    }
    *attribute++ = '\0';
    hid_t object = H5Oopen(file, name, H5P_DEFAULT);
    if (object >= 0) {
      edit_attribute(object, attribute, b);
      H5Oclose(object);
    }
  }
  H5Fclose(file);
}
