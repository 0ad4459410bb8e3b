#include "data/sentencepiece_train.h"

#include <sentencepiece_trainer.h>

#include <cstdio>
#include <cstring>
#include <exception>
#include <string>
#include <unordered_map>

extern "C" {
#include "base/memory.h"
}

namespace {

class Lines : public sentencepiece::SentenceIterator {
 public:
  Lines(const char *text, const size_t *ends, size_t count) : text_(text), ends_(ends), count_(count) { load(); }
  bool done() const override { return at_ >= count_; }
  void Next() override {
    at_++;
    load();
  }
  const std::string &value() const override { return line_; }
  sentencepiece::util::Status status() const override { return {}; }

 private:
  void load() {
    if (at_ < count_) {
      size_t start = at_ == 0 ? 0 : ends_[at_ - 1];
      line_.assign(text_ + start, ends_[at_] - start);
    }
  }
  const char *text_;
  const size_t *ends_;
  size_t count_, at_ = 0;
  std::string line_;
};

// The library's message as a sentence that names our options.
status explain(const std::string &failure, int64_t vocab_size) {
  static const char small[] = "smaller than required_chars. ", large[] = "Please set it to a value <= ";
  long long asked = vocab_size, limit = 0;
  size_t at = failure.find(small);
  if (at != std::string::npos &&
      std::sscanf(failure.c_str() + at + std::strlen(small), "%lld vs %lld", &asked, &limit) == 2) {
    USER_ERROR(
        "a vocabulary of %lld tokens can't hold the 256 bytes and the text's characters: give --vocab %lld or more, "
        "or a smaller --coverage",
        asked, limit);
  }
  at = failure.find(large);
  if (at != std::string::npos && std::sscanf(failure.c_str() + at + std::strlen(large), "%lld", &limit) == 1) {
    USER_ERROR(
        "the text has too few different words for a vocabulary of %lld tokens: give --vocab %lld or less, or more text",
        asked, limit);
  }
  at = failure.rfind("] ");
  USER_ERROR(
      "libsentencepiece can't train a vocabulary of %lld tokens on this text (%s); try another --vocab or --model-type",
      asked, failure.c_str() + (at == std::string::npos ? 0 : at + 2));
}

}  // namespace

extern "C" status sentencepiece_train(const char *text, const size_t *ends, size_t lines,
                                      const sentencepiece_options *options, char **model, size_t *bytes) {
  *model = nullptr;
  std::string out, failure;
  try {
    Lines iterator(text, ends, lines);
    const std::unordered_map<std::string, std::string> settings = {
        {"vocab_size", std::to_string(options->vocab_size)},
        {"model_type", options->model_type},
        {"character_coverage", std::to_string(options->character_coverage)},
        {"normalization_rule_name", "identity"},
        {"add_dummy_prefix", "false"},
        {"remove_extra_whitespaces", "false"},
        {"allow_whitespace_only_pieces", "true"},
        {"byte_fallback", "true"},
        {"user_defined_symbols", "\n,\t"},
        {"eos_id", "0"},
        {"unk_id", "1"},
        {"bos_id", "-1"},
        {"pad_id", "-1"},
        {"max_sentence_length", std::to_string(SENTENCEPIECE_LINE)},
        {"num_threads", std::to_string(SENTENCEPIECE_THREADS)},
        {"minloglevel", "2"},
    };
    const auto result = sentencepiece::SentencePieceTrainer::Train(settings, &iterator, &out);
    if (!result.ok()) {
      failure = result.ToString();
    }
  } catch (const std::exception &e) {
    failure = e.what();
  }
  if (!failure.empty()) {
    return explain(failure, options->vocab_size);
  }
  TRY(memory_new(model, out.size(), 1, "a sentencepiece model"));
  std::memcpy(*model, out.data(), out.size());
  *bytes = out.size();
  return STATUS_OK;
}
