#include "data/input_list.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/memory.h"

enum { FIRST_LOOK = 4096, DEEPEST = 64 };

/* Kinds of files that are often taken for text, by their first bytes. */
static const struct {
  const char *start;
  size_t bytes;
  const char *kind, *advice;
} binary_kinds[] = {
    {"\211HDF", 4, "an HDF5 file", "give text"},
    {"psann token store\n", 18, "a token store", "give the text that it was made from"},
    {"\x88\xD8\x34\x01", 4, "an llm.c token shard", "use psann_data import"},
    {"\x1F\x8B", 2, "compressed by gzip", "decompress it first"},
    {"\xFD"
     "7zXZ",
     5, "compressed by xz", "decompress it first"},
    {"BZh", 3, "compressed by bzip2", "decompress it first"},
    {"\x28\xB5\x2F\xFD", 4, "compressed by zstd", "decompress it first"},
    {"PK\3\4", 4, "a zip archive", "unpack it first"},
    {"PAR1", 4, "a Parquet file", "export it as JSON lines first"},
    {"%PDF-", 5, "a PDF", "extract its text first"},
    {"\x7F"
     "ELF",
     4, "a program", "give text"},
    {"\x89PNG", 4, "an image", "give text"},
    {"\xFF\xD8\xFF", 3, "an image", "give text"},
    {"\xFF\xFE", 2, "UTF-16 text", "convert it to UTF-8 first, with iconv"},
    {"\xFE\xFF", 2, "UTF-16 text", "convert it to UTF-8 first, with iconv"},
};

static status first_look(const char *path, char *start, size_t *bytes) {
  int file;
  TRY(file_open_read(path, &file));
  ssize_t got = read(file, start, FIRST_LOOK);
  int error = errno;
  close(file);
  if (got < 0) {
    USER_ERROR("cannot read '%s': %s; check its permissions", path, strerror(error));
  }
  *bytes = (size_t)got;
  return STATUS_OK;
}

static bool ends_in(const char *path, const char *end) {
  size_t a = strlen(path), b = strlen(end);
  return a > b && strcmp(path + a - b, end) == 0;
}

static status pass_by(input_list *list, const char *path) {
  list->passed_by++;
  return list->passed_by_first == NULL ? memory_format(&list->passed_by_first, "%s", path) : STATUS_OK;
}

static status add_file(input_list *list, const char *path, input_role role, const struct stat *about, bool named) {
  char start[FIRST_LOOK];
  size_t bytes = 0;
  TRY(first_look(path, start, &bytes));
  for (size_t i = 0; i < sizeof binary_kinds / sizeof *binary_kinds; i++) {
    if (bytes >= binary_kinds[i].bytes && memcmp(start, binary_kinds[i].start, binary_kinds[i].bytes) == 0) {
      if (!named) {
        return pass_by(list, path);
      }
      USER_ERROR("'%s' is %s, not text; %s", path, binary_kinds[i].kind, binary_kinds[i].advice);
    }
  }
  if (!named && memchr(start, '\0', bytes) != NULL) {
    return pass_by(list, path);
  }
  TRY(memory_grow(&list->files, &list->capacity, list->count + 1, sizeof *list->files, "the list of inputs"));
  input_file *f = &list->files[list->count];
  *f = (input_file){.role = role, .device = about->st_dev, .inode = about->st_ino};
  f->source.bytes = about->st_size;
  f->json_lines = ends_in(path, ".jsonl") || ends_in(path, ".ndjson") || ends_in(path, ".json");
  TRY(memory_format(&f->source.path, "%s", path));
  list->count++;
  return STATUS_OK;
}

/* By bytes, so that the order is the same under every locale. */
static int by_name(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

static int not_hidden(const struct dirent *entry) {
  return entry->d_name[0] != '.';
}

static status add_path(input_list *list, const char *path, input_role role, int depth);

static status add_folder(input_list *list, const char *path, input_role role, int depth) {
  struct dirent **entries = NULL;
  if (depth > DEEPEST) {
    USER_ERROR("the folders of '%s' are more than %d deep; look for a link that leads back up", path, DEEPEST);
  }
  int count = scandir(path, &entries, not_hidden, by_name);
  if (count < 0) {
    USER_ERROR("cannot list the folder '%s': %s; check its permissions", path, strerror(errno));
  }
  status s = STATUS_OK;
  for (int i = 0; i < count; i++) {
    char *inside = NULL;
    if (s == STATUS_OK) {
      s = file_join(&inside, path, entries[i]->d_name);
    }
    if (s == STATUS_OK) {
      s = add_path(list, inside, role, depth + 1);
    }
    free(inside);
    free(entries[i]);
  }
  free(entries);
  return s;
}

/* depth 0: named by the user. */
static status add_path(input_list *list, const char *path, input_role role, int depth) {
  struct stat about;
  if (stat(path, &about) != 0) {
    USER_ERROR("cannot read '%s': %s; check the path", path, strerror(errno));
  }
  if (S_ISDIR(about.st_mode)) {
    return add_folder(list, path, role, depth);
  }
  if (S_ISREG(about.st_mode)) {
    return add_file(list, path, role, &about, depth == 0);
  }
  if (depth > 0) {
    return pass_by(list, path);
  }
  USER_ERROR("'%s' is neither a file nor a folder; inputs are read twice, so write it to a file first", path);
}

status input_list_add(input_list *list, const char *path, input_role role) {
  return add_path(list, path, role, 0);
}

static int by_identity(const void *a, const void *b, void *context) {
  const input_file *files = context, *x = &files[*(const size_t *)a], *y = &files[*(const size_t *)b];
  if (x->device != y->device) {
    return x->device < y->device ? -1 : 1;
  }
  if (x->inode != y->inode) {
    return x->inode < y->inode ? -1 : 1;
  }
  if (x->role != y->role) {
    return x->role == INPUT_VALIDATION ? -1 : 1;
  }
  return x < y ? -1 : 1;
}

status input_list_finish(input_list *list) {
  if (list->count == 0) {
    USER_ERROR("there is no text among the inputs; give files, or folders that hold some");
  }
  size_t *order;
  TRY(memory_new(&order, list->count, sizeof *order, "the order of the inputs"));
  for (size_t i = 0; i < list->count; i++) {
    order[i] = i;
  }
  qsort_r(order, list->count, sizeof *order, by_identity, list->files);
  for (size_t i = list->count - 1; i > 0; i--) {
    input_file *a = &list->files[order[i - 1]], *b = &list->files[order[i]];
    if (a->device == b->device && a->inode == b->inode) {
      free(b->source.path);
      b->source.path = NULL;
      list->repeated++;
    }
  }
  free(order);
  size_t kept = 0;
  list->bytes = 0;
  for (size_t i = 0; i < list->count; i++) {
    if (list->files[i].source.path != NULL) {
      list->bytes += list->files[i].source.bytes;
      list->files[kept++] = list->files[i];
    }
  }
  list->count = kept;
  return STATUS_OK;
}

void input_list_free(input_list *list) {
  for (size_t i = 0; i < list->count; i++) {
    free(list->files[i].source.path);
  }
  free(list->files);
  free(list->passed_by_first);
  *list = (input_list){0};
}
