/* How a round of the loop goes: hear the bell (submissions, cancellations), give up what was
 * cancelled, admit, plan, run the model, draw, tell. A round without work sleeps by the bell.
 *
 * Whose is what: a request waits in the mailbox, then in the queue, then it has a slot; each
 * place holds the engine's one reference on it. Slot i is sequence i of the KV cache (J2),
 * whose blocks for the whole need are reserved at admission and released when the slot ends
 * (J1). */
#include "server/engine/engine.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "core/base/parallel.h"
#include "server/clock.h"
#include "server/engine/engine_check.h"
#include "server/engine/mailbox.h"
#include "server/engine/prefix_cache.h"
#include "server/engine/runner.h"
#include "server/engine/slot.h"
#include "server/metrics/metrics.h"
#include "server/requests/request_engine.h"
#include "server/scheduler/pace.h"
#include "server/scheduler/plan.h"

struct mbd_engine {
    struct mbd_engine_options o;
    struct mbd_mailbox mailbox;
    bool draining; /* the control thread's */

    /* The engine thread's. */
    struct mbd_runner runner;
    struct mbd_fair_queue queue;
    struct mbd_prefix_cache prefix;
    struct mbd_plan plan;
    struct mbd_pace pace;
    struct mbd_slot *slots;           /* [sequences_max] */
    struct mbd_plan_slot *plan_slots; /* [sequences_max], what the plan sees of them */
    uint64_t n_admitted;
    uint64_t evicted_told; /* to metrics */
    bool told;             /* a request has events that the control thread was not woken for */

    /* Told to any thread. */
    atomic_uint prefilling, decoding, kv_blocks_free;
    atomic_uint_fast64_t steps, heartbeat_ns;

    pthread_t thread;
    bool started;
    atomic_bool stop;
};

/* --- ends --- */

/* Slot and blocks are given back before the reader can know (J1). */
static void end(struct mbd_engine *e, uint32_t slot, enum mbd_request_state state,
                enum mb_finish finish, enum mb_status status)
{
    static const enum mbd_counter outcome[MBD_REQUEST_STATES] = {
        [MBD_REQUEST_DONE] = MBD_REQUESTS_STOP,
        [MBD_REQUEST_CANCELLED] = MBD_REQUESTS_CANCELLED,
        [MBD_REQUEST_FAILED] = MBD_REQUESTS_FAILED,
    };
    uint64_t now = mbd_now_ns();
    uint64_t submitted = mbd_request_times(e->slots[slot].request).submitted;
    mbd_metrics_add(e->o.metrics,
                    finish == MB_FINISH_LENGTH ? MBD_REQUESTS_LENGTH : outcome[state], 1);
    mbd_metrics_observe(e->o.metrics, MBD_REQUEST_SECONDS, now - submitted);
    mbd_prefix_release(&e->prefix, slot);
    atomic_store_explicit(&e->kv_blocks_free, mbd_prefix_available(&e->prefix),
                          memory_order_relaxed);
    mbd_slot_end(&e->slots[slot], state, finish, status, now);
    e->told = true;
}

/* Of a request that never had a slot. */
static void end_waiting(struct mbd_engine *e, const struct mbd_waiting *w)
{
    mbd_mailbox_left(&e->mailbox, w);
    mbd_metrics_add(e->o.metrics, MBD_REQUESTS_CANCELLED, 1);
    uint64_t now = mbd_now_ns();
    mbd_metrics_observe(e->o.metrics, MBD_REQUEST_SECONDS,
                        now - mbd_request_times(w->request).submitted);
    mbd_request_end(w->request, MBD_REQUEST_CANCELLED, MB_FINISH_NONE, MB_OK, now);
    mbd_request_unref(w->request);
    e->told = true;
}

static bool drop_cancelled(void *arg, const struct mbd_waiting *w)
{
    if (!mbd_request_is_cancelled(w->request)) {
        return false;
    }
    end_waiting(arg, w);
    return true;
}

static bool drop_all(void *arg, const struct mbd_waiting *w)
{
    end_waiting(arg, w);
    return true;
}

static void end_cancelled(struct mbd_engine *e)
{
    for (uint32_t i = 0; i < e->o.sequences_max; i++) {
        struct mbd_request *r = e->slots[i].request;
        if (r && mbd_request_is_cancelled(r)) {
            end(e, i, MBD_REQUEST_CANCELLED, MB_FINISH_NONE, MB_OK);
        }
    }
}

