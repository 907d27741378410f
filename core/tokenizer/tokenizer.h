/* Text to token ids and back.
 *
 * Byte-pair encoding in the two families that models use: SentencePiece style (characters,
 * byte fallback for what is not in the vocabulary) and byte-level (bytes mapped to printable
 * characters, text first split by a pattern). A tokenizer is a plain value, struct mb_bpe_spec
 * (spec.h), that importers build and checkpoints store; this header is what users of it call.
 *
 * Life:    _new/_free. Threads: immutable after _new; any number of threads may encode and decode
 *          at once (each with its own output and mb_decoder). */
#ifndef MB_CORE_TOKENIZER_H
#define MB_CORE_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "proto/status.h"

struct mb_tokenizer;
struct mb_bpe_spec;

/* A tokenizer of what spec says; takes nothing from spec but copies. Errors: MB_E_FORMAT naming
 * what is inconsistent (a merge of unknown ids, a broken pattern), MB_E_NOMEM. */
enum mb_status mb_tokenizer_new(const struct mb_bpe_spec *spec, struct mb_tokenizer **ret,
                                struct mb_error *err);
/* From the bytes of a checkpoint's tokenizer section (written by mb_bpe_spec_write); trusts
 * nothing in them. */
enum mb_status mb_tokenizer_from_bytes(const uint8_t *at, size_t n, struct mb_tokenizer **ret,
                                       struct mb_error *err);
void mb_tokenizer_free(struct mb_tokenizer *t); /* NULL is allowed */

/* A growing list of ids. */
struct mb_ids {
    uint32_t *at;
    size_t len, cap;
};
void mb_ids_fini(struct mb_ids *ids);
bool mb_ids_push(struct mb_ids *ids, uint32_t id); /* false when memory is refused */

enum mb_encode_flags {
    MB_ENCODE_BOS_EOS = 1,       /* add what the model's post-processor adds (often BOS) */
    MB_ENCODE_PARSE_SPECIAL = 2, /* "</s>" in the text is the special token, not characters;
                                    added tokens that are not special are always recognised */
};

/* Appends the ids of text to ret. Any bytes are accepted: what is not UTF-8 is encoded byte by
 * byte where the vocabulary has bytes, else as U+FFFD.
 * Cost: O(n log n) in the text, whatever the text is.
 * Errors: MB_E_LIMIT when more than ids_max ids would be made (nothing is appended), MB_E_NOMEM. */
enum mb_status mb_tokenizer_encode(const struct mb_tokenizer *t, const char *text, size_t n,
                                   unsigned flags, size_t ids_max, struct mb_ids *ret,
                                   struct mb_error *err);

/* Appends the text of ids to ret, as a whole (the leading space that the encoder added is taken
 * away again). Without special tokens when skip_special. Bytes may be invalid UTF-8 if the ids
 * are. Ids outside the vocabulary give nothing. */
enum mb_status mb_tokenizer_decode(const struct mb_tokenizer *t, const uint32_t *ids, size_t n,
                                   bool skip_special, struct mb_bytes *ret,
                                   struct mb_error *err);

/* Streaming decode: the pieces put together are the whole decode, except that invalid UTF-8 is
 * replaced by U+FFFD; no piece ends inside a character. A plain value that may be copied. */
struct mb_decoder {
    const struct mb_tokenizer *tokenizer;
    uint8_t held[8]; /* an unfinished character */
    uint8_t n_held;
    bool started; /* something was decoded: a leading space is now a space */
    bool skip_special;
};

/* With continuing, the text goes on after a prompt: the first token keeps its leading space. */
void mb_decoder_init(struct mb_decoder *d, const struct mb_tokenizer *t, bool skip_special,
                     bool continuing);
/* Appends to ret the text that token id completes; may append nothing. */
void mb_decoder_push(struct mb_decoder *d, uint32_t id, struct mb_bytes *ret);
/* The end: an unfinished character becomes U+FFFD. */
void mb_decoder_finish(struct mb_decoder *d, struct mb_bytes *ret);

uint32_t mb_tokenizer_n_vocab(const struct mb_tokenizer *t); /* largest id + 1 */
/* The token's own bytes after decoding, e.g. " the"; an unknown id has none. */
const uint8_t *mb_tokenizer_token_bytes(const struct mb_tokenizer *t, uint32_t id,
                                        size_t *ret_n);
bool mb_tokenizer_is_special(const struct mb_tokenizer *t, uint32_t id);
/* The id of a token by its text in the vocabulary ("</s>"), or false. */
bool mb_tokenizer_find(const struct mb_tokenizer *t, const char *text, uint32_t *ret);
/* BOS that encode would add with MB_ENCODE_BOS_EOS or that the model declares, or false. */
bool mb_tokenizer_bos(const struct mb_tokenizer *t, uint32_t *ret);
/* Tokens that end generation. Returns how many; *ret is borrowed. */
size_t mb_tokenizer_eos(const struct mb_tokenizer *t, const uint32_t **ret);

#endif
