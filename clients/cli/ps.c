/* mbool ps: how a daemon does, from its /readyz, /v1/models and /metrics. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clients/cli/asking.h"
#include "clients/cli/command.h"
#include "clients/cli/runtime.h"
#include "clients/http/metrics_text.h"
#include "proto/json/answer_json.h"

enum { HOST, INTERVAL, JSON };

static const struct mbc_option options[] = {
    [HOST] = MBC_HOST_OPTION,
    [INTERVAL] = { "interval", "S",
                   "seconds over which tokens are counted, to 60 (default 1)" },
    [JSON] = { "json", NULL, "print one JSON object" },
    { 0 },
};

static int run_ps(int argc, char **argv);

const struct mbc_command mbc_ps = {
    .name = "ps",
    .arguments = "[--host HOST]",
    .summary = "show what a daemon is doing",
    .details =
        "Its models with the digest of their weights (the epoch that is served) and when they\n"
        "were last swapped or loaded; requests running and waiting; tokens per second of now; the\n"
        "times that half and 99 of 100 requests waited for, since the daemon started; memory.",
    .options = options,
    .run = run_ps,
};

struct arguments {
    const char *host;
    double interval_s;
    bool json;
};

/* What one look at a daemon shows. A figure that it does not tell of is NaN. */
struct state {
    char version[32], isa[32];
    bool ready;
    char why[200]; /* not ready */
    struct mb_model_listed *models;
    size_t n_models;
    double running, waiting, kv_used, memory_bytes;
    double prompt_per_s, generated_per_s, prompt_total, generated_total;
    double first_p50_s, first_p99_s, between_p50_s, between_p99_s;
};

static bool take(void *arguments, int option, const char *value)
{
    struct arguments *a = arguments;
    switch (option) {
    case HOST:
        a->host = value;
        return true;
    case INTERVAL:
        return mbc_parse_f64(&mbc_ps, "interval", value, 0.05, 60, &a->interval_s);
    default:
        a->json = true;
        return true;
    }
}

/* ---- looking ----------------------------------------------------------------------------- */

static double figure(const char *page, const char *name)
{
    double v;
    return mbc_metrics_sum(page, name, NULL, &v) ? v : (double) NAN;
}

static double quantile(const char *page, const char *name, double q)
{
    double v;
    return mbc_metrics_quantile(page, name, q, &v) ? v : (double) NAN;
}

/* The value of a label of the series mboold_build_info. */
static void read_label(const char *page, const char *label, char *ret, size_t n)
{
    const char *line = strstr(page, "\nmboold_build_info{");
    const char *end = line ? strchr(line + 1, '\n') : NULL;
    const char *at = end ? memmem(line, (size_t) (end - line), label, strlen(label)) : NULL;
    if (at) {
        at += strlen(label);
        (void) snprintf(ret, n, "%.*s", (int) strcspn(at, "\"\n"), at);
    }
}

static enum mb_status look_at_models(struct mbc_transport *t, struct state *s,
                                     struct mb_error *err)
{
    struct mb_bytes body = { 0 };
    enum mb_status st = mbc_get(t, "/v1/models", &body, err);
    if (st == MB_OK) {
        st = mb_models_decode((const char *) body.at, body.len, &s->models, &s->n_models, err);
    }
    mb_bytes_fini(&body);
    return st;
}

/* 503 is an answer here, and its body the reason. */
static enum mb_status look_if_ready(struct mbc_transport *t, struct state *s,
                                    struct mb_error *err)
{
    struct mb_bytes body = { 0 };
    enum mb_status st = mbc_get(t, "/readyz", &body, err);
    s->ready = st == MB_OK;
    if (st == MB_E_UNAVAILABLE) {
        (void) snprintf(s->why, sizeof s->why, "%.*s", (int) sizeof s->why - 1, err->what);
        st = MB_OK;
    }
    mb_bytes_fini(&body);
    return st;
}

