/* Goal:   an engine makes the tokens that the model makes, tells them as text, and ends them
 *         for the right reason.
 * Method: a tiny random model; a plain loop over mb_step and the sampler says what must come;
 *         stops and ends of sequence are then put where that text has them. */
#include <math.h>
#include <string.h>

#include "core/tokenizer/spec.h"
#include "tests/check_main.h"
#include "tests/server/engine/engine_rig.h"

enum { PROMPT = 20, TOKENS = 60 };

static struct engine_rig rig;
static uint32_t prompt[PROMPT];
static struct result plain, got;

static void setup(void)
{
    engine_rig_init(&rig, MB_NO_ID);
    rig_prompt(1, PROMPT, prompt);
}

static void teardown(void)
{
    engine_rig_fini(&rig);
}

/* The same sequence without an engine. logprobs are in float64 here. */
static void generate(const struct mbd_request_params *p, struct result *ret, double *logprobs)
{
    struct mb_error err = { 0 };
    struct mb_stepper_options o = { &rig.kernels, NULL, PROMPT, 1 };
    struct mb_stepper *stepper;
    struct mb_kv_cache *kv;
    struct mb_sampler *sampler;
    static float logits[RIG_VOCAB];
    mb_assert_ok(mb_stepper_new(rig.model, &o, &stepper, &err), &err);
    mb_assert_ok(mb_kv_new(&rig.model->shape, MB_KV_F16, 64, 1, RIG_CONTEXT, &kv, &err), &err);
    mb_assert_ok(mb_sampler_new(&rig.kernels, RIG_VOCAB, &sampler, &err), &err);
    mb_assert_ok(mb_kv_reserve(kv, 0, PROMPT + p->max_tokens, &err), &err);
    mb_sampler_start(sampler, &p->sampling, prompt, PROMPT);
    ret->n_tokens = 0;
    while (ret->n_tokens < p->max_tokens) {
        uint32_t position[PROMPT], seq[PROMPT] = { 0 };
        bool start = ret->n_tokens == 0;
        uint32_t n = start ? PROMPT : 1, first = start ? 0 : PROMPT - 1;
        for (uint32_t i = 0; i < n; i++) {
            position[i] = first + ret->n_tokens + i;
        }
        const uint32_t *token = ret->n_tokens == 0 ? prompt : &ret->tokens[ret->n_tokens - 1];
        uint32_t last = n - 1;
        struct mb_batch b = { n, token, position, seq, 1, &last };
        mb_assert_ok(mb_step(stepper, rig.model, kv, &b, NULL, logits, &err), &err);
        struct mb_sampled drawn;
        mb_sampler_draw(sampler, logits, 0, 0, &drawn);
        double sum = 0;
        for (uint32_t i = 0; i < RIG_VOCAB; i++) {
            sum += exp((double) logits[i]);
        }
        logprobs[ret->n_tokens] = (double) logits[drawn.token] - log(sum);
        ret->tokens[ret->n_tokens++] = drawn.token;
    }
    mb_sampler_free(sampler);
    mb_kv_free(kv);
    mb_stepper_free(stepper);
}

START_TEST(tokens_and_logprobs_are_those_of_the_model)
{
    static double logprobs[RIG_CONTEXT];
    engine_rig_start(&rig);
    struct mbd_request_params p = rig_params(3, TOKENS);
    p.sampling.temperature = _i == 0 ? 0 : 1;
    p.want_logprob = true;
    p.want_top = 5;
    generate(&p, &plain, logprobs);
    rig_run(&rig, prompt, PROMPT, &p, &got);
    ck_assert_uint_eq(got.n_tokens, TOKENS);
    ck_assert_mem_eq(got.tokens, plain.tokens, TOKENS * sizeof got.tokens[0]);
    ck_assert_uint_eq(got.n_top, 5);
    for (uint32_t i = 0; i < TOKENS; i++) {
        ck_assert_double_eq_tol((double) got.logprobs[i], logprobs[i], 1e-4);
        ck_assert_float_ge(got.best[i].logprob, got.logprobs[i]);
        if (_i == 0) {
            ck_assert_uint_eq(got.best[i].token, got.tokens[i]);
        }
    }
    ck_assert_int_eq(got.last.state, MBD_REQUEST_DONE);
    ck_assert_int_eq(got.last.finish, MB_FINISH_LENGTH);
    rig_assert_idle(&rig);
}
END_TEST

