/* Goal:   A1: a request's logits and tokens are the same bits whatever the batch, the cut of
 *         its prompt, the number of threads, and the instruction set.
 * Method: one request in portable C, alone, on one thread, its prompt in one step, is the
 *         yardstick; then every combination, compared with memcmp. The other requests of the
 *         batch have prompts of their own, come and go, and stand before and behind it. */
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/checkpoint/reader.h"
#include "core/convert/convert.h"
#include "core/import/hf.h"
#include "tests/check_main.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

enum { PROMPT = 75, NEW = 8, TOTAL = PROMPT + NEW, OTHERS = 16 };

struct way {
    const char *isa;
    size_t n_threads;
    uint32_t chunk; /* tokens of the prompt in a step */
    uint32_t n_others;
    enum mb_kv_type type;
};

struct outcome {
    uint32_t tokens[TOTAL];
    float *logits; /* [TOTAL][V] after each token but the last */
};

static uint32_t random_token(uint64_t stream, uint64_t i, uint32_t n_vocab)
{
    return (uint32_t) (mb_rng_u64(77, stream, i) % n_vocab);
}

struct batch_space {
    uint32_t token[RIG_TOKENS_MAX], position[RIG_TOKENS_MAX], seq[RIG_TOKENS_MAX];
    uint32_t logits_of[RIG_TOKENS_MAX];
};

/* Adds n tokens of another request: prompts of 1 to 9 tokens, then one by one; released now and
 * then, so that blocks change hands. */
static void add_other(struct rig *r, struct batch_space *s, struct mb_batch *b, uint32_t seq,
                      uint32_t step)
{
    if ((step + seq) % 5 == 4) {
        mb_kv_release(r->kv, seq);
    }
    uint32_t at = mb_kv_seq(r->kv, seq)->n_positions;
    uint32_t n = at == 0 ? 1 + (seq * 7 + step) % 9 : 1;
    ck_assert_int_eq(mb_kv_reserve(r->kv, seq, at + n, NULL), MB_OK);
    for (uint32_t i = 0; i < n; i++, b->n_tokens++) {
        s->token[b->n_tokens] = random_token(seq, at + i, r->model->shape.n_vocab);
        s->position[b->n_tokens] = at + i;
        s->seq[b->n_tokens] = seq;
    }
}

/* One step with n tokens of our request (sequence 0) from position at, amid the others. */
static void step(struct rig *r, const struct way *w, const uint32_t *tokens, uint32_t at,
                 uint32_t n, uint32_t number, float *logits)
{
    static struct batch_space s;
    struct mb_batch b = {
        .token = s.token, .position = s.position, .seq = s.seq, .logits_of = s.logits_of
    };
    struct mb_error err = { 0 };
    for (uint32_t o = 1; o <= w->n_others / 2; o++) {
        add_other(r, &s, &b, o, number);
    }
    mb_assert_ok(mb_kv_reserve(r->kv, 0, at + n, &err), &err);
    for (uint32_t i = 0; i < n; i++, b.n_tokens++, b.n_logits++) {
        s.token[b.n_tokens] = tokens[at + i];
        s.position[b.n_tokens] = at + i;
        s.seq[b.n_tokens] = 0;
        s.logits_of[b.n_logits] = b.n_tokens;
    }
    for (uint32_t o = w->n_others / 2 + 1; o <= w->n_others; o++) {
        add_other(r, &s, &b, o, number);
    }
    mb_assert_ok(mb_step(r->stepper, r->model, r->kv, &b, NULL, logits, &err), &err);
}

/* false when this processor lacks the instruction set. */
static bool run(const struct mb_model *m, const struct way *w, struct outcome *ret)
{
    struct rig r;
    if (!rig_open(&r, m, w->isa, w->n_threads, w->type)) {
        return false;
    }
    size_t v = m->shape.n_vocab;
    uint32_t at = 0, number = 0;
    ret->logits = calloc(TOTAL * v, sizeof *ret->logits);
    ck_assert_ptr_nonnull(ret->logits);
    for (uint32_t i = 0; i < PROMPT; i++) {
        ret->tokens[i] = random_token(1000, i, m->shape.n_vocab);
    }
    while (at < TOTAL - 1) {
        uint32_t n = at >= PROMPT ? 1 : w->chunk < PROMPT - at ? w->chunk : PROMPT - at;
        step(&r, w, ret->tokens, at, n, number++, ret->logits + at * v);
        at += n;
        if (at >= PROMPT) {
            ret->tokens[at] = rig_argmax(ret->logits + (at - 1) * v, m->shape.n_vocab);
        }
    }
    rig_close(&r);
    return true;
}

