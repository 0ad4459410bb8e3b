#include "model/bases.h"

#include <string.h>

extern const model_base base_respsann;
extern const model_base base_waveresnet;
extern const model_base base_transformer;

static const model_base *const bases[] = {&base_respsann, &base_waveresnet, &base_transformer};

const model_base *model_base_find(const char *name) {
  for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
    if (strcmp(bases[i]->name, name) == 0) {
      return bases[i];
    }
  }
  return NULL;
}
