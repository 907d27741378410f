/* Goal:   a folder becomes a checkpoint that verifies, is close to the float model, is the same
 *         file at any number of threads, and is written whole or not at all.
 * Method: the smallest real model end to end; a real 3M model for the quality that is promised,
 *         relative to the float model on the same text; folders with random weights for untied
 *         heads and other types. */
#include "core/convert/convert.h"
#include "tests/check_main.h"

#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/file.h"
#include "core/checkpoint/reader.h"
#include "core/convert/svid_model.h"
#include "core/import/hf.h"
#include "core/infer/evaluate.h"

#define OUT     "test_convert.mbool"
#define DAMAGED "test_convert.folder"

static struct mb_kernels kernels;

/* The folder of a real model, or NULL. */
static const char *folder(const char *name)
{
    static char dir[4096];
    char config[256];
    (void) snprintf(config, sizeof config, "models/%s/config.json", name);
    const char *path = mb_data_path(config);
    if (!path) {
        return NULL;
    }
    (void) snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = 0;
    return dir;
}

static struct mb_file_map text_of(const char *name)
{
    struct mb_file_map map;
    struct mb_error err;
    mb_assert_ok(mb_file_map(mb_data_path(name), &map, &err), &err);
    return map;
}

static enum mb_status convert(const char *dir, const struct mb_convert_options *o,
                              size_t n_threads, const struct mb_progress *p,
                              struct mb_convert_report *ret, struct mb_error *err)
{
    struct mb_pool *pool;
    mb_assert_ok(mb_pool_new(n_threads, 0, &pool, err), err);
    enum mb_status st = mb_convert(dir, OUT, o, &kernels, pool, p, ret, err);
    mb_pool_free(pool);
    return st;
}

static struct mb_model *open_folder(const char *dir, struct mb_tokenizer **ret_tokenizer)
{
    struct mb_error err;
    struct mb_hf *h;
    struct mb_model *m;
    struct mb_bytes bytes = { 0 };
    mb_assert_ok(mb_hf_open(dir, &h, &err), &err);
    mb_assert_ok(mb_hf_tokenizer(h, &bytes, &err), &err);
    mb_assert_ok(mb_tokenizer_from_bytes(bytes.at, bytes.len, ret_tokenizer, &err), &err);
    mb_assert_ok(mb_model_from_hf(h, &m, &err), &err);
    mb_bytes_fini(&bytes);
    return m;
}

static struct mb_model *open_out(void)
{
    struct mb_error err;
    struct mb_checkpoint *c;
    struct mb_model *m;
    mb_assert_ok(mb_checkpoint_open(OUT, &c, &err), &err);
    mb_assert_ok(mb_checkpoint_verify(c, NULL, &err), &err);
    mb_assert_ok(mb_model_from_checkpoint(c, &m, &err), &err);
    return m;
}

static struct mb_evaluation evaluate(const struct mb_model *m, const struct mb_model *reference,
                                     const struct mb_windows *w)
{
    struct mb_error err;
    struct mb_pool *pool;
    struct mb_evaluation e;
    mb_assert_ok(mb_pool_new(2, 0, &pool, &err), &err);
    mb_assert_ok(mb_evaluate(m, reference, w, &kernels, pool, NULL, &e, &err), &err);
    mb_pool_free(pool);
    return e;
}

/* Perplexity of OUT over that of the folder's float model, on the first tokens of a text; and
 * the same of successive SVID when svid_kernels is not 0. */
static double ratio(const char *dir, const char *text, size_t n_tokens, unsigned svid_kernels,
                    double *ret_svid)
{
    struct mb_error err;
    struct mb_tokenizer *t;
    struct mb_windows w;
    struct mb_model *original = open_folder(dir, &t), *m = open_out(), *svid;
    struct mb_file_map map = text_of(text);
    mb_assert_ok(mb_windows_of_text(t, (const char *) map.at, map.n, original->shape.context,
                                    n_tokens, &w, &err),
                 &err);
    struct mb_evaluation e = evaluate(m, original, &w);
    double ppl = evaluate(original, NULL, &w).ppl;
    ck_assert(e.kl > 0 && e.kl < 1);
    ck_assert(e.top1 > 0.5 && e.top1 < 1);
    if (svid_kernels > 0) {
        mb_assert_ok(mb_svid_model_new(original, svid_kernels, NULL, NULL, &svid, &err), &err);
        *ret_svid = evaluate(svid, NULL, &w).ppl / ppl;
        mb_model_unref(svid);
    }
    mb_windows_fini(&w);
    mb_file_unmap(&map);
    mb_tokenizer_free(t);
    mb_model_unref(m);
    mb_model_unref(original);
    return e.ppl / ppl;
}

