#include "tests/server/engine/engine_rig.h"

#include <string.h>
#include <time.h>

#include "core/base/rng.h"
#include "core/tokenizer/spec.h"
#include "server/clock.h"
#include "tests/check_main.h"

/* --- in place of the metrics --- */

static struct {
    atomic_uint_fast64_t counters[MBD_COUNTERS], gauges[MBD_GAUGES], observed[MBD_HISTOGRAMS];
} recorder;

void mbd_metrics_add(struct mbd_metrics *m, enum mbd_counter c, uint64_t n)
{
    atomic_fetch_add(&recorder.counters[c], n);
}

void mbd_metrics_set(struct mbd_metrics *m, enum mbd_gauge g, uint64_t value)
{
    atomic_store(&recorder.gauges[g], value);
}

void mbd_metrics_observe(struct mbd_metrics *m, enum mbd_histogram h, uint64_t value)
{
    if (value > 100 * MBD_SECOND_NS) { /* not ck_assert: Check allocates to note a success */
        ck_abort_msg("a difference of times went below zero");
    }
    atomic_fetch_add(&recorder.observed[h], 1);
}

uint64_t rig_counter(enum mbd_counter c)
{
    return atomic_load(&recorder.counters[c]);
}

uint64_t rig_observed(enum mbd_histogram h)
{
    return atomic_load(&recorder.observed[h]);
}

uint64_t rig_gauge(enum mbd_gauge g)
{
    return atomic_load(&recorder.gauges[g]);
}

/* --- inside every step --- */

static rig_hook_fn *hook;
static void *hook_arg;

void rig_set_hook(rig_hook_fn *fn, void *arg)
{
    hook = fn;
    hook_arg = arg;
}

enum mb_status __real_mb_step(struct mb_stepper *s, const struct mb_model *m,
                              struct mb_kv_cache *kv, const struct mb_batch *b,
                              const atomic_bool *cancel, float *logits, struct mb_error *err);
enum mb_status __wrap_mb_step(struct mb_stepper *s, const struct mb_model *m,
                              struct mb_kv_cache *kv, const struct mb_batch *b,
                              const atomic_bool *cancel, float *logits, struct mb_error *err);

enum mb_status __wrap_mb_step(struct mb_stepper *s, const struct mb_model *m,
                              struct mb_kv_cache *kv, const struct mb_batch *b,
                              const atomic_bool *cancel, float *logits, struct mb_error *err)
{
    enum mb_status st = hook ? hook(hook_arg, b) : MB_OK;
    return st == MB_OK ? __real_mb_step(s, m, kv, b, cancel, logits, err) : st;
}

/* --- the engine --- */

/* Words of one to three letters, some with a space before; the last are single bytes, so that
 * random tokens make broken and split characters. */
static struct mb_tokenizer *new_tokenizer(uint32_t eos)
{
    struct mb_error err = { 0 };
    struct mb_bpe_spec *spec = mb_bpe_spec_new();
    ck_assert_ptr_nonnull(spec);
    for (uint32_t id = 0; id < RIG_VOCAB; id++) {
        static const char *const bytes[] = { "<0xC3>", "<0xA9>", "<0xE2>", "<0x82>", "<0xAC>",
                                             "<0xF0>", "<0x9F>", "<0x98>", "<0x80>" };
        char text[16];
        if (id >= RIG_VOCAB - 9) {
            (void) snprintf(text, sizeof text, "%s", bytes[id - (RIG_VOCAB - 9)]);
        } else {
            (void) snprintf(text, sizeof text, "%s%c%.*s", id % 4 == 0 ? " " : "",
                            (char) ('a' + id % 26), (int) (id / 26), "xyz");
        }
        mb_assert_ok(mb_bpe_spec_token(spec, id, text, strlen(text), MB_TOKEN_PRESENT, &err),
                     &err);
    }
    struct mb_bpe_text space = mb_bpe_spec_text(spec, " ", 1);
    struct mb_bpe_step steps[] = {
        { .kind = MB_BPE_BYTE_TOKENS },
        { .kind = MB_BPE_FUSE },
        { .kind = MB_BPE_STRIP, .count_start = 1, .content = space }, /* of a whole text */
    };
    for (size_t i = 0; i < 3; i++) {
        mb_assert_ok(mb_bpe_spec_step(spec, MB_BPE_DECODER, steps[i], &err), &err);
    }
    if (eos != MB_NO_ID) {
        mb_assert_ok(mb_bpe_ids_add(&spec->eos, eos, &err), &err);
    }
    struct mb_tokenizer *t;
    mb_assert_ok(mb_tokenizer_new(spec, &t, &err), &err);
    mb_bpe_spec_free(spec);
    return t;
}

static void count_wake(void *arg)
{
    struct engine_rig *r = arg;
    atomic_fetch_add(&r->n_wakes, 1);
}

void engine_rig_init(struct engine_rig *r, uint32_t eos)
{
    struct tiny_spec spec = tiny_specs[0];
    ck_assert_uint_eq(spec.shape.n_vocab, RIG_VOCAB);
    spec.shape.context = RIG_CONTEXT;
    memset(&recorder, 0, sizeof recorder);
    *r = (struct engine_rig) {
        .model = tiny_model_new(&spec, 5),
        .tokenizer = new_tokenizer(eos),
    };
    struct mb_error err = { 0 };
    mb_assert_ok(mbd_epoch_new(mb_model_ref(r->model), "tiny", 0, &r->epoch, &err), &err);
    mb_kernels_select(&r->kernels, mb_cpu_detect());
    r->options = (struct mbd_engine_options) {
        .threads = 1,
        .kernels = &r->kernels,
        .sequences_max = 4,
        .step_tokens_max = 64,
        .queue_requests_max = 64,
        .queue_tokens_max = 100000,
        .wake = count_wake,
        .wake_arg = r,
    };
}

