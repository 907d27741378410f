/* Goal:   a synthetic checkpoint is a valid one, of the shape that was asked for, random but
 *         the same every time, and a model that computes as trained ones do: finite
 *         activations, logits of a few units.
 * Method: shapes that leave rows, columns and groups partly used, with every K, are written,
 *         verified by the reader, measured, and run. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/checkpoint/reader.h"
#include "core/synth/synth.h"
#include "core/tokenizer/tokenizer.h"
#include "tests/check_main.h"
#include "tests/support/rig.h"

static char dir[] = "/tmp/mbool-test-XXXXXX", path[64], other[64];
static struct mb_error err;

static void setup(void)
{
    ck_assert_ptr_nonnull(mkdtemp(dir));
    (void) snprintf(path, sizeof path, "%s/a", dir);
    (void) snprintf(other, sizeof other, "%s/b", dir);
}

static void teardown(void)
{
    (void) unlink(path);
    (void) unlink(other);
    ck_assert_int_eq(rmdir(dir), 0); /* nothing else was left behind */
}

/* Widths that are no multiple of 16, 32 or the group. */
static struct mb_synth_options ragged(uint32_t n_kernels)
{
    return (struct mb_synth_options) {
        .shape = { .n_layers = 2,
                   .width = 200,
                   .n_heads = 6,
                   .n_kv_heads = 2,
                   .head_width = 34,
                   .ffn_width = 311,
                   .n_vocab = 517,
                   .context = 64,
                   .n_planes = 8,
                   .norm_eps = 1e-5f },
        .rope_theta = 10000,
        .n_kernels = n_kernels,
        .head_kernels = 4,
        .group = 64,
        .seed = 7,
    };
}

static struct mb_checkpoint *synth(const struct mb_synth_options *o)
{
    struct mb_checkpoint *c;
    mb_assert_ok(mb_synth(path, o, NULL, &err), &err);
    mb_assert_ok(mb_checkpoint_open(path, &c, &err), &err);
    mb_assert_ok(mb_checkpoint_verify(c, NULL, &err), &err);
    return c;
}

/* Every matrix: as many kernels as asked for, as many +1 as -1, and the root mean square that
 * synth.h promises. */
static void assert_random(const struct mb_checkpoint *c, const struct mb_section *s, double rms)
{
    struct mb_bool_matrix m = mb_checkpoint_bool(c, s);
    float *row = mb_alloc(s->n_cols, sizeof *row);
    double square = 0, positive = 0, n = (double) s->n_rows * s->n_cols;
    for (size_t i = 0; i < s->n_rows; i++) {
        mb_bool_row(&m, i, row);
        for (size_t j = 0; j < s->n_cols; j++) {
            square += (double) row[j] * row[j];
            positive += row[j] > 0 ? 1 : row[j] == 0 ? 0.5 : 0; /* coefficients may cancel */
        }
    }
    mb_free(row);
    double spread = sqrt(1 / n); /* of either mean, for independent numbers */
    ck_assert_msg(fabs(positive / n - 0.5) < 4 * spread, "%s: %g positive", s->name,
                  positive / n);
    ck_assert_msg(fabs(sqrt(square / n) / rms - 1) < 0.05, "%s: rms %g, wanted %g", s->name,
                  sqrt(square / n), rms);
}

START_TEST(every_number_of_kernels)
{
    struct mb_synth_options o = ragged((uint32_t) _i);
    struct mb_checkpoint *c = synth(&o);
    ck_assert_mem_eq(mb_checkpoint_shape(c), &o.shape, sizeof o.shape);
    size_t n_blocks = 0;
    for (size_t i = 0; i < mb_checkpoint_sections(c); i++) {
        const struct mb_section *s = mb_checkpoint_section(c, i);
        if (s->kind != MB_SECTION_BOOL) {
            continue;
        }
        bool in_block = strncmp(s->name, "blocks.", 7) == 0;
        bool adds = strstr(s->name, "attn_o") || strstr(s->name, "ffn_down");
        n_blocks += in_block;
        ck_assert_uint_eq(s->boolean.n_kernels, in_block ? o.n_kernels : o.head_kernels);
        ck_assert_uint_eq(s->boolean.group, 64);
        assert_random(c, s, 1 / sqrt(s->n_cols) / (adds ? sqrt(2.0 * o.shape.n_layers) : 1));
    }
    ck_assert_uint_eq(n_blocks, o.shape.n_layers * MB_BLOCK_LINEARS);
    mb_checkpoint_free(c);
}
END_TEST