START_TEST(text_is_the_whole_decoded_at_once)
{
    engine_rig_start(&rig);
    int n_spaced = 0, n_cut = 0; /* texts that keep the prompt's space, or end in a character */
    for (uint64_t seed = 0; seed < 100; seed++) {
        struct mbd_request_params p = rig_params(seed, 1 + (uint32_t) seed % 20);
        rig_run(&rig, prompt, PROMPT, &p, &got);
        ck_assert_uint_eq(got.n_tokens, p.max_tokens);
        struct mb_decoder d;
        struct mb_bytes want = { 0 };
        mb_decoder_init(&d, rig.tokenizer, true, true);
        for (uint32_t i = 0; i < got.n_tokens; i++) {
            mb_decoder_push(&d, got.tokens[i], &want);
        }
        size_t before = want.len;
        mb_decoder_finish(&d, &want);
        n_cut += want.len > before;
        n_spaced += want.len > 0 && want.at[0] == ' ';
        ck_assert_uint_eq(got.n_text, want.len);
        ck_assert_mem_eq(got.text, mb_bytes_text(&want), want.len);
        mb_bytes_fini(&want);
    }
    ck_assert(n_spaced > 0 && n_cut > 0);
}
END_TEST

START_TEST(the_same_seed_replays_and_another_differs)
{
    engine_rig_start(&rig);
    struct mbd_request_params p = rig_params(8, TOKENS);
    rig_run(&rig, prompt, PROMPT, &p, &plain);
    rig_run(&rig, prompt, PROMPT, &p, &got);
    rig_assert_same(&plain, &got);
    p.sampling.seed = 9;
    rig_run(&rig, prompt, PROMPT, &p, &got);
    ck_assert_mem_ne(plain.tokens, got.tokens, TOKENS * sizeof got.tokens[0]);
}
END_TEST

/* Where stop first stands in text, or n. */
static size_t find(const char *text, size_t n, const char *stop, size_t n_stop)
{
    const char *at = memmem(text, n, stop, n_stop);
    return at ? (size_t) (at - text) : n;
}

/* The start of the character that at is in: stop strings are UTF-8. */
static size_t character_at(const char *text, size_t at)
{
    while (at > 0 && ((uint8_t) text[at] & 0xc0) == 0x80) {
        at--;
    }
    return at;
}

START_TEST(a_stop_string_ends_the_text_before_it)
{
    engine_rig_start(&rig);
    struct mbd_request_params p = rig_params((uint64_t) _i, TOKENS);
    rig_run(&rig, prompt, PROMPT, &p, &plain);
    for (size_t n_stop = 1; n_stop < 12; n_stop++) {
        /* Lengths beyond a token's, at places anywhere in one. */
        size_t at =
            character_at(plain.text, (n_stop * 13 + (size_t) _i * 7) % (plain.n_text - n_stop));
        p.n_stops = 2;
        p.stop[0] = plain.text + at;
        p.n_stop_bytes[0] = n_stop;
        p.stop[1] = "never\377";
        p.n_stop_bytes[1] = 6;
        rig_run(&rig, prompt, PROMPT, &p, &got);
        size_t want = find(plain.text, plain.n_text, p.stop[0], n_stop);
        ck_assert_uint_eq(got.n_text, want);
        ck_assert_mem_eq(got.text, plain.text, want);
        ck_assert_int_eq(got.last.finish, MB_FINISH_STOP);
        ck_assert_uint_le(got.n_tokens, TOKENS);
        ck_assert_mem_eq(got.tokens, plain.tokens, got.n_tokens * sizeof got.tokens[0]);
    }
    /* What looked like a stop until the end comes out at the end. */
    char almost[16];
    size_t at = character_at(plain.text, plain.n_text - 4), n = plain.n_text - at;
    memcpy(almost, plain.text + at, n);
    almost[n] = '\1';
    p.stop[0] = almost;
    p.n_stop_bytes[0] = n + 1;
    rig_run(&rig, prompt, PROMPT, &p, &got);
    rig_assert_same(&plain, &got);
}
END_TEST

