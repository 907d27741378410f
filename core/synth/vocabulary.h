/* The tokenizer of a synthetic checkpoint: byte-level, without merges, so that every text is
 * encoded, one token a byte; and ids that no text gives decode to a word of their own, so that
 * what a model of random weights says can be read.
 *
 * Threads: pure. */
#ifndef MB_CORE_SYNTH_VOCABULARY_H
#define MB_CORE_SYNTH_VOCABULARY_H

#include <stdint.h>

#include "core/base/bytes.h"
#include "proto/status.h"

/* Appends a tokenizer of n_vocab tokens, MB_SYNTH_VOCAB_MIN or more, as a checkpoint keeps it.
 * Errors: MB_E_NOMEM. */
enum mb_status mb_synth_vocabulary(uint32_t n_vocab, struct mb_bytes *ret,
                                   struct mb_error *err);

#endif
