/* Small tokenizers, made in the test that uses them. Every function fails the test on an error.
 * */
#ifndef MB_TESTS_SMALL_H
#define MB_TESTS_SMALL_H

#include <stdio.h>
#include <string.h>

#include "core/tokenizer/byte_level.h"
#include "core/tokenizer/spec.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/utf8.h"
#include "tests/check_main.h"

/* Appends a token; returns its id. */
static inline uint32_t small_token(struct mb_bpe_spec *s, const char *text, uint32_t flags)
{
    struct mb_error err = { 0 };
    uint32_t id = s->n_tokens;
    mb_assert_ok(mb_bpe_spec_token(s, id, text, strlen(text), flags, &err), &err);
    return id;
}

static inline uint32_t small_id(const struct mb_bpe_spec *s, const char *text)
{
    for (uint32_t id = 0; id < s->n_tokens; id++) {
        struct mb_bpe_text t = s->tokens[id].text;
        if (t.n == strlen(text) && memcmp(mb_bpe_at(s, t), text, t.n) == 0) {
            return id;
        }
    }
    return MB_NO_ID;
}

/* The merge of two tokens; what they make becomes a token if it is none yet. */
static inline void small_merge(struct mb_bpe_spec *s, const char *left, const char *right)
{
    struct mb_error err = { 0 };
    char both[256];
    (void) snprintf(both, sizeof both, "%s%s", left, right);
    if (small_id(s, both) == MB_NO_ID) {
        (void) small_token(s, both, 0);
    }
    struct mb_bpe_merge m = { small_id(s, left), small_id(s, right), small_id(s, both) };
    mb_assert_ok(mb_bpe_spec_merge(s, m, &err), &err);
}

static inline void small_step(struct mb_bpe_spec *s, enum mb_bpe_stage stage,
                              struct mb_bpe_step step, const char *pattern, const char *content)
{
    struct mb_error err = { 0 };
    step.pattern = mb_bpe_spec_text(s, pattern, strlen(pattern));
    step.content = mb_bpe_spec_text(s, content, strlen(content));
    mb_assert_ok(mb_bpe_spec_step(s, stage, step, &err), &err);
}

#define SMALL_STEP(s, stage, kind_, flags_, mode_, pattern, content)                         \
    small_step(s, stage,                                                                     \
               (struct mb_bpe_step) { .kind = (kind_), .flags = (flags_), .mode = (mode_) }, \
               pattern, content)

/* As Llama 2 is: spaces as U+2581, one put in front, bytes for what is unknown. */
static inline struct mb_bpe_spec *small_characters(void)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    ck_assert_ptr_nonnull(s);
    s->unk = small_token(s, "<unk>", MB_TOKEN_ADDED | MB_TOKEN_SPECIAL);
    uint32_t bos = small_token(s, "<s>", MB_TOKEN_ADDED | MB_TOKEN_SPECIAL);
    uint32_t eos = small_token(s, "</s>", MB_TOKEN_ADDED | MB_TOKEN_SPECIAL);
    struct mb_error err;
    mb_assert_ok(mb_bpe_ids_add(&s->prefix, bos, &err), &err);
    mb_assert_ok(mb_bpe_ids_add(&s->eos, eos, &err), &err);
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];
        (void) snprintf(text, sizeof text, "<0x%02X>", byte);
        (void) small_token(s, text, 0);
    }
    for (char c = 'a'; c <= 'z'; c++) {
        (void) small_token(s, (char[]) { c, 0 }, 0);
    }
    (void) small_token(s, "\u2581", 0);
    (void) small_token(s, "é", 0);
    small_merge(s, "l", "o");
    small_merge(s, "h", "e");
    small_merge(s, "l", "lo");
    small_merge(s, "\u2581", "he");
    small_merge(s, "\u2581he", "llo");
    small_merge(s, "\u2581", "\u2581");
    s->flags = MB_BPE_BYTE_FALLBACK | MB_BPE_FUSE_UNK;
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_PREPEND, 0, 0, "", "\u2581");
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_REPLACE, 0, 0, " ", "\u2581");
    SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_REPLACE, 0, 0, "\u2581", " ");
    SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_BYTE_TOKENS, 0, 0, "", "");
    SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_FUSE, 0, 0, "", "");
    struct mb_bpe_step strip = { .kind = MB_BPE_STRIP, .count_start = 1 };
    small_step(s, MB_BPE_DECODER, strip, "", " ");
    return s;
}

/* As GPT-2 is: all bytes, GPT-2's pattern, and one token that ends a text. */
static inline struct mb_bpe_spec *small_bytes(void)
{
    struct mb_bpe_spec *s = mb_bpe_spec_new();
    ck_assert_ptr_nonnull(s);
    for (unsigned byte = 0; byte < 256; byte++) {
        uint8_t text[MB_UTF8_MAX + 1] = { 0 };
        (void) mb_utf8_put(mb_byte_level_char((uint8_t) byte), text);
        (void) small_token(s, (char *) text, 0);
    }
    small_merge(s, "l", "l");
    small_merge(s, "h", "e");
    small_merge(s, "ll", "o");
    small_merge(s, "he", "llo");
    small_merge(s, "\u0120", "hello");
    uint32_t end = small_token(s, "<end>", MB_TOKEN_ADDED | MB_TOKEN_SPECIAL);
    struct mb_error err;
    mb_assert_ok(mb_bpe_ids_add(&s->eos, end, &err), &err);
    SMALL_STEP(s, MB_BPE_PRE_TOKENIZER, MB_BPE_BYTE_LEVEL, MB_BPE_WORDS, 0, "", "");
    SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_BYTE_LEVEL, 0, 0, "", "");
    return s;
}

/* The tokenizer of a spec, which is freed. */
static inline struct mb_tokenizer *small_tokenizer(struct mb_bpe_spec *s)
{
    struct mb_error err = { 0 };
    struct mb_tokenizer *t = NULL;
    mb_assert_ok(mb_tokenizer_new(s, &t, &err), &err);
    mb_bpe_spec_free(s);
    return t;
}

static inline struct mb_ids small_encode(const struct mb_tokenizer *t, const void *text,
                                         size_t n, unsigned flags)
{
    struct mb_error err = { 0 };
    struct mb_ids ids = { 0 };
    mb_assert_ok(mb_tokenizer_encode(t, text, n, flags, SIZE_MAX, &ids, &err), &err);
    return ids;
}

/* Encodes text and compares with tokens, separated by '|', as the vocabulary spells them. */
static inline void small_expect(const struct mb_tokenizer *t, const char *text, size_t n,
                                unsigned flags, const char *want)
{
    struct mb_ids ids = small_encode(t, text, n, flags);
    char copy[1024];
    (void) snprintf(copy, sizeof copy, "%s", want);
    size_t i = 0;
    for (char *save, *token = strtok_r(copy, "|", &save); token;
         token = strtok_r(NULL, "|", &save)) {
        uint32_t id = MB_NO_ID;
        ck_assert_msg(mb_tokenizer_find(t, token, &id), "\"%s\" is no token", token);
        ck_assert_msg(i < ids.len && ids.at[i] == id,
                      "\"%s\": token %zu is %d, not \"%s\" (%u)", text, i,
                      i < ids.len ? (int) ids.at[i] : -1, token, id);
        i++;
    }
    ck_assert_msg(i == ids.len, "\"%s\": %zu tokens, not %zu", text, ids.len, i);
    mb_ids_fini(&ids);
}

#define SMALL_EXPECT(t, text, flags, want) small_expect(t, text, strlen(text), flags, want)

#endif