START_TEST(row_groups_and_a_float16_head)
{
    struct mb_synth_options o = ragged(3);
    o.group = 0;
    o.head_kernels = 0;
    o.shape.tied_head = 1;
    struct mb_checkpoint *c = synth(&o);
    const struct mb_section *s = mb_checkpoint_find(c, "embed");
    ck_assert_int_eq(s->kind, MB_SECTION_F16);
    ck_assert_ptr_null(mb_checkpoint_find(c, "head"));
    s = mb_checkpoint_find(c, "blocks.1.ffn_down");
    ck_assert_uint_eq(s->boolean.group, 320); /* 311, in whole words */
    mb_checkpoint_free(c);
}
END_TEST

static bool same_files(void)
{
    struct mb_file_map a, b;
    mb_assert_ok(mb_file_map(path, &a, &err), &err);
    mb_assert_ok(mb_file_map(other, &b, &err), &err);
    bool same = a.n == b.n && memcmp(a.at, b.at, a.n) == 0;
    mb_file_unmap(&a);
    mb_file_unmap(&b);
    return same;
}

START_TEST(the_seed_decides_the_bytes)
{
    struct mb_synth_options o = ragged(2);
    mb_assert_ok(mb_synth(path, &o, NULL, &err), &err);
    mb_assert_ok(mb_synth(other, &o, NULL, &err), &err);
    ck_assert(same_files());
    o.seed++;
    mb_assert_ok(mb_synth(other, &o, NULL, &err), &err);
    ck_assert(!same_files());
}
END_TEST

START_TEST(computes_like_a_trained_model)
{
    struct mb_synth_options o = ragged(3);
    struct mb_checkpoint *c = synth(&o);
    struct mb_model *m;
    struct rig r;
    mb_assert_ok(mb_model_from_checkpoint(c, &m, &err), &err);
    ck_assert(rig_open(&r, m, "auto", 1, MB_KV_F16));
    enum { N = 24 };
    uint32_t tokens[N];
    float *logits = mb_alloc((size_t) N * o.shape.n_vocab, sizeof *logits);
    for (uint32_t i = 0; i < N; i++) {
        tokens[i] = i * 21 % o.shape.n_vocab;
    }
    rig_feed(&r, 0, tokens, N, logits);
    double square = 0;
    size_t n = (size_t) N * o.shape.n_vocab;
    for (size_t i = 0; i < n; i++) {
        ck_assert(isfinite(logits[i]));
        square += (double) logits[i] * logits[i];
    }
    double rms = sqrt(square / (double) n); /* 1, as the head's rows have length 1 */
    ck_assert_msg(rms > 0.7 && rms < 1.4, "rms of logits %g", rms);
    mb_free(logits);
    rig_close(&r);
    mb_model_unref(m);
}
END_TEST

START_TEST(every_id_has_words_of_its_own)
{
    struct mb_synth_options o = ragged(1);
    o.shape.n_vocab = 6000; /* beyond the words of two syllables */
    struct mb_checkpoint *c = synth(&o);
    struct mb_tokenizer *t;
    mb_assert_ok(mb_checkpoint_tokenizer(c, &t, &err), &err);
    ck_assert_uint_eq(mb_tokenizer_n_vocab(t), o.shape.n_vocab);
    uint32_t id;
    ck_assert(mb_tokenizer_find(t, "</s>", &id));
    ck_assert(mb_tokenizer_bos(t, &id));

    static const char text[] = "na\xc3\xafve \x01\n";
    struct mb_ids ids = { 0 };
    struct mb_bytes back = { 0 };
    mb_assert_ok(mb_tokenizer_encode(t, text, sizeof text - 1, 0, 64, &ids, &err), &err);
    ck_assert_uint_eq(ids.len, sizeof text - 1); /* one a byte */
    mb_assert_ok(mb_tokenizer_decode(t, ids.at, ids.len, true, &back, &err), &err);
    ck_assert_str_eq(mb_bytes_text(&back), text);

    for (uint32_t i = MB_SYNTH_VOCAB_MIN; i < o.shape.n_vocab; i++) {
        size_t n, n_next;
        const uint8_t *word = mb_tokenizer_token_bytes(t, i, &n);
        const uint8_t *next = mb_tokenizer_token_bytes(t, i + 1, &n_next);
        ck_assert(n >= 3 && word[0] == ' ');
        ck_assert(n != n_next || memcmp(word, next, n) != 0);
    }
    mb_ids_fini(&ids);
    mb_bytes_fini(&back);
    mb_tokenizer_free(t);
    mb_checkpoint_free(c);
}
END_TEST

