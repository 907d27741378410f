/* A vocabulary in which tokens cross every border of JSON, and texts drawn through masks. */
#ifndef MB_TESTS_CONSTRAIN_RIG_H
#define MB_TESTS_CONSTRAIN_RIG_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/rng.h"
#include "core/constrain/constraint.h"
#include "core/constrain/schema.h"
#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/spec.h"
#include "core/tokenizer/utf8.h"
#include "proto/json/value_json.h"

static const char *const crossing_tokens[] = {
    "\":",       "\": ", "\",",      "\", \"",   "\"}",   "\"]",      "\"}]",   "{\"",
    "[\"",       "[[",   "[{\"",     "]}",       "}}",    "}]",       "},{\"",  "],[",
    "],",        "},",   ", ",       ": ",       " \"",   "  ",       "\n  ",   ",\n    \"",
    "true",      "null", "fal",      "tru",      "nu",    "12",       "123456", "0.",
    ".5",        "-1",   "e1",       "00",       "\\n",   "\\\"",     "\\u",    "\\u00",
    "ab\"",      "abc",  "a\",\"",   "[]",       "{}",    "[1,",      "1,",     "2]",
    "3}",        "\\\\", "é",        "\xe2\x82", "€",     "\xf0\x9f", "\xa9\"", "name",
    "\"name\":", "id",   "\"id\": ", "2024",     "-0",    "T1",       "Z\"",    "\"a",
    "\"b\":",    "\"\"", "\"[",      "\"{",      "\\u12", "d8",       "\\udc",  ":0",
    "\n\n",      "   ",  "[[[[",
};

/* For programs that are no Check tests, too: a failure ends the program. */
static inline void rig_ok(enum mb_status st, const struct mb_error *err)
{
    if (st != MB_OK) {
        fprintf(stderr, "rig: %s\n", err->what);
        abort();
    }
}

static inline uint32_t crossing_token(struct mb_bpe_spec *s, const char *bytes, size_t n)
{
    uint8_t text[64];
    size_t n_text = 0;
    for (size_t i = 0; i < n; i++) {
        n_text += mb_utf8_put(mb_byte_level_char((uint8_t) bytes[i]), text + n_text);
    }
    struct mb_error err;
    uint32_t id = s->n_tokens;
    rig_ok(mb_bpe_spec_token(s, id, (char *) text, n_text, 0, &err), &err);
    return id;
}

/* A byte-level vocabulary: 256 bytes, n tokens of text, and one that ends a text, the last. */
static inline struct mb_tokenizer *tokenizer_of_tokens(const char *const *tokens, size_t n)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    struct mb_error err;
    struct mb_tokenizer *t = NULL;
    for (unsigned byte = 0; byte < 256; byte++) {
        (void) crossing_token(s, &(char) { (char) byte }, 1);
    }
    for (size_t i = 0; i < n; i++) {
        (void) crossing_token(s, tokens[i], strlen(tokens[i]));
    }
    uint32_t end = s->n_tokens;
    rig_ok(mb_bpe_spec_token(s, end, "<end>", 5, MB_TOKEN_ADDED | MB_TOKEN_SPECIAL, &err),
           &err);
    rig_ok(mb_bpe_ids_add(&s->eos, end, &err), &err);
    struct mb_bpe_step step = { .kind = MB_BPE_BYTE_LEVEL };
    rig_ok(mb_bpe_spec_step(s, MB_BPE_DECODER, step, &err), &err);
    rig_ok(mb_tokenizer_new(s, &t, &err), &err);
    mb_bpe_spec_free(s);
    return t;
}

static inline struct mb_tokenizer *crossing_tokenizer(void)
{
    return tokenizer_of_tokens(crossing_tokens,
                               sizeof crossing_tokens / sizeof crossing_tokens[0]);
}

