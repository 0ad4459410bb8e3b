/* Text and JSON lines. Of a text that is not split nothing is lost or added. */
#include <stdlib.h>
#include <string.h>

#include "data/input_reader.h"
#include "fuzz.h"

static void read_all(input_list *list, const input_options *o, const uint8_t *data, size_t size) {
  input_reader *r;
  MUST(input_reader_open(list, o, &r) == STATUS_OK);
  bool there = true, inside = false, json = list->files[0].json_lines;
  size_t total = 0;
  status s = STATUS_OK;
  while (s == STATUS_OK && there) {
    input_segment g;
    s = input_reader_next(r, &g, &there);
    if (s == STATUS_OK && there) {
      MUST(g.starts == !inside && g.bytes <= 2 * INPUT_CUT + 1);
      inside = !g.ends;
      if (!json && o->split == SPLIT_NONE) {
        MUST(total + g.bytes <= size && memcmp(data + total, g.text, g.bytes) == 0);
      }
      total += g.bytes;
    }
  }
  fuzz_told(s);
  MUST(s != STATUS_OK || (!inside && total <= 2 * size));
  MUST(json || (s == STATUS_OK && input_reader_bytes(r) == (int64_t)size));
  MUST(json || o->split != SPLIT_NONE || total == size);
  input_reader_close(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  fuzz_bytes b = {data, data + size};
  uint8_t how = fuzz_byte(&b);
  input_options o = {.split = (document_split)(how & 3), .mark = "%", .text_key = "text", .skip_bad_lines = how & 4};
  input_list list = {0};
  size_t left = (size_t)(b.end - b.at);
  const char *path = fuzz_write(how & 8 ? "some lines.jsonl" : "some text ü.txt", b.at, left);
  status s = input_list_add(&list, path, INPUT_ANY);
  fuzz_told(s);
  if (s == STATUS_OK) {
    MUST(input_list_finish(&list) == STATUS_OK);
    read_all(&list, &o, b.at, left);
  }
  input_list_free(&list);
  return 0;
}
