/* Goal:   real tokenizers give the ids that others published, and give every text back.
 * Method: the 47 texts of llama.cpp's vocabulary tests against its ids, for both families; for these
 *         and the other tokenizers at hand, decode(encode(x)) == x and streaming equals the whole. */
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
            ck_assert_msg(ids.at[j] == p.ids[i].at[j], "text %zu \"%s\": id %zu is %u, published %u",
                          i, p.texts[i], j, ids.at[j], p.ids[i].at[j]);
        }
        struct mb_bytes back = { 0 };
        mb_assert_ok(mb_tokenizer_decode(t, ids.at, ids.len, true, &back, &err), &err);
        ck_assert_msg(back.len == p.text_len[i] && memcmp(back.at ? (char *) back.at : "",
                                                          p.texts[i], back.len) == 0,
                      "text %zu: \"%s\" came back as \"%s\"", i, p.texts[i], mb_bytes_text(&back));
        mb_bytes_fini(&back);
        mb_ids_fini(&ids);
    }
    published_free(&p);
    mb_tokenizer_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("published");
    TCase *t = tcase_create("published");
    tcase_add_loop_test(t, ids_are_the_published_ones, 0, sizeof families / sizeof *families);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