/* The engine ends: nobody's request is left without a last event. */
static void end_everything(struct mbd_engine *e)
{
    mbd_mailbox_take(&e->mailbox, &e->queue);
    mbd_fair_queue_filter(&e->queue, drop_all, e);
    for (uint32_t i = 0; i < e->o.sequences_max; i++) {
        if (e->slots[i].request) {
            end(e, i, MBD_REQUEST_CANCELLED, MB_FINISH_NONE, MB_OK);
        }
    }
}

/* --- a round --- */

static void hear(struct mbd_engine *e)
{
    if (mbd_bell_heard(e->mailbox.bell)) {
        mbd_mailbox_take(&e->mailbox, &e->queue);
        mbd_fair_queue_filter(&e->queue, drop_cancelled, e);
    }
}

/* Where the blocks of its sequence hang; false when they are to be its own. Of a prompt that is scored,
 * or whose hidden states are added up, every position has to be computed. */
static bool find_root(const struct mbd_request *r, struct mbd_prefix_root *ret)
{
    const struct mbd_request_params *p = mbd_request_params(r);
    if (p->want_prompt_scores || p->hidden_width > 0) {
        return false;
    }
    *ret = (struct mbd_prefix_root) { .digest = mbd_request_model(r)->digest };
    memcpy(ret->salt, p->salt, sizeof ret->salt);
    return true;
}

/* The next in the queue gets the slot. */
static void start_next(struct mbd_engine *e, uint32_t slot)
{
    struct mbd_waiting w = mbd_fair_queue_pop(&e->queue);
    /* The context need not be whole blocks: the last one may reach beyond it. */
    uint32_t n_positions = w.n_blocks * MB_KV_BLOCK;
    n_positions = n_positions < e->o.context_max ? n_positions : e->o.context_max;
    struct mbd_prefix_root root;
    uint32_t shared =
        mbd_prefix_start(&e->prefix, slot, find_root(w.request, &root) ? &root : NULL,
                         mbd_request_prompt(w.request), w.n_prompt, n_positions);
    mbd_request_set_cached(w.request, shared);
    mbd_fair_queue_spared(&e->queue, w.tenant, w.low, shared);
    uint64_t now = mbd_now_ns();
    mbd_metrics_observe(e->o.metrics, MBD_QUEUE_SECONDS,
                        now - mbd_request_times(w.request).submitted);
    mbd_metrics_add(e->o.metrics, MBD_PROMPT_TOKENS, w.n_prompt);
    mbd_metrics_add(e->o.metrics, MBD_PREFIX_TOKENS, shared);
    mbd_metrics_add(e->o.metrics, MBD_PREFIX_HITS, shared > 0);
    mbd_slot_start(&e->slots[slot], w.request, shared, e->n_admitted++, now);
    mbd_mailbox_left(&e->mailbox, &w);
}

static void admit(struct mbd_engine *e)
{
    for (uint32_t slot = 0; slot < e->o.sequences_max; slot++) {
        const struct mbd_waiting *next = mbd_fair_queue_next(&e->queue);
        if (!next || next->n_blocks > mbd_prefix_available(&e->prefix)) {
            return; /* who is next is not overtaken */
        }
        if (!e->slots[slot].request) {
            start_next(e, slot);
        }
    }
}

static enum mbd_plan_kind kind_of(const struct mbd_slot *s)
{
    if (!s->request) {
        return MBD_PLAN_FREE;
    }
    if (!mbd_request_may_tell(s->request)) {
        return MBD_PLAN_STALLED;
    }
    return s->n_stored < s->n_prompt ? MBD_PLAN_PROMPT : MBD_PLAN_DECODE;
}