static void read_page(const char *page, struct state *s)
{
    static const char first[] = "mboold_time_to_first_token_seconds";
    static const char between[] = "mboold_time_between_tokens_seconds";
    read_label(page, "version=\"", s->version, sizeof s->version);
    read_label(page, "isa=\"", s->isa, sizeof s->isa);
    s->running = figure(page, "mboold_requests_running");
    s->waiting = figure(page, "mboold_requests_waiting");
    s->kv_used = figure(page, "mboold_kv_used_ratio");
    s->memory_bytes = figure(page, "process_resident_memory_bytes");
    s->first_p50_s = quantile(page, first, 0.5);
    s->first_p99_s = quantile(page, first, 0.99);
    s->between_p50_s = quantile(page, between, 0.5);
    s->between_p99_s = quantile(page, between, 0.99);
}

/* Rates are differences of counters, from two pages an interval apart. */
static enum mb_status look_at_metrics(struct mbc_transport *t, double interval_s,
                                      struct state *s, struct mb_error *err)
{
    double prompt = 0, generated = 0, at_s = 0;
    for (int i = 0; i < 2; i++) {
        struct mb_bytes body = { 0 };
        enum mb_status st = mbc_get(t, "/metrics", &body, err);
        if (st != MB_OK) {
            return st;
        }
        const char *page = mb_bytes_text(&body);
        double now_s = mbc_now_s();
        s->prompt_total = figure(page, "mboold_prompt_tokens_total");
        s->generated_total = figure(page, "mboold_generation_tokens_total");
        s->prompt_per_s = (s->prompt_total - prompt) / (now_s - at_s);
        s->generated_per_s = (s->generated_total - generated) / (now_s - at_s);
        prompt = s->prompt_total;
        generated = s->generated_total;
        at_s = now_s;
        read_page(page, s);
        mb_bytes_fini(&body);
        if (i == 0) {
            double whole = floor(interval_s);
            struct timespec pause = { (time_t) whole, (long) ((interval_s - whole) * 1e9) };
            (void) nanosleep(&pause, NULL);
        }
    }
    return MB_OK;
}

/* ---- showing ----------------------------------------------------------------------------- */

/* "-" for what was not told. */
static const char *number(char *ret, size_t n, double v, double scale, const char *fmt)
{
    if (isnan(v)) {
        return "-";
    }
    (void) snprintf(ret, n, fmt, v * scale);
    return ret;
}

/* The part of "mbool-<version>-<digest>" that says which weights these are. */
static const char *digest_of(const struct mb_model_listed *m)
{
    const char *dash = strrchr(m->fingerprint, '-');
    return dash ? dash + 1 : "-";
}

static void ago(int64_t created, char *ret, size_t n)
{
    long long s = (long long) time(NULL) - created;
    if (created <= 0 || s < 0) {
        (void) snprintf(ret, n, "-");
    } else if (s < 120) {
        (void) snprintf(ret, n, "%lld s ago", s);
    } else if (s < 7200) {
        (void) snprintf(ret, n, "%lld min ago", s / 60);
    } else if (s < 48 * 3600) {
        (void) snprintf(ret, n, "%lld h ago", s / 3600);
    } else {
        (void) snprintf(ret, n, "%lld days ago", s / 86400);
    }
}

