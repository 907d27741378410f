/* Goal:   a spec is stored and read back as it was, and nothing else is believed.
 * Method: round trips of both families; every cut and every changed byte of the stored form;
 * each field
 *         made wrong in turn, with the message that names it. */
#include "core/tokenizer/vocabulary.h"
#include "tests/core/tokenizer/small.h"

static struct mb_bytes stored(struct mb_bpe_spec *s)
{
    struct mb_bytes b = { 0 };
    mb_bpe_spec_write(s, &b);
    ck_assert(!b.failed);
    return b;
}

static struct mb_bpe_spec *spec_of(int family)
{
    return family ? small_bytes() : small_characters();
}

START_TEST(round_trip)
{
    struct mb_bpe_spec *s = spec_of(_i);
    struct mb_bytes first = stored(s);
    struct mb_bpe_spec *again = NULL;
    struct mb_error err = { 0 };
    mb_assert_ok(mb_bpe_spec_read(first.at, first.len, &again, &err), &err);
    struct mb_bytes second = stored(again);
    ck_assert_uint_eq(first.len, second.len);
    ck_assert_int_eq(memcmp(first.at, second.at, first.len), 0);

    struct mb_tokenizer *t = NULL;
    mb_assert_ok(mb_tokenizer_from_bytes(first.at, first.len, &t, &err), &err);
    ck_assert_uint_eq(mb_tokenizer_n_vocab(t), s->n_tokens);
    SMALL_EXPECT(t, "hello", 0, _i ? "hello" : "\u2581hello");
    mb_tokenizer_free(t);
    mb_bytes_fini(&first);
    mb_bytes_fini(&second);
    mb_bpe_spec_free(again);
    mb_bpe_spec_free(s);
}
END_TEST

START_TEST(every_cut_is_refused)
{
    struct mb_bpe_spec *s = spec_of(_i), *ret = NULL;
    struct mb_bytes b = stored(s);
    for (size_t n = 0; n < b.len; n++) {
        struct mb_error err = { 0 };
        uint8_t *exact = malloc(n ? n : 1);
        memcpy(exact, b.at, n);
        enum mb_status st = mb_bpe_spec_read(exact, n, &ret, &err);
        ck_assert_msg(st == MB_E_FORMAT && strncmp(err.what, "tokenizer: ", 11) == 0,
                      "cut at %zu: %d, %s", n, st, err.what);
        free(exact);
    }
    struct mb_error err = { 0 };
    mb_bytes_put_u8(&b, 0);
    ck_assert_int_eq(mb_bpe_spec_read(b.at, b.len, &ret, &err), MB_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(err.what, "after the end"));
    ck_assert_ptr_null(ret);
    mb_bytes_fini(&b);
    mb_bpe_spec_free(s);
}
END_TEST

/* Whatever a changed byte makes of it: refused, or stored just so, and usable. */
START_TEST(every_changed_byte_is_survived)
{
    static const uint8_t values[] = { 0, 1, 0x7f, 0x80, 0xff };
    struct mb_bpe_spec *s = spec_of(_i);
    struct mb_bytes b = stored(s);
    for (size_t i = 0; i < b.len; i++) {
        uint8_t before = b.at[i];
        for (size_t k = 0; k < sizeof values; k++) {
            struct mb_error err = { 0 };
            struct mb_tokenizer *t = NULL;
            b.at[i] = values[k];
            if (mb_tokenizer_from_bytes(b.at, b.len, &t, &err) == MB_OK) {
                struct mb_ids ids = { 0 };
                (void) mb_tokenizer_encode(t, "hello</s> \n", 11, MB_ENCODE_PARSE_SPECIAL, 1000,
                                           &ids, &err);
                mb_ids_fini(&ids);
                mb_tokenizer_free(t);
            } else {
                ck_assert(err.what[0] != '\0');
            }
        }
        b.at[i] = before;
    }
    mb_bytes_fini(&b);
    mb_bpe_spec_free(s);
}
END_TEST

/* Offsets of fields in the stored header. */
enum { MAGIC = 0, VERSION = 4, FLAGS = 8, UNK = 12, BOS = 16, N_TOKENS = 20, N_MERGES = 24 };

static const struct {
    size_t offset;
    uint32_t value;
    const char *what;
} headers[] = {
    { MAGIC, 0, "magic" },
    { VERSION, 2, "version 2 is not supported; supported: 1" },
    { VERSION, 0, "version" },
    { FLAGS, 8, "flags" },
    { UNK, 100000, "unk: 100000 is no token" },
    { BOS, 0xfffffffe, "bos" },
    { N_TOKENS, UINT32_MAX, "n_tokens" },
    { N_TOKENS, 1u << 20, "n_tokens" }, /* allowed, but not in so short a file */
    { N_TOKENS, (1u << 20) + 1, "n_tokens" },
    { N_MERGES, UINT32_MAX, "n_merges" },
    { N_MERGES, 1u << 22, "n_merges" },
};