static void check_report(const struct mb_convert_report *r, size_t n_tensors)
{
    uint64_t bytes = 0, n_weights = 0;
    ck_assert_uint_eq(r->n_tensors, n_tensors);
    for (size_t i = 0; i < r->n_tensors; i++) {
        const struct mb_convert_tensor *t = &r->tensors[i];
        uint64_t n = (uint64_t) t->n_rows * t->n_cols;
        ck_assert_msg(t->n_kernels == 0 || (t->errors.output > 0 && t->errors.output < 0.2),
                      "%s: error %g", t->name, t->errors.output);
        ck_assert(mb_bits_per_weight(t->bytes, n) > t->n_kernels);
        bytes += t->bytes;
        n_weights += n;
    }
    ck_assert_uint_eq(r->n_weights, n_weights);
    ck_assert_uint_ge(r->weight_bytes, bytes);
}

START_TEST(the_smallest_model_end_to_end)
{
    const char *dir = folder("stories260K");
    if (!dir) {
        mb_skip("no real models");
    }
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_file_map text = text_of("text/tinystories_train.txt");
    struct mb_convert_options o = mb_convert_defaults();
    o.fit.n_kernels = 4;
    o.fit.group = 32;
    o.text = (const char *) text.at;
    o.n_text = text.n;
    o.tokens_max = 20000;
    mb_assert_ok(convert(dir, &o, 2, NULL, &r, &err), &err);
    check_report(&r, 1 + 5 * MB_BLOCK_LINEARS);
    ck_assert_uint_eq(r.n_tokens, 20000);
    double got = ratio(dir, "text/tinystories_valid.txt", 10000, 0, NULL);
    ck_assert_msg(got < 1.25, "perplexity is %g times the float model's", got);
    mb_convert_report_fini(&r);
    mb_file_unmap(&text);
    (void) unlink(OUT);
}
END_TEST

/* The quality that is promised: at most 1.70 at K = 3 (DESIGN 4), with a quarter of the tokens
 * that a conversion uses by default. */
START_TEST(three_kernels_keep_a_real_model)
{
    const char *dir = folder("stories3M");
    if (MB_SANITIZED) {
        mb_skip("quality on a real model: the same figures as without sanitizers");
    }
    if (!dir) {
        mb_skip("no real models");
    }
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_file_map text = text_of("text/tinystories_train.txt");
    struct mb_convert_options o = mb_convert_defaults();
    o.fit.group = 64;
    o.head_kernels = 0;
    o.text = (const char *) text.at;
    o.n_text = text.n;
    o.tokens_max = 32768;
    mb_assert_ok(convert(dir, &o, 2, NULL, &r, &err), &err);
    double svid = 0, got = ratio(dir, "text/tinystories_valid.txt", 20000, 3, &svid);
    ck_assert_msg(got < 1.70, "perplexity is %g times the float model's", got);
    ck_assert_msg(svid > 10, "successive SVID has %g", svid);
    mb_convert_report_fini(&r);
    mb_file_unmap(&text);
    (void) unlink(OUT);
}
END_TEST

