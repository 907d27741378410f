/* mbool bench: how fast a model runs here, beside what the memory of this machine allows.
 *
 * The floor: a step must read every weight once, and each sequence's keys and values. The time
 * that this takes at the measured bandwidth bounds the rate from above wherever memory is the
 * limit: in decoding. A prompt is limited by arithmetic, so it is far from this bound; a model
 * that fits into the caches may pass it. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "clients/cli/command.h"
#include "clients/cli/load.h"
#include "clients/cli/runtime.h"
#include "core/base/memory.h"
#include "core/base/rng.h"

enum { THREADS, ISA, JSON };

static const struct mbc_option options[] = {
    [THREADS] = { "threads", "N", "threads to compute with (default: all processors)" },
    [ISA] = { "isa", "NAME", "auto, avx512vnni, avx512, avx2 or c (default auto)" },
    [JSON] = { "json", NULL, "print one JSON object" },
    { 0 },
};

static int run_bench(int argc, char **argv);

const struct mbc_command mbc_bench = {
    .name = "bench",
    .arguments = "MODEL",
    .summary = "measure prompts, decoding and memory",
    .details =
        "MODEL is an .mbool file, or a Hugging Face folder or GGUF file, which runs as the float\n"
        "model.\n"
        "The floor of a rate is what reading the weights and the cache once a step allows.",
    .options = options,
    .run = run_bench,
};

enum {
    CHUNK = 512, /* tokens of a prompt in a step */
    BATCH_MAX = 16,
    CONTEXT = 128,        /* positions of a sequence before decoding is measured */
    DECODE_STEPS = 32,    /* at least 8 of them fit into any context that is measured */
    READ_BYTES = 1 << 28, /* well beyond the caches */
};

static const uint32_t prompt_sizes[] = { 32, 128, 512 };
static const uint32_t batch_sizes[] = { 1, 2, 4, 8, 16 };
enum {
    N_PROMPTS = sizeof prompt_sizes / sizeof prompt_sizes[0],
    N_BATCHES = sizeof batch_sizes / sizeof batch_sizes[0],
};

struct rate {
    uint32_t n; /* tokens of the prompt, or sequences of the batch; 0: does not fit */
    uint32_t context;
    double tokens_per_s, floor_tokens_per_s;
};

struct bench {
    struct mbc_model loaded;
    struct mbc_runtime runtime;
    uint64_t n_threads;
    const char *isa;
    double read_1_gb_per_s, read_gb_per_s;
    double weight_bytes; /* read by every step */
    struct rate prompts[N_PROMPTS], decodes[N_BATCHES];
    uint64_t prompt_ns[MB_PHASES], decode_ns[MB_PHASES]; /* longest prompt, smallest batch */
    float *logits;
    uint32_t tokens[BATCH_MAX * CHUNK];
};

static uint64_t now_ns(void)
{
    return (uint64_t) (mbc_now_s() * 1e9);
}

/* Reading: each part sums its own stretch of memory. */

struct read_job {
    const uint64_t *at;
    size_t per_part; /* words */
    uint64_t sums[MB_THREADS_MAX];
};

static void read_part(void *job, size_t part, size_t worker)
{
    struct read_job *j = job;
    const uint64_t *at = j->at + part * j->per_part;
    uint64_t sum[8] = { 0 };
    for (size_t i = 0; i + 8 <= j->per_part; i += 8) {
        for (size_t k = 0; k < 8; k++) {
            sum[k] += at[i + k];
        }
    }
    for (size_t k = 0; k < 8; k++) {
        j->sums[part] += sum[k];
    }
}

/* The best of a few passes, in GB/s. */
static double measure_reading(struct mb_pool *pool, const uint64_t *at)
{
    struct read_job *j = mb_alloc(1, sizeof *j);
    double best = 0;
    size_t n = mb_pool_threads(pool);
    for (int pass = 0; j && pass < 4; pass++) {
        *j = (struct read_job) { .at = at, .per_part = READ_BYTES / sizeof *at / n / 8 * 8 };
        double t0 = mbc_now_s();
        mb_pool_run(pool, n, read_part, j);
        double rate = (double) (j->per_part * sizeof *at * n) / (mbc_now_s() - t0) * 1e-9;
        best = fmax(best, rate);
    }
    volatile uint64_t sink = j ? j->sums[0] : 0; /* so that nobody leaves the sums out */
    (void) sink;
    mb_free(j);
    return best;
}