/* A constraint for a schema as text; NULL, with *err, when it is refused. */
static inline struct mb_constraint *constraint_of(const struct mb_token_trie *trie,
                                                  const char *schema, size_t n,
                                                  struct mb_error *err)
{
    struct mb_json_value v = { 0 };
    struct mb_grammar g;
    struct mb_constraint *c = NULL;
    enum mb_status st = mb_json_value_parse(schema, n, &v, err);
    if (st == MB_OK) {
        st = mb_schema_compile(&v, &g, err);
        mb_json_value_fini(&v);
    }
    if (st == MB_OK) {
        st = mb_constraint_new(&g, trie, mb_tokenizer_n_vocab(trie->tokenizer) + 3, &c, err);
        mb_grammar_fini(&g);
    }
    return st == MB_OK ? c : NULL;
}

static inline bool is_allowed(const uint64_t *mask, uint32_t token)
{
    return mask[token / 64] >> token % 64 & 1;
}

/* The n-th token of a mask. */
static inline uint32_t nth_allowed(const uint64_t *mask, uint32_t n_words, uint64_t n)
{
    for (uint32_t i = 0; i < n_words; i++) {
        unsigned here = (unsigned) __builtin_popcountll(mask[i]);
        if (n < here) {
            uint64_t word = mask[i];
            while (n-- > 0) {
                word &= word - 1;
            }
            return i * 64 + (unsigned) __builtin_ctzll(word);
        }
        n -= here;
    }
    return MB_NO_ID;
}

static inline uint64_t count_allowed(const uint64_t *mask, uint32_t n_words)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < n_words; i++) {
        n += (unsigned) __builtin_popcountll(mask[i]);
    }
    return n;
}

/* The next token of a random text, which after n_free tokens wants to end: then mostly
 * a closing bracket, as far as one may come. */
static inline uint32_t choose(const struct mb_tokenizer *t, const uint64_t *mask, uint64_t seed,
                              uint64_t at, unsigned n_free)
{
    uint32_t n_words = (mb_tokenizer_n_vocab(t) + 3 + 63) / 64;
    static const char closing[] = "}]\"";
    const uint32_t *eos;
    if (mb_tokenizer_eos(t, &eos) > 0 && at >= n_free && is_allowed(mask, eos[0])) {
        return eos[0];
    }
    uint64_t luck = mb_rng_u64(seed, 1, at);
    for (size_t i = 0; at >= n_free && i < 3; i++) {
        uint32_t id = 0;
        char text[2] = { closing[(luck + i) % 3], 0 };
        if (luck / 3 % 4 != 0 && mb_tokenizer_find(t, text, &id) && is_allowed(mask, id)) {
            return id;
        }
    }
    uint64_t n = count_allowed(mask, n_words);
    return n ? nth_allowed(mask, n_words, mb_rng_u64(seed, 0, at) % n) : MB_NO_ID;
}

/* A text through the masks; false when it had not ended after n_max tokens. Aborts when a mask is empty
 * or its token is not accepted. */
static inline bool random_text(struct mb_constraint *c, const struct mb_tokenizer *t,
                               uint64_t seed, unsigned n_free, unsigned n_max,
                               struct mb_bytes *ret)
{
    const uint32_t *eos;
    size_t n_eos = mb_tokenizer_eos(t, &eos);
    for (uint64_t i = 0; i < n_max; i++) {
        if (n_eos == 0 && mb_constraint_is_complete(c)) {
            return true;
        }
        const uint64_t *mask = mb_constraint_mask(c, false);
        uint32_t token = choose(t, mask, seed, i, n_free);
        if (token == MB_NO_ID || !mb_constraint_accept(c, token)) {
            fprintf(stderr, "stuck after: %.*s\n", (int) ret->len, (char *) ret->at);
            abort();
        }
        if (n_eos > 0 && token == eos[0]) {
            return true;
        }
        size_t n;
        const uint8_t *bytes = mb_tokenizer_token_bytes(t, token, &n);
        mb_bytes_put(ret, bytes, n);
    }
    return false;
}

#endif
