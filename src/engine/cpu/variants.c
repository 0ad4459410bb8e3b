/* Which variants this build has (meson.build says so in ENGINE_HAS_…) and which run on this processor. */
#include "engine/cpu/variants.h"

extern const engine_ops engine_cpu_ops_f32_baseline, engine_cpu_ops_f64_baseline;
#ifdef ENGINE_HAS_V3
extern const engine_ops engine_cpu_ops_f32_v3;
#endif
#ifdef ENGINE_HAS_V4
extern const engine_ops engine_cpu_ops_f32_v4;
#endif

static bool always(void) {
  return true;
}

#ifdef ENGINE_HAS_V3
static bool has_v3(void) {
  return __builtin_cpu_supports("x86-64-v3");
}
#endif
#ifdef ENGINE_HAS_V4
static bool has_v4(void) {
  return __builtin_cpu_supports("x86-64-v4");
}
#endif

static const engine_variant variants[] = {
#ifdef ENGINE_HAS_V4
    {"x86-64-v4", DTYPE_F32, &engine_cpu_ops_f32_v4, has_v4},
#endif
#ifdef ENGINE_HAS_V3
    {"x86-64-v3", DTYPE_F32, &engine_cpu_ops_f32_v3, has_v3},
#endif
    {"baseline", DTYPE_F32, &engine_cpu_ops_f32_baseline, always},
    {"baseline", DTYPE_F64, &engine_cpu_ops_f64_baseline, always},
};

const engine_variant *engine_cpu_variants(int *n) {
  *n = (int)(sizeof variants / sizeof *variants);
  return variants;
}
