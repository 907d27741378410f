/* Goal:   real tokenizers give the ids that others published, and give every text back.
 * Method: the 47 texts of llama.cpp's vocabulary tests against its ids, for both families; for
 * these
 *         and the other tokenizers at hand, decode(encode(x)) == x and streaming equals the
 *         whole. */
#include "core/base/rng.h"
#include "core/tokenizer/unicode.h"
#include "core/tokenizer/utf8.h"
#include "tests/core/tokenizer/published.h"

static const struct {
    const char *folder, *stem;
} families[] = {
    { "tokenizers/llama2", "tokenizers/llama2/ggml-vocab-llama-spm.gguf" },
    { "tokenizers/gpt2", "tokenizers/gpt2/ggml-vocab-gpt-2.gguf" },
};

START_TEST(ids_are_the_published_ones)
{
    struct mb_tokenizer *t = published_tokenizer(families[_i].folder);
    if (!t) {
        mb_skip("no %s", families[_i].folder);
    }
    struct published p;
    published_load(families[_i].stem, &p);
    ck_assert_uint_eq(p.n, 47);
    for (size_t i = 0; i < p.n; i++) {
        struct mb_error err = { 0 };
        struct mb_ids ids = { 0 };
        mb_assert_ok(mb_tokenizer_encode(t, p.texts[i], p.text_len[i], 0, SIZE_MAX, &ids, &err),
                     &err);
        ck_assert_msg(ids.len == p.ids[i].len, "text %zu \"%s\": %zu ids, published %zu", i,
                      p.texts[i], ids.len, p.ids[i].len);
        for (size_t j = 0; j < ids.len; j++) {
            ck_assert_msg(ids.at[j] == p.ids[i].at[j],
                          "text %zu \"%s\": id %zu is %u, published %u", i, p.texts[i], j,
                          ids.at[j], p.ids[i].at[j]);
        }
        struct mb_bytes back = { 0 };
        mb_assert_ok(mb_tokenizer_decode(t, ids.at, ids.len, true, &back, &err), &err);
        ck_assert_msg(back.len == p.text_len[i] &&
                          memcmp(back.at ? (char *) back.at : "", p.texts[i], back.len) == 0,
                      "text %zu: \"%s\" came back as \"%s\"", i, p.texts[i],
                      mb_bytes_text(&back));
        mb_bytes_fini(&back);
        mb_ids_fini(&ids);
    }
    published_free(&p);
    mb_tokenizer_free(t);
}
END_TEST

static const char *const folders[] = { "tokenizers/llama2", "tokenizers/gpt2",
                                       "tokenizers/tiny_bpe/tiny_bpe", "models/stories260K",
                                       "models/stories3M" };
enum { TINY = 2, FOLDERS = sizeof folders / sizeof *folders };

static void expect_streamed(const struct mb_tokenizer *t, const uint32_t *ids, size_t n,
                            const uint8_t *want, size_t n_want)
{
    struct mb_decoder d;
    struct mb_bytes got = { 0 };
    mb_decoder_init(&d, t, true, false);
    for (size_t i = 0; i < n; i++) {
        size_t before = got.len;
        mb_decoder_push(&d, ids[i], &got);
        ck_assert(mb_utf8_valid(got.at + before, got.len - before));
    }
    mb_decoder_finish(&d, &got);
    ck_assert_uint_eq(got.len, n_want);
    ck_assert(n_want == 0 || memcmp(got.at, want, n_want) == 0);
    mb_bytes_fini(&got);
}

/* tiny_bpe normalizes, and has tokens for ASCII's printable bytes and the newline only: the
 * rest is dropped, for it has no token for what is unknown. */
static void put_tiny(const uint8_t *text, size_t n, struct mb_bytes *ret)
{
    struct mb_bytes normal = { 0 };
    mb_normal_form(MB_NFC, text, n, &normal);
    for (size_t i = 0; i < normal.len; i++) {
        if (normal.at[i] == '\n' || (normal.at[i] >= ' ' && normal.at[i] < 0x7f)) {
            mb_bytes_put_u8(ret, normal.at[i]);
        }
    }
    mb_bytes_fini(&normal);
}

/* Encodes and decodes text, whole and streamed: it comes back. */
static void expect_back(const struct mb_tokenizer *t, bool tiny, const uint8_t *text, size_t n)
{
    struct mb_error err = { 0 };
    struct mb_ids ids = { 0 };
    struct mb_bytes want = { 0 }, back = { 0 };
    if (tiny) {
        put_tiny(text, n, &want);
    } else {
        mb_bytes_put(&want, text, n);
    }
    mb_assert_ok(mb_tokenizer_encode(t, (const char *) text, n, 0, SIZE_MAX, &ids, &err), &err);
    mb_assert_ok(mb_tokenizer_decode(t, ids.at, ids.len, true, &back, &err), &err);
    ck_assert_uint_eq(back.len, want.len);
    ck_assert(back.len == 0 || memcmp(back.at, want.at, back.len) == 0);
    expect_streamed(t, ids.at, ids.len, back.at, back.len);
    mb_bytes_fini(&want);
    mb_bytes_fini(&back);
    mb_ids_fini(&ids);
}

