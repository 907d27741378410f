/* Goal:   a model written as a Hugging Face folder is the model, when it is read back.
 * Method: a small model of random weights, with and without a head of its own, goes through the
 *         reader of such folders, which was tested with others' files; bad models are refused. */
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/import/hf.h"
#include "core/import/hf_write.h"
#include "core/tokenizer/tokenizer.h"
#include "core/tokenizer/train.h"
#include "tests/check_main.h"

static const char *const special[] = { "<|begin|>", "<|end|>" };
static const char text[] = "the cat and the dog and the \"bird\" \xc3\xa4";
static const char chat_template[] = "{% for m in messages %}{{ m.content }}{% endfor %}";

/* What a model points into; release_model frees it. */
static void *owned[64];
static size_t n_owned;

static void *own(size_t n, size_t size)
{
    ck_assert_uint_lt(n_owned, sizeof owned / sizeof *owned);
    void *p = mb_alloc(n, size);
    ck_assert_ptr_nonnull(p);
    owned[n_owned++] = p;
    return p;
}

static void release_model(struct mb_model *m)
{
    mb_model_unref(m);
    while (n_owned > 0) {
        mb_free(owned[--n_owned]);
    }
}

static float *numbers(size_t n, uint64_t stream)
{
    float *x = own(n, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = (float) (2 * mb_rng_unit(5, stream, i) - 1);
    }
    return x;
}

static struct mb_linear linear(uint32_t n_rows, uint32_t n_cols, uint64_t stream)
{
    return (struct mb_linear) { .kind = MB_LINEAR_F32,
                                .n_rows = n_rows,
                                .n_cols = n_cols,
                                .dense = numbers((size_t) n_rows * n_cols, stream) };
}

static struct mb_model *model(bool tied, uint32_t n_vocab)
{
    struct mb_shape shape = { .n_layers = 2,
                              .width = 24,
                              .n_heads = 4,
                              .n_kv_heads = 2,
                              .head_width = 8,
                              .ffn_width = 40,
                              .n_vocab = n_vocab,
                              .context = 64,
                              .n_planes = 8,
                              .norm_eps = 1e-5f,
                              .tied_head = tied };
    struct mb_model *m;
    struct mb_error err;
    mb_assert_ok(mb_model_new(&shape, &m, &err), &err);
    struct mb_rope_params rope = { .theta = 5000 };
    double *inv_freq = own(4, sizeof *inv_freq);
    mb_rope_frequencies(&rope, 8, inv_freq);
    m->inv_freq = inv_freq;
    m->embed = linear(n_vocab, 24, 1);
    m->head = tied ? m->embed : linear(n_vocab, 24, 2);
    m->final_norm = numbers(24, 3);
    for (uint32_t i = 0; i < 2; i++) {
        m->blocks[i].attn_norm = numbers(24, 10 + i);
        m->blocks[i].ffn_norm = numbers(24, 20 + i);
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            uint32_t rows, cols;
            mb_block_linear_size(&shape, (enum mb_block_linear) l, &rows, &cols);
            m->blocks[i].linear[l] = linear(rows, cols, 100 * (i + 1) + (uint64_t) l);
        }
    }
    mb_assert_ok(mb_model_check(m, &err), &err);
    return m;
}

static struct mb_bpe_spec *spec(void)
{
    struct mb_bpe_train o = {
        .n_vocab = 262, .special = special, .n_special = 2, .bos = 0, .eos = 1
    };
    struct mb_bpe_spec *s;
    struct mb_error err;
    mb_assert_ok(mb_bpe_train(&o, (const uint8_t *) text, strlen(text), &s, &err), &err);
    return s;
}

static const char *folder(void)
{
    static char dir[] = "hf_write_XXXXXX";
    strcpy(dir, "hf_write_XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    return dir;
}

static void remove_folder(const char *dir)
{
    static const char *const files[] = { "config.json", "generation_config.json",
                                         "model.safetensors", "tokenizer.json",
                                         "tokenizer_config.json" };
    char path[256];
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void) snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        ck_assert_int_eq(unlink(path), 0);
    }
    ck_assert_int_eq(rmdir(dir), 0); /* nothing else was left */
}

static void expect_halves(const struct mb_linear *l, const struct mb_linear *want)
{
    ck_assert_int_eq(l->kind, MB_LINEAR_F16);
    ck_assert_uint_eq(l->n_rows, want->n_rows);
    ck_assert_uint_eq(l->n_cols, want->n_cols);
    for (size_t i = 0; i < (size_t) l->n_rows * l->n_cols; i++) {
        uint16_t half;
        memcpy(&half, (const uint8_t *) l->dense + 2 * i, 2);
        ck_assert_uint_eq(half, mb_f32_to_f16(((const float *) want->dense)[i]));
    }
}

static void expect_norm(const float *norm, const float *want)
{
    for (int i = 0; i < 24; i++) {
        ck_assert(norm[i] == mb_f16_to_f32(mb_f32_to_f16(want[i])));
    }
}

