/* Goal:   perplexity, KL and agreement are what their definitions say, over the windows that a
 *         text's documents give.
 * Method: tiny models made in memory against the float64 forward pass of tests/support; the
 *         tokenizer of a real model for the text. */
#include "core/infer/evaluate.h"
#include "tests/check_main.h"

#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/import/hf.h"
#include "tests/support/reference.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

enum { WINDOWS = 3 };
static const size_t lengths[WINDOWS] = { 2, 40, 7 };

/* Windows of counted tokens, as mb_windows_of_text would have cut them. */
static struct mb_windows windows_of(uint32_t n_vocab)
{
    struct mb_windows w = { .n = WINDOWS };
    w.start = calloc(WINDOWS + 1, sizeof *w.start);
    for (size_t i = 0; i < WINDOWS; i++) {
        for (size_t j = 0; j < lengths[i]; j++) {
            ck_assert(mb_ids_push(&w.ids, (uint32_t) (31 * i + 17 * j * j + 5 * j) % n_vocab));
        }
        w.start[i + 1] = w.ids.len;
    }
    return w;
}

/* ln of the softmax, in place. */
static void log_softmax(double *z, size_t n)
{
    double top = z[0], sum = 0;
    for (size_t v = 0; v < n; v++) {
        top = fmax(top, z[v]);
    }
    for (size_t v = 0; v < n; v++) {
        sum += exp(z[v] - top);
    }
    for (size_t v = 0; v < n; v++) {
        z[v] -= top + log(sum);
    }
}

static struct mb_evaluation evaluate(const struct mb_model *m, const struct mb_model *reference,
                                     const struct mb_windows *w, size_t n_threads)
{
    struct mb_error err;
    struct mb_kernels kernels;
    struct mb_pool *pool;
    struct mb_evaluation e;
    mb_kernels_select(&kernels, mb_cpu_detect());
    mb_assert_ok(mb_pool_new(n_threads, 0, &pool, &err), &err);
    mb_assert_ok(mb_evaluate(m, reference, w, &kernels, pool, NULL, &e, &err), &err);
    mb_pool_free(pool);
    return e;
}

START_TEST(figures_are_their_definitions)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 1);
    struct mb_model *r = tiny_model_new(&tiny_specs[0], 9);
    size_t n_vocab = m->shape.n_vocab;
    struct mb_windows w = windows_of((uint32_t) n_vocab);
    double nll = 0, kl = 0, agree = 0, n = 0;
    for (size_t i = 0; i < WINDOWS; i++) {
        double *z = mb_alloc(lengths[i], n_vocab * sizeof *z);
        double *zr = mb_alloc(lengths[i], n_vocab * sizeof *zr);
        const uint32_t *tokens = w.ids.at + w.start[i];
        reference_logits(m, tokens, lengths[i], false, z);
        reference_logits(r, tokens, lengths[i], false, zr);
        for (size_t j = 0; j + 1 < lengths[i]; j++, n++) {
            double *p = z + j * n_vocab, *q = zr + j * n_vocab;
            size_t top_p = 0, top_q = 0;
            log_softmax(p, n_vocab);
            log_softmax(q, n_vocab);
            nll -= p[tokens[j + 1]];
            for (size_t v = 0; v < n_vocab; v++) {
                kl += exp(q[v]) * (q[v] - p[v]);
                top_p = p[v] > p[top_p] ? v : top_p;
                top_q = q[v] > q[top_q] ? v : top_q;
            }
            agree += top_p == top_q;
        }
        mb_free(z);
        mb_free(zr);
    }
    struct mb_evaluation e = evaluate(m, r, &w, 2);
    ck_assert_uint_eq(e.n_tokens, 1 + 39 + 6);
    ck_assert_double_eq_tol(e.nll, nll / n, 1e-4); /* codes may fall on the other side */
    ck_assert_double_eq_tol(e.kl, kl / n, 1e-4);
    ck_assert_double_eq_tol(e.ppl, exp(e.nll), 1e-9);
    ck_assert_double_eq_tol(e.top1, agree / n, 2.5 / n);
    mb_windows_fini(&w);
    mb_model_unref(m);
    mb_model_unref(r);
}
END_TEST

START_TEST(a_model_agrees_with_itself)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[1], 1);
    struct mb_windows w = windows_of(m->shape.n_vocab);
    struct mb_evaluation one = evaluate(m, m, &w, 1), three = evaluate(m, m, &w, 3);
    ck_assert_double_eq_tol(one.kl, 0, 1e-12);
    ck_assert_double_eq(one.top1, 1);
    ck_assert_mem_eq(&one, &three, sizeof one);
    ck_assert_double_eq(evaluate(m, NULL, &w, 1).nll, one.nll);
    mb_windows_fini(&w);
    mb_model_unref(m);
}
END_TEST

