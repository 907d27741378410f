/* Goal:   ids become text again, as a whole and piece by piece, and no piece cuts a character.
 * Method: texts and random ids through both ways, compared byte by byte; Unicode's own example
 * of
 *         replaced bytes; the two alphabets of bytes over all their values. */
#include "core/base/rng.h"
#include "tests/core/tokenizer/small.h"

/* What invalid UTF-8 is shown as. */
static void put_replaced(const uint8_t *at, size_t n, struct mb_bytes *ret)
{
    for (size_t i = 0; i < n;) {
        struct mb_utf8 u = mb_utf8_first(at + i, n - i);
        bool whole = u.kind == MB_UTF8_CHAR;
        mb_bytes_put(ret, whole ? (const char *) at + i : MB_REPLACEMENT, whole ? u.n : 3);
        i += u.n;
    }
}

static void expect_streamed(const struct mb_tokenizer *t, const uint32_t *ids, size_t n,
                            bool skip_special)
{
    struct mb_error err;
    struct mb_bytes whole = { 0 }, want = { 0 }, got = { 0 };
    mb_assert_ok(mb_tokenizer_decode(t, ids, n, skip_special, &whole, &err), &err);
    put_replaced(whole.at, whole.len, &want);
    struct mb_decoder d;
    mb_decoder_init(&d, t, skip_special, false);
    for (size_t i = 0; i < n; i++) {
        size_t before = got.len;
        mb_decoder_push(&d, ids[i], &got);
        ck_assert(mb_utf8_valid(got.at + before, got.len - before));
    }
    mb_decoder_finish(&d, &got);
    ck_assert_str_eq(mb_bytes_text(&got), mb_bytes_text(&want));
    ck_assert_uint_eq(got.len, want.len);
    mb_bytes_fini(&whole);
    mb_bytes_fini(&want);
    mb_bytes_fini(&got);
}

START_TEST(random_ids_streamed)
{
    struct mb_tokenizer *t = small_tokenizer(_i ? small_bytes() : small_characters());
    for (uint64_t k = 0; k < 4000; k++) {
        uint32_t ids[24];
        size_t n = mb_rng_u64(k, 0, 0) % 24;
        for (size_t i = 0; i < n;
             i++) { /* the last few are no tokens; half are bytes above 7f */
            uint64_t r = mb_rng_u64(k, 1, i);
            ids[i] = r % 2 ? (uint32_t) (128 + r / 2 % 128)
                           : (uint32_t) (r / 2 % (mb_tokenizer_n_vocab(t) + 4));
        }
        expect_streamed(t, ids, n, k % 2);
    }
    mb_tokenizer_free(t);
}
END_TEST

static void push_expect(struct mb_decoder *d, const char *token, const char *want)
{
    uint32_t id = MB_NO_ID;
    struct mb_bytes got = { 0 };
    ck_assert_msg(mb_tokenizer_find(d->tokenizer, token, &id), "\"%s\" is no token", token);
    mb_decoder_push(d, id, &got);
    ck_assert_str_eq(mb_bytes_text(&got), want);
    mb_bytes_fini(&got);
}

