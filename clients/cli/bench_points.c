#include "clients/cli/bench_points.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/command.h"
#include "core/base/half.h"
#include "core/base/rng.h"

/* A point of the default lists that would take longer is left out. */
#define POINT_S_MAX 60.0

enum { RUNS_MAX = 512, DECODE_RUNS_MIN = 3, TRACED_RUNS_MIN = 2 };

static uint64_t now_ns(void)
{
    return (uint64_t) (mbc_now_s() * 1e9);
}

const char *mbc_bench_phase_name(int p)
{
    return p < MB_PHASES ? mb_phase_name((enum mb_phase) p) : "sampling";
}

/* Times of a point's runs, of which the median counts: disturbing a few changes nothing. */
struct runs {
    double s[RUNS_MAX];
    size_t n;
    double sum;
};

static void add_run(struct runs *r, double s)
{
    r->s[r->n++] = s;
    r->sum += s;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

static double median(struct runs *r)
{
    qsort(r->s, r->n, sizeof r->s[0], by_size);
    return (r->s[(r->n - 1) / 2] + r->s[r->n / 2]) / 2;
}

static double position_bytes(const struct mbc_bench *b)
{
    return (double) mb_kv_block_bytes(&b->loaded.model->shape, b->kv_type) / MB_KV_BLOCK;
}

/* Bytes of keys and values of n sequences of so many positions, in whole blocks. */
static double kv_bytes(const struct mbc_bench *b, uint32_t n, uint32_t positions)
{
    return (double) n * mb_kv_blocks_for(positions) * MB_KV_BLOCK * position_bytes(b);
}

/* Does a point fit into memory and into the model's context? Else says why not. */
static bool fits(const struct mbc_bench *b, uint32_t n, uint32_t positions, char why[128])
{
    double bytes = kv_bytes(b, n, positions);
    if (positions > b->loaded.model->shape.context) {
        (void) snprintf(why, 128, "the model's context is %u",
                        (unsigned) b->loaded.model->shape.context);
        return false;
    }
    if (bytes > b->o.kv_bytes) {
        (void) snprintf(why, 128, "keys and values take %.3g GB, --kv-memory is %.3g",
                        bytes * 1e-9, b->o.kv_bytes * 1e-9);
        return false;
    }
    return true;
}

/* Would a point, predicted to take so long, hold everything up? */
static bool is_too_long(const struct mbc_bench_list *list, double seconds, char why[128])
{
    if (list->chosen || seconds <= POINT_S_MAX) {
        return false;
    }
    (void) snprintf(why, 128, "it would take about %.0f s; ask for it by name", seconds);
    return true;
}

/* How much of the past a token at a position sees, itself counted. */
static double seen_from(const struct mb_shape *s, uint32_t position)
{
    uint32_t n = position + 1;
    return s->window != 0 && n > s->window ? s->window : n;
}

/* The machine as it was during a point that has just ended: reading may have changed. */
static struct mbc_machine machine_now(struct mbc_bench *b)
{
    struct mbc_machine m = b->machine;
    double before = b->read_bytes_per_s;
    b->read_bytes_per_s = mbc_machine_read(&b->machine);
    m.all[MBC_UNIT_READ] = fmax(before, b->read_bytes_per_s);
    return m;
}

/* The floor of a prompt, chunk by chunk as it is fed. */
static struct mbc_floor prompt_floor(const struct mbc_bench *b,
                                     const struct mbc_machine *machine, uint32_t n)
{
    const struct mb_model *m = b->loaded.model;
    struct mbc_floor f = { 0 };
    for (uint32_t at = 0; at < n; at += MBC_BENCH_CHUNK) {
        uint32_t end = n - at < MBC_BENCH_CHUNK ? n : at + MBC_BENCH_CHUNK;
        struct mbc_floor_step step = {
            .n_tokens = end - at,
            .n_logits = end == n,
            .positions_stored = seen_from(&m->shape, end - 1),
        };
        for (uint32_t i = at; i < end; i++) {
            step.positions_seen += seen_from(&m->shape, i);
        }
        mbc_floor_add(&f, machine, m, b->kv_type, &step);
    }
    return f;
}

static void set_floor(struct mbc_bench_point *p, const struct mbc_machine *machine,
                      const struct mbc_floor *f, double n_tokens)
{
    p->read_bytes_per_s = machine->all[MBC_UNIT_READ];
    p->floor_tokens_per_s = n_tokens / f->seconds;
    p->limit = mbc_floor_limit(f);
}

/* The stepper's phases over n runs, and sampling. */
static void set_phases(const struct mbc_bench *b, struct mbc_bench_point *p, double sampling_s,
                       size_t n)
{
    uint64_t ns[MB_PHASES];
    mb_stepper_times(b->runtime.stepper, ns);
    for (int i = 0; i < MB_PHASES; i++) {
        p->phase_s[i] = (double) ns[i] * 1e-9 / (double) n;
    }
    p->phase_s[MB_PHASES] = sampling_s / (double) n;
}

static uint32_t draw(struct mbc_bench *b, const float *logits)
{
    struct mb_sampled sampled;
    mb_sampler_draw(b->sampler, logits, 0, 0, &sampled);
    return sampled.token;
}

/* One prompt, to its first token. */
static enum mb_status run_prompt(struct mbc_bench *b, uint32_t n, size_t turn,
                                 double *ret_sampling_s, struct mb_error *err)
{
    const uint32_t *tokens = b->tokens + turn % MBC_BENCH_POINTS_MAX;
    enum mb_status st = mbc_runtime_feed(&b->runtime, b->loaded.model, 0, tokens, n,
                                         MBC_BENCH_CHUNK, b->logits, err);
    double begin = mbc_now_s();
    if (st == MB_OK) {
        (void) draw(b, b->logits);
    }
    *ret_sampling_s = mbc_now_s() - begin;
    mb_kv_release(b->runtime.kv, 0);
    return st;
}

/* The clock runs all the while: against a prompt, reading it is nothing. */
enum mb_status mbc_bench_prompt(struct mbc_bench *b, uint32_t n, struct mbc_bench_point *ret,
                                struct mb_error *err)
{
    struct mbc_bench_point p = { .n = n };
    struct runs runs = { 0 };
    double sampling_s = 0;
    if (!fits(b, 1, n, p.left_out) ||
        is_too_long(&b->o.prompts, n * b->prompt_s_per_token, p.left_out)) {
        *ret = p;
        return MB_OK;
    }
    mb_stepper_set_clock(b->runtime.stepper, now_ns);
    while (runs.n == 0 || (runs.sum < b->o.seconds && runs.n < RUNS_MAX)) {
        double begin = mbc_now_s(), sampling;
        enum mb_status st = run_prompt(b, n, runs.n, &sampling, err);
        if (st != MB_OK) {
            return st;
        }
        add_run(&runs, mbc_now_s() - begin);
        sampling_s += sampling;
    }
    set_phases(b, &p, sampling_s, runs.n);
    mb_stepper_set_clock(b->runtime.stepper, NULL);
    struct mbc_machine machine = machine_now(b);
    struct mbc_floor floor = prompt_floor(b, &machine, n);
    set_floor(&p, &machine, &floor, n);
    p.tokens_per_s = n / median(&runs);
    b->prompt_s_per_token = 1 / p.tokens_per_s;
    *ret = p;
    return MB_OK;
}

/* Keys and values of every position of a sequence, as if it had been fed: feeding long contexts
 * would take minutes, and what stands there changes no time. Normal numbers, none special. */
static void fill_blocks(struct mbc_bench *b, uint32_t seq, uint32_t n_positions)
{
    const struct mb_kv_seq *s = mb_kv_seq(b->runtime.kv, seq);
    const struct mb_shape *shape = &b->loaded.model->shape;
    uint8_t pattern[4096];
    bool half = b->kv_type == MB_KV_F16;
    for (size_t i = 0; i < sizeof pattern / (half ? 2 : 4); i++) {
        float x = (float) (2 * mb_rng_unit(3, 0, i) - 1);
        uint16_t h = mb_f32_to_f16(x);
        memcpy(pattern + i * (half ? 2 : 4), half ? (void *) &h : (void *) &x, half ? 2 : 4);
    }
    size_t bytes = mb_kv_block_bytes(shape, b->kv_type) / shape->n_layers / shape->n_kv_heads;
    for (uint32_t i = 0; i < mb_kv_blocks_for(n_positions); i++) {
        for (uint32_t l = 0; l < shape->n_layers; l++) {
            for (uint32_t h = 0; h < shape->n_kv_heads; h++) {
                uint8_t *at = mb_kv_k(b->runtime.kv, s->blocks[i], l, h); /* V follows K */
                for (size_t done = 0; done < bytes; done += sizeof pattern) {
                    size_t left = bytes - done;
                    memcpy(at + done, pattern, left < sizeof pattern ? left : sizeof pattern);
                }
            }
        }
    }
}

static enum mb_status fill_sequences(struct mbc_bench *b, uint32_t n, uint32_t context,
                                     struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (uint32_t s = 0; st == MB_OK && s < n; s++) {
        st = mb_kv_reserve(b->runtime.kv, s, context, err);
        if (st == MB_OK) {
            fill_blocks(b, s, context);
        }
        if (st == MB_OK && mbc_interrupted()) {
            st = mb_fail(err, MB_E_CANCELLED, 0, "interrupted");
        }
    }
    return st;
}

/* A token of each of n sequences, at the last position of the context, every time the same. */
static enum mb_status run_decode(struct mbc_bench *b, uint32_t n, uint32_t context,
                                 uint32_t *token, double *ret_sampling_s, struct mb_error *err)
{
    uint32_t position[MBC_BENCH_BATCH_MAX], index[MBC_BENCH_BATCH_MAX];
    size_t n_vocab = b->loaded.model->shape.n_vocab;
    for (uint32_t s = 0; s < n; s++) {
        position[s] = context - 1;
        index[s] = s;
        mb_kv_seq(b->runtime.kv, s)->n_positions = context - 1;
    }
    struct mb_batch batch = { n, token, position, index, n, index };
    enum mb_status st = mbc_interrupted()
                            ? mb_fail(err, MB_E_CANCELLED, 0, "interrupted")
                            : mb_step(b->runtime.stepper, b->loaded.model, b->runtime.kv,
                                      &batch, NULL, b->logits, err);
    double begin = mbc_now_s();
    for (uint32_t s = 0; st == MB_OK && s < n; s++) {
        token[s] = draw(b, b->logits + s * n_vocab);
    }
    *ret_sampling_s = mbc_now_s() - begin;
    return st;
}

/* One step to warm up; steps without a clock, whose median is the rate; then some with the
 * clock, which tell where the time goes. */
static enum mb_status measure_decode(struct mbc_bench *b, struct mbc_bench_point *p,
                                     struct mb_error *err)
{
    uint32_t token[MBC_BENCH_BATCH_MAX];
    struct runs runs = { 0 }, traced = { 0 };
    double sampling, sampling_s = 0;
    memcpy(token, b->tokens, p->n * sizeof *token);
    enum mb_status st = run_decode(b, p->n, p->context, token, &sampling, err);
    while (st == MB_OK && (runs.n < DECODE_RUNS_MIN ||
                           (runs.sum < b->o.seconds * 3 / 4 && runs.n < RUNS_MAX))) {
        double begin = mbc_now_s();
        st = run_decode(b, p->n, p->context, token, &sampling, err);
        add_run(&runs, mbc_now_s() - begin);
    }
    mb_stepper_set_clock(b->runtime.stepper, now_ns);
    while (st == MB_OK && (traced.n < TRACED_RUNS_MIN ||
                           (traced.sum < b->o.seconds / 4 && traced.n < RUNS_MAX))) {
        double begin = mbc_now_s();
        st = run_decode(b, p->n, p->context, token, &sampling, err);
        add_run(&traced, mbc_now_s() - begin);
        sampling_s += sampling;
    }
    if (st == MB_OK) {
        set_phases(b, p, sampling_s, traced.n);
        p->tokens_per_s = p->n / median(&runs);
    }
    mb_stepper_set_clock(b->runtime.stepper, NULL);
    return st;
}

enum mb_status mbc_bench_decode(struct mbc_bench *b, uint32_t n, uint32_t context,
                                const struct mbc_bench_point *before,
                                struct mbc_bench_point *ret, struct mb_error *err)
{
    struct mbc_bench_point p = { .n = n, .context = context };
    bool known = before && before->tokens_per_s > 0;
    double step_s = known ? n / before->tokens_per_s : n * b->step_s;
    if (!fits(b, n, context, p.left_out) ||
        is_too_long(&b->o.batches, step_s * (1 + DECODE_RUNS_MIN + TRACED_RUNS_MIN),
                    p.left_out)) {
        *ret = p;
        return MB_OK;
    }
    enum mb_status st = fill_sequences(b, n, context, err);
    if (st == MB_OK) {
        st = measure_decode(b, &p, err);
    }
    for (uint32_t s = 0; s < n; s++) {
        mb_kv_release(b->runtime.kv, s);
    }
    if (st == MB_OK) {
        double seen = n * seen_from(&b->loaded.model->shape, context - 1);
        struct mbc_floor_step step = { n, n, seen, seen };
        struct mbc_floor floor = { 0 };
        struct mbc_machine machine = machine_now(b);
        mbc_floor_add(&floor, &machine, b->loaded.model, b->kv_type, &step);
        set_floor(&p, &machine, &floor, n);
        *ret = p;
    }
    return st;
}

static uint32_t largest(const struct mbc_bench_list *l, uint32_t least)
{
    for (size_t i = 0; i < l->n; i++) {
        least = l->at[i] > least ? l->at[i] : least;
    }
    return least;
}

/* Blocks of the largest point that will be measured. */
static uint32_t blocks_needed(const struct mbc_bench *b)
{
    const struct mbc_bench_options *o = &b->o;
    uint32_t most = 1;
    char why[128];
    for (size_t i = 0; i < o->prompts.n; i++) {
        uint32_t n = mb_kv_blocks_for(o->prompts.at[i]);
        most = n > most && fits(b, 1, o->prompts.at[i], why) ? n : most;
    }
    for (size_t i = 0; i < o->batches.n * o->contexts.n; i++) {
        uint32_t batch = o->batches.at[i / o->contexts.n];
        uint32_t context = o->contexts.at[i % o->contexts.n];
        uint32_t n = batch * mb_kv_blocks_for(context);
        most = n > most && fits(b, batch, context, why) ? n : most;
    }
    return most;
}

static enum mb_status get_memory(struct mbc_bench *b, struct mb_error *err)
{
    const struct mb_shape *s = &b->loaded.model->shape;
    size_t n_logits = (size_t) largest(&b->o.batches, 1) * s->n_vocab;
    size_t n_tokens = largest(&b->o.prompts, MBC_BENCH_BATCH_MAX) + MBC_BENCH_POINTS_MAX;
    b->logits = malloc(n_logits * sizeof *b->logits);
    b->tokens = malloc(n_tokens * sizeof *b->tokens);
    if (!b->logits || !b->tokens) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory");
    }
    for (size_t i = 0; i < n_tokens; i++) {
        b->tokens[i] = (uint32_t) (mb_rng_u64(1, 0, i) % s->n_vocab);
    }
    enum mb_status st = mb_sampler_new(&b->runtime.kernels, s->n_vocab, &b->sampler, err);
    if (st == MB_OK) {
        struct mb_sampling greedy = { .top_p = 1, .repetition_penalty = 1 };
        mb_sampler_start(b->sampler, &greedy, NULL, 0);
    }
    return st;
}