static enum mb_status measure_memory(struct bench *b, struct mb_error *err)
{
    uint64_t *at = mb_alloc(READ_BYTES, 1);
    if (!at) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to measure reading");
    }
    for (size_t i = 0; i < READ_BYTES / sizeof *at; i += 512) {
        at[i] = i; /* a page of zeros that nobody wrote is one page for all */
    }
    b->read_1_gb_per_s = measure_reading(NULL, at);
    b->read_gb_per_s = measure_reading(b->runtime.pool, at);
    mb_free(at);
    return MB_OK;
}

static double linear_bytes(const struct mb_linear *l)
{
    const struct mb_bool_shape *s = &l->boolean.shape;
    if (l->kind == MB_LINEAR_BOOL) {
        return (double) (mb_bool_bits_bytes(s) + mb_bool_scale_bytes(s) +
                         mb_bool_coef_bytes(s));
    }
    return (double) l->n_rows * l->n_cols * (l->kind == MB_LINEAR_F32 ? 4 : 2);
}

static double weight_bytes(const struct mb_model *m)
{
    double sum = linear_bytes(&m->head);
    for (uint32_t i = 0; i < m->shape.n_layers; i++) {
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            sum += linear_bytes(&m->blocks[i].linear[l]);
        }
    }
    return sum;
}

static enum mb_kv_type kv_type(const struct bench *b)
{
    return b->loaded.is_float ? MB_KV_F32 : MB_KV_F16;
}

/* Bytes of keys and values of one sequence. */
static double kv_bytes(const struct bench *b, uint32_t context)
{
    double block = (double) mb_kv_block_bytes(&b->loaded.model->shape, kv_type(b));
    return block / MB_KV_BLOCK * context;
}

static enum mb_status feed(struct bench *b, uint32_t seq, const uint32_t *tokens, uint32_t n,
                           struct mb_error *err)
{
    return mbc_runtime_feed(&b->runtime, b->loaded.model, seq, tokens, n, CHUNK, b->logits,
                            err);
}

/* Repeats a prompt of n tokens until a quarter of a second has passed; the best counts. */
static enum mb_status measure_prompt(struct bench *b, uint32_t n, struct rate *ret,
                                     struct mb_error *err)
{
    double best = INFINITY, spent = 0;
    for (int i = 0; i < 3 || (spent < 0.25 && i < 100); i++) {
        mb_stepper_set_clock(b->runtime.stepper, now_ns);
        double t0 = mbc_now_s();
        enum mb_status st = feed(b, 0, b->tokens + i % 7, n, err);
        double t = mbc_now_s() - t0;
        mb_kv_release(b->runtime.kv, 0);
        if (st != MB_OK) {
            return st;
        }
        if (t < best) {
            best = t;
            mb_stepper_times(b->runtime.stepper, b->prompt_ns);
        }
        spent += t;
    }
    double bytes = b->weight_bytes + kv_bytes(b, n);
    *ret = (struct rate) { n, n, n / best, n * b->read_gb_per_s * 1e9 / bytes };
    return MB_OK;
}

/* One step of decoding: a token of each of n sequences. */
static enum mb_status decode_step(struct bench *b, uint32_t n, uint32_t i, struct mb_error *err)
{
    uint32_t token[BATCH_MAX], position[BATCH_MAX], seq[BATCH_MAX], all[BATCH_MAX];
    for (uint32_t s = 0; s < n; s++) {
        token[s] = b->tokens[s * CHUNK + i];
        position[s] = mb_kv_seq(b->runtime.kv, s)->n_positions;
        seq[s] = all[s] = s;
    }
    struct mb_batch batch = { n, token, position, seq, n, all };
    return mb_step(b->runtime.stepper, b->loaded.model, b->runtime.kv, &batch, NULL, b->logits,
                   err);
}

