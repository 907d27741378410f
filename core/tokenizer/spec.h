/* What a byte-pair tokenizer is, as a plain value: vocabulary, merges, and the steps around
 * them.
 *
 * An importer fills one; a checkpoint stores it (mb_bpe_spec_write); mb_tokenizer_new compiles
 * it. Text goes through the stages in this order, each a short list of steps:
 *
 *     encode: added tokens are cut out -> normalizer -> pre-tokenizer -> merges -> ids
 *     decode: each token's text        -> decoder steps -> joined
 *
 * Ids index tokens; an id that nothing has is a hole. The merges are in order of rank.
 *
 * Life:    _new/_free. Threads: one thread at a time per spec. */
#ifndef MB_CORE_SPEC_H
#define MB_CORE_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/bytes.h"
#include "proto/status.h"

/* Bounds, each several times what the largest known tokenizers need (Gemma: 262145 tokens;
 * Llama 3: 280147 merges, a longest token of 128 bytes). */
#define MB_BPE_TOKENS_MAX        (1u << 20)
#define MB_BPE_MERGES_MAX        (1u << 22)
#define MB_BPE_TOKEN_BYTES_MAX   4096u
#define MB_BPE_ADDED_BYTES_MAX   256u /* of a token that is searched for in every text */
#define MB_BPE_PATTERN_BYTES_MAX 4096u
#define MB_BPE_CONTENT_BYTES_MAX 64u /* of what a step writes in place of something */
#define MB_BPE_STEPS_MAX         16u /* of one stage */
#define MB_BPE_IDS_MAX           64u /* of the lists prefix, suffix, eos */

#define MB_NO_ID UINT32_MAX

enum mb_token_flags {
    MB_TOKEN_PRESENT = 1,      /* not a hole */
    MB_TOKEN_ADDED = 2,        /* found as a whole in the text, before the merges see it */
    MB_TOKEN_SPECIAL = 4,      /* only when MB_ENCODE_PARSE_SPECIAL; left out by skip_special */
    MB_TOKEN_NORMALIZED = 8,   /* searched for in the normalized text */
    MB_TOKEN_LSTRIP = 16,      /* takes the white space before it along */
    MB_TOKEN_RSTRIP = 32,      /* and after it */
    MB_TOKEN_SINGLE_WORD = 64, /* not inside a word */
    MB_TOKEN_FLAGS = 127,
};

/* n bytes of spec->text, from at. */
struct mb_bpe_text {
    uint32_t at, n;
};

struct mb_bpe_token {
    struct mb_bpe_text text;
    uint32_t flags;
};

struct mb_bpe_merge {
    uint32_t left, right, result; /* ids; the result's text is left's and right's */
};

enum mb_bpe_flags {
    MB_BPE_BYTE_FALLBACK = 1, /* an unknown character becomes <0xNN> for each byte */
    MB_BPE_FUSE_UNK = 2,      /* neighbouring unknown characters are one unk */
    MB_BPE_IGNORE_MERGES = 4, /* a piece that is a token as a whole is that token */
    MB_BPE_FLAGS = 7,
};

enum mb_bpe_stage { MB_BPE_NORMALIZER, MB_BPE_PRE_TOKENIZER, MB_BPE_DECODER, MB_BPE_STAGES };

enum mb_bpe_step_kind {
    /* normalizer */
    MB_BPE_PREPEND = 1, /* content, to text that is not empty */
    MB_BPE_REPLACE,     /* pattern, literally, by content; also a decoder step */
    MB_BPE_NFC,
    MB_BPE_NFD,
    MB_BPE_NFKC,
    MB_BPE_NFKD,
    /* pre-tokenizer */
    MB_BPE_SPLIT,      /* at pattern, by mode */
    MB_BPE_DIGITS,     /* numbers from the rest; MB_BPE_EACH: each digit alone */
    MB_BPE_METASPACE,  /* pattern is the character for a space; also a decoder step */
    MB_BPE_BYTE_LEVEL, /* bytes as printable characters; always last; also a decoder step */
    /* decoder */
    MB_BPE_BYTE_TOKENS, /* <0xNN> is a byte */
    MB_BPE_FUSE,        /* what follows sees the whole text, not a token */
    MB_BPE_STRIP,       /* up to count_start and count_stop of content from the ends */
    MB_BPE_STEP_KINDS
};

enum mb_bpe_step_flags {
    MB_BPE_REGEX = 1,        /* SPLIT: pattern is a regular expression, else literal */
    MB_BPE_INVERT = 2,       /* SPLIT: what does not match counts as the match */
    MB_BPE_EACH = 4,         /* DIGITS */
    MB_BPE_PREFIX_SPACE = 8, /* BYTE_LEVEL: a space before text that has none */
    MB_BPE_WORDS = 16,       /* BYTE_LEVEL: split by GPT-2's pattern first.
                                METASPACE: split before each replaced space */
    MB_BPE_STEP_FLAGS = 31,
};