START_TEST(texts_come_back)
{
    struct mb_tokenizer *t = published_tokenizer(folders[_i]);
    if (!t) {
        mb_skip("no %s", folders[_i]);
    }
    struct published p;
    published_load(families[0].stem, &p);
    for (size_t i = 0; i < p.n; i++) {
        expect_back(t, _i == TINY, (const uint8_t *) p.texts[i], p.text_len[i]);
    }
    published_free(&p);
    size_t n;
    char *stories = published_file("text/tinystories_valid.txt", &n);
    expect_back(t, _i == TINY, (const uint8_t *) stories, n);
    free(stories);
    mb_tokenizer_free(t);
}
END_TEST

START_TEST(any_ids_stream)
{
    struct mb_tokenizer *t = published_tokenizer(folders[_i]);
    if (!t) {
        mb_skip("no %s", folders[_i]);
    }
    for (uint64_t k = 0; k < 2000; k++) {
        uint32_t ids[32];
        struct mb_bytes whole = { 0 }, shown = { 0 };
        struct mb_error err = { 0 };
        for (uint64_t i = 0; i < 32; i++) { /* half are among the first, where the bytes are */
            uint64_t r = mb_rng_u64(k, 3, i);
            ids[i] = (uint32_t) (r / 2 % (r % 2 ? 300 : mb_tokenizer_n_vocab(t)));
        }
        mb_assert_ok(mb_tokenizer_decode(t, ids, 32, true, &whole, &err), &err);
        for (size_t i = 0; i < whole.len;) {
            struct mb_utf8 u = mb_utf8_first(whole.at + i, whole.len - i);
            bool good = u.kind == MB_UTF8_CHAR;
            mb_bytes_put(&shown, good ? (const char *) whole.at + i : MB_REPLACEMENT,
                         good ? u.n : 3);
            i += u.n;
        }
        expect_streamed(t, ids, 32, shown.at, shown.len);
        mb_bytes_fini(&whole);
        mb_bytes_fini(&shown);
    }
    mb_tokenizer_free(t);
}
END_TEST

/* What the folders declare, and that it is used only when asked for. */
START_TEST(ends_of_real_models)
{
    struct mb_tokenizer *t = published_tokenizer("models/stories3M");
    struct mb_tokenizer *g = published_tokenizer("tokenizers/gpt2");
    if (!t || !g) {
        mb_skip("no models/stories3M, tokenizers/gpt2");
    }
    struct mb_error err = { 0 };
    struct mb_ids ids = { 0 };
    uint32_t bos = 0;
    const uint32_t *eos;
    ck_assert(mb_tokenizer_bos(t, &bos) && bos == 1);
    ck_assert(mb_tokenizer_eos(t, &eos) == 1 && eos[0] == 2);
    mb_assert_ok(mb_tokenizer_encode(t, "</s>", 4, MB_ENCODE_BOS_EOS | MB_ENCODE_PARSE_SPECIAL,
                                     9, &ids, &err),
                 &err);
    ck_assert(ids.len == 2 && ids.at[0] == 1 && ids.at[1] == 2);
    ids.len = 0;
    mb_assert_ok(mb_tokenizer_encode(t, "</s>", 4, 0, 9, &ids, &err), &err);
    for (size_t i = 0; i < ids.len; i++) {
        ck_assert(!mb_tokenizer_is_special(t, ids.at[i]));
    }
    ids.len = 0;
    mb_assert_ok(
        mb_tokenizer_encode(g, "a<|endoftext|>", 14, MB_ENCODE_PARSE_SPECIAL, 9, &ids, &err),
        &err);
    ck_assert(ids.len == 2 && ids.at[1] == 50256);
    mb_ids_fini(&ids);
    mb_tokenizer_free(t);
    mb_tokenizer_free(g);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("published");
    TCase *t = tcase_create("published");
    tcase_add_loop_test(t, ids_are_the_published_ones, 0, sizeof families / sizeof *families);
    tcase_add_loop_test(t, texts_come_back, 0, FOLDERS);
    tcase_add_loop_test(t, any_ids_stream, 0, FOLDERS);
    tcase_add_test(t, ends_of_real_models);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