START_TEST(same_file_at_any_number_of_threads)
{
    const char *dir = folder("stories260K");
    if (!dir) {
        mb_skip("no real models");
    }
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_file_map text = text_of("text/tinystories_train.txt"), out;
    struct mb_convert_options o = mb_convert_defaults();
    uint8_t *first = NULL;
    o.fit.init = MB_INIT_RANDOM;
    o.fit.seed = 5;
    o.text = (const char *) text.at;
    o.n_text = text.n;
    o.tokens_max = 3000;
    for (size_t threads = 1; threads <= 3; threads++) {
        mb_assert_ok(convert(dir, &o, threads, NULL, &r, &err), &err);
        mb_convert_report_fini(&r);
        mb_assert_ok(mb_file_map(OUT, &out, &err), &err);
        if (!first) {
            first = malloc(out.n);
            memcpy(first, out.at, out.n);
        }
        ck_assert_mem_eq(first, out.at, out.n);
        mb_file_unmap(&out);
    }
    free(first);
    mb_file_unmap(&text);
    (void) unlink(OUT);
}
END_TEST

/* Blindly, of any type, with a head of its own and groups of whole rows. */
START_TEST(other_folders_convert_too)
{
    static const char *const names[] = { "tiny_llama3", "tiny_mistral", "stories260K" };
    const char *dir = folder(names[_i]);
    if (!dir) {
        mb_skip("no real models");
    }
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_convert_options o = mb_convert_defaults();
    o.fit.n_kernels = 2;
    o.fit.group = 0;
    o.fit.init = MB_INIT_SVD;
    o.head_kernels = 2;
    o.n_planes = 6;
    mb_assert_ok(convert(dir, &o, 2, NULL, &r, &err), &err);
    struct mb_model *m = open_out();
    ck_assert_uint_eq(m->shape.n_planes, 6);
    check_report(&r,
                 m->shape.n_layers * (size_t) MB_BLOCK_LINEARS + (m->shape.tied_head ? 1 : 2));
    mb_model_unref(m);
    mb_convert_report_fini(&r);
    (void) unlink(OUT);
}
END_TEST

START_TEST(provenance_says_how_and_nothing_else)
{
    const char *dir = folder("stories260K");
    if (!dir) {
        mb_skip("no real models");
    }
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_checkpoint *c;
    struct mb_convert_options o = mb_convert_defaults();
    o.fit.n_turns = 0;
    mb_assert_ok(convert(dir, &o, 1, NULL, &r, &err), &err);
    mb_convert_report_fini(&r);
    mb_assert_ok(mb_checkpoint_open(OUT, &c, &err), &err);
    const struct mb_section *s = mb_checkpoint_find(c, "provenance");
    ck_assert_ptr_nonnull(s);
    char *text = strndup(mb_checkpoint_data(c, s), s->bytes);
    static const char *const wanted[] = { "source: stories260K\n", "made_by: mboold ",
                                          "source.file: model.safetensors 1044984 bytes xxh3 ",
                                          "convert.kernels: 3\n", "calibration: none\n" };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        ck_assert_msg(strstr(text, wanted[i]) != NULL, "no '%s' in:\n%s", wanted[i], text);
    }
    ck_assert_ptr_null(strchr(text, '/'));
    free(text);
    mb_checkpoint_free(c);
    (void) unlink(OUT);
}
END_TEST

static bool stop_late(void *self, const char *what, uint64_t done, uint64_t total)
{
    return done < total / 2;
}

/* A stopped conversion leaves what was there, what it has finished (test_resume.c), and nothing
 * else. */
