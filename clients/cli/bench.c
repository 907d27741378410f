/* mbool bench: how fast a model runs here, beside what this machine allows (bench_floor.h). */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clients/cli/bench_report.h"
#include "clients/cli/bench_url.h"
#include "clients/cli/command.h"
#include "proto/completion.h"

enum {
    THREADS,
    ISA,
    PROMPT,
    DECODE,
    CONTEXT,
    SECONDS,
    KV_MEMORY,
    QUICK,
    URL,
    CLIENTS,
    RATE,
    REQUESTS,
    MAX_TOKENS,
    SEED,
    JSON
};

static const struct mbc_option options[] = {
    [THREADS] = { "threads", "N", "threads to compute with (default: all processors)" },
    [ISA] = MBC_ISA_OPTION,
    [PROMPT] = { "prompt", "LIST", "tokens of prompts, or 'none' (default 32,128,512,2048)" },
    [DECODE] = { "decode", "LIST",
                 "sequences decoded at once, or 'none' (default 1,2,4,8,16,32)" },
    [CONTEXT] = { "context", "LIST",
                  "positions that they have behind them (default 128,2048)" },
    [SECONDS] = { "seconds", "S", "to spend on a point (default 2)" },
    [KV_MEMORY] = { "kv-memory", "GB",
                    "of keys and values at most (default: a quarter of memory)" },
    [QUICK] = { "quick", NULL, "--prompt 128 --decode 1,4,16 --context 128 --seconds 0.5" },
    [URL] = { "url", "HOST", "measure the daemon at HOST:PORT or URL, as its clients see it" },
    [CLIENTS] = { "clients", "N",
                  "with --url: clients at once (default 4; with --rate a bound, 1024)" },
    [RATE] = { "rate", "R",
               "with --url: R requests/s as they come, whatever became of others" },
    [REQUESTS] = { "requests", "N", "with --url: end when so many were answered" },
    [MAX_TOKENS] = { "max-tokens", "N", "with --url: tokens of an answer (default 64)" },
    [SEED] = { "seed", "S", "with --url: of prompts and arrivals (default 1)" },
    [JSON] = { "json", NULL, "print one JSON object" },
    { 0 },
};

static int run_bench(int argc, char **argv);

const struct mbc_command mbc_bench = {
    .name = "bench",
    .arguments = "MODEL",
    .summary = "measure prompts, decoding and the machine",
    .details =
        "MODEL is an .mbool file, or a Hugging Face folder or GGUF file, which runs as the\n"
        "float model. 'mbool synth' makes one of random weights.\n"
        "\n"
        "First what this machine can do at most: reading memory, and the operations that the\n"
        "kernels are made of, as loops on registers. Then tokens per second, prompts to their\n"
        "first token, decoding with greedy sampling; beside the floor, the least time that\n"
        "the machine could take:\n"
        "\n"
        "  sum over (products, attention, head) of max(bytes / reading, operations / peak)\n"
        "\n"
        "with bytes the weights, or keys and values, once a step (a prompt takes a step for\n"
        "every 512 tokens), and operations, of T tokens: T m n products of bytes or T m n K P\n"
        "bits counted, whichever takes less, for a Boolean m x n matrix of K kernels and P\n"
        "planes; T m n float multiply-adds for a dense one; 2 H d float multiply-adds for\n"
        "each token, position it sees and layer. 'limit' is the unit that the floor is made\n"
        "of, GB/s what reading gave beside that point: on a shared machine it changes. A\n"
        "model that fits into the caches is not read from memory and may pass its floor.\n"
        "\n"
        "Then where the time goes. 'wait' is what threads wait for each other. Rates are\n"
        "medians; keys and values of decoded sequences are made up, not computed.\n"
        "\n"
        "With --url, MODEL is a name that the daemon knows, and what is measured is HTTP: time\n"
        "to the first token, between tokens and to the end, as percentiles, and errors by kind:\n"
        "HTTP statuses; connect, timeout, cut, protocol; stream (an error within one); unsent\n"
        "(more requests were due than --clients allows). Without --rate each client sends its\n"
        "next request when the last was answered; with it they come as a Poisson process, and\n"
        "times count from when a request was due. --prompt is one number then (default 128),\n"
        "--seconds the whole run (default 10). MBOOL_API_KEY is sent as the API key.",
    .options = options,
    .run = run_bench,
};