static enum mb_status measure_decode(struct bench *b, uint32_t n, uint32_t context,
                                     uint32_t n_steps, struct rate *ret, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (uint32_t s = 0; st == MB_OK && s < n; s++) {
        st = feed(b, s, b->tokens + s * CHUNK, context, err);
        if (st == MB_OK) {
            st = mb_kv_reserve(b->runtime.kv, s, context + n_steps, err);
        }
    }
    mb_stepper_set_clock(b->runtime.stepper, n == batch_sizes[0] ? now_ns : NULL);
    double t0 = mbc_now_s();
    for (uint32_t i = 0; st == MB_OK && i < n_steps; i++) {
        st = decode_step(b, n, context + i, err);
    }
    double t = mbc_now_s() - t0;
    if (n == batch_sizes[0]) {
        mb_stepper_times(b->runtime.stepper, b->decode_ns);
    }
    for (uint32_t s = 0; s < n; s++) {
        mb_kv_release(b->runtime.kv, s);
    }
    double bytes = b->weight_bytes + n * kv_bytes(b, context + n_steps / 2);
    *ret = (struct rate) { n, context, n * n_steps / t, n * b->read_gb_per_s * 1e9 / bytes };
    return st;
}

static enum mb_status measure(struct bench *b, struct mb_error *err)
{
    uint32_t context = b->loaded.model->shape.context;
    enum mb_status st = measure_memory(b, err);
    for (size_t i = 0; st == MB_OK && i < N_PROMPTS; i++) {
        if (prompt_sizes[i] <= context) {
            st = measure_prompt(b, prompt_sizes[i], &b->prompts[i], err);
        }
    }
    uint32_t n_steps = context > 2 * DECODE_STEPS ? DECODE_STEPS : context / 2;
    uint32_t before = CONTEXT < context - n_steps ? CONTEXT : context - n_steps;
    for (size_t i = 0; st == MB_OK && n_steps > 0 && i < N_BATCHES; i++) {
        if (mbc_interrupted()) {
            return mb_fail(err, MB_E_CANCELLED, 0, "interrupted");
        }
        st = measure_decode(b, batch_sizes[i], before, n_steps, &b->decodes[i], err);
    }
    return st;
}

static enum mb_status open_bench(struct bench *b, const char *path, struct mb_error *err)
{
    enum mb_status st = mbc_load(path, &b->loaded, err);
    if (st != MB_OK) {
        return st;
    }
    const struct mb_shape *s = &b->loaded.model->shape;
    uint32_t positions = s->context < CHUNK ? s->context : CHUNK;
    struct mbc_runtime_options o = {
        .isa = b->isa,
        .n_threads = b->n_threads,
        .kv_type = kv_type(b),
        .n_seqs = BATCH_MAX,
        .positions_max = positions,
        .tokens_max = CHUNK,
        .logits_max = BATCH_MAX,
    };
    b->logits = malloc((size_t) BATCH_MAX * s->n_vocab * sizeof *b->logits);
    if (!b->logits) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory");
    }
    for (size_t i = 0; i < sizeof b->tokens / sizeof b->tokens[0]; i++) {
        b->tokens[i] = (uint32_t) (mb_rng_u64(1, 0, i) % s->n_vocab);
    }
    b->weight_bytes = weight_bytes(b->loaded.model);
    return mbc_runtime_open(&b->runtime, b->loaded.model, &o, err);
}

static json_t *rates_json(const struct rate *rates, size_t n, const char *count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++) {
        if (rates[i].n != 0) {
            json_array_append_new(
                list, json_pack("{s:i, s:i, s:f, s:f}", count, (int) rates[i].n, "context",
                                (int) rates[i].context, "tokens_per_s", rates[i].tokens_per_s,
                                "floor_tokens_per_s", rates[i].floor_tokens_per_s));
        }
    }
    return list;
}

/* Parts of the whole, by phase. */
static json_t *times_json(const uint64_t ns[MB_PHASES])
{
    json_t *times = json_object();
    double sum = 0;
    for (int p = 0; p < MB_PHASES; p++) {
        sum += (double) ns[p];
    }
    for (int p = 0; p < MB_PHASES; p++) {
        json_object_set_new(times, mb_phase_name((enum mb_phase) p),
                            json_real(sum > 0 ? (double) ns[p] / sum : 0));
    }
    return times;
}

