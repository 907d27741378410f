#include "clients/cli/bench_report.h"

#include <jansson.h>

/* What a unit counts, and in what reports count it. */
static const struct {
    const char *title, *unit;
    const char *json_one, *json_all;
} units[MBC_UNITS] = {
    [MBC_UNIT_READ] = { "read memory", "GB/s", "read_1_thread_gb_per_s", "read_gb_per_s" },
    [MBC_UNIT_POPCOUNT] = { "popcount", "Gbit/s", "popcount_1_thread_gbit_per_s",
                            "popcount_gbit_per_s" },
    [MBC_UNIT_U8S8] = { "u8 x s8", "GMAC/s", "u8s8_1_thread_gmac_per_s", "u8s8_gmac_per_s" },
    [MBC_UNIT_FMA] = { "float32 fma", "GMAC/s", "fma_1_thread_gmac_per_s", "fma_gmac_per_s" },
};

void mbc_bench_print_head(const struct mbc_bench *b)
{
    char cpu[64];
    mb_cpu_describe(b->runtime.cpu, cpu, sizeof cpu);
    printf("machine: %s (%s), %zu threads\n", b->runtime.kernels.name, cpu,
           b->machine.n_threads);
    printf("  %-12s %12s %12s\n", "at most", "one thread", "all");
    for (int u = 0; u < MBC_UNITS; u++) {
        printf("  %-12s %12.1f %12.1f  %s\n", units[u].title, b->machine.one[u] * 1e-9,
               b->machine.all[u] * 1e-9, units[u].unit);
    }
    printf("model: a step reads %.1f MB of weights\n",
           mbc_weight_bytes(b->loaded.model) * 1e-6);
    (void) fflush(stdout);
}

/* Narrow columns for shares of the time, in the order of the phases. */
static const char *const share_titles[MB_PHASES + 1] = {
    [MB_PHASE_EMBED] = "embed",   [MB_PHASE_NORM] = "norms",   [MB_PHASE_CODE] = "coding",
    [MB_PHASE_PRODUCT] = "prod.", [MB_PHASE_ATTEND] = "att.",  [MB_PHASE_GATE] = "gating",
    [MB_PHASE_HEAD] = "head",     [MB_PHASE_BARRIER] = "wait", [MB_PHASES] = "sampl.",
};

void mbc_bench_print_titles(bool decode)
{
    printf(decode ? "decode context" : "prompt        ");
    printf(" %10s %10s %6s %-9s %5s", "tokens/s", "floor", "of it", "limit", "GB/s");
    for (int i = 0; i <= MB_PHASES; i++) {
        printf(" %6s", share_titles[i]);
    }
    printf("\n");
    (void) fflush(stdout);
}

static double time_of(const struct mbc_bench_point *p)
{
    double sum = 0;
    for (int i = 0; i <= MB_PHASES; i++) {
        sum += p->phase_s[i];
    }
    return sum;
}

static double share_of(const struct mbc_bench_point *p, int phase)
{
    double all = time_of(p);
    return all > 0 ? p->phase_s[phase] / all : 0;
}

void mbc_bench_print_point(const struct mbc_bench_point *p)
{
    printf("%6u", (unsigned) p->n);
    printf(p->context > 0 ? " %7u" : "        ", (unsigned) p->context);
    if (p->left_out[0]) {
        printf("  left out: %s\n", p->left_out);
    } else {
        printf(" %10.1f %10.1f %4.0f %% %-9s %5.1f", p->tokens_per_s, p->floor_tokens_per_s,
               100 * p->tokens_per_s / p->floor_tokens_per_s, mbc_unit_name(p->limit),
               p->read_bytes_per_s * 1e-9);
        for (int i = 0; i <= MB_PHASES; i++) {
            printf(" %4.0f %%", 100 * share_of(p, i));
        }
        printf("\n");
    }
    (void) fflush(stdout);
}

static json_t *time_json(const struct mbc_bench_point *p)
{
    json_t *times = json_object();
    for (int i = 0; i <= MB_PHASES; i++) {
        json_object_set_new(times, mbc_bench_phase_name(i), json_real(share_of(p, i)));
    }
    return times;
}

/* {"tokens": 512} or {"batch": 1, "context": 128} */
static json_t *place_json(const struct mbc_bench_point *p)
{
    return p->context > 0
               ? json_pack("{s:i, s:i}", "batch", (int) p->n, "context", (int) p->context)
               : json_pack("{s:i}", "tokens", (int) p->n);
}

/* The points that were measured to list, the others to left_out. */
static void points_json(json_t *list, json_t *left_out, const struct mbc_bench_point *points,
                        size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct mbc_bench_point *p = &points[i];
        json_t *o = place_json(p);
        if (p->left_out[0]) {
            json_object_set_new(o, "why", json_string(p->left_out));
            json_array_append_new(left_out, o);
            continue;
        }
        json_object_set_new(o, "tokens_per_s", json_real(p->tokens_per_s));
        json_object_set_new(o, "floor_tokens_per_s", json_real(p->floor_tokens_per_s));
        json_object_set_new(o, "of_floor", json_real(p->tokens_per_s / p->floor_tokens_per_s));
        json_object_set_new(o, "read_gb_per_s", json_real(p->read_bytes_per_s * 1e-9));
        json_object_set_new(o, "limit", json_string(mbc_unit_name(p->limit)));
        json_object_set_new(o, "time", time_json(p));
        json_array_append_new(list, o);
    }
}

/* "time" of the longest prompt and of the first point of decoding. */
static json_t *times_json(const struct mbc_bench_results *r)
{
    const struct mbc_bench_point *prompt = NULL, *decode = NULL;
    for (size_t i = 0; i < r->n_prompts; i++) {
        prompt = r->prompts[i].left_out[0] ? prompt : &r->prompts[i];
    }
    for (size_t i = r->n_decodes; i-- > 0;) {
        decode = r->decodes[i].left_out[0] ? decode : &r->decodes[i];
    }
    json_t *times = json_object();
    if (prompt) {
        json_object_set_new(times, "prompt", time_json(prompt));
    }
    if (decode) {
        json_object_set_new(times, "decode", time_json(decode));
    }
    return times;
}

static json_t *machine_json(const struct mbc_bench *b)
{
    char cpu[64];
    mb_cpu_describe(b->runtime.cpu, cpu, sizeof cpu);
    json_t *machine = json_pack("{s:s, s:s, s:i}", "isa", b->runtime.kernels.name, "cpu", cpu,
                                "threads", (int) b->machine.n_threads);
    for (int u = 0; u < MBC_UNITS; u++) {
        json_object_set_new(machine, units[u].json_one, json_real(b->machine.one[u] * 1e-9));
        json_object_set_new(machine, units[u].json_all, json_real(b->machine.all[u] * 1e-9));
    }
    return machine;
}

void mbc_bench_print_json(const struct mbc_bench *b, const struct mbc_bench_results *r)
{
    json_t *prompts = json_array(), *decodes = json_array(), *left_out = json_array();
    points_json(prompts, left_out, r->prompts, r->n_prompts);
    points_json(decodes, left_out, r->decodes, r->n_decodes);
    json_t *root =
        json_pack("{s:o, s:{s:f}, s:o, s:o, s:o, s:o}", "machine", machine_json(b), "model",
                  "weight_bytes", mbc_weight_bytes(b->loaded.model), "prompt", prompts,
                  "decode", decodes, "left_out", left_out, "time", times_json(r));
    (void) json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(root);
}
