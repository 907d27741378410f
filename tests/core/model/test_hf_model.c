/* Goal:   the float model computes what other programs say of the same weights.
 * Method: the published greedy ids and logits of two trained models (golden_greedy.json,
 *         float64); and for two architectures with random weights, rope scaling and a sliding
 *         window, the float64 forward pass of tests/support, with rope frequencies recomputed
 *         here. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/import/hf.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/check_main.h"
#include "tests/support/reference.h"
#include "tests/support/rig.h"

/* The folder of a model, or NULL where the real models are not. */
static struct mb_hf *open_folder(const char *name)
{
    char config[256], dir[4096];
    (void) snprintf(config, sizeof config, "models/%s/config.json", name);
    const char *path = mb_data_path(config);
    if (!path) {
        return NULL;
    }
    (void) snprintf(dir, sizeof dir, "%.*s", (int) (strlen(path) - strlen("/config.json")),
                    path);
    struct mb_error err = { 0 };
    struct mb_hf *hf = NULL;
    mb_assert_ok(mb_hf_open(dir, &hf, &err), &err);
    return hf;
}

static struct mb_model *open_model(const char *name)
{
    struct mb_hf *hf = open_folder(name);
    struct mb_error err = { 0 };
    struct mb_model *m = NULL;
    if (hf) {
        mb_assert_ok(mb_model_from_hf(hf, &m, &err), &err);
    }
    return m;
}

static uint32_t ids_of(const json_t *list, uint32_t *ret)
{
    size_t n = json_array_size(list);
    ck_assert_uint_le(n, RIG_POSITIONS_MAX);
    for (size_t i = 0; i < n; i++) {
        ret[i] = (uint32_t) json_integer_value(json_array_get(list, i));
    }
    return (uint32_t) n;
}

static void compare_top(const json_t *top, const float *logits)
{
    const json_t *pair;
    size_t i;
    json_array_foreach (top, i, pair) {
        double want = json_number_value(json_array_get(pair, 1));
        json_int_t id = json_integer_value(json_array_get(pair, 0));
        ck_assert_msg(fabs((double) logits[id] - want) <= 1e-3, "logit of %d: %f, not %f",
                      (int) id, (double) logits[id], want);
    }
}

static void run_case(const struct mb_model *m, const json_t *c)
{
    static uint32_t prompt[RIG_POSITIONS_MAX], want[RIG_POSITIONS_MAX];
    uint32_t n_prompt = ids_of(json_object_get(c, "prompt_ids"), prompt);
    uint32_t n_want = ids_of(json_object_get(c, "greedy_ids"), want), v = m->shape.n_vocab;
    double gap = json_number_value(json_object_get(c, "min_top1_top2_gap"));
    ck_assert_double_gt(gap, 2e-3); /* wide enough for the ids to be exact in float32 */
    float *logits = calloc((size_t) n_prompt * v, sizeof *logits);
    ck_assert_ptr_nonnull(logits);
    struct rig r;
    ck_assert(rig_open(&r, m, "auto", 2, MB_KV_F32));
    rig_feed(&r, 0, prompt, n_prompt, logits);
    const float *last = logits + (size_t) (n_prompt - 1) * v;
    compare_top(json_object_get(c, "first_top10"), last);
    for (uint32_t i = 0; i < n_want; i++) {
        uint32_t token = rig_argmax(last, v);
        ck_assert_msg(token == want[i], "token %u is %u, not %u", (unsigned) i,
                      (unsigned) token, (unsigned) want[i]);
        rig_feed(&r, 0, &token, 1, logits);
        last = logits;
    }
    rig_close(&r);
    free(logits);
}

static const char *const trained[] = { "stories260K", "stories3M" };

START_TEST(greedy_ids_and_logits_are_the_published_ones)
{
    const char *golden = mb_data_path("models/golden_greedy.json");
    if (!golden) {
        mb_skip("models/golden_greedy.json is not here");
    }
    json_t *root = json_load_file(golden, 0, NULL);
    struct mb_model *m = open_model(trained[_i]);
    ck_assert(root && m);
    const json_t *cases = json_object_get(json_object_get(root, trained[_i]), "cases"), *c;
    ck_assert_uint_gt(json_array_size(cases), 0);
    size_t i;
    json_array_foreach (cases, i, c) {
        run_case(m, c);
    }
    mb_model_unref(m);
    json_decref(root);
}
END_TEST

/* Appends the greedy continuation of BOS, n tokens in all. */
static void greedy(const struct mb_model *m, uint32_t bos, uint32_t n, uint32_t *ret)
{
    struct rig r;
    float *logits = calloc(m->shape.n_vocab, sizeof *logits);
    ck_assert_ptr_nonnull(logits);
    ck_assert(rig_open(&r, m, "auto", 1, MB_KV_F32));
    for (uint32_t i = 0, token = bos; i < n; i++) {
        rig_feed(&r, 0, &token, 1, logits);
        ret[i] = token = rig_argmax(logits, m->shape.n_vocab);
    }
    rig_close(&r);
    free(logits);
}