void engine_rig_start(struct engine_rig *r)
{
    struct mb_error err = { 0 };
    mb_assert_ok(mbd_engine_new(r->model, r->tokenizer, &r->options, &r->engine, &err), &err);
}

void engine_rig_fini(struct engine_rig *r)
{
    mbd_engine_free(r->engine);
    mb_tokenizer_free(r->tokenizer);
    ck_assert_uint_eq(mbd_epoch_requests(r->epoch), 0); /* J1 */
    mbd_epoch_unref(r->epoch);
    mb_model_unref(r->model);
    rig_set_hook(NULL, NULL);
}

/* --- a control thread's work --- */

struct mbd_request_params rig_params(uint64_t seed, uint32_t max_tokens)
{
    return (struct mbd_request_params) {
        .sampling = { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = seed },
        .max_tokens = max_tokens,
    };
}

void rig_prompt(uint64_t seed, uint32_t n, uint32_t *ret)
{
    for (uint32_t i = 0; i < n; i++) {
        ret[i] = (uint32_t) (mb_rng_u64(seed, 77, i) % RIG_VOCAB);
    }
}

struct mbd_request *rig_request(const struct engine_rig *r, const uint32_t *prompt, uint32_t n,
                                const struct mbd_request_params *p)
{
    struct mb_error err = { 0 };
    struct mbd_request *q;
    mb_assert_ok(mbd_request_new(r->tokenizer, prompt, n, p, &q, &err), &err);
    mbd_request_use(q, r->epoch);
    return q;
}

void rig_submit(struct engine_rig *r, struct mbd_request *q)
{
    struct mb_error err = { 0 };
    mb_assert_ok(mbd_engine_submit(r->engine, q, &err), &err);
}

/* Bytes that a character starting with c has; 0 when none starts so. */
static size_t character_bytes(uint8_t c)
{
    return c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
}

static void assert_whole_characters(const char *text, size_t n)
{
    for (size_t i = 0; i < n;) {
        size_t more = character_bytes((uint8_t) text[i]);
        ck_assert_msg(more > 0 && i + more <= n, "text is cut at byte %zu of %zu", i, n);
        for (size_t j = 1; j < more; j++) {
            ck_assert_uint_eq((uint8_t) text[i + j] & 0xc0, 0x80);
        }
        i += more;
    }
}

bool rig_read(struct mbd_request *q, struct result *ret)
{
    struct mbd_event e;
    while (!mbd_request_state_is_final(ret->last.state) && mbd_request_next(q, &e)) {
        assert_whole_characters(e.text, e.n_text);
        ck_assert_uint_le(ret->n_text + e.n_text, RIG_TEXT_MAX);
        memcpy(ret->text + ret->n_text, e.text, e.n_text);
        ret->n_text += e.n_text;
        ret->n_drawn += e.state == MBD_REQUEST_DECODE;
        if (e.has_token) {
            ck_assert_uint_lt(ret->n_tokens, RIG_CONTEXT);
            ret->logprobs[ret->n_tokens] = e.logprob;
            ret->best[ret->n_tokens] = e.top[0];
            ret->tokens[ret->n_tokens++] = e.token;
            ret->n_top = e.n_top;
        }
        ret->last = e;
        ret->last.text = NULL;
    }
    return mbd_request_state_is_final(ret->last.state);
}

void rig_sleep_ms(unsigned ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = (long) (ms % 1000) * 1000000 };
    (void) nanosleep(&t, NULL);
}

void rig_finish(struct mbd_request *q, struct result *ret)
{
    uint64_t until = mbd_now_ns() + 60 * MBD_SECOND_NS;
    while (!rig_read(q, ret)) {
        ck_assert_msg(mbd_now_ns() < until, "a request did not end within a minute");
        rig_sleep_ms(1);
    }
    struct mbd_event e;
    ck_assert(!mbd_request_next(q, &e)); /* nothing after the last event */
}

void rig_run(struct engine_rig *r, const uint32_t *prompt, uint32_t n,
             const struct mbd_request_params *p, struct result *ret)
{
    struct mbd_request *q = rig_request(r, prompt, n, p);
    memset(ret, 0, sizeof *ret);
    rig_submit(r, q);
    rig_finish(q, ret);
    mbd_request_unref(q);
}

void rig_assert_same(const struct result *a, const struct result *b)
{
    ck_assert_uint_eq(a->n_tokens, b->n_tokens);
    ck_assert_mem_eq(a->tokens, b->tokens, a->n_tokens * sizeof a->tokens[0]);
    ck_assert_mem_eq(a->logprobs, b->logprobs, a->n_tokens * sizeof a->logprobs[0]);
    ck_assert_uint_eq(a->n_text, b->n_text);
    ck_assert_mem_eq(a->text, b->text, a->n_text);
    ck_assert_int_eq(a->last.state, b->last.state);
    ck_assert_int_eq(a->last.finish, b->last.finish);
}

void rig_assert_idle(struct engine_rig *r)
{
    uint64_t until = mbd_now_ns() + 20 * MBD_SECOND_NS;
    struct mbd_engine_stats s;
    do {
        ck_assert_msg(mbd_now_ns() < until, "the engine is not idle");
        rig_sleep_ms(1);
        mbd_engine_stats(r->engine, &s);
    } while (s.waiting + s.prefilling + s.decoding > 0 || s.waiting_tokens > 0 ||
             s.kv_blocks_free != s.kv_blocks);
}
