#include "bench/validate_system.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "engine/select.h"
#include "report/version.h"

/* What the engine says of itself. */
static status describe_engine(const validation *v, char *text, size_t room) {
  config_device device = v->gpu ? DEVICE_CUDA : DEVICE_CPU;
  config_precision precision = PRECISION_AUTO;
  engine *e = NULL;
  TRY(engine_resolve(&device, &precision));
  TRY(engine_create(device, precision, 0, 1, 0, &e));
  snprintf(text, room, "%s", e->description);
  e->ops->destroy(e);
  return STATUS_OK;
}

static void add_gpus(const validation *v, cJSON *o) {
  cJSON *list = cJSON_AddArrayToObject(o, "gpus");
  for (int i = 0; i < v->gpus; i++) {
    gpu_facts f;
    engine_gpu_facts(i, &f);
    cJSON *gpu = cJSON_CreateObject();
    json_number(gpu, "index", i);
    cJSON_AddStringToObject(gpu, "name", f.name);
    json_number(gpu, "total_memory_gb", round(f.memory / (1 << 30) * 100) / 100);
    json_number(gpu, "major", f.major);
    json_number(gpu, "minor", f.minor);
    cJSON_AddItemToArray(list, gpu);
  }
}

/* The version of a library that this process answers with, or null. */
static void add_library(cJSON *o, const char *key, const char *name) {
  int n = 0;
  const version_library *l = version_libraries(&n);
  for (int i = 0; i < n; i++) {
    if (strcmp(l[i].name, name) == 0) {
      cJSON_AddStringToObject(o, key, l[i].version);
      return;
    }
  }
  cJSON_AddNullToObject(o, key);
}

status validate_system(const validation *v, cJSON **out) {
  char engine_text[256], *path = NULL;
  TRY(describe_engine(v, engine_text, sizeof engine_text));
  cJSON *o = system_object(&v->machine, &v->d, engine_text, v->o->argc, v->o->argv);
  REQUIRE(o != NULL, "no memory for system.json");
  cJSON_AddNullToObject(o, "python"); /* the reference's keys: there is neither here */
  cJSON_AddNullToObject(o, "torch");
  cJSON_AddStringToObject(o, "platform", v->machine.os);
  add_library(o, "torch_cuda_version", "CUDA");
  cJSON_AddBoolToObject(o, "cuda_available", v->gpu);
  json_number(o, "device_count", v->gpus);
  cJSON_AddBoolToObject(o, "bf16_supported", v->gpu);
  add_gpus(v, o);
  *out = o;
  status s = file_join(&path, v->reports, "system.json");
  s = s != STATUS_OK ? s : json_write(path, o);
  free(path);
  return s;
}