START_TEST(the_authors_text_of_200_steps)
{
    enum { STEPS = 200 };
    const char *path =
        mb_data_path("models/stories260K/upstream_expected_temperature0_200steps.txt");
    if (!path) {
        mb_skip("models/stories260K is not here");
    }
    static char want[4096];
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    want[fread(want, 1, sizeof want - 1, f)] = '\0';
    (void) fclose(f);

    struct mb_error err = { 0 };
    struct mb_hf *hf = open_folder("stories260K");
    struct mb_model *m = NULL;
    struct mb_tokenizer *t = NULL;
    struct mb_bytes spec = { 0 }, text = { 0 };
    mb_assert_ok(mb_hf_tokenizer(hf, &spec, &err), &err);
    mb_assert_ok(mb_tokenizer_from_bytes(spec.at, spec.len, &t, &err), &err);
    mb_assert_ok(mb_model_from_hf(hf, &m, &err), &err);
    uint32_t bos, ids[STEPS];
    ck_assert(mb_tokenizer_bos(t, &bos));
    greedy(m, bos, STEPS, ids);
    mb_assert_ok(mb_tokenizer_decode(t, ids, STEPS, true, &text, &err), &err);
    ck_assert_str_eq(mb_bytes_text(&text), want);
    mb_bytes_fini(&spec);
    mb_bytes_fini(&text);
    mb_tokenizer_free(t);
    mb_model_unref(m);
}
END_TEST

/* Llama 3.1's frequencies, by wavelengths as its authors write it. */
static void llama3_frequencies(double *ret, size_t head_width)
{
    const double theta = 500000, factor = 8, low = 1, high = 4, context = 8192;
    for (size_t i = 0; i < head_width / 2; i++) {
        double f = 1 / pow(theta, 2.0 * (double) i / (double) head_width);
        double wavelength = 2 * acos(-1) / f;
        double smooth = (context / wavelength - low) / (high - low);
        ret[i] = wavelength < context / high  ? f
                 : wavelength > context / low ? f / factor
                                              : (1 - smooth) * f / factor + smooth * f;
    }
}

static void plain_frequencies(double *ret, size_t head_width)
{
    for (size_t i = 0; i < head_width / 2; i++) {
        ret[i] = 1 / pow(10000, 2.0 * (double) i / (double) head_width);
    }
}

static const struct {
    const char *name;
    uint32_t window;
    void (*frequencies)(double *ret, size_t head_width);
} untrained[] = {
    { "tiny_llama3", 0, llama3_frequencies },
    { "tiny_mistral", 8, plain_frequencies },
};

enum { N = 100 }; /* four blocks of the cache, and many windows */

START_TEST(architectures_agree_with_float64)
{
    struct mb_model *m = open_model(untrained[_i].name);
    if (!m) {
        mb_skip("models/%s is not here", untrained[_i].name);
    }
    ck_assert_uint_eq(m->shape.window, untrained[_i].window);
    ck_assert_int_eq(m->embed.kind, MB_LINEAR_BF16);
    double inv_freq[64];
    untrained[_i].frequencies(inv_freq, m->shape.head_width);
    for (uint32_t i = 0; i < m->shape.head_width / 2; i++) {
        ck_assert_double_eq_tol(m->inv_freq[i], inv_freq[i], 1e-12);
    }
    size_t v = m->shape.n_vocab;
    uint32_t tokens[N];
    for (uint32_t i = 0; i < N; i++) {
        tokens[i] = (i * 37 + i * i) % m->shape.n_vocab;
    }
    float *got = calloc(N * v, sizeof *got);
    double *want = calloc(N * v, sizeof *want), size = 0;
    ck_assert(got && want);
    reference_logits(m, tokens, N, false, want);
    struct rig r;
    ck_assert(rig_open(&r, m, "auto", 2, MB_KV_F32));
    for (uint32_t at = 0, n; at < N; at += n) { /* in pieces, so that the cache matters */
        n = at % 3 == 0 ? 23 : 10;
        n = n < N - at ? n : N - at;
        rig_feed(&r, 0, tokens + at, n, got + at * v);
    }
    for (size_t i = 0; i < N * v; i++) {
        size = fmax(size, fabs(want[i]));
    }
    for (size_t i = 0; i < N * v; i++) {
        ck_assert_msg(fabs((double) got[i] - want[i]) <= 2e-6 * size, "logit %zu: %g, not %g",
                      i, (double) got[i], want[i]);
    }
    rig_close(&r);
    free(got);
    free(want);
    mb_model_unref(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hf_model");
    TCase *t = tcase_create("float models");
    tcase_add_loop_test(t, greedy_ids_and_logits_are_the_published_ones, 0, 2);
    tcase_add_test(t, the_authors_text_of_200_steps);
    tcase_add_loop_test(t, architectures_agree_with_float64, 0, 2);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