/* What a split does with a match, and when Metaspace prepends. */
enum mb_bpe_mode {
    MB_BPE_ISOLATED,
    MB_BPE_REMOVED,
    MB_BPE_MERGED_WITH_PREVIOUS,
    MB_BPE_MERGED_WITH_NEXT,
    MB_BPE_CONTIGUOUS,
    MB_BPE_PREPEND_NEVER,
    MB_BPE_PREPEND_FIRST, /* only at the very start of the text */
    MB_BPE_PREPEND_ALWAYS,
    MB_BPE_MODES
};

struct mb_bpe_step {
    uint8_t kind;  /* enum mb_bpe_step_kind */
    uint8_t flags; /* enum mb_bpe_step_flags */
    uint8_t mode;  /* enum mb_bpe_mode */
    uint8_t count_start, count_stop;
    struct mb_bpe_text pattern, content;
};

struct mb_bpe_steps {
    struct mb_bpe_step at[MB_BPE_STEPS_MAX];
    uint32_t n;
};

struct mb_bpe_ids {
    uint32_t at[MB_BPE_IDS_MAX];
    uint32_t n;
};

struct mb_bpe_spec {
    struct mb_bytes text; /* of tokens and steps */
    struct mb_bpe_token *tokens;
    struct mb_bpe_merge *merges;
    uint32_t n_tokens, tokens_cap; /* largest id + 1 */
    uint32_t n_merges, merges_cap;
    uint32_t flags; /* enum mb_bpe_flags */
    uint32_t unk;   /* or MB_NO_ID: an unknown character is then left out */
    uint32_t bos;   /* declared, or MB_NO_ID */
    struct mb_bpe_steps stages[MB_BPE_STAGES];
    struct mb_bpe_ids prefix, suffix; /* what MB_ENCODE_BOS_EOS adds */
    struct mb_bpe_ids eos;            /* end generation */
};

struct mb_bpe_spec *mb_bpe_spec_new(void);    /* empty; NULL when memory is refused */
void mb_bpe_spec_free(struct mb_bpe_spec *s); /* NULL is allowed */

/* Copies n bytes into the spec's text; empty with text.failed set when memory is refused. */
struct mb_bpe_text mb_bpe_spec_text(struct mb_bpe_spec *s, const void *at, size_t n);
/* Makes id a token; an earlier one is replaced. Errors: MB_E_LIMIT, MB_E_NOMEM. */
enum mb_status mb_bpe_spec_token(struct mb_bpe_spec *s, uint32_t id, const void *text, size_t n,
                                 uint32_t flags, struct mb_error *err);
enum mb_status mb_bpe_spec_merge(struct mb_bpe_spec *s, struct mb_bpe_merge m,
                                 struct mb_error *err);
/* Appends a step whose texts are already in the spec. Errors: MB_E_LIMIT. */
enum mb_status mb_bpe_spec_step(struct mb_bpe_spec *s, enum mb_bpe_stage stage,
                                struct mb_bpe_step step, struct mb_error *err);
/* Appends id. Errors: MB_E_LIMIT. */
enum mb_status mb_bpe_ids_add(struct mb_bpe_ids *ids, uint32_t id, struct mb_error *err);
bool mb_bpe_ids_has(const struct mb_bpe_ids *ids, uint32_t id);

static inline const uint8_t *mb_bpe_at(const struct mb_bpe_spec *s, struct mb_bpe_text t)
{
    return s->text.at ? s->text.at + t.at : (const uint8_t *) "";
}

/* Is every count within its bound, every id a token, every text UTF-8, every merge a
 * concatenation, every step in its stage? Errors: MB_E_FORMAT, MB_E_UNSUPPORTED, MB_E_NOMEM,
 * naming the place. */
enum mb_status mb_bpe_spec_check(const struct mb_bpe_spec *s, struct mb_error *err);

/* Appends the spec, which passes mb_bpe_spec_check, to ret; the caller asks ret->failed.
 * Format, little endian, version 1 (text is u16 length and bytes; an absent id is 0xffffffff):
 *
 *     u32 magic "MBPE", version, flags, unk, bos, n_tokens, n_merges
 *     n_tokens of    u8 flags, text
 *     n_merges of    u32 left, right, result
 *     3 stages of    u8 n, and n of u8 kind, flags, mode, count_start, count_stop,
 *                    text pattern, text content
 *     prefix, suffix, eos, each   u8 n, and n of u32
 */
void mb_bpe_spec_write(const struct mb_bpe_spec *s, struct mb_bytes *ret);
/* Trusts nothing; what it returns passes mb_bpe_spec_check. Memory: a small multiple of n. */
enum mb_status mb_bpe_spec_read(const uint8_t *at, size_t n, struct mb_bpe_spec **ret,
                                struct mb_error *err);

#endif