static void print_json(const struct bench *b)
{
    json_t *root = json_pack(
        "{s:{s:f, s:f, s:i, s:s}, s:{s:f}, s:o, s:o, s:{s:o, s:o}}", "machine",
        "read_1_thread_gb_per_s", b->read_1_gb_per_s, "read_gb_per_s", b->read_gb_per_s,
        "threads", (int) b->n_threads, "isa", b->runtime.kernels.name, "model", "weight_bytes",
        b->weight_bytes, "prompt", rates_json(b->prompts, N_PROMPTS, "tokens"), "decode",
        rates_json(b->decodes, N_BATCHES, "batch"), "time", "prompt", times_json(b->prompt_ns),
        "decode", times_json(b->decode_ns));
    (void) json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(root);
}

static void print_rates(const char *what, const struct rate *rates, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct rate *r = &rates[i];
        if (r->n != 0) {
            printf("  %s %4u  %10.1f tokens/s   floor %10.1f  %5.1f %%\n", what,
                   (unsigned) r->n, r->tokens_per_s, r->floor_tokens_per_s,
                   100 * r->tokens_per_s / r->floor_tokens_per_s);
        }
    }
}

static void print_times(const char *what, const uint64_t ns[MB_PHASES])
{
    double sum = 0;
    for (int p = 0; p < MB_PHASES; p++) {
        sum += (double) ns[p];
    }
    printf("  %-7s", what);
    for (int p = 0; p < MB_PHASES; p++) {
        printf("  %s %.0f %%", mb_phase_name((enum mb_phase) p),
               sum > 0 ? 100 * (double) ns[p] / sum : 0);
    }
    printf("\n");
}

static void print_text(const struct bench *b)
{
    printf("machine\n  %s, %u threads; reads %.1f GB/s with one thread, %.1f with all\n",
           b->runtime.kernels.name, (unsigned) b->n_threads, b->read_1_gb_per_s,
           b->read_gb_per_s);
    printf("model\n  %.3f MB of weights read by a step\n", b->weight_bytes * 1e-6);
    printf("prompt\n");
    print_rates("tokens", b->prompts, N_PROMPTS);
    printf("decoding after %u positions\n", (unsigned) b->decodes[0].context);
    print_rates("batch ", b->decodes, N_BATCHES);
    printf("time\n");
    print_times("prompt", b->prompt_ns);
    print_times("batch 1", b->decode_ns);
}

static int run_bench(int argc, char **argv)
{
    const char *value, *isa = "auto";
    uint64_t n_threads = mbc_processors();
    int first, status, o;
    bool json = false;
    while ((o = mbc_next_option(&mbc_bench, argc, argv, &value, &first, &status)) >= 0) {
        if (o == THREADS && !mbc_parse_u64(&mbc_bench, options[THREADS].name, value, 1,
                                           MB_THREADS_MAX, &n_threads)) {
            return MBC_USAGE;
        }
        isa = o == ISA ? value : isa;
        json |= o == JSON;
    }
    if (o == MBC_OPT_EXIT) {
        return status;
    }
    if (argc - first != 1) {
        return mbc_usage_error(&mbc_bench, "names one MODEL; got %d", argc - first);
    }
    struct mb_error err = { 0 };
    struct bench *b = calloc(1, sizeof *b);
    enum mb_status st = b ? MB_OK : mb_fail(&err, MB_E_NOMEM, 0, "no memory");
    if (st == MB_OK) {
        mbc_catch_interrupt();
        b->n_threads = n_threads;
        b->isa = isa;
        st = open_bench(b, argv[first], &err);
    }
    if (st == MB_OK) {
        st = measure(b, &err);
    }
    if (st == MB_OK) {
        json ? print_json(b) : print_text(b);
    }
    if (b) {
        mbc_runtime_close(&b->runtime);
        free(b->logits);
        mbc_unload(&b->loaded);
        free(b);
    }
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_bench, &err);
}
