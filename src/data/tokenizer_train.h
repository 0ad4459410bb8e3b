/* Makes tokenizers from documents. Only training documents count: a tokenizer that has seen the validation text
 * flatters it. */
#ifndef PSANN_DATA_TOKENIZER_TRAIN_H
#define PSANN_DATA_TOKENIZER_TRAIN_H

#include <stdint.h>

#include "base/status.h"
#include "data/holdout.h"
#include "data/input_reader.h"
#include "data/sentencepiece_train.h"
#include "data/tokenizer.h"

/* A tokenizer of the characters that occur. Reads all documents. */
status tokenizer_train_chars(input_list *list, const input_options *options, const holdout *split, tokenizer **out);

/* A SentencePiece tokenizer trained on about `sample_bytes` bytes of lines, drawn evenly by the split's seed (all, when
 * there are fewer). Memory: about 30 bytes a byte of the sample.
 */
status tokenizer_train_sentencepiece(input_list *list, const input_options *options, const holdout *split,
                                     const sentencepiece_options *training, int64_t sample_bytes, tokenizer **out);

#endif
