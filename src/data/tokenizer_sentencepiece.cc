// libsentencepiece behind the table of tokenizer_kinds.h. The library's exceptions and statuses become statuses here.
//
// The library marks spaces by U+2581 and therefore loses that character, and it replaces NUL and invalid UTF-8. A model
// with byte fallback has a token for every byte, so these bytes are encoded here, around the library, and decoding
// needs no library at all: it joins the bytes of each token.

#include <sentencepiece_processor.h>
#include <xxhash.h>

#include <atomic>
#include <cstring>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer_kinds.h"
#include "data/utf8.h"

extern "C" {
#include "base/memory.h"
}

namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581

struct State {
  sentencepiece::SentencePieceProcessor processor;
  std::vector<std::string> bytes_of;  // of each id
  std::vector<int> byte_id;           // (256); −1: no such token
  int newline_id = -1;                // a token that is just "\n"
  bool newline_separates = false;     // no token goes across the end of a line
  bool spaces_lead = false;           // no token has a space after something else: words are encoded one by one
  uint64_t number = 0;                // of this tokenizer in the process, for the caches
  bool adds_space = false;            // the model puts a space before every text
};

std::string with_spaces(const std::string &piece) {
  std::string text;
  for (size_t at = 0; at < piece.size();) {
    if (piece.compare(at, kSpaceMark.size(), kSpaceMark) == 0) {
      text += ' ';
      at += kSpaceMark.size();
    } else {
      text += piece[at++];
    }
  }
  return text;
}

void read_pieces(State *s) {
  const auto &p = s->processor;
  s->byte_id.assign(256, -1);
  s->newline_separates = s->spaces_lead = true;
  for (int id = 0; id < p.GetPieceSize(); id++) {
    std::string text;
    if (p.IsUnknown(id)) {
      text = "\xEF\xBF\xBD";
    } else if (p.IsByte(id)) {
      int byte = static_cast<int>(std::stoul(p.IdToPiece(id).substr(3, 2), nullptr, 16));  // "<0x41>"
      s->byte_id[static_cast<size_t>(byte)] = id;
      text = static_cast<char>(byte);
    } else if (!p.IsControl(id)) {
      text = with_spaces(p.IdToPiece(id));
      size_t word = text.find_first_not_of(' ');
      s->spaces_lead = s->spaces_lead && (word == std::string::npos || text.find(' ', word) == std::string::npos);
      if (text == "\n") {
        s->newline_id = id;
      } else if (text.find('\n') != std::string::npos) {
        s->newline_separates = false;
      }
    }
    s->bytes_of.push_back(text);
  }
  if (s->newline_id < 0) {
    s->newline_id = s->byte_id['\n'];
  }
  s->newline_separates = s->newline_separates && s->newline_id >= 0;
}

status library_error(const char *doing, const std::string &reason) {
  USER_ERROR("libsentencepiece can't %s (%s); make the model, or the file that holds it, again", doing, reason.c_str());
}

status append_ids(const std::vector<int> &from, int32_t **ids, size_t *count, size_t *capacity) {
  if (from.empty()) {
    return STATUS_OK;
  }
  TRY(memory_grow(ids, capacity, *count + from.size(), sizeof **ids, "the tokens of a text"));
  std::memcpy(*ids + *count, from.data(), from.size() * sizeof(int32_t));
  *count += from.size();
  return STATUS_OK;
}

status encode_by_library(const State *s, std::string_view text, int32_t **ids, size_t *count, size_t *capacity) {
  if (text.empty()) {
    return STATUS_OK;
  }
  std::vector<int> out;
  const auto result = s->processor.Encode(text, &out);
  if (!result.ok()) {
    return library_error("encode a text", result.ToString());
  }
  return append_ids(out, ids, count, capacity);
}

// Words that a thread encoded lately. One place a hash value: what comes last stays, and memory is bounded.
class WordCache {
 public:
  static constexpr size_t kLongest = 48;
  struct Entry {
    std::string word;
    std::vector<int> ids;
  };
  // The place of a word, which may hold another one or none.
  Entry *find(const State *s, std::string_view word) {
    if (owner_ != s->number) {
      owner_ = s->number;
      entries_.assign(kEntries, {});
    }
    return &entries_[XXH3_64bits(word.data(), word.size()) % kEntries];
  }

 private:
  static constexpr size_t kEntries = 1 << 16;
  uint64_t owner_ = 0;
  std::vector<Entry> entries_;
};

thread_local WordCache word_cache;

status encode_word(const State *s, std::string_view word, int32_t **ids, size_t *count, size_t *capacity) {
  if (word.size() > WordCache::kLongest) {
    return encode_by_library(s, word, ids, count, capacity);
  }
  WordCache::Entry *entry = word_cache.find(s, word);
  if (entry->word != word) {
    size_t before = *count;
    entry->word.clear();
    TRY(encode_by_library(s, word, ids, count, capacity));
    entry->ids.assign(*ids + before, *ids + *count);
    entry->word = word;
    return STATUS_OK;
  }
  return append_ids(entry->ids, ids, count, capacity);
}

// Text without what must go round the library. No token crosses the start of a word, so words can be encoded one by
// one; a word has the same ids wherever it stands, also where the library's sums would break a tie by rounding. A word
// is spaces and what follows them up to the next space.
status encode_plain(const State *s, std::string_view text, int32_t **ids, size_t *count, size_t *capacity) {
  if (!s->spaces_lead) {
    return encode_by_library(s, text, ids, count, capacity);
  }
  for (size_t at = 0; at < text.size();) {
    size_t end = text.find_first_not_of(' ', at);
    end = end == std::string_view::npos ? text.size() : text.find(' ', end);
    end = end == std::string_view::npos ? text.size() : end;
    TRY(encode_word(s, text.substr(at, end - at), ids, count, capacity));
    at = end;
  }
  return STATUS_OK;
}

