/* Goal:   a block is shared only with who would store the same in it; no block is lost, none is in two
 *         hands that write; what a finished sequence leaves counts as free; and a hit changes no bit of
 *         any answer.
 * Method: a crowd of sequences over few tokens beside a model that knows what each block holds, by all
 *         the tokens before it. Then real engines: the same requests with and without the cache, cut
 *         in many ways, with so little memory that blocks are given up all the time. */
#include "server/engine/prefix_cache.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "core/tokenizer/bpe.h"
#include "tests/check_main.h"
#include "tests/server/engine/engine_rig.h"

enum { SEQS = 6, BLOCKS = 40, LONGEST = 12, ROUNDS = 20000, ROOTS = 3 };

struct seq {
    bool live;
    uint32_t n_prompt, n_positions, n_stored;
    struct mbd_prefix_root root;
    uint32_t tokens[LONGEST * MB_KV_BLOCK];
};

struct world {
    uint64_t seed, n_draws, n_shared;
    struct mb_kv_cache *kv;
    struct mbd_prefix_cache cache;
    struct seq seqs[SEQS];
    uint64_t holds[BLOCKS]; /* a digest of what was stored there; 0: nothing whole */
};

static uint64_t draw(struct world *w, uint64_t n)
{
    return mb_rng_u64(w->seed, 0, w->n_draws++) % n;
}

