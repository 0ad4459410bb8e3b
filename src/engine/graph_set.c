#include "engine/graph_set.h"

#include <stdlib.h>

#include "base/memory.h"

enum { MOST_PARTS = 64 };

typedef struct {
  bool issued; /* once, directly */
  engine_graph *graph;
} set_part;

struct graph_set {
  engine *e;
  int64_t n;
  set_part *parts;
};

status graph_set_create(engine *e, int64_t parts, graph_set **out) {
  *out = NULL;
  graph_set *s;
  int64_t n = e->ops->capture_begin == NULL ? 0 : parts < MOST_PARTS ? parts : MOST_PARTS;
  TRY(memory_new(&s, 1, sizeof *s, "graphs"));
  *s = (graph_set){.e = e, .n = n};
  status made = memory_new(&s->parts, n > 0 ? (size_t)n : 1, sizeof *s->parts, "graphs");
  if (made != STATUS_OK) {
    free(s);
    return made;
  }
  *out = s;
  return STATUS_OK;
}

void graph_set_destroy(graph_set *s) {
  if (s == NULL) {
    return;
  }
  for (int64_t i = 0; i < s->n; i++) {
    s->e->ops->free_graph(s->e, s->parts[i].graph);
  }
  free(s->parts);
  free(s);
}

status graph_set_run(graph_set *s, int64_t part, graph_part issue, void *context, bool *launched) {
  set_part *p = part < s->n ? &s->parts[part] : NULL;
  *launched = p != NULL && p->graph != NULL;
  if (p == NULL || !p->issued) {
    if (p != NULL) {
      p->issued = true;
    }
    return issue(context, part);
  }
  if (!*launched) {
    TRY(s->e->ops->capture_begin(s->e));
    TRY(issue(context, part));
    TRY(s->e->ops->capture_end(s->e, &p->graph));
  }
  return s->e->ops->launch_graph(s->e, p->graph);
}