START_TEST(what_can_not_be_evaluated_is_refused)
{
    struct mb_error err;
    struct mb_kernels kernels;
    struct mb_evaluation e;
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 1), *other = NULL;
    struct mb_windows w = windows_of(m->shape.n_vocab);
    mb_kernels_select(&kernels, 0);
    for (int i = 1; !other && i < TINY_SPECS; i++) {
        if (tiny_specs[i].shape.n_vocab != m->shape.n_vocab) {
            other = tiny_model_new(&tiny_specs[i], 1);
        }
    }
    ck_assert_ptr_nonnull(other);
    ck_assert_int_eq(mb_evaluate(m, other, &w, &kernels, NULL, NULL, &e, &err), MB_E_INVALID);
    for (size_t i = 0; i < 2; i++) { /* as an input, and as the last, which is only predicted */
        size_t at = i == 0 ? 5 : w.ids.len - 1;
        uint32_t before = w.ids.at[at];
        w.ids.at[at] = m->shape.n_vocab;
        ck_assert_int_eq(mb_evaluate(m, NULL, &w, &kernels, NULL, NULL, &e, &err),
                         MB_E_INVALID);
        ck_assert_ptr_nonnull(strstr(err.what, "vocabulary"));
        w.ids.at[at] = before;
    }
    mb_windows_fini(&w);
    mb_model_unref(m);
    mb_model_unref(other);
}
END_TEST

static bool stop(void *self, const char *what, uint64_t done, uint64_t total)
{
    return done < 10;
}

START_TEST(progress_can_stop_it)
{
    struct mb_error err;
    struct mb_kernels kernels;
    struct mb_evaluation e;
    struct mb_progress p = { .report = stop };
    struct mb_model *m = tiny_model_new(&tiny_specs[0], 1);
    struct mb_windows w = windows_of(m->shape.n_vocab);
    mb_kernels_select(&kernels, mb_cpu_detect());
    ck_assert_int_eq(mb_evaluate(m, NULL, &w, &kernels, NULL, &p, &e, &err), MB_E_CANCELLED);
    mb_windows_fini(&w);
    mb_model_unref(m);
}
END_TEST

static struct mb_tokenizer *tokenizer(void)
{
    const char *config = mb_data_path("models/stories260K/config.json");
    if (!config) {
        return NULL;
    }
    char dir[4096];
    struct mb_error err;
    struct mb_hf *h;
    struct mb_bytes bytes = { 0 };
    struct mb_tokenizer *t;
    (void) snprintf(dir, sizeof dir, "%s", config);
    *strrchr(dir, '/') = 0;
    mb_assert_ok(mb_hf_open(dir, &h, &err), &err);
    mb_assert_ok(mb_hf_tokenizer(h, &bytes, &err), &err);
    mb_assert_ok(mb_tokenizer_from_bytes(bytes.at, bytes.len, &t, &err), &err);
    mb_bytes_fini(&bytes);
    mb_hf_free(h);
    return t;
}

START_TEST(documents_become_windows)
{
    struct mb_tokenizer *t = tokenizer();
    if (!t) {
        mb_skip("no real models");
    }
    static const char text[] = "\n <|endoftext|> \r\n"
                               "  Once upon a time \r\n\tthere was <|endoftext|> inside.\n\n"
                               "<|endoftext|>\n<|endoftext|>\n\nThe end.\n<|endoftext|>";
    static const char *const documents[] = {
        "Once upon a time \r\n\tthere was <|endoftext|> inside.", "The end."
    };
    struct mb_error err;
    struct mb_windows w;
    struct mb_ids want = { 0 };
    uint32_t bos;
    ck_assert(mb_tokenizer_bos(t, &bos));
    mb_assert_ok(mb_windows_of_text(t, text, strlen(text), 512, 0, &w, &err), &err);
    ck_assert_uint_eq(w.n, 2);
    for (size_t i = 0; i < 2; i++) {
        ck_assert_uint_eq(w.start[i], want.len);
        ck_assert(mb_ids_push(&want, bos));
        mb_assert_ok(
            mb_tokenizer_encode(t, documents[i], strlen(documents[i]), 0, 1000, &want, &err),
            &err);
    }
    ck_assert_uint_eq(w.ids.len, want.len);
    ck_assert_mem_eq(w.ids.at, want.at, want.len * sizeof *want.at);
    mb_windows_fini(&w);

    /* Every window size: nothing overlaps, nothing is lost but a last token alone. */
    size_t first = 0;
    while (want.at[++first] != bos) {
    }
    for (size_t window = 2; window < 12; window++) {
        size_t lost = (first % window == 1) + ((want.len - first) % window == 1);
        mb_assert_ok(mb_windows_of_text(t, text, strlen(text), window, 0, &w, &err), &err);
        ck_assert_uint_eq(mb_windows_tokens(&w), want.len - lost);
        for (size_t i = 0; i < w.n; i++) {
            ck_assert_uint_ge(w.start[i + 1] - w.start[i], 2);
            ck_assert_uint_le(w.start[i + 1] - w.start[i], window);
        }
        mb_windows_fini(&w);
    }

    mb_assert_ok(mb_windows_of_text(t, text, strlen(text), 512, 5, &w, &err), &err);
    ck_assert_uint_eq(mb_windows_tokens(&w), 5);
    mb_windows_fini(&w);
    ck_assert_int_eq(mb_windows_of_text(t, " \n", 2, 512, 0, &w, &err), MB_E_INVALID);
    ck_assert_int_eq(mb_windows_of_text(t, "", 0, 512, 0, &w, &err), MB_E_INVALID);
    mb_ids_fini(&want);
    mb_tokenizer_free(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("evaluate");
    TCase *t = tcase_create("evaluate");
    tcase_add_test(t, figures_are_their_definitions);
    tcase_add_test(t, a_model_agrees_with_itself);
    tcase_add_test(t, what_can_not_be_evaluated_is_refused);
    tcase_add_test(t, progress_can_stop_it);
    tcase_add_test(t, documents_become_windows);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