status encode_bytes(const State *s, std::string_view text, int32_t **ids, size_t *count, size_t *capacity) {
  std::vector<int> out;
  for (char c : text) {
    out.push_back(c == '\n' ? s->newline_id : s->byte_id[static_cast<unsigned char>(c)]);
  }
  return append_ids(out, ids, count, capacity);
}

// The end of the text from `at` on that the library may have, and the length of what comes then and must go round it.
size_t plain_end(const State *s, std::string_view text, size_t at, size_t *special) {
  *special = 0;
  while (at < text.size()) {
    size_t length;
    int32_t point = utf8_read(text.data() + at, text.size() - at, &length);
    if (point <= 0 || point == 0x2581 || (point == '\n' && s->newline_separates)) {
      *special = length;
      return at;
    }
    at += length;
  }
  return at;
}

status encode_exact(const State *s, std::string_view text, int32_t **ids, size_t *count, size_t *capacity) {
  for (size_t at = 0; at < text.size();) {
    size_t special;
    size_t end = plain_end(s, text, at, &special);
    TRY(encode_plain(s, text.substr(at, end - at), ids, count, capacity));
    TRY(encode_bytes(s, text.substr(end, special), ids, count, capacity));
    at = end + special;
  }
  return STATUS_OK;
}

// Whether a text that normalisers like to change comes back.
bool gives_back(const State *s) {
  for (int byte = 0; byte < 256; byte++) {
    if (s->byte_id[static_cast<size_t>(byte)] < 0) {
      return false;
    }
  }
  const std::string text =
      "  two  spaces\tTab \xEF\xAC\x81\xE2\x91\xA0\xEF\xBC\xA1\xC2\xA0\xC2\xAD e\xCC\x81 \xE2\x80\x8B\r \xEF\xBB\xBF. "
      " ";
  std::vector<int> ids;
  if (!s->processor.Encode(text, &ids).ok()) {
    return false;
  }
  std::string back;
  for (int id : ids) {
    back += s->bytes_of[static_cast<size_t>(id)];
  }
  return back == text;
}

bool puts_space_first(const State *s) {
  std::vector<int> ids;
  return s->processor.Encode("a", &ids).ok() && !ids.empty() && !s->bytes_of[static_cast<size_t>(ids[0])].empty() &&
         s->bytes_of[static_cast<size_t>(ids[0])][0] == ' ';
}

status open_model(tokenizer *t) {
  static std::atomic<uint64_t> opened{0};
  auto *s = new State;
  t->state = s;
  s->number = ++opened;
  const auto result =
      s->processor.LoadFromSerializedProto(std::string_view(static_cast<const char *>(t->model), t->model_bytes));
  if (!result.ok()) {
    return library_error("read a model", result.ToString());
  }
  if (s->processor.eos_id() < 0) {
    USER_ERROR(
        "the sentencepiece model has no end-of-sentence token, which is needed to separate documents; train one with "
        "eos_id");
  }
  t->vocab_size = s->processor.GetPieceSize();
  t->end_of_text = s->processor.eos_id();
  t->unknown = s->processor.unk_id();
  read_pieces(s);
  s->adds_space = puts_space_first(s);
  t->exact = !s->adds_space && gives_back(s);
  return STATUS_OK;
}

// Calls of the library can throw; C callers get a status.
template <typename F>
status guarded(const char *doing, F call) {
  try {
    return call();
  } catch (const std::exception &e) {
    return library_error(doing, e.what());
  } catch (...) {
    return library_error(doing, "unknown failure");
  }
}

status sentencepiece_open(tokenizer *t) {
  if (t->model_bytes == 0) {
    USER_ERROR("the sentencepiece model is empty; make the file that holds it again");
  }
  return guarded("read a model", [&] { return open_model(t); });
}

void sentencepiece_close(tokenizer *t) {
  delete static_cast<State *>(t->state);
}

status sentencepiece_encode(const tokenizer *t, const char *text, size_t bytes, int32_t **ids, size_t *count,
                            size_t *capacity) {
  const auto *s = static_cast<const State *>(t->state);
  return guarded("encode a text", [&] {
    return t->exact ? encode_exact(s, {text, bytes}, ids, count, capacity)
                    : encode_by_library(s, {text, bytes}, ids, count, capacity);
  });
}

status sentencepiece_append(const tokenizer *t, int32_t id, char **text, size_t *bytes, size_t *capacity) {
  const std::string &piece = static_cast<const State *>(t->state)->bytes_of[static_cast<size_t>(id)];
  return tokenizer_append_bytes(piece.data(), piece.size(), text, bytes, capacity);
}

void sentencepiece_finish(const tokenizer *t, char *text, size_t *bytes) {
  if (static_cast<const State *>(t->state)->adds_space && *bytes > 0 && text[0] == ' ') {
    std::memmove(text, text + 1, --*bytes);
  }
}

}  // namespace

extern "C" const tokenizer_kind tokenizer_sentencepiece_kind = {"sentencepiece",      sentencepiece_open,
                                                                sentencepiece_close,  sentencepiece_encode,
                                                                sentencepiece_append, sentencepiece_finish};