static bool stop_at_once(void *self, const char *what, uint64_t done, uint64_t total)
{
    ck_assert(done > 0 && done <= total);
    ++*(int *) self;
    return false;
}

static bool count_up(void *self, const char *what, uint64_t done, uint64_t total)
{
    uint64_t *last = self;
    ck_assert(done > last[0] && done <= total);
    last[0] = done;
    last[1] = total;
    return true;
}

START_TEST(progress_reaches_its_total)
{
    struct mb_synth_options o = ragged(3);
    uint64_t last[2] = { 0 };
    struct mb_progress p = { count_up, last };
    mb_assert_ok(mb_synth(path, &o, &p, &err), &err);
    ck_assert_uint_eq(last[0], last[1]);

    int calls = 0;
    p = (struct mb_progress) { stop_at_once, &calls };
    ck_assert_int_eq(mb_synth(other, &o, &p, &err), MB_E_CANCELLED);
    ck_assert_int_eq(calls, 1);
    ck_assert_int_ne(access(other, F_OK), 0);
}
END_TEST

START_TEST(nonsense_is_refused)
{
    struct {
        const char *field;
        struct mb_synth_options o;
    } cases[] = { { "n_kernels", ragged(0) },    { "n_kernels", ragged(9) },
                  { "group", ragged(2) },        { "n_vocab", ragged(2) },
                  { "head_kernels", ragged(2) }, { "rope_theta", ragged(2) },
                  { "head_width", ragged(2) } };
    cases[2].o.group = 48;
    cases[3].o.shape.n_vocab = MB_SYNTH_VOCAB_MIN - 1;
    cases[4].o.head_kernels = 9;
    cases[5].o.rope_theta = NAN;
    cases[6].o.shape.head_width = 33;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(mb_synth(path, &cases[i].o, NULL, &err), MB_E_INVALID);
        ck_assert_msg(strstr(err.what, cases[i].field), "%s: %s", cases[i].field, err.what);
        ck_assert_int_ne(access(path, F_OK), 0);
    }
}
END_TEST

START_TEST(known_models_have_published_sizes)
{
    static const struct {
        const char *name;
        double weights; /* as published, in 10^9, without norms and biases */
    } published[] = { { "tinyllama-1.1b", 1.1000 },
                      { "llama-7b", 6.7382 },
                      { "llama3-8b", 8.0300 },
                      { "qwen2.5-0.5b", 0.4939 } };
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        const struct mb_synth_model *m = mb_synth_model_find(published[i].name);
        ck_assert_ptr_nonnull(m);
        ck_assert_ptr_eq(mb_synth_model_at(i), m);
        mb_assert_ok(mb_shape_check(&m->shape, &err), &err);
        double n = (double) m->shape.n_vocab * m->shape.width * (m->shape.tied_head ? 1 : 2);
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            uint32_t n_rows, n_cols;
            mb_block_linear_size(&m->shape, (enum mb_block_linear) l, &n_rows, &n_cols);
            n += (double) n_rows * n_cols * m->shape.n_layers;
        }
        ck_assert_msg(fabs(n * 1e-9 / published[i].weights - 1) < 1e-3, "%s: %g weights",
                      m->name, n);
    }
    ck_assert_ptr_null(mb_synth_model_at(sizeof published / sizeof published[0]));
    ck_assert_ptr_null(mb_synth_model_find("llama-7"));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("synth");
    TCase *t = tcase_create("synth");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, every_number_of_kernels, 1, MB_KERNELS_MAX + 1);
    tcase_add_test(t, row_groups_and_a_float16_head);
    tcase_add_test(t, the_seed_decides_the_bytes);
    tcase_add_test(t, computes_like_a_trained_model);
    tcase_add_test(t, every_id_has_words_of_its_own);
    tcase_add_test(t, progress_reaches_its_total);
    tcase_add_test(t, nonsense_is_refused);
    tcase_add_test(t, known_models_have_published_sizes);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