static void compare(const struct mb_model *m, const struct way *w, const struct outcome *want)
{
    struct outcome got = { 0 };
    if (!run(m, w, &got)) {
        return;
    }
    for (size_t i = 0; i + 1 < TOTAL; i++) {
        size_t v = m->shape.n_vocab;
        ck_assert_msg(memcmp(got.logits + i * v, want->logits + i * v, v * sizeof(float)) == 0,
                      "%s, %zu threads, chunk %u, %u others, kv %d: logits differ at %zu",
                      w->isa, w->n_threads, (unsigned) w->chunk, (unsigned) w->n_others,
                      (int) w->type, i);
    }
    ck_assert_mem_eq(got.tokens, want->tokens, sizeof got.tokens);
    free(got.logits);
}

static const uint32_t chunks[] = { 1, 7, 64, PROMPT };

/* On one instruction set: every cut with every number of threads alone, and amid the others. */
static void all_ways(const struct mb_model *m, enum mb_kv_type type, const char *isa,
                     const struct outcome *want)
{
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        for (size_t n_threads = 1; n_threads <= 3; n_threads++) {
            compare(m, &(struct way) { isa, n_threads, chunks[c], 0, type }, want);
        }
        compare(m, &(struct way) { isa, 1 + c % 3, chunks[c], OTHERS, type }, want);
    }
}

/* On the other instruction sets, ways that between them take each kernel at each size. */
static void some_ways(const struct mb_model *m, enum mb_kv_type type, const char *isa,
                      const struct outcome *want)
{
    compare(m, &(struct way) { isa, 1, 1, 0, type }, want);
    compare(m, &(struct way) { isa, 1, PROMPT, 0, type }, want);
    compare(m, &(struct way) { isa, 2, 7, OTHERS, type }, want);
}

static void check_model(const struct mb_model *m, enum mb_kv_type type)
{
    struct outcome want = { 0 };
    ck_assert(run(m, &(struct way) { "c", 1, PROMPT, 0, type }, &want));
    all_ways(m, type, rig_isas[0], &want);
    for (size_t i = 1; rig_isas[i]; i++) {
        some_ways(m, type, rig_isas[i], &want);
    }
    free(want.logits);
}

START_TEST(tiny_models)
{
    struct mb_model *m = tiny_model_new(&tiny_specs[_i / 2], 3);
    check_model(m, _i % 2 ? MB_KV_F32 : MB_KV_F16);
    mb_model_unref(m);
}
END_TEST

/* Pasts of several segments of attention, beside a sequence with a short one; LONG tokens are fed in
 * chunks, the last ones one by one. */
enum { LONG = 1100, ALONE = 1090, LONG_NEW = LONG - ALONE };

static bool run_long(const struct mb_model *m, const struct way *w, float *ret)
{
    static uint32_t token[RIG_TOKENS_MAX], position[RIG_TOKENS_MAX], seq[RIG_TOKENS_MAX];
    struct mb_error err = { 0 };
    struct rig r;
    if (!rig_open(&r, m, w->isa, w->n_threads, w->type)) {
        return false;
    }
    mb_assert_ok(mb_kv_reserve(r.kv, 0, LONG, &err), &err);
    mb_assert_ok(mb_kv_reserve(r.kv, 1, LONG, &err), &err);
    for (uint32_t at = 0, n; at < LONG; at += n) {
        n = at >= ALONE ? 1 : w->chunk < ALONE - at ? w->chunk : ALONE - at;
        struct mb_batch b = { 0, token, position, seq, 1, (const uint32_t[]) { n - 1 } };
        for (uint32_t i = 0; i < n + (w->n_others > 0); i++, b.n_tokens++) {
            seq[i] = i == n;
            position[i] = i < n ? at + i : mb_kv_seq(r.kv, 1)->n_positions;
            token[i] = random_token(2000 + seq[i], position[i], m->shape.n_vocab);
        }
        float *logits = ret + (at < ALONE ? 0 : at - ALONE) * m->shape.n_vocab;
        mb_assert_ok(mb_step(r.stepper, m, r.kv, &b, NULL, logits, &err), &err);
    }
    rig_close(&r);
    return true;
}