static void expect_same(const struct mb_model *m, const struct mb_model *want)
{
    ck_assert_mem_eq(&m->shape, &want->shape, sizeof m->shape);
    ck_assert_mem_eq(m->inv_freq, want->inv_freq, 4 * sizeof(double));
    expect_halves(&m->embed, &want->embed);
    expect_halves(&m->head, &want->head);
    expect_norm(m->final_norm, want->final_norm);
    for (uint32_t i = 0; i < 2; i++) {
        expect_norm(m->blocks[i].attn_norm, want->blocks[i].attn_norm);
        expect_norm(m->blocks[i].ffn_norm, want->blocks[i].ffn_norm);
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            expect_halves(&m->blocks[i].linear[l], &want->blocks[i].linear[l]);
        }
    }
}

static void expect_same_tokenizer(const struct mb_hf *h, const struct mb_bpe_spec *want)
{
    struct mb_error err;
    struct mb_bytes bytes = { 0 };
    struct mb_tokenizer *a, *b;
    mb_assert_ok(mb_hf_tokenizer(h, &bytes, &err), &err);
    mb_assert_ok(mb_tokenizer_from_bytes(bytes.at, bytes.len, &a, &err), &err);
    mb_assert_ok(mb_tokenizer_new(want, &b, &err), &err);
    struct mb_ids x = { 0 }, y = { 0 };
    mb_assert_ok(mb_tokenizer_encode(a, text, strlen(text), MB_ENCODE_BOS_EOS, 100, &x, &err),
                 &err);
    mb_assert_ok(mb_tokenizer_encode(b, text, strlen(text), MB_ENCODE_BOS_EOS, 100, &y, &err),
                 &err);
    ck_assert_uint_eq(x.len, y.len);
    ck_assert_mem_eq(x.at, y.at, x.len * sizeof *x.at);
    const uint32_t *eos;
    ck_assert_uint_eq(mb_tokenizer_eos(a, &eos), 1);
    ck_assert_uint_eq(*eos, 1);
    ck_assert(mb_tokenizer_is_special(a, 0));
    mb_ids_fini(&x);
    mb_ids_fini(&y);
    mb_tokenizer_free(a);
    mb_tokenizer_free(b);
    mb_bytes_fini(&bytes);
}

START_TEST(a_folder_written_is_the_model_read)
{
    struct mb_bpe_spec *s = spec();
    for (int tied = 0; tied < 2; tied++) {
        struct mb_model *m = model(tied, s->n_tokens), *back;
        struct mb_hf_write w = { m, 5000, s, tied ? chat_template : NULL };
        struct mb_error err;
        const char *dir = folder();
        mb_assert_ok(mb_hf_write(&w, dir, &err), &err);
        struct mb_hf *h;
        mb_assert_ok(mb_hf_open(dir, &h, &err), &err);
        const char *t = mb_hf_chat_template(h);
        ck_assert_int_eq(t != NULL, tied);
        ck_assert(!t || strcmp(t, chat_template) == 0);
        expect_same_tokenizer(h, s);
        mb_assert_ok(mb_model_from_hf(h, &back, &err), &err);
        expect_same(back, m);
        mb_model_unref(back);
        remove_folder(dir);
        release_model(m);
    }
    mb_bpe_spec_free(s);
}
END_TEST

START_TEST(what_a_folder_can_not_hold_is_refused)
{
    struct mb_bpe_spec *s = spec();
    struct mb_model *m = model(true, s->n_tokens);
    struct mb_hf_write w = { m, 5000, s, NULL };
    struct mb_error err;
    const char *dir = folder();
    float *x = (float *) (uintptr_t) m->blocks[1].linear[MB_FFN_UP].dense;
    x[3] = 70000;
    ck_assert_int_eq(mb_hf_write(&w, dir, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "model.layers.1.mlp.up_proj.weight"));
    x[3] = NAN;
    ck_assert_int_eq(mb_hf_write(&w, dir, &err), MB_E_INVALID);
    x[3] = 0;
    s->stages[MB_BPE_PRE_TOKENIZER].n = 0;
    ck_assert_int_eq(mb_hf_write(&w, dir, &err), MB_E_INVALID);
    s->stages[MB_BPE_PRE_TOKENIZER].n = 1;
    ck_assert_int_eq(mb_hf_write(&w, "/proc/none/here", &err), MB_E_IO);
    mb_assert_ok(mb_hf_write(&w, dir, &err), &err);
    remove_folder(dir);
    release_model(m);
    mb_bpe_spec_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("hf_write");
    TCase *c = tcase_create("all");
    tcase_add_test(c, a_folder_written_is_the_model_read);
    tcase_add_test(c, what_a_folder_can_not_hold_is_refused);
    suite_add_tcase(s, c);
    return mb_run_suite(s);
}
