/* Goal:   the tokenizer of a GGUF file is the one that it was made from.
 * Method: the merges derived from Llama 2's scores against those of its tokenizer.json; the 47
 *         published texts and ids, for both models of tokenizer; small ones made here for what
 *         files say about beginning, end and kinds of tokens, and for errors. */
#include <math.h>

#include "core/import/gguf_tokenizer.h"
#include "tests/core/import/gguf_writer.h"
#include "tests/core/tokenizer/published.h"

static const char *const stems[] = { "tokenizers/llama2/ggml-vocab-llama-spm.gguf",
                                     "tokenizers/gpt2/ggml-vocab-gpt-2.gguf" };

/* The spec of a file of shared/data, or NULL without it. */
static struct mb_bpe_spec *published_spec(const char *name)
{
    const char *path = mb_data_path(name);
    if (!path) {
        return NULL;
    }
    struct mb_error err = { 0 };
    struct mb_file_map map;
    struct mb_gguf *g;
    struct mb_bpe_spec *s;
    mb_assert_ok(mb_file_map(path, &map, &err), &err);
    mb_assert_ok(mb_gguf_of_memory(map.at, map.n, &g, &err), &err);
    mb_assert_ok(mb_gguf_tokenizer(g, &s, &err), &err);
    mb_gguf_free(g);
    mb_file_unmap(&map); /* a spec stands alone */
    return s;
}

START_TEST(ids_are_the_published_ones)
{
    struct mb_bpe_spec *s = published_spec(stems[_i]);
    if (!s) {
        mb_skip("no %s", stems[_i]);
    }
    struct mb_error err = { 0 };
    struct mb_tokenizer *t;
    mb_assert_ok(mb_tokenizer_new(s, &t, &err), &err);
    mb_bpe_spec_free(s);
    struct published p;
    published_load(stems[_i], &p);
    ck_assert_uint_eq(p.n, 47);
    for (size_t i = 0; i < p.n; i++) {
        struct mb_ids ids = { 0 };
        struct mb_bytes back = { 0 };
        mb_assert_ok(mb_tokenizer_encode(t, p.texts[i], p.text_len[i], 0, SIZE_MAX, &ids, &err),
                     &err);
        ck_assert_msg(ids.len == p.ids[i].len, "text %zu \"%s\": %zu ids, published %zu", i,
                      p.texts[i], ids.len, p.ids[i].len);
        for (size_t j = 0; j < ids.len; j++) {
            ck_assert_msg(ids.at[j] == p.ids[i].at[j],
                          "text %zu \"%s\": id %zu is %u, published %u", i, p.texts[i], j,
                          ids.at[j], p.ids[i].at[j]);
        }
        mb_assert_ok(mb_tokenizer_decode(t, ids.at, ids.len, true, &back, &err), &err);
        ck_assert_str_eq(mb_bytes_text(&back), p.texts[i]);
        mb_bytes_fini(&back);
        mb_ids_fini(&ids);
    }
    published_free(&p);
    mb_tokenizer_free(t);
}
END_TEST

/* generate_merges of transformers made the merges of this tokenizer.json. */
START_TEST(merges_are_those_of_tokenizer_json)
{
    struct mb_bpe_spec *s = published_spec(stems[0]), *want;
    const char *path = s ? mb_data_path("tokenizers/llama2/tokenizer.json") : NULL;
    if (!path) {
        mb_skip("no tokenizers/llama2");
    }
    struct mb_error err = { 0 };
    mb_assert_ok(mb_tokenizer_json_read(path, NULL, NULL, NULL, &want, &err), &err);
    ck_assert_uint_eq(s->n_merges, want->n_merges);
    for (uint32_t i = 0; i < s->n_merges; i++) {
        ck_assert_msg(memcmp(&s->merges[i], &want->merges[i], sizeof s->merges[i]) == 0,
                      "merge %u is %u + %u, not %u + %u", i, s->merges[i].left,
                      s->merges[i].right, want->merges[i].left, want->merges[i].right);
    }
    ck_assert(s->bos == 1 && s->unk == 0 && s->eos.n == 1 && s->eos.at[0] == 2);
    ck_assert(s->prefix.n == 1 && s->prefix.at[0] == 1 && s->suffix.n == 0);
    ck_assert_uint_eq(s->flags, want->flags);
    mb_bpe_spec_free(s);
    mb_bpe_spec_free(want);
}
END_TEST

/* How a small file differs from a good one. */
struct small {
    const char *model, *pre, *merge;
    uint32_t bos, control; /* an id, and the type of token 3 */
    uint32_t n_types;
    float score;
};
#define GPT2(pre_)                      \
    {                                   \
        "gpt2", pre_, "a b", 3, 3, 4, 0 \
    }