START_TEST(a_stopped_conversion_leaves_the_old_file)
{
    const char *dir = folder("stories260K");
    if (!dir) {
        mb_skip("no real models");
    }
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_file_map map;
    struct mb_convert_options o = mb_convert_defaults();
    struct mb_progress p = { .report = stop_late };
    FILE *f = fopen(OUT, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_ge(fputs("old", f), 0);
    ck_assert_int_eq(fclose(f), 0);
    ck_assert_int_eq(convert(dir, &o, 2, &p, &r, &err), MB_E_CANCELLED);
    mb_assert_ok(mb_file_map(OUT, &map, &err), &err);
    ck_assert_uint_eq(map.n, 3);
    mb_file_unmap(&map);
    char aside[64];
    (void) snprintf(aside, sizeof aside, OUT ".tmp-%d", (int) getpid());
    ck_assert_int_ne(access(aside, F_OK), 0);
    mb_assert_ok(convert(dir, &o, 2, NULL, &r, &err), &err);
    mb_convert_report_fini(&r);
    ck_assert_int_ne(access(OUT ".part", F_OK), 0);
    mb_model_unref(open_out());
    (void) unlink(OUT);
}
END_TEST

/* Copies a file of the folder, with a weight replaced when it is the one that holds them. */
static void copy(const char *dir, const char *name, float weight, size_t offset_from_end)
{
    char path[4200];
    struct mb_error err;
    struct mb_file_map map;
    (void) snprintf(path, sizeof path, "%s/%s", dir, name);
    mb_assert_ok(mb_file_map(path, &map, &err), &err);
    (void) snprintf(path, sizeof path, DAMAGED "/%s", name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(map.at, 1, map.n, f), map.n);
    if (offset_from_end > 0) {
        ck_assert_int_eq(fseek(f, -(long) offset_from_end, SEEK_END), 0);
        ck_assert_uint_eq(fwrite(&weight, sizeof weight, 1, f), 1);
    }
    ck_assert_int_eq(fclose(f), 0);
    mb_file_unmap(&map);
}

START_TEST(a_weight_that_is_no_number_is_named)
{
    const char *dir = folder("stories260K");
    if (!dir) {
        mb_skip("no real models");
    }
    static const char *const files[] = { "config.json", "tokenizer.json", "model.safetensors" };
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_convert_options o = mb_convert_defaults();
    struct mb_file_map text = text_of("text/tinystories_train.txt");
    o.text = (const char *) text.at;
    o.n_text = text.n;
    o.tokens_max = 500;
    (void) mkdir(DAMAGED, 0700);
    for (size_t i = 0; i < 3; i++) {
        copy(dir, files[i], NAN, i == 2 ? 400 : 0); /* in the last tensor of the file */
    }
    ck_assert_int_eq(convert(DAMAGED, &o, 2, NULL, &r, &err), MB_E_FORMAT);
    ck_assert_msg(strstr(err.what, "tensor model.layers.4.") &&
                      strstr(err.what, "not a number"),
                  "%s", err.what);
    ck_assert_int_ne(access(OUT, F_OK), 0);
    ck_assert_int_ne(access(OUT ".part", F_OK), 0); /* of no use: the folder must change */
    for (size_t i = 0; i < 3; i++) {
        char path[256];
        (void) snprintf(path, sizeof path, DAMAGED "/%s", files[i]);
        (void) unlink(path);
    }
    (void) rmdir(DAMAGED);
    mb_file_unmap(&text);
}
END_TEST

START_TEST(options_are_checked)
{
    const char *dir = folder("stories260K");
    if (!dir) {
        mb_skip("no real models");
    }
    struct mb_error err;
    struct mb_convert_report r;
    struct mb_convert_options bad[4];
    for (size_t i = 0; i < 4; i++) {
        bad[i] = mb_convert_defaults();
    }
    bad[0].fit.n_kernels = MB_KERNELS_MAX + 1;
    bad[1].fit.group = 48;
    bad[2].n_planes = 3;
    bad[3].head_kernels = MB_KERNELS_MAX + 1;
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(convert(dir, &bad[i], 1, NULL, &r, &err), MB_E_INVALID);
    }
    ck_assert_int_eq(convert("no such folder", &bad[0], 1, NULL, &r, &err), MB_E_NOTFOUND);
    ck_assert_int_ne(access(OUT, F_OK), 0);
}
END_TEST

int main(void)
{
    mb_kernels_select(&kernels, mb_cpu_detect());
    Suite *s = suite_create("convert");
    TCase *t = tcase_create("convert");
    tcase_add_test(t, the_smallest_model_end_to_end);
    tcase_add_test(t, three_kernels_keep_a_real_model);
    tcase_add_test(t, same_file_at_any_number_of_threads);
    tcase_add_loop_test(t, other_folders_convert_too, 0, 3);
    tcase_add_test(t, provenance_says_how_and_nothing_else);
    tcase_add_test(t, a_stopped_conversion_leaves_the_old_file);
    tcase_add_test(t, a_weight_that_is_no_number_is_named);
    tcase_add_test(t, options_are_checked);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
