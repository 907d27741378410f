/* Goal:   a model that passes mb_model_check has everything of the right size, and whatever is
 *         missing or misshapen is named; references free it once.
 * Method: take a good model, break one thing at a time. */
#include "core/model/model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/checkpoint/reader.h"
#include "tests/check_main.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

static void expect(const struct mb_model *m, const char *says)
{
    struct mb_error err = { 0 };
    ck_assert_int_eq(mb_model_check(m, &err), MB_E_FORMAT);
    ck_assert_msg(strstr(err.what, says), "'%s' does not say '%s'", err.what, says);
}

START_TEST(what_is_missing_is_named)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 1);
    const void **views[] = {
        (const void **) &m->final_norm,
        (const void **) &m->inv_freq,
        (const void **) &m->blocks[1].attn_norm,
        (const void **) &m->blocks[0].ffn_norm,
    };
    const char *names[] = { "final_norm", "rope.inv_freq", "blocks.1.attn_norm",
                            "blocks.0.ffn_norm" };
    for (size_t i = 0; i < sizeof views / sizeof views[0]; i++) {
        const void *before = *views[i];
        *views[i] = NULL;
        expect(m, names[i]);
        *views[i] = before;
    }
    struct mb_linear *linears[] = { &m->embed, &m->head, &m->blocks[1].linear[MB_FFN_DOWN] };
    const char *linear_names[] = { "embed is missing", "head is missing",
                                   "blocks.1.ffn_down is missing" };
    for (size_t i = 0; i < 3; i++) {
        struct mb_linear before = *linears[i];
        *linears[i] = (struct mb_linear) { 0 };
        expect(m, linear_names[i]);
        *linears[i] = (struct mb_linear) { .kind = MB_LINEAR_F16,
                                           .n_rows = before.n_rows,
                                           .n_cols = before.n_cols };
        expect(m, linear_names[i]);
        *linears[i] = before;
    }
    ck_assert_int_eq(mb_model_check(m, NULL), MB_OK);
    mb_model_unref(m);
}
END_TEST

START_TEST(what_is_misshapen_is_named)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 1);
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        struct mb_linear *w = &m->blocks[0].linear[l], before = *w;
        const char *name = mb_block_linear_name((enum mb_block_linear) l);
        w->n_rows++;
        expect(m, name);
        *w = before;
        w->n_cols--;
        expect(m, name);
        *w = before;
        w->boolean.shape.n_cols += 32;
        expect(m, name);
        *w = before;
    }
    m->blocks[1].linear[MB_ATTN_V].boolean.shape.group = 32;
    expect(m, "blocks.1.attn_v has groups of 32");
    m->blocks[1].linear[MB_ATTN_V].boolean.shape.group = 64;
    double odd[] = { 0.1, NAN, 0, 0, 0, 0, 0, 0 };
    m->inv_freq = odd;
    expect(m, "rope.inv_freq[1]");
    odd[1] = -1;
    expect(m, "rope.inv_freq[1]");
    odd[1] = 1e9;
    expect(m, "rope.inv_freq[1]");
    mb_model_unref(m);
}
END_TEST

static void count(void *owner)
{
    ++*(int *) owner;
}

START_TEST(the_last_reference_releases_once)
{
    struct mb_model *m = NULL;
    int n_released = 0;
    ck_assert_int_eq(mb_model_new(&tiny_specs[0].shape, &m, NULL), MB_OK);
    m->owner = &n_released;
    m->release = count;
    ck_assert_ptr_eq(mb_model_ref(m), m);
    mb_model_unref(m);
    ck_assert_int_eq(n_released, 0);
    mb_model_unref(m);
    ck_assert_int_eq(n_released, 1);
    mb_model_unref(NULL);
}
END_TEST

START_TEST(names_and_sizes)
{
    const struct mb_shape *s = &tiny_specs[4].shape;
    char name[MB_TENSOR_NAME_MAX];
    ck_assert_str_eq(mb_block_tensor_name(name, 1023, "ffn_down_in"),
                     "blocks.1023.ffn_down_in");
    const struct {
        enum mb_block_linear linear;
        const char *name;
        enum mb_block_input input;
        uint32_t n_rows, n_cols;
    } rows[] = {
        { MB_ATTN_Q, "attn_q", MB_IN_ATTN, 136, 32 },
        { MB_ATTN_K, "attn_k", MB_IN_ATTN, 34, 32 },
        { MB_ATTN_V, "attn_v", MB_IN_ATTN, 34, 32 },
        { MB_ATTN_O, "attn_o", MB_IN_ATTN_O, 32, 136 },
        { MB_FFN_GATE, "ffn_gate", MB_IN_FFN, 64, 32 },
        { MB_FFN_UP, "ffn_up", MB_IN_FFN, 64, 32 },
        { MB_FFN_DOWN, "ffn_down", MB_IN_FFN_DOWN, 32, 64 },
    };
    for (size_t i = 0; i < MB_BLOCK_LINEARS; i++) {
        uint32_t n_rows, n_cols;
        mb_block_linear_size(s, rows[i].linear, &n_rows, &n_cols);
        ck_assert_uint_eq(n_rows, rows[i].n_rows);
        ck_assert_uint_eq(n_cols, rows[i].n_cols);
        ck_assert_str_eq(mb_block_linear_name(rows[i].linear), rows[i].name);
        ck_assert_int_eq(mb_block_linear_input(rows[i].linear), rows[i].input);
    }
}
END_TEST

/* Through a file and back: the same logits, to the bit. */
START_TEST(a_checkpoint_holds_the_model)
{
    char path[256];
    (void) snprintf(path, sizeof path, "%s/test_model_%d.mbool", getenv("MB_BUILD"), _i);
    struct mb_error err = { 0 };
    struct mb_model *made = tiny_model_new(&tiny_specs[_i], 4), *read = NULL;
    struct mb_checkpoint *c = NULL;
    mb_assert_ok(tiny_model_write(made, path, &err), &err);
    mb_assert_ok(mb_checkpoint_open(path, &c, &err), &err);
    mb_assert_ok(mb_model_from_checkpoint(c, &read, &err), &err);
    ck_assert_uint_ne(read->digest, 0);
    ck_assert_mem_eq(&read->shape, &made->shape, sizeof made->shape);

    enum { N = 20 };
    const struct mb_model *models[] = { made, read };
    static float logits[2][N * 512];
    for (int i = 0; i < 2; i++) {
        uint32_t tokens[N];
        for (uint32_t t = 0; t < N; t++) {
            tokens[t] = t * 7 % made->shape.n_vocab;
        }
        struct rig r;
        ck_assert(rig_open(&r, models[i], "auto", 1, MB_KV_F16));
        rig_feed(&r, 0, tokens, N, logits[i]);
        rig_close(&r);
    }
    ck_assert_mem_eq(logits[0], logits[1], N * made->shape.n_vocab * sizeof(float));
    mb_model_unref(made);
    mb_model_unref(read);
    (void) remove(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model");
    TCase *t = tcase_create("model");
    tcase_add_test(t, what_is_missing_is_named);
    tcase_add_test(t, what_is_misshapen_is_named);
    tcase_add_test(t, the_last_reference_releases_once);
    tcase_add_test(t, names_and_sizes);
    tcase_add_loop_test(t, a_checkpoint_holds_the_model, 0, TINY_SPECS);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
