#include "clients/cli/bench_url.h"

#include <jansson.h>
#include <math.h>

#include "clients/cli/asking.h"

static const double shares[] = { 0.5, 0.9, 0.99, 1 };
enum { SHARES = sizeof shares / sizeof shares[0] };

static bool keep_on(void)
{
    return !mbc_interrupted();
}

/* ---- for people -------------------------------------------------------------------------- */

static void print_times(const char *what, const struct mbc_load_times *t)
{
    printf("  %-18s", what);
    for (size_t i = 0; i < SHARES; i++) {
        double v = mbc_load_percentile(t, shares[i]);
        if (isnan(v)) {
            printf(" %9s", "-");
        } else {
            printf(" %9.3f", v * 1e3);
        }
    }
    printf("\n");
}

static void print_results(const struct mbc_load_options *o, const struct mbc_load_results *r)
{
    if (o->rate > 0) {
        printf("open loop: %g requests/s, at most %u at once", o->rate,
               (unsigned) o->n_clients);
    } else {
        printf("closed loop: %u clients", (unsigned) o->n_clients);
    }
    printf("; prompts of %u tokens, answers of %u\n", (unsigned) o->n_prompt,
           (unsigned) o->max_tokens);
    printf("  requests   %llu done in %.1f s (%.2f/s), %llu failed, %llu cut off at the end\n",
           (unsigned long long) r->n_done, r->seconds, (double) r->n_done / r->seconds,
           (unsigned long long) r->n_failed, (unsigned long long) r->n_cut_off);
    printf("  tokens     %.1f/s generated, %.1f/s of prompts\n",
           (double) r->completion_tokens / r->seconds, (double) r->prompt_tokens / r->seconds);
    printf("\n  %-18s %9s %9s %9s %9s\n", "milliseconds", "p50", "p90", "p99", "max");
    print_times("to first token", &r->first);
    print_times("between tokens", &r->between);
    print_times("whole answer", &r->total);
    for (size_t i = 0; i < r->n_kinds; i++) {
        printf("%s  error %-12s %llu\n", i == 0 ? "\n" : "", r->kinds[i].name,
               (unsigned long long) r->kinds[i].n);
    }
    if (r->n_kinds > 0) {
        printf("  the first: %s\n", r->message);
    }
}

/* ---- for programs ------------------------------------------------------------------------ */

static json_t *times_json(const struct mbc_load_times *t)
{
    static const char *const names[SHARES] = { "p50_s", "p90_s", "p99_s", "max_s" };
    json_t *o = json_pack("{s:I}", "count", (json_int_t) t->n);
    for (size_t i = 0; i < SHARES; i++) {
        double v = mbc_load_percentile(t, shares[i]);
        (void) json_object_set_new(o, names[i], isnan(v) ? json_null() : json_real(v));
    }
    return o;
}

static void print_json(const struct mbc_load_options *o, const struct mbc_load_results *r)
{
    json_t *errors = json_object();
    for (size_t i = 0; i < r->n_kinds; i++) {
        (void) json_object_set_new(errors, r->kinds[i].name,
                                   json_integer((json_int_t) r->kinds[i].n));
    }
    json_t *root = json_pack(
        "{s:s, s:I, s:f, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:o, s:o, s:o, s:o}",
        "loop", o->rate > 0 ? "open" : "closed", "clients", (json_int_t) o->n_clients, "rate",
        o->rate, "prompt", (json_int_t) o->n_prompt, "max_tokens", (json_int_t) o->max_tokens,
        "seconds", r->seconds, "sent", (json_int_t) r->n_sent, "done", (json_int_t) r->n_done,
        "failed", (json_int_t) r->n_failed, "cut_off", (json_int_t) r->n_cut_off,
        "requests_per_s", (double) r->n_done / r->seconds, "generated_tokens_per_s",
        (double) r->completion_tokens / r->seconds, "prompt_tokens_per_s",
        (double) r->prompt_tokens / r->seconds, "first_token", times_json(&r->first),
        "between_tokens", times_json(&r->between), "total", times_json(&r->total), "errors",
        errors);
    (void) json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    printf("\n");
    json_decref(root);
}

int mbc_bench_url(const char *host, const struct mbc_load_options *o, bool json)
{
    struct mb_error err = { 0 };
    struct mbc_transport *t;
    if (mbc_reach(host, &t, &err) != MB_OK) {
        return mbc_report_error(&mbc_bench, &err);
    }
    mbc_catch_interrupt();
    struct mbc_load_results r;
    enum mb_status st = mbc_load_run(t, o, keep_on, &r, &err);
    bool has_results = r.seconds > 0 && (st == MB_OK || st == MB_E_CANCELLED);
    if (has_results && json) {
        print_json(o, &r);
    } else if (has_results) {
        print_results(o, &r);
    }
    int status = st == MB_OK ? MBC_DONE : mbc_report_error(&mbc_bench, &err);
    if (st == MB_OK && r.n_done == 0 && r.n_failed > 0) {
        (void) mb_fail(&err, MB_E_IO, 0, "every request failed: %.199s", r.message);
        status = mbc_report_error(&mbc_bench, &err);
    }
    mbc_load_results_fini(&r);
    mbc_transport_free(t);
    return status;
}