struct arguments {
    struct mbc_bench_options bench;
    const char *url; /* NULL: measure here, without a daemon */
    struct mbc_load_options load;
    bool seconds_set, load_set, json;
};

/* "1,2,4" or "none". */
static bool take_list(int option, const char *text, uint32_t max, struct mbc_bench_list *ret)
{
    const char *name = options[option].name;
    char copy[256];
    struct mbc_bench_list list = { .chosen = true };
    if (strcmp(text, "none") == 0) {
        *ret = list;
        return true;
    }
    if (strlen(text) >= sizeof copy) {
        (void) mbc_usage_error(&mbc_bench, "--%s: the list is too long", name);
        return false;
    }
    memcpy(copy, text, strlen(text) + 1);
    for (char *rest = copy; rest;) {
        const char *word = strsep(&rest, ",");
        uint64_t v;
        if (!mbc_parse_u64(&mbc_bench, name, word, 1, max, &v)) {
            return false;
        }
        if (list.n == MBC_BENCH_POINTS_MAX) {
            (void) mbc_usage_error(&mbc_bench, "--%s: more than %d numbers", name,
                                   MBC_BENCH_POINTS_MAX);
            return false;
        }
        list.at[list.n++] = (uint32_t) v;
    }
    *ret = list;
    return true;
}

static void set_quick(struct mbc_bench_options *o)
{
    o->prompts = (struct mbc_bench_list) { { 128 }, 1, false };
    o->batches = (struct mbc_bench_list) { { 1, 4, 16 }, 3, false };
    o->contexts = (struct mbc_bench_list) { { 128 }, 1, false };
    o->seconds = 0.5;
}

static struct mbc_bench_options defaults(void)
{
    double pages = (double) sysconf(_SC_PHYS_PAGES), page = (double) sysconf(_SC_PAGESIZE);
    return (struct mbc_bench_options) {
        .isa = "auto",
        .n_threads = mbc_processors(),
        .seconds = 2,
        .kv_bytes = pages * page / 4,
        .prompts = { { 32, 128, 512, 2048 }, 4, false },
        .batches = { { 1, 2, 4, 8, 16, 32 }, 6, false },
        .contexts = { { 128, 2048 }, 2, false },
    };
}

/* Options that only go with --url. */
static bool take_load(struct arguments *a, int option, const char *value)
{
    struct mbc_load_options *o = &a->load;
    const char *name = options[option].name;
    uint64_t n = 0;
    bool ok;
    a->load_set = true;
    switch (option) {
    case CLIENTS:
        ok = mbc_parse_u64(&mbc_bench, name, value, 1, MBC_LOAD_CLIENTS_MAX, &n);
        o->n_clients = (uint32_t) n;
        return ok;
    case RATE:
        return mbc_parse_f64(&mbc_bench, name, value, 1e-3, 1e5, &o->rate);
    case REQUESTS:
        return mbc_parse_u64(&mbc_bench, name, value, 1, UINT32_MAX, &o->n_requests_max);
    case MAX_TOKENS:
        ok = mbc_parse_u64(&mbc_bench, name, value, 1, MB_MAX_TOKENS_MAX, &n);
        o->max_tokens = (uint32_t) n;
        return ok;
    default:
        return mbc_parse_u64(&mbc_bench, name, value, 0, UINT64_MAX, &o->seed);
    }
}

static bool take(struct arguments *a, int option, const char *value)
{
    struct mbc_bench_options *o = &a->bench;
    const char *name = options[option].name;
    uint64_t n;
    double x;
    switch (option) {
    case URL:
        a->url = value;
        return true;
    case CLIENTS:
    case RATE:
    case REQUESTS:
    case MAX_TOKENS:
    case SEED:
        return take_load(a, option, value);
    case THREADS:
        if (!mbc_parse_u64(&mbc_bench, name, value, 1, MB_THREADS_MAX, &n)) {
            return false;
        }
        o->n_threads = n;
        return true;
    case ISA:
        o->isa = value;
        return true;
    case PROMPT:
        return take_list(option, value, MB_CONTEXT_MAX, &o->prompts);
    case DECODE:
        return take_list(option, value, MBC_BENCH_BATCH_MAX, &o->batches);
    case CONTEXT:
        return take_list(option, value, MB_CONTEXT_MAX, &o->contexts);
    case SECONDS:
        a->seconds_set = true;
        return mbc_parse_f64(&mbc_bench, name, value, 0, 3600, &o->seconds);
    case KV_MEMORY:
        if (!mbc_parse_f64(&mbc_bench, name, value, 0.001, 1e6, &x)) {
            return false;
        }
        o->kv_bytes = x * 1e9;
        return true;
    case QUICK:
        set_quick(o);
        return true;
    default:
        a->json = true;
        return true;
    }
}