START_TEST(the_end_of_sequence_ends_it_and_is_not_told)
{
    engine_rig_start(&rig);
    struct mbd_request_params p = rig_params((uint64_t) _i, TOKENS);
    rig_run(&rig, prompt, PROMPT, &p, &plain);
    uint32_t eos = plain.tokens[(_i * 5) % TOKENS], first = 0;
    while (plain.tokens[first] != eos) {
        first++;
    }
    engine_rig_fini(&rig);
    engine_rig_init(&rig, eos);
    engine_rig_start(&rig);
    rig_run(&rig, prompt, PROMPT, &p, &got);
    ck_assert_uint_eq(got.n_tokens, first);
    ck_assert_uint_eq(got.n_drawn, first + 1);
    ck_assert_mem_eq(got.tokens, plain.tokens, first * sizeof got.tokens[0]);
    ck_assert_int_eq(got.last.state, MBD_REQUEST_DONE);
    ck_assert_int_eq(got.last.finish, MB_FINISH_STOP);
    p.ignore_eos = true;
    rig_run(&rig, prompt, PROMPT, &p, &got);
    rig_assert_same(&plain, &got);
    rig_assert_idle(&rig);
}
END_TEST

START_TEST(what_can_never_run_is_refused)
{
    struct mb_error err = { 0 };
    rig.options.kv_bytes = 8 * mb_kv_block_bytes(&rig.model->shape, MB_KV_F16);
    rig.options.context_max = 512;
    engine_rig_start(&rig);
    struct mbd_engine_stats s;
    mbd_engine_stats(rig.engine, &s);
    ck_assert(s.kv_blocks == 8 && s.kv_blocks_free == 8 && s.context_max == 512);
    static const struct {
        uint32_t max_tokens, token;
        enum mb_status want;
    } cases[] = {
        { 8 * MB_KV_BLOCK - PROMPT + 1, 5, MB_OK }, /* the last token needs no place */
        { 8 * MB_KV_BLOCK - PROMPT + 2, 5, MB_E_INVALID },
        { 512 - PROMPT + 1, 5, MB_E_INVALID },
        { UINT32_MAX, 5, MB_E_INVALID },
        { 1, RIG_VOCAB - 1, MB_OK },
        { 1, RIG_VOCAB, MB_E_INVALID },
        { 1, UINT32_MAX, MB_E_INVALID },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mbd_request_params p = rig_params(1, cases[i].max_tokens);
        prompt[PROMPT / 2] = cases[i].token;
        struct mbd_request *q = rig_request(&rig, prompt, PROMPT, &p);
        ck_assert_int_eq(mbd_engine_submit(rig.engine, q, &err), cases[i].want);
        if (cases[i].want == MB_OK) {
            memset(&got, 0, sizeof got);
            rig_finish(q, &got);
            ck_assert_uint_eq(got.n_tokens, cases[i].max_tokens);
        }
        mbd_request_unref(q);
    }
}
END_TEST

START_TEST(a_context_need_not_be_whole_blocks)
{
    rig.options.context_max = 2 * MB_KV_BLOCK + 2; /* the last position stored begins a block */
    engine_rig_start(&rig);
    struct mbd_request_params p = rig_params(1, rig.options.context_max - PROMPT);
    rig_run(&rig, prompt, PROMPT, &p, &got);
    ck_assert_int_eq(got.last.state, MBD_REQUEST_DONE);
    ck_assert_uint_eq(got.n_tokens, p.max_tokens);
    rig_assert_idle(&rig);
}
END_TEST