static enum mb_status read_small(const struct small *how, struct mb_bpe_spec **ret,
                                 struct mb_error *err)
{
    static const char *const tokens[] = { "a", "b", "ab", "<end>" };
    struct gguf_writer w = { 0 };
    gguf_text(&w, "tokenizer.ggml.model", how->model);
    gguf_text(&w, "tokenizer.ggml.pre", how->pre);
    gguf_list(&w, "tokenizer.ggml.tokens", MB_GGUF_TEXT, 4);
    for (size_t i = 0; i < 4; i++) {
        gguf_string(&w.keys, tokens[i]);
    }
    gguf_list(&w, "tokenizer.ggml.token_type", MB_GGUF_I32, how->n_types);
    for (uint32_t i = 0; i < how->n_types; i++) {
        mb_bytes_put_u32(&w.keys, i == 3 ? how->control : 1);
    }
    gguf_list(&w, "tokenizer.ggml.scores", MB_GGUF_F32, 4);
    for (size_t i = 0; i < 4; i++) {
        mb_bytes_put_f32(&w.keys, how->score);
    }
    gguf_list(&w, "tokenizer.ggml.merges", MB_GGUF_TEXT, 1);
    gguf_string(&w.keys, how->merge);
    gguf_u32(&w, "tokenizer.ggml.bos_token_id", how->bos);
    gguf_u32(&w, "tokenizer.ggml.eos_token_id", 3);
    gguf_u32(&w, "tokenizer.ggml.eot_token_id", 2);
    struct mb_gguf *g;
    size_t n;
    uint8_t *at = gguf_finish(&w, &n);
    mb_assert_ok(mb_gguf_of_memory(at, n, &g, err), err);
    enum mb_status st = mb_gguf_tokenizer(g, ret, err);
    mb_gguf_free(g);
    free(at);
    return st;
}

static const struct {
    struct small how;
    const char *text;
    uint32_t n, ids[8];
} splits[] = {
    { GPT2("gpt-2"), "ab<end>", 2, { 2, 3 } },
    { GPT2("smollm"), "abab", 2, { 2, 2 } },
    { GPT2("llama-bpe"), "ab", 2, { 3, 2 } }, /* begins with bos when the file does not say */
    { GPT2("qwen2"), "ba", 2, { 1, 0 } },
};

START_TEST(pre_tokenizers_are_known_by_name)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s;
    struct mb_tokenizer *t;
    struct mb_ids ids = { 0 };
    mb_assert_ok(read_small(&splits[_i].how, &s, &err), &err);
    ck_assert(s->eos.n == 2 && s->eos.at[0] == 3 && s->eos.at[1] == 2);
    mb_assert_ok(mb_tokenizer_new(s, &t, &err), &err);
    mb_assert_ok(mb_tokenizer_encode(t, splits[_i].text, strlen(splits[_i].text),
                                     MB_ENCODE_PARSE_SPECIAL | MB_ENCODE_BOS_EOS, 9, &ids,
                                     &err),
                 &err);
    ck_assert_uint_eq(ids.len, splits[_i].n);
    ck_assert(memcmp(ids.at, splits[_i].ids, ids.len * sizeof *ids.at) == 0);
    mb_ids_fini(&ids);
    mb_tokenizer_free(t);
    mb_bpe_spec_free(s);
}
END_TEST

static const struct {
    struct small how;
    enum mb_status status;
    const char *says;
} bad[] = {
    { { "bert", "x", "a b", 3, 3, 4, 0 }, MB_E_UNSUPPORTED, "tokenizer.ggml.model bert" },
    { GPT2("default"), MB_E_UNSUPPORTED, "tokenizer.ggml.pre default" },
    { { "gpt2", "gpt-2", "a c", 3, 3, 4, 0 }, MB_E_FORMAT, "merges': item 0" },
    { { "gpt2", "gpt-2", "ab", 3, 3, 4, 0 }, MB_E_FORMAT, "merges': item 0" },
    { { "gpt2", "gpt-2", "", 3, 3, 4, 0 }, MB_E_FORMAT, "merges': item 0" },
    { { "gpt2", "gpt-2", "a b", 4, 3, 4, 0 }, MB_E_FORMAT, "bos_token_id': 4" },
    { { "gpt2", "gpt-2", "a b", 3, 7, 4, 0 }, MB_E_FORMAT, "token_type': item 3" },
    { { "gpt2", "gpt-2", "a b", 3, 3, 3, 0 }, MB_E_FORMAT, "token_type': 3 items" },
    { { "llama", "x", "", 3, 3, 4, NAN }, MB_E_FORMAT, "scores': item 0" },
};

START_TEST(what_is_wrong_is_named)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *s;
    enum mb_status st = read_small(&bad[_i].how, &s, &err);
    ck_assert_msg(st == bad[_i].status && strstr(err.what, bad[_i].says), "%s: %s",
                  mb_status_name(st), err.what);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("gguf_tokenizer");
    TCase *t = tcase_create("gguf_tokenizer");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, ids_are_the_published_ones, 0, 2);
    tcase_add_test(t, merges_are_those_of_tokenizer_json);
    tcase_add_loop_test(t, pre_tokenizers_are_known_by_name, 0, sizeof splits / sizeof *splits);
    tcase_add_loop_test(t, what_is_wrong_is_named, 0, sizeof bad / sizeof *bad);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