/* Of the weights, the salt, and all tokens up to the end of the block. */
static uint64_t digest(const struct seq *s, uint32_t block)
{
    uint64_t h = s->root.digest * 31 + s->root.salt[5] + 1;
    for (uint32_t i = 0; i < (block + 1) * MB_KV_BLOCK; i++) {
        h = (h ^ s->tokens[i]) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return h | 1;
}

static uint32_t used_blocks(const struct world *w)
{
    uint32_t n = 0;
    bool seen[BLOCKS] = { false };
    for (uint32_t i = 0; i < SEQS; i++) {
        const struct mb_kv_seq *s = mb_kv_seq(w->kv, i);
        for (uint32_t k = 0; k < s->n_blocks; k++) {
            n += !seen[s->blocks[k]];
            seen[s->blocks[k]] = true;
        }
    }
    return n;
}

static void start(struct world *w, uint32_t i)
{
    struct seq *s = &w->seqs[i];
    uint32_t n_positions = 1 + (uint32_t) draw(w, LONGEST * MB_KV_BLOCK - 1);
    if (mb_kv_blocks_for(n_positions) > mbd_prefix_available(&w->cache)) {
        return;
    }
    *s = (struct seq) { .live = true, .n_positions = n_positions };
    s->n_prompt = 1 + (uint32_t) draw(w, n_positions);
    s->root.digest = draw(w, ROOTS) / 2;
    s->root.salt[5] = (uint8_t) draw(w, 2);
    /* Each block is one of two, so that many begin alike; now and then only its last token differs. */
    for (uint32_t k = 0; k < LONGEST; k++) {
        uint32_t kind = (uint32_t) draw(w, 4) == 0;
        for (uint32_t j = 0; j < MB_KV_BLOCK; j++) {
            s->tokens[k * MB_KV_BLOCK + j] = j == MB_KV_BLOCK - 1 ? kind : j;
        }
    }
    bool alone = draw(w, 8) == 0;
    uint32_t shared = mbd_prefix_start(&w->cache, i, alone ? NULL : &s->root, s->tokens,
                                       s->n_prompt, n_positions);
    const struct mb_kv_seq *kv = mb_kv_seq(w->kv, i);
    ck_assert_uint_eq(kv->n_positions, shared);
    ck_assert_uint_eq(kv->n_blocks, mb_kv_blocks_for(n_positions));
    ck_assert_uint_lt(shared, s->n_prompt);
    ck_assert(!alone || shared == 0);
    for (uint32_t k = 0; k < kv->n_blocks; k++) {
        uint32_t block = kv->blocks[k];
        if (k * MB_KV_BLOCK < shared) {
            ck_assert_uint_eq(w->holds[block], digest(s, k));
        } else {
            ck_assert_uint_eq(mb_kv_refs(w->kv, block), 1); /* it alone writes there */
            w->holds[block] = 0;
        }
    }
    s->n_stored = shared;
    w->n_shared += shared > 0;
    s->root.digest = alone ? UINT64_MAX : s->root.digest;
}

/* Stores some, and makes known what is whole. */
static void go_on(struct world *w, uint32_t i)
{
    struct seq *s = &w->seqs[i];
    struct mb_kv_seq *kv = mb_kv_seq(w->kv, i);
    uint32_t n = 1 + (uint32_t) draw(w, 3 * MB_KV_BLOCK);
    n = n < s->n_positions - s->n_stored ? n : s->n_positions - s->n_stored;
    for (uint32_t k = s->n_stored / MB_KV_BLOCK; k * MB_KV_BLOCK < s->n_stored + n; k++) {
        ck_assert_uint_eq(mb_kv_refs(w->kv, kv->blocks[k]), 1);
        if ((k + 1) * MB_KV_BLOCK <= s->n_stored + n) {
            w->holds[kv->blocks[k]] = digest(s, k);
        }
    }
    s->n_stored += n;
    kv->n_positions = s->n_stored;
    while (s->root.digest != UINT64_MAX &&
           (mbd_prefix_known(&w->cache, i) + 1) * MB_KV_BLOCK <= s->n_stored) {
        uint32_t k = mbd_prefix_known(&w->cache, i);
        mbd_prefix_add(&w->cache, i, &s->root, s->tokens + k * MB_KV_BLOCK);
        ck_assert_uint_eq(w->holds[kv->blocks[k]], digest(s, k));
    }
}

static void end(struct world *w, uint32_t i)
{
    mbd_prefix_release(&w->cache, i);
    w->seqs[i].live = false;
    ck_assert_uint_eq(mb_kv_seq(w->kv, i)->n_blocks, 0);
}

START_TEST(a_crowd_shares_what_is_the_same)
{
    static struct world w;
    struct mb_error err;
    struct engine_rig rig;
    engine_rig_init(&rig, MB_NO_ID);
    memset(&w, 0, sizeof w);
    w.seed = (uint64_t) _i;
    mb_assert_ok(mb_kv_new(&rig.model->shape, MB_KV_F16, BLOCKS, SEQS, LONGEST * MB_KV_BLOCK,
                           &w.kv, &err),
                 &err);
    mb_assert_ok(mbd_prefix_init(&w.cache, w.kv, true, 7, &err), &err);
    for (int round = 0; round < ROUNDS; round++) {
        uint32_t i = (uint32_t) draw(&w, SEQS);
        if (!w.seqs[i].live) {
            start(&w, i);
        } else if (w.seqs[i].n_stored == w.seqs[i].n_positions || draw(&w, 10) == 0) {
            end(&w, i);
        } else {
            go_on(&w, i);
        }
        ck_assert_uint_eq(mbd_prefix_available(&w.cache), BLOCKS - used_blocks(&w)); /* J1 */
    }
    for (uint32_t i = 0; i < SEQS; i++) {
        if (w.seqs[i].live) {
            end(&w, i);
        }
    }
    ck_assert_uint_eq(mbd_prefix_available(&w.cache), BLOCKS);
    ck_assert_uint_gt(w.n_shared, ROUNDS / 200);
    ck_assert_uint_gt(w.cache.n_evicted, ROUNDS / 200);
    mbd_prefix_fini(&w.cache);
    mb_kv_free(w.kv);
    engine_rig_fini(&rig);
}
END_TEST

/* ---- engines ----------------------------------------------------------------------------- */

enum { REQUESTS = 24, PREFIX = 5 * MB_KV_BLOCK + 3 };

static uint32_t prompts[REQUESTS][PREFIX + 200];
static uint32_t lengths[REQUESTS];

/* Some begin with the whole of one of two prefixes, some with a part, some are the same. */
static void make_prompts(void)
{
    for (uint32_t i = 0; i < REQUESTS; i++) {
        uint32_t n = i % 5 == 4 ? 40 : PREFIX;
        rig_prompt(100 + i % 2, n, prompts[i]);
        rig_prompt(i % 7 == 6 ? 7 : 1000 + i, 1 + i * 3, prompts[i] + n);
        lengths[i] = n + 1 + i * 3;
        if (i % 6 == 5) {
            memcpy(prompts[i], prompts[i - 1], sizeof prompts[i]);
            lengths[i] = lengths[i - 1];
        }
    }
}

static struct mbd_request_params params_of(uint32_t i)
{
    struct mbd_request_params p = rig_params(i, 30 + i * 5);
    p.want_logprob = true;
    p.want_top = 2;
    p.salt[0] = i % 8 == 7;
    return p;
}

/* All at once; the answers into ret. */
static void run_all(bool cache, uint32_t step_tokens, uint32_t sequences, uint32_t blocks,
                    struct result *ret)
{
    static struct mbd_request *q[REQUESTS];
    struct engine_rig rig;
    engine_rig_init(&rig, MB_NO_ID);
    rig.options.prefix_cache = cache;
    rig.options.step_tokens_max = step_tokens;
    rig.options.sequences_max = sequences;
    rig.options.kv_bytes = (uint64_t) blocks * mb_kv_block_bytes(&rig.model->shape, MB_KV_F16);
    engine_rig_start(&rig);
    for (uint32_t turn = 0; turn < 2; turn++) { /* the second finds what the first left */
        for (uint32_t i = 0; i < REQUESTS; i++) {
            struct mbd_request_params p = params_of(i);
            q[i] = rig_request(&rig, prompts[i], lengths[i], &p);
            rig_submit(&rig, q[i]);
        }
        for (uint32_t i = 0; i < REQUESTS; i++) {
            memset(&ret[i], 0, sizeof ret[i]);
            rig_finish(q[i], &ret[i]);
            ck_assert_uint_eq(ret[i].n_tokens, 30 + i * 5);
            ck_assert(cache || mbd_request_cached_tokens(q[i]) == 0);
            mbd_request_unref(q[i]);
        }
        rig_assert_idle(&rig);
    }
    ck_assert((rig_counter(MBD_PREFIX_HITS) > 0) == cache);
    ck_assert(rig_counter(MBD_PREFIX_TOKENS) >= MB_KV_BLOCK * rig_counter(MBD_PREFIX_HITS));
    engine_rig_fini(&rig);
}

START_TEST(a_hit_changes_no_bit)
{
    static const struct {
        uint32_t step_tokens, sequences, blocks;
    } cases[] = {
        { 256, 8, 400 }, { 8, 8, 400 }, { 64, 3, 40 }, { 33, 1, 20 }, { 16, 16, 30 }
    };
    static struct result want[REQUESTS], got[REQUESTS];
    make_prompts();
    run_all(false, 256, 8, 400, want);
    run_all(true, cases[_i].step_tokens, cases[_i].sequences, cases[_i].blocks, got);
    for (uint32_t i = 0; i < REQUESTS; i++) {
        rig_assert_same(&want[i], &got[i]);
    }
}
END_TEST

/* One after the other, so that what is shared is known. */
START_TEST(what_is_shared_is_told)
{
    struct engine_rig rig;
    static struct result r;
    static uint32_t prompt[200];
    engine_rig_init(&rig, MB_NO_ID);
    rig.options.prefix_cache = true;
    engine_rig_start(&rig);
    rig_prompt(3, 4 * MB_KV_BLOCK, prompt);
    struct {
        uint32_t n, expect;
        uint8_t salt;
        bool scores;
    } cases[] = {
        { 4 * MB_KV_BLOCK, 0, 0, false },
        { 4 * MB_KV_BLOCK, 3 * MB_KV_BLOCK, 0, false }, /* its last token has to be computed */
        { 4 * MB_KV_BLOCK, 0, 1, false },
        { 3 * MB_KV_BLOCK, 2 * MB_KV_BLOCK, 1, false },
        { 3 * MB_KV_BLOCK + 1, 3 * MB_KV_BLOCK, 1, false },
        { MB_KV_BLOCK, 0, 0, false },
        { 4 * MB_KV_BLOCK, 0, 0, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mbd_request_params p = rig_params(1, 4);
        p.salt[31] = cases[i].salt;
        p.want_prompt_scores = cases[i].scores;
        struct mbd_request *q = rig_request(&rig, prompt, cases[i].n, &p);
        rig_submit(&rig, q);
        memset(&r, 0, sizeof r);
        rig_finish(q, &r);
        ck_assert_msg(mbd_request_cached_tokens(q) == cases[i].expect, "case %zu: %u", i,
                      mbd_request_cached_tokens(q));
        mbd_request_unref(q);
    }
    rig_assert_idle(&rig);
    engine_rig_fini(&rig);
}
END_TEST

/* A second turn of a chat: the answer of the first is part of the prompt, and is known as well. */
START_TEST(an_answer_is_shared_too)
{
    struct engine_rig rig;
    static struct result r;
    static uint32_t prompt[600];
    engine_rig_init(&rig, MB_NO_ID);
    rig.options.prefix_cache = true;
    engine_rig_start(&rig);
    rig_prompt(3, 50, prompt);
    struct mbd_request_params p = rig_params(1, 3 * MB_KV_BLOCK);
    struct mbd_request *q = rig_request(&rig, prompt, 50, &p);
    rig_submit(&rig, q);
    memset(&r, 0, sizeof r);
    rig_finish(q, &r);
    mbd_request_unref(q);
    memcpy(prompt + 50, r.tokens, r.n_tokens * sizeof prompt[0]);
    uint32_t n = 50 + r.n_tokens;
    rig_prompt(9, 5, prompt + n);
    q = rig_request(&rig, prompt, n + 5, &p);
    rig_submit(&rig, q);
    memset(&r, 0, sizeof r);
    rig_finish(q, &r);
    /* The last token that was drawn was never stored. */
    ck_assert_uint_eq(mbd_request_cached_tokens(q), (n - 1) / MB_KV_BLOCK * MB_KV_BLOCK);
    mbd_request_unref(q);
    engine_rig_fini(&rig);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("prefix_cache");
    TCase *t = tcase_create("crowd");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_crowd_shares_what_is_the_same, 0, 5);
    suite_add_tcase(s, t);
    t = tcase_create("engine");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, a_hit_changes_no_bit, 0, 5);
    tcase_add_test(t, what_is_shared_is_told);
    tcase_add_test(t, an_answer_is_shared_too);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