static void plan(struct mbd_engine *e)
{
    uint32_t prefilling = 0, running = 0;
    for (uint32_t i = 0; i < e->o.sequences_max; i++) {
        const struct mbd_slot *s = &e->slots[i];
        e->plan_slots[i] = (struct mbd_plan_slot) {
            .kind = kind_of(s),
            .prompt_left = s->request ? s->n_prompt - s->n_stored : 0,
            .order = s->order,
        };
        running += s->request != NULL;
        prefilling += e->plan_slots[i].prompt_left > 0;
    }
    mbd_plan_step(&e->plan, e->plan_slots, e->o.step_tokens_max, e->pace.tokens);

    uint32_t free_blocks = mbd_prefix_available(&e->prefix),
             blocks = mb_kv_blocks(e->runner.kv);
    atomic_store_explicit(&e->prefilling, prefilling, memory_order_relaxed);
    atomic_store_explicit(&e->decoding, running - prefilling, memory_order_relaxed);
    atomic_store_explicit(&e->kv_blocks_free, free_blocks, memory_order_relaxed);
    mbd_metrics_set(e->o.metrics, MBD_REQUESTS_WAITING, atomic_load(&e->mailbox.waiting));
    mbd_metrics_set(e->o.metrics, MBD_REQUESTS_RUNNING, running);
    mbd_metrics_set(e->o.metrics, MBD_KV_USED_RATIO,
                    (uint64_t) (blocks - free_blocks) * 1000000 / blocks);
}

static void fail(void *arg, uint32_t slot, enum mb_status status)
{
    end(arg, slot, MBD_REQUEST_FAILED, MB_FINISH_NONE, status);
}

/* Blocks that the step filled can be shared from now on. */
static void know_blocks(struct mbd_engine *e)
{
    uint64_t evicted = e->prefix.n_evicted;
    mbd_metrics_add(e->o.metrics, MBD_PREFIX_EVICTIONS, evicted - e->evicted_told);
    e->evicted_told = evicted;
    for (uint32_t i = 0; i < e->plan.n_parts; i++) {
        uint32_t slot = e->plan.parts[i].slot;
        const struct mbd_slot *s = &e->slots[slot];
        struct mbd_prefix_root root;
        if (!e->prefix.on || !s->request ||
            (mbd_prefix_known(&e->prefix, slot) + 1) * MB_KV_BLOCK > s->n_stored ||
            !find_root(s->request, &root)) {
            continue;
        }
        while ((mbd_prefix_known(&e->prefix, slot) + 1) * MB_KV_BLOCK <= s->n_stored) {
            mbd_prefix_add(&e->prefix, slot, &root,
                           mbd_slot_block(s, mbd_prefix_known(&e->prefix, slot)));
        }
    }
}

static void step(struct mbd_engine *e)
{
    uint64_t began = mbd_now_ns();
    if (mbd_runner_run(&e->runner, e->slots, &e->plan, &e->stop, fail, e) != MB_OK) {
        return; /* the engine is being freed */
    }
    uint64_t now = mbd_now_ns();
    know_blocks(e);
    for (uint32_t row = 0; row < e->runner.n_rows; row++) {
        uint32_t slot = e->runner.row_slot[row];
        if (e->slots[slot].stuck) {
            end(e, slot, MBD_REQUEST_FAILED, MB_FINISH_NONE, MB_E_LIMIT);
            continue;
        }
        const struct mbd_request_params *p = mbd_request_params(e->slots[slot].request);
        mbd_fair_queue_drawn(&e->queue, p->tenant, p->low, 1);
        enum mb_finish finish = mbd_slot_tell(&e->slots[slot], now, e->o.metrics);
        e->told = true;
        if (finish != MB_FINISH_NONE) {
            end(e, slot, MBD_REQUEST_DONE, finish, MB_OK);
        }
    }
    mbd_pace_observe(&e->pace, e->plan.n_decoding, e->plan.n_tokens - e->plan.n_decoding,
                     mbd_now_ns() - began);
    atomic_fetch_add_explicit(&e->steps, 1, memory_order_relaxed);
    mbd_metrics_add(e->o.metrics, MBD_ENGINE_STEPS, 1);
    mbd_metrics_observe(e->o.metrics, MBD_STEP_SECONDS, now - began);
    mbd_metrics_observe(e->o.metrics, MBD_BATCH_SEQUENCES, e->plan.n_parts);
    mbd_metrics_observe(e->o.metrics, MBD_BATCH_TOKENS, e->plan.n_tokens);
}

static void wake_control(struct mbd_engine *e)
{
    if (e->told && e->o.wake) {
        e->o.wake(e->o.wake_arg);
    }
    e->told = false;
}

