/* Writes the checkpoint of a random state, and beside it what must be in it, in a form that needs no library.
 * usage: ckpt_make FOLDER SEED STEP
 *
 *   FOLDER/checkpoints/step_….h5, latest
 *   FOLDER/elements.bin     the elements of all tensors
 *   FOLDER/elements.txt     a line a tensor: path in the file, offset in elements.bin, shape
 */
#include <inttypes.h>

#include "fixture.h"

static const char *const groups[] = {"model", "optim/m", "optim/v"};

int main(int argc, char **argv) {
  if (argc != 4) {
    return 2;
  }
  fixture *f = fixture_new(strtoull(argv[2], NULL, 10), 1);
  char *inner = NULL, *binary = NULL, *text = NULL;
  if (asprintf(&inner, "%s/checkpoints", argv[1]) < 0 || asprintf(&binary, "%s/elements.bin", argv[1]) < 0 ||
      asprintf(&text, "%s/elements.txt", argv[1]) < 0) {
    return 1;
  }
  if (fixture_save(f, inner, strtoll(argv[3], NULL, 10)) != STATUS_OK) {
    fprintf(stderr, "%s\n", status_message());
    return 1;
  }
  FILE *elements = fopen(binary, "wb"), *lines = fopen(text, "w");
  for (int kind = 0; kind < 3; kind++) {
    for (int u = 0; u < f->m->n_units; u++) {
      for (int i = 0; i < f->m->units[u].n_tensors; i++) {
        const tensor *t = &f->m->units[u].tensors[i];
        if (kind > 0 && !t->trainable) {
          continue;
        }
        fprintf(lines, "%s/%s %ld", groups[kind], t->name, ftell(elements));
        for (int s = 0; s < t->dims; s++) {
          fprintf(lines, " %" PRId64, t->shape[s]);
        }
        fprintf(lines, "\n");
        fwrite(f->values[kind][u] + t->offset, sizeof(float), (size_t)t->count, elements);
      }
    }
  }
  int failed = fclose(elements) | fclose(lines);
  free(inner);
  free(binary);
  free(text);
  fixture_free(f);
  return failed != 0;
}