START_TEST(headers_are_checked)
{
    struct mb_bpe_spec *s = spec_of(0), *ret = NULL;
    struct mb_bytes b = stored(s);
    struct mb_error err = { 0 };
    memcpy(b.at + headers[_i].offset, &headers[_i].value, 4);
    ck_assert_int_ne(mb_bpe_spec_read(b.at, b.len, &ret, &err), MB_OK);
    ck_assert_msg(strstr(err.what, headers[_i].what), "%s: %s", headers[_i].what, err.what);
    mb_bytes_fini(&b);
    mb_bpe_spec_free(s);
}
END_TEST

static void refuse(struct mb_bpe_spec *s, const char *what)
{
    struct mb_error err = { 0 };
    struct mb_tokenizer *t = NULL;
    ck_assert_int_ne(mb_tokenizer_new(s, &t, &err), MB_OK);
    ck_assert_msg(strstr(err.what, what), "%s: %s", what, err.what);
    ck_assert_ptr_null(t);
    mb_bpe_spec_free(s);
}

START_TEST(vocabularies_are_checked)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s = spec_of(0);
    s->merges[0].result = s->merges[1].result;
    refuse(s, "merge 0: its result");
    s = spec_of(0);
    s->merges[3].result = small_id(s, "\u2581hello"); /* begins with what it should be */
    refuse(s, "merge 3: its result");
    s = spec_of(0);
    s->merges[2].left = MB_NO_ID;
    refuse(s, "merge 2: of an id");
    s = spec_of(0);
    (void) small_token(s, "a", 0);
    refuse(s, "the same text");
    s = spec_of(0);
    (void) small_token(s, "\xff", 0);
    refuse(s, "not UTF-8");
    s = spec_of(0);
    s->tokens[5].flags |= MB_TOKEN_SPECIAL;
    refuse(s, "token 5: flags");
    s = spec_of(0);
    (void) small_token(s, "", MB_TOKEN_ADDED);
    refuse(s, "without text");
    s = spec_of(0);
    mb_assert_ok(mb_bpe_spec_token(s, 5000, "far", 3, 0, &err), &err); /* leaves holes */
    mb_assert_ok(mb_bpe_ids_add(&s->eos, 4999, &err), &err);
    refuse(s, "eos: 4999 is no token");
    s = spec_of(0);
    ck_assert_int_eq(mb_bpe_spec_token(s, MB_BPE_TOKENS_MAX, "x", 1, 0, &err), MB_E_LIMIT);
    mb_bpe_spec_free(s);
}
END_TEST

START_TEST(steps_are_checked)
{
    struct mb_bpe_spec *s = spec_of(0);
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_FUSE, 0, 0, "", "");
    refuse(s, "normalizer: no step of kind");
    s = spec_of(0);
    SMALL_STEP(s, MB_BPE_NORMALIZER, MB_BPE_REPLACE, 0, 0, "", "x");
    refuse(s, "Replace: pattern");
    s = spec_of(0);
    SMALL_STEP(s, MB_BPE_PRE_TOKENIZER, MB_BPE_SPLIT, 0, MB_BPE_PREPEND_FIRST, "x", "");
    refuse(s, "Split: no mode");
    s = spec_of(1);
    SMALL_STEP(s, MB_BPE_PRE_TOKENIZER, MB_BPE_DIGITS, 0, 0, "", "");
    refuse(s, "only as the last step");
    s = spec_of(0);
    SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_REPLACE, 0, 0, "x", "");
    refuse(s, "Replace after Fuse");
    s = spec_of(0);
    struct mb_bpe_step strip = { .kind = MB_BPE_STRIP, .count_start = 2 };
    small_step(s, MB_BPE_DECODER, strip, "", " ");
    refuse(s, "Strip");
    s = spec_of(0);
    struct mb_error err;
    while (s->stages[MB_BPE_DECODER].n < MB_BPE_STEPS_MAX) {
        SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_FUSE, 0, 0, "", "");
    }
    ck_assert_int_eq(mb_bpe_spec_step(s, MB_BPE_DECODER, strip, &err), MB_E_LIMIT);
    mb_bpe_spec_free(s);
}
END_TEST

/* A decoder that makes much of each token is refused before it fills the memory. */
START_TEST(decoders_are_bounded)
{
    char many[65] = "";
    memset(many, 'a', 64);
    struct mb_bpe_spec *s = small_bytes();
    for (int i = 0; i < 12; i++) {
        SMALL_STEP(s, MB_BPE_DECODER, MB_BPE_REPLACE, 0, 0, "a", many);
    }
    refuse(s, "its decoder makes");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("spec");
    TCase *t = tcase_create("spec");
    tcase_add_loop_test(t, round_trip, 0, 2);
    tcase_add_loop_test(t, every_cut_is_refused, 0, 2);
    tcase_add_loop_test(t, every_changed_byte_is_survived, 0, 2);
    tcase_add_loop_test(t, headers_are_checked, 0, sizeof headers / sizeof *headers);
    tcase_add_test(t, vocabularies_are_checked);
    tcase_add_test(t, steps_are_checked);
    tcase_add_test(t, decoders_are_bounded);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