static enum mb_status measure_prompts(struct mbc_bench *b, bool print,
                                      struct mbc_bench_results *r, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    if (print && b->o.prompts.n > 0) {
        mbc_bench_print_titles(false);
    }
    for (size_t i = 0; st == MB_OK && i < b->o.prompts.n; i++) {
        struct mbc_bench_point *p = &r->prompts[i];
        st = mbc_bench_prompt(b, b->o.prompts.at[i], p, err);
        r->n_prompts += st == MB_OK;
        if (st == MB_OK && print) {
            mbc_bench_print_point(p);
        }
    }
    return st;
}

static enum mb_status measure_decodes(struct mbc_bench *b, bool print,
                                      struct mbc_bench_results *r, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    size_t n_batches = b->o.batches.n, n = n_batches * b->o.contexts.n;
    if (print && n > 0) {
        mbc_bench_print_titles(true);
    }
    for (size_t i = 0; st == MB_OK && i < n; i++) {
        struct mbc_bench_point *p = &r->decodes[i];
        const struct mbc_bench_point *before = i % n_batches > 0 ? p - 1 : NULL;
        st = mbc_bench_decode(b, b->o.batches.at[i % n_batches],
                              b->o.contexts.at[i / n_batches], before, p, err);
        r->n_decodes += st == MB_OK;
        if (st == MB_OK && print) {
            mbc_bench_print_point(p);
        }
    }
    return st;
}

static int bench(const struct arguments *a, const char *path)
{
    struct mb_error err = { 0 };
    struct mbc_bench b = { 0 };
    struct mbc_bench_results *r = calloc(1, sizeof *r);
    enum mb_status st = r ? MB_OK : mb_fail(&err, MB_E_NOMEM, 0, "no memory");
    if (st == MB_OK) {
        mbc_catch_interrupt();
        st = mbc_bench_open(&b, path, &a->bench, &err);
    }
    if (st == MB_OK && !a->json) {
        mbc_bench_print_head(&b);
    }
    if (st == MB_OK) {
        st = measure_prompts(&b, !a->json, r, &err);
    }
    if (st == MB_OK) {
        st = measure_decodes(&b, !a->json, r, &err);
    }
    if (st == MB_OK && a->json) {
        mbc_bench_print_json(&b, r);
    }
    mbc_bench_close(&b);
    free(r);
    return st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_bench, &err);
}

/* With --url: what the load is, of options that both kinds of bench share. */
static int bench_url(struct arguments *a, const char *model)
{
    struct mbc_load_options *o = &a->load;
    const struct mbc_bench_list *prompts = &a->bench.prompts;
    if (prompts->chosen && prompts->n != 1) {
        return mbc_usage_error(&mbc_bench, "--prompt: one number, with --url");
    }
    o->model = model;
    o->n_prompt = prompts->chosen ? prompts->at[0] : 128;
    o->seconds = a->seconds_set ? a->bench.seconds : o->n_requests_max ? 3600 : 10;
    if (o->seconds <= 0) {
        return mbc_usage_error(&mbc_bench, "--seconds: more than 0, with --url");
    }
    o->max_tokens = o->max_tokens ? o->max_tokens : 64;
    if (o->n_clients == 0) {
        o->n_clients = o->rate > 0 ? 1024 : 4;
    }
    return mbc_bench_url(a->url, o, a->json);
}

static int run_bench(int argc, char **argv)
{
    struct arguments a = { .bench = defaults(), .load.seed = 1 };
    const char *value;
    int first, status, option;
    while ((option = mbc_next_option(&mbc_bench, argc, argv, &value, &first, &status)) >= 0) {
        if (!take(&a, option, value)) {
            return MBC_USAGE;
        }
    }
    if (option == MBC_OPT_EXIT) {
        return status;
    }
    if (argc - first != 1) {
        return mbc_usage_error(&mbc_bench, "names one MODEL; got %d", argc - first);
    }
    if (a.url) {
        return bench_url(&a, argv[first]);
    }
    if (a.load_set) {
        return mbc_usage_error(&mbc_bench, "--clients, --rate, --requests, --max-tokens and "
                                           "--seed are for --url");
    }
    return bench(&a, argv[first]);
}