static void *engine_main(void *arg)
{
    struct mbd_engine *e = arg;
    mb_pool_pin_caller(e->runner.pool);
    while (!atomic_load(&e->stop)) {
        atomic_store_explicit(&e->heartbeat_ns, mbd_now_ns(), memory_order_relaxed);
        hear(e);
        end_cancelled(e);
        admit(e);
        plan(e);
        if (e->plan.n_parts > 0) {
            step(e);
        }
        wake_control(e);
        if (e->plan.n_parts == 0) {
            mbd_bell_wait(e->mailbox.bell, MBD_SECOND_NS);
        }
    }
    end_everything(e);
    wake_control(e);
    return NULL;
}

/* --- the control thread --- */

static enum mb_status make_slots(struct mbd_engine *e, struct mb_error *err)
{
    uint32_t n = e->o.sequences_max;
    e->slots = calloc(n, sizeof e->slots[0]);
    e->plan_slots = calloc(n, sizeof e->plan_slots[0]);
    if (!e->slots || !e->plan_slots) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for %u slots", (unsigned) n);
    }
    enum mb_status st = MB_OK;
    for (uint32_t i = 0; i < n && st == MB_OK; i++) {
        st = mbd_slot_init(&e->slots[i], e->o.kernels, e->runner.model->shape.n_vocab, err);
    }
    return st;
}

/* Nobody has to know how blocks are spread over buckets. */
static uint64_t secret(void)
{
    uint64_t n;
    return getrandom(&n, sizeof n, 0) == sizeof n ? n : mbd_now_ns();
}

static enum mb_status start(struct mbd_engine *e, struct mb_model *model, struct mb_error *err)
{
    enum mb_status st = mbd_runner_init(&e->runner, model, &e->o, err);
    if (st != MB_OK) {
        return st;
    }
    st = mbd_mailbox_init(&e->mailbox, e->o.queue_requests_max, e->o.queue_tokens_max, err);
    if (st != MB_OK) {
        return st;
    }
    st = mbd_fair_queue_init(&e->queue, e->o.queue_requests_max, err);
    if (st != MB_OK) {
        return st;
    }
    st = mbd_plan_init(&e->plan, e->o.sequences_max, err);
    if (st != MB_OK) {
        return st;
    }
    st = make_slots(e, err);
    if (st != MB_OK) {
        return st;
    }
    mbd_pace_init(&e->pace, (uint64_t) e->o.step_time_ms * (MBD_SECOND_NS / 1000),
                  e->o.step_tokens_max);
    st = mbd_prefix_init(&e->prefix, e->runner.kv, e->o.prefix_cache, secret(), err);
    if (st != MB_OK) {
        return st;
    }
    atomic_init(&e->kv_blocks_free, mb_kv_blocks_free(e->runner.kv));
    atomic_init(&e->heartbeat_ns, mbd_now_ns());
    int sys = pthread_create(&e->thread, NULL, engine_main, e);
    if (sys != 0) {
        return mb_fail(err, MB_E_NOMEM, sys, "start the engine's thread");
    }
    e->started = true;
    return MB_OK;
}

enum mb_status mbd_engine_new(struct mb_model *model, const struct mb_tokenizer *tokenizer,
                              const struct mbd_engine_options *o, struct mbd_engine **ret,
                              struct mb_error *err)
{
    struct mbd_engine *e = calloc(1, sizeof *e);
    if (!e) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for an engine");
    }
    e->o = *o;
    e->o.context_max = mbd_engine_context(o, &model->shape);
    enum mb_status st = mbd_engine_check(&e->o, &model->shape, tokenizer, err);
    if (st == MB_OK) {
        st = start(e, model, err);
    }
    if (st != MB_OK) {
        mbd_engine_free(e);
        return st;
    }
    *ret = e;
    return MB_OK;
}

void mbd_engine_free(struct mbd_engine *e)
{
    if (!e) {
        return;
    }
    if (e->started) {
        atomic_store(&e->stop, true);
        mbd_bell_ring(e->mailbox.bell);
        pthread_join(e->thread, NULL);
    }
    for (uint32_t i = 0; e->slots && i < e->o.sequences_max; i++) {
        mbd_slot_fini(&e->slots[i]);
    }
    free(e->slots);
    free(e->plan_slots);
    mbd_plan_fini(&e->plan);
    mbd_fair_queue_fini(&e->queue);
    mbd_prefix_fini(&e->prefix);
    mbd_mailbox_fini(&e->mailbox);
    mbd_runner_fini(&e->runner);
    free(e);
}