START_TEST(long_pasts)
{
    static const struct way ways[] = {
        { "auto", 1, 9, 1, MB_KV_F16 },   { "auto", 3, 500, 0, MB_KV_F16 },
        { "auto", 2, 100, 1, MB_KV_F16 }, { "auto", 5, 50, 1, MB_KV_F16 },
        { "auto", 4, 33, 0, MB_KV_F16 },  { "avx512", 2, 500, 1, MB_KV_F16 },
        { "avx2", 3, 77, 0, MB_KV_F16 },  { "c", 4, 300, 1, MB_KV_F16 },
    };
    struct tiny_spec spec = tiny_specs[_i % TINY_SPECS];
    spec.shape.window = _i < TINY_SPECS ? spec.shape.window : 300;
    struct mb_model *m = tiny_model_new(&spec, 4);
    size_t n = (size_t) LONG_NEW * m->shape.n_vocab;
    float *want = calloc(n, sizeof *want), *got = calloc(n, sizeof *got);
    ck_assert(want && got);
    ck_assert(run_long(m, &(struct way) { "c", 1, 500, 0, MB_KV_F16 }, want));
    for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        ck_assert_msg(!run_long(m, &ways[i], got) || memcmp(got, want, n * sizeof *got) == 0,
                      "%s: %s, %zu threads, chunk %u, %u others", spec.name, ways[i].isa,
                      ways[i].n_threads, (unsigned) ways[i].chunk, (unsigned) ways[i].n_others);
    }
    free(want);
    free(got);
    mb_model_unref(m);
}
END_TEST

/* "<folder of a real model>" or NULL. */
static const char *folder(const char *name)
{
    static char dir[4096];
    char file[128];
    (void) snprintf(file, sizeof file, "models/%s/config.json", name);
    const char *config = mb_data_path(file);
    if (!config) {
        return NULL;
    }
    (void) snprintf(dir, sizeof dir, "%.*s", (int) (strlen(config) - strlen("/config.json")),
                    config);
    return dir;
}

static void check_real_model(const struct mb_model *m, enum mb_kv_type type)
{
    struct outcome want = { 0 };
    ck_assert(run(m, &(struct way) { "c", 1, PROMPT, 0, type }, &want));
    for (size_t i = 0; rig_isas[i]; i++) {
        compare(m, &(struct way) { rig_isas[i], 2, 7, OTHERS, type }, &want);
    }
    compare(m, &(struct way) { rig_isas[0], 1, 1, 0, type }, &want);
    compare(m, &(struct way) { rig_isas[0], 3, 64, OTHERS, type }, &want);
    free(want.logits);
}

START_TEST(a_real_float_model)
{
    const char *dir = folder("stories260K");
    if (MB_SANITIZED) {
        mb_skip("a real float model: tiny ones walk the same code under sanitizers");
    }
    if (!dir) {
        mb_skip("models/stories260K is not here");
    }
    struct mb_error err = { 0 };
    struct mb_hf *hf = NULL;
    struct mb_model *m = NULL;
    mb_assert_ok(mb_hf_open(dir, &hf, &err), &err);
    mb_assert_ok(mb_model_from_hf(hf, &m, &err), &err);
    check_real_model(m, MB_KV_F32);
    mb_model_unref(m);
}
END_TEST

START_TEST(a_real_converted_model)
{
    const char *dir = folder("stories3M");
    if (MB_SANITIZED) {
        mb_skip("a real converted model: tiny ones walk the same code under sanitizers");
    }
    if (!dir) {
        mb_skip("models/stories3M is not here");
    }
    char path[4096];
    (void) snprintf(path, sizeof path, "%s/step_invariance.mbool", getenv("MB_BUILD"));
    struct mb_error err = { 0 };
    struct mb_kernels kernels;
    struct mb_convert_options o = mb_convert_defaults();
    struct mb_convert_report report = { 0 };
    struct mb_checkpoint *c = NULL;
    struct mb_model *m = NULL;
    mb_kernels_select(&kernels, mb_cpu_detect());
    mb_assert_ok(mb_convert(dir, path, &o, &kernels, NULL, NULL, &report, &err), &err);
    mb_convert_report_fini(&report);
    mb_assert_ok(mb_checkpoint_open(path, &c, &err), &err);
    mb_assert_ok(mb_model_from_checkpoint(c, &m, &err), &err);
    check_real_model(m, MB_KV_F16);
    mb_model_unref(m);
    (void) remove(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("step_invariance");
    TCase *t = tcase_create("A1");
    tcase_add_loop_test(t, tiny_models, 0, 2 * TINY_SPECS);
    tcase_add_loop_test(t, long_pasts, 0, 2 * TINY_SPECS);
    tcase_add_test(t, a_real_float_model);
    tcase_add_test(t, a_real_converted_model);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