static void print_state(const struct state *s)
{
    char a[24], b[24], c[24], d[24];
    printf("mboold %s (%s), %s%s\n", s->version[0] ? s->version : "?", s->isa[0] ? s->isa : "?",
           s->ready ? "ready" : "not ready: ", s->why);
    printf("  requests  %s running, %s waiting\n", number(a, sizeof a, s->running, 1, "%.0f"),
           number(b, sizeof b, s->waiting, 1, "%.0f"));
    printf("  tokens    %s/s generated, %s/s of prompts; %s and %s since the start\n",
           number(a, sizeof a, s->generated_per_s, 1, "%.1f"),
           number(b, sizeof b, s->prompt_per_s, 1, "%.1f"),
           number(c, sizeof c, s->generated_total, 1, "%.0f"),
           number(d, sizeof d, s->prompt_total, 1, "%.0f"));
    printf("  waits     first token %s ms (p99 %s), between tokens %s ms (p99 %s)\n",
           number(a, sizeof a, s->first_p50_s, 1e3, "%.2f"),
           number(b, sizeof b, s->first_p99_s, 1e3, "%.2f"),
           number(c, sizeof c, s->between_p50_s, 1e3, "%.2f"),
           number(d, sizeof d, s->between_p99_s, 1e3, "%.2f"));
    printf("  memory    %s MB resident, %s %% of the KV cache used\n",
           number(a, sizeof a, s->memory_bytes, 1e-6, "%.0f"),
           number(b, sizeof b, s->kv_used, 100, "%.1f"));
    int width = 5;
    for (size_t i = 0; i < s->n_models; i++) {
        int len = (int) strlen(s->models[i].id);
        width = len > width ? len : width;
    }
    printf("\n%-*s  %-16s  %s\n", width, "MODEL", "EPOCH", "LAST SWAP");
    for (size_t i = 0; i < s->n_models; i++) {
        char when[32];
        ago(s->models[i].created, when, sizeof when);
        printf("%-*s  %-16s  %s\n", width, s->models[i].id, digest_of(&s->models[i]), when);
    }
}

static json_t *json_of(double v)
{
    return isnan(v) ? json_null() : json_real(v);
}

static void print_json(const struct state *s)
{
    json_t *models = json_array();
    for (size_t i = 0; i < s->n_models; i++) {
        const struct mb_model_listed *m = &s->models[i];
        (void) json_array_append_new(models,
                                     json_pack("{s:s, s:s, s:I, s:I}", "id", m->id, "epoch",
                                               digest_of(m), "swapped", (json_int_t) m->created,
                                               "context", (json_int_t) m->context_max));
    }
    json_t *root = json_pack(
        "{s:s, s:s, s:b, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
        "s:o}",
        "version", s->version, "isa", s->isa, "ready", (int) s->ready, "reason", s->why,
        "requests_running", json_of(s->running), "requests_waiting", json_of(s->waiting),
        "generated_tokens_per_s", json_of(s->generated_per_s), "prompt_tokens_per_s",
        json_of(s->prompt_per_s), "generated_tokens", json_of(s->generated_total),
        "prompt_tokens", json_of(s->prompt_total), "first_token_p50_s", json_of(s->first_p50_s),
        "first_token_p99_s", json_of(s->first_p99_s), "between_tokens_p50_s",
        json_of(s->between_p50_s), "between_tokens_p99_s", json_of(s->between_p99_s),
        "memory_bytes", json_of(s->memory_bytes), "kv_used_ratio", json_of(s->kv_used),
        "models", models);
    (void) json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
}

static enum mb_status ps(const struct arguments *a, struct mb_error *err)
{
    struct mbc_transport *t;
    struct state s = { 0 };
    enum mb_status st = mbc_reach(a->host, &t, err);
    if (st != MB_OK) {
        return st;
    }
    st = look_if_ready(t, &s, err);
    if (st == MB_OK) {
        st = look_at_models(t, &s, err);
    }
    if (st == MB_OK) {
        st = look_at_metrics(t, a->interval_s, &s, err);
    }
    if (st == MB_OK && a->json) {
        print_json(&s);
    } else if (st == MB_OK) {
        print_state(&s);
    }
    free(s.models);
    mbc_transport_free(t);
    return st;
}

static int run_ps(int argc, char **argv)
{
    struct arguments a = { .interval_s = 1 };
    int status;
    if (!mbc_parse_options(&mbc_ps, argc, argv, take, &a, &status)) {
        return status;
    }
    struct mb_error err = { 0 };
    return ps(&a, &err) == MB_OK ? MBC_DONE : mbc_report_error(&mbc_ps, &err);
}