/* Can r ever run here? */
static enum mb_status check_request(const struct mbd_engine *e, const struct mbd_request *r,
                                    uint32_t n_blocks, struct mb_error *err)
{
    uint32_t n_prompt = mbd_request_prompt_tokens(r);
    uint32_t max_tokens = mbd_request_params(r)->max_tokens;
    if ((uint64_t) n_prompt + max_tokens > e->o.context_max) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "prompt and max_tokens: %u + %u tokens exceed the context of %u",
                       (unsigned) n_prompt, (unsigned) max_tokens, (unsigned) e->o.context_max);
    }
    if (n_blocks > mb_kv_blocks(e->runner.kv)) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "prompt and max_tokens: %u + %u tokens need %u KV blocks; there are %u",
                       (unsigned) n_prompt, (unsigned) max_tokens, (unsigned) n_blocks,
                       (unsigned) mb_kv_blocks(e->runner.kv));
    }
    for (uint32_t i = 0; i < n_prompt; i++) {
        uint32_t token = mbd_request_prompt(r)[i];
        if (token >= e->runner.model->shape.n_vocab) {
            return mb_fail(err, MB_E_INVALID, 0, "prompt: token %u is not below %u",
                           (unsigned) token, (unsigned) e->runner.model->shape.n_vocab);
        }
    }
    return MB_OK;
}

/* What S4 promises, and the scratch relies on. */
static bool has_our_shape(const struct mbd_engine *e, const struct mb_model *m)
{
    return m && memcmp(&m->shape, &e->runner.model->shape, sizeof m->shape) == 0;
}

enum mb_status mbd_engine_submit(struct mbd_engine *e, struct mbd_request *r,
                                 struct mb_error *err)
{
    assert(has_our_shape(e, mbd_request_model(r)));
    /* The last token is told, and never stored. The sum may wrap, for what check refuses. */
    uint32_t n_prompt = mbd_request_prompt_tokens(r);
    uint32_t max_tokens = mbd_request_params(r)->max_tokens;
    uint32_t n_stored = n_prompt + (max_tokens > 0 ? max_tokens - 1 : 0);
    struct mbd_waiting w = {
        .request = r,
        .n_prompt = n_prompt,
        .n_blocks = mb_kv_blocks_for(n_stored),
        .tenant = mbd_request_params(r)->tenant,
        .low = mbd_request_params(r)->low,
    };
    enum mb_status st = check_request(e, r, w.n_blocks, err);
    if (st != MB_OK) {
        return st;
    }
    if (e->draining) {
        mbd_metrics_add(e->o.metrics, MBD_REQUESTS_REFUSED, 1);
        return mb_fail(err, MB_E_UNAVAILABLE, 0, "the server is shutting down");
    }
    mbd_request_attach(mbd_request_ref(r), e->mailbox.bell, mbd_now_ns());
    st = mbd_mailbox_put(&e->mailbox, &w, err);
    if (st != MB_OK) {
        mbd_request_detach(r);
        mbd_request_unref(r);
        mbd_metrics_add(e->o.metrics, MBD_REQUESTS_REFUSED, 1);
    }
    return st;
}

void mbd_engine_drain(struct mbd_engine *e)
{
    e->draining = true;
}

void mbd_engine_stats(const struct mbd_engine *e, struct mbd_engine_stats *ret)
{
    *ret = (struct mbd_engine_stats) {
        .waiting = atomic_load(&e->mailbox.waiting),
        .waiting_tokens = atomic_load(&e->mailbox.waiting_tokens),
        .prefilling = atomic_load_explicit(&e->prefilling, memory_order_relaxed),
        .decoding = atomic_load_explicit(&e->decoding, memory_order_relaxed),
        .kv_blocks = mb_kv_blocks(e->runner.kv),
        .kv_blocks_free = atomic_load_explicit(&e->kv_blocks_free, memory_order_relaxed),
        .steps = atomic_load_explicit(&e->steps, memory_order_relaxed),
        .heartbeat_ns = atomic_load_explicit(&e->heartbeat_ns, memory_order_relaxed),
        .context_max = e->o.context_max,
        .sequences_max = e->o.sequences_max,
    };
}