START_TEST(options_out_of_range_are_refused_by_name)
{
    static const struct {
        size_t offset;
        const char *name;
    } fields[] = {
        { offsetof(struct mbd_engine_options, threads), "--threads" },
        { offsetof(struct mbd_engine_options, sequences_max), "--max-sequences" },
        { offsetof(struct mbd_engine_options, step_tokens_max), "--step-tokens" },
        { offsetof(struct mbd_engine_options, queue_requests_max), "--queue-requests" },
        { offsetof(struct mbd_engine_options, context_max), "--context" },
    };
    struct mb_error err = { 0 };
    struct mbd_engine *e;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        struct mbd_engine_options o = rig.options;
        uint32_t many = UINT32_MAX;
        memcpy((char *) &o + fields[i].offset, &many, sizeof many);
        ck_assert_int_eq(mbd_engine_new(rig.model, rig.tokenizer, &o, &e, &err), MB_E_INVALID);
        ck_assert_ptr_nonnull(strstr(err.what, fields[i].name));
    }
    struct mbd_engine_options o = rig.options;
    o.threads = 0;
    ck_assert_int_eq(mbd_engine_new(rig.model, rig.tokenizer, &o, &e, &err), MB_E_INVALID);
    o = rig.options;
    o.kv_bytes = 1;
    ck_assert_int_eq(mbd_engine_new(rig.model, rig.tokenizer, &o, &e, &err), MB_E_INVALID);
    ck_assert_ptr_nonnull(strstr(err.what, "--kv-memory"));
}
END_TEST

/* A model that takes a millisecond a token, whatever it is of; at least. */
struct slow_model {
    atomic_uint n_both, most; /* batches of both kinds, and the tokens of the largest */
    atomic_uint alone_most;   /* of those without a decoding sequence */
};

static enum mb_status be_slow(void *arg, const struct mb_batch *b)
{
    struct slow_model *m = arg;
    rig_sleep_ms(b->n_tokens);
    bool decodes = b->n_tokens > 1 && b->seq[0] != b->seq[1];
    atomic_uint *most = decodes ? &m->most : &m->alone_most;
    m->n_both += decodes;
    if (b->n_tokens > atomic_load(most)) {
        atomic_store(most, b->n_tokens);
    }
    return MB_OK;
}

/* A prompt that comes beside a stream is read in pieces that fit the time of a step; one that is
 * alone, in whole steps. Time only has a lower bound here, so a busy machine changes nothing. */
START_TEST(a_prompt_keeps_the_time_of_a_step)
{
    enum { LONG = 400, STEP_MS = 40 };
    static struct slow_model slow;
    static struct result last, first;
    static uint32_t tokens[LONG];
    rig.options.step_time_ms = STEP_MS;
    rig.options.step_tokens_max = 128;
    rig_set_hook(be_slow, &slow);
    engine_rig_start(&rig);
    struct mbd_request_params p = rig_params(1, 1000);
    p.ignore_eos = true;
    rig_prompt(1, 5, tokens);
    struct mbd_request *stream = rig_request(&rig, tokens, 5, &p);
    rig_submit(&rig, stream);
    while (first.n_tokens < 3) {
        (void) rig_read(stream, &first);
        rig_sleep_ms(1);
    }
    p = rig_params(2, 1);
    rig_prompt(2, LONG, tokens);
    rig_run(&rig, tokens, LONG, &p, &last);
    ck_assert_uint_eq(last.n_tokens, 1);
    ck_assert_uint_le(slow.most, STEP_MS);
    ck_assert_uint_ge(slow.n_both, LONG / STEP_MS);
    ck_assert_uint_le(slow.n_both, LONG / 16 + 1);
    mbd_request_cancel(stream);
    rig_finish(stream, &first);
    mbd_request_unref(stream);

    rig_run(&rig, tokens, LONG, &p, &last);
    ck_assert_uint_eq(slow.alone_most, 128);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("engine");
    TCase *t = tcase_create("engine");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, tokens_and_logprobs_are_those_of_the_model, 0, 2);
    tcase_add_test(t, text_is_the_whole_decoded_at_once);
    tcase_add_test(t, the_same_seed_replays_and_another_differs);
    tcase_add_loop_test(t, a_stop_string_ends_the_text_before_it, 0, 8);
    tcase_add_loop_test(t, the_end_of_sequence_ends_it_and_is_not_told, 0, 6);
    tcase_add_test(t, what_can_never_run_is_refused);
    tcase_add_test(t, a_context_need_not_be_whole_blocks);
    tcase_add_test(t, options_out_of_range_are_refused_by_name);
    tcase_add_test(t, a_prompt_keeps_the_time_of_a_step);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