START_TEST(a_character_waits_for_its_bytes)
{
    struct mb_tokenizer *t = small_tokenizer(small_characters());
    struct mb_decoder d;
    mb_decoder_init(&d, t, true, false);
    push_expect(&d, "<s>", "");
    push_expect(&d, "\u2581hello", "hello");
    push_expect(&d, "<0xF0>", "");
    push_expect(&d, "<0x9F>", "");
    push_expect(&d, "<0xA6>", "");
    push_expect(&d, "<0x99>", "🦙");
    push_expect(&d, "\u2581", " ");
    push_expect(&d, "<0xE2>", "");
    push_expect(&d, "a",
                "\ufffd"
                "a");
    push_expect(&d, "<0xE2>", "");
    struct mb_bytes end = { 0 };
    mb_decoder_finish(&d, &end);
    ck_assert_str_eq(mb_bytes_text(&end), "\ufffd");
    mb_decoder_finish(&d, &end); /* once */
    ck_assert_uint_eq(end.len, 3);
    mb_bytes_fini(&end);
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(the_first_space_is_the_encoders)
{
    struct mb_tokenizer *t = small_tokenizer(small_characters());
    struct mb_decoder d;
    mb_decoder_init(&d, t, true, false);
    push_expect(&d, "\u2581", "");
    push_expect(&d, "\u2581", " ");
    mb_decoder_init(&d, t, true, true); /* after a prompt it is a space */
    push_expect(&d, "\u2581hello", " hello");
    mb_decoder_init(&d, t, false, false); /* a special token that is shown stands before it */
    push_expect(&d, "<s>", "<s>");
    push_expect(&d, "\u2581hello", " hello");
    mb_decoder_init(&d, t, false, false);
    push_expect(&d, "<0x20>", "");
    size_t n;
    const uint8_t *bytes = mb_tokenizer_token_bytes(t, 0, &n);
    ck_assert_uint_eq(n, strlen("<unk>"));
    ck_assert_int_eq(memcmp(bytes, "<unk>", n), 0);
    (void) mb_tokenizer_token_bytes(t, MB_NO_ID, &n);
    ck_assert_uint_eq(n, 0);
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(metaspace_decoder)
{
    for (int scheme = MB_BPE_PREPEND_NEVER; scheme <= MB_BPE_PREPEND_ALWAYS; scheme++) {
        struct mb_bpe_spec *s = mb_bpe_spec_new();
        (void) small_token(s, "\u2581", 0);
        (void) small_token(s, "a", 0);
        SMALL_STEP(s, MB_BPE_PRE_TOKENIZER, MB_BPE_METASPACE, MB_BPE_WORDS, (uint8_t) scheme,
                   "\u2581", "");
        SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_METASPACE, 0, (uint8_t) scheme, "\u2581", "");
        struct mb_tokenizer *t = small_tokenizer(s);
        struct mb_ids ids = small_encode(t, "a a", 3, 0);
        struct mb_bytes back = { 0 };
        struct mb_error err;
        mb_assert_ok(mb_tokenizer_decode(t, ids.at, ids.len, true, &back, &err), &err);
        ck_assert_str_eq(mb_bytes_text(&back), "a a");
        mb_bytes_fini(&back);
        mb_ids_fini(&ids);
        mb_tokenizer_free(t);
    }
}
END_TEST

/* An added token is plain text: "é" is not byte e9 of the alphabet. */
START_TEST(added_tokens_are_text)
{
    struct mb_bpe_spec *s = small_bytes();
    uint32_t id = small_token(s, "<é\u0120>", MB_TOKEN_ADDED);
    struct mb_tokenizer *t = small_tokenizer(s);
    struct mb_bytes back = { 0 };
    struct mb_error err;
    mb_assert_ok(mb_tokenizer_decode(t, &id, 1, true, &back, &err), &err);
    ck_assert_str_eq(mb_bytes_text(&back), "<é\u0120>");
    mb_bytes_fini(&back);
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(alphabets_of_bytes)
{
    bool seen[256] = { false };
    unsigned n = 0;
    for (uint32_t c = 0; c < 0x2000; c++) {
        uint8_t byte;
        if (mb_byte_level_byte(c, &byte)) {
            ck_assert(!seen[byte]);
            seen[byte] = true;
            n++;
            ck_assert_uint_eq(mb_byte_level_char(byte), c);
        }
    }
    ck_assert_uint_eq(n, 256);
    ck_assert_uint_eq(mb_byte_level_char(' '), 0x120); /* the well-known three */
    ck_assert_uint_eq(mb_byte_level_char('\n'), 0x10a);
    ck_assert_uint_eq(mb_byte_level_char(0xad), 0x143);
    uint8_t byte = 0;
    ck_assert(mb_byte_token((const uint8_t *) "<0xfA>", 6, &byte) && byte == 0xfa);
    ck_assert(!mb_byte_token((const uint8_t *) "<0xGA>", 6, &byte));
    ck_assert(!mb_byte_token((const uint8_t *) "<0x1>", 5, &byte));
}
END_TEST

/* The Unicode Standard, table 3-8 and its neighbours: maximal subparts. */
START_TEST(utf8_subparts)
{
    static const struct {
        const char *bytes, *want;
    } cases[] = {
        { "\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", "????????A" },
        { "\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", "????????A" },
        { "\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", "?????A??B" },
        { "\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", "????A" },
        { "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\xee\x80\x80",
          "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\xee\x80\x80" },
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        struct mb_bytes shown = { 0 };
        put_replaced((const uint8_t *) cases[k].bytes, strlen(cases[k].bytes), &shown);
        struct mb_bytes want = { 0 };
        for (const char *p = cases[k].want; *p; p++) {
            mb_bytes_put_text(&want, *p == '?' ? MB_REPLACEMENT : (char[]) { *p, 0 });
        }
        ck_assert_str_eq(mb_bytes_text(&shown), mb_bytes_text(&want));
        mb_bytes_fini(&shown);
        mb_bytes_fini(&want);
    }
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c < 0xd800 || c > 0xdfff) {
            uint8_t bytes[MB_UTF8_MAX];
            size_t n = mb_utf8_put(c, bytes);
            struct mb_utf8 u = mb_utf8_first(bytes, n);
            ck_assert(u.kind == MB_UTF8_CHAR && u.n == n && u.c == c &&
                      mb_utf8_len(*bytes) == n);
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("decode");
    TCase *t = tcase_create("decode");
    tcase_add_loop_test(t, random_ids_streamed, 0, 2);
    tcase_add_test(t, a_character_waits_for_its_bytes);
    tcase_add_test(t, the_first_space_is_the_encoders);
    tcase_add_test(t, metaspace_decoder);
    tcase_add_test(t, added_tokens_are_text);
    tcase_add_test(t, alphabets_of_bytes);
    tcase_add_test(t, utf8_subparts);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