/* The first token brings the weights into memory; the second says how long one takes. */
static enum mb_status warm_up(struct mbc_bench *b, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    double sampling;
    for (size_t i = 0; st == MB_OK && i < 2; i++) {
        double begin = mbc_now_s();
        st = run_prompt(b, 1, i, &sampling, err);
        b->step_s = b->prompt_s_per_token = mbc_now_s() - begin;
    }
    return st;
}

enum mb_status mbc_bench_open(struct mbc_bench *b, const char *path,
                              const struct mbc_bench_options *o, struct mb_error *err)
{
    *b = (struct mbc_bench) { .o = *o };
    enum mb_status st = mbc_load(path, &b->loaded, err);
    if (st != MB_OK) {
        return st;
    }
    b->kv_type = b->loaded.is_float ? MB_KV_F32 : MB_KV_F16;
    uint32_t n_seqs = largest(&o->batches, 1);
    uint32_t positions = largest(&o->contexts, largest(&o->prompts, 1));
    struct mbc_runtime_options ro = {
        .isa = o->isa,
        .n_threads = o->n_threads,
        .kv_type = b->kv_type,
        .n_seqs = n_seqs,
        .positions_max = positions,
        .n_blocks = blocks_needed(b),
        .tokens_max = MBC_BENCH_CHUNK,
        .logits_max = n_seqs,
    };
    st = mbc_runtime_open(&b->runtime, b->loaded.model, &ro, err);
    if (st == MB_OK) {
        st = get_memory(b, err);
    }
    if (st == MB_OK) {
        st = mbc_machine_open(&b->machine, b->runtime.pool, b->runtime.cpu, err);
        b->read_bytes_per_s = b->machine.all[MBC_UNIT_READ];
    }
    return st == MB_OK ? warm_up(b, err) : st;
}

void mbc_bench_close(struct mbc_bench *b)
{
    mbc_machine_close(&b->machine);
    mb_sampler_free(b->sampler);
    mbc_runtime_close(&b->runtime);
    free(b->logits);
    free(b->tokens);
    mbc_unload(&b->loaded);
    *b = (struct mbc_bench) { 0 };
}
