/* Goal:   a draw follows the documented order of penalties, temperature and filters, replays
 *         with its seed, and survives any logits.
 * Method: a plain float64 version that sorts everything says which tokens may be drawn and how
 *         likely; draws are counted against it. Edges by hand. */
#include "core/infer/sample.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"
#include "tests/check_main.h"

enum { V = 50, DRAWS = 20000 };

static const struct mb_sampling plain = { .temperature = 1,
                                          .top_p = 1,
                                          .repetition_penalty = 1 };

static struct mb_sampler *make(uint32_t n)
{
    static struct mb_kernels kernels;
    struct mb_error err = { 0 };
    struct mb_sampler *s = NULL;
    mb_kernels_select(&kernels, mb_cpu_detect());
    mb_assert_ok(mb_sampler_new(&kernels, n, &s, &err), &err);
    return s;
}

static uint32_t draw(struct mb_sampler *s, const float *logits)
{
    struct mb_sampled got;
    mb_sampler_draw(s, logits, 0, 0, &got);
    return got.token;
}

/* The float64 version: probability of every token, 0 for those that a filter removes. */
static void expected(const struct mb_sampling *p, const float *logits,
                     const unsigned *in_prompt, const unsigned *in_output, double *ret)
{
    double z[V], sum = 0;
    unsigned order[V];
    for (unsigned i = 0; i < V; i++) {
        z[i] = (double) logits[i];
        double r = (double) p->repetition_penalty;
        if (in_prompt[i] || in_output[i]) {
            z[i] = z[i] > 0 ? z[i] / r : z[i] * r;
        }
        z[i] -= (in_output[i] > 0) * (double) p->presence_penalty +
                in_output[i] * (double) p->frequency_penalty;
        order[i] = i;
        ret[i] = 0;
    }
    for (unsigned i = 1; i < V; i++) { /* best first, lower id first among equals */
        for (unsigned j = i; j > 0 && z[order[j]] > z[order[j - 1]]; j--) {
            unsigned swap = order[j];
            order[j] = order[j - 1];
            order[j - 1] = swap;
        }
    }
    unsigned n = p->top_k && p->top_k < V ? p->top_k : V;
    double w[V], cumulated = 0;
    for (unsigned i = 0; i < n; i++) {
        w[i] = exp((z[order[i]] - z[order[0]]) / (double) p->temperature);
        sum += w[i];
    }
    unsigned kept = 0;
    while (kept < n && (kept == 0 || cumulated < (double) p->top_p * sum)) {
        cumulated += w[kept++];
    }
    double left = 0;
    for (unsigned i = 0; i < kept; i++) {
        left += w[i] >= (double) p->min_p * w[0] ? w[i] : 0;
    }
    for (unsigned i = 0; i < kept; i++) {
        ret[order[i]] = w[i] >= (double) p->min_p * w[0] ? w[i] / left : 0;
    }
}

static const struct mb_sampling settings[] = {
    { .temperature = 1, .top_p = 1, .repetition_penalty = 1 },
    { .temperature = 0.5f, .top_p = 1, .repetition_penalty = 1 },
    { .temperature = 2, .top_p = 1, .repetition_penalty = 1, .top_k = 7 },
    { .temperature = 1, .top_p = 0.8f, .repetition_penalty = 1 },
    { .temperature = 1.5f, .top_p = 0.7f, .repetition_penalty = 1, .top_k = 12 },
    { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .min_p = 0.2f },
    { .temperature = 1.3f,
      .top_p = 0.95f,
      .repetition_penalty = 1.4f,
      .min_p = 0.05f,
      .top_k = 30 },
    { .temperature = 1,
      .top_p = 0.9f,
      .repetition_penalty = 0.7f,
      .presence_penalty = 1.1f,
      .frequency_penalty = -0.4f },
};
enum { N_SETTINGS = sizeof settings / sizeof settings[0] };

/* Counts many first draws (each a request of its own, so that penalties stay as the history
 * makes them) and compares with the expected probabilities: 5 standard deviations. */
START_TEST(draws_follow_the_float64_distribution)
{
    struct mb_sampling p = settings[_i];
    float logits[V];
    unsigned in_prompt[V] = { 0 }, in_output[V] = { 0 }, counts[V] = { 0 };
    uint32_t prompt[6];
    for (unsigned i = 0; i < V; i++) {
        logits[i] = (float) (6 * mb_rng_unit(5, 0, i) - 2);
    }
    for (unsigned i = 0; i < 6; i++) {
        prompt[i] = (uint32_t) (mb_rng_u64(5, 1, i) % V);
        in_prompt[prompt[i]] = 1;
    }
    double want[V];
    expected(&p, logits, in_prompt, in_output, want);

    struct mb_sampler *s = make(V);
    for (unsigned i = 0; i < DRAWS; i++) {
        p.seed = i;
        mb_sampler_start(s, &p, prompt, 6);
        counts[draw(s, logits)]++;
    }
    for (unsigned i = 0; i < V; i++) {
        double mean = DRAWS * want[i], deviation = sqrt(mean * (1 - want[i]));
        ck_assert_msg(want[i] > 0 || counts[i] == 0, "token %u was filtered, and drawn", i);
        ck_assert_msg(fabs(counts[i] - mean) <= 5 * deviation + 1e-9,
                      "token %u: drawn %u times, expected %.1f", i, counts[i], mean);
    }
    mb_sampler_free(s);
}
END_TEST

/* Vocabularies of several chunks: each draw must be the token at the place in [0, 1) that the seed
 * gives, in the order of ids without filters, else best first, unless the place is as close to a
 * border as rounding. */
struct ranked {
    double w;
    float z;
    uint32_t id;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    return x->z > y->z ? -1 : x->z < y->z ? 1 : x->id < y->id ? -1 : 1;
}

/* Leaves what the filters keep of n in front, best first, and returns how many. */
static uint32_t kept_of(const struct mb_sampling *p, struct ranked *all, uint32_t n)
{
    double sum = 0, cumulated = 0;
    qsort(all, n, sizeof *all, by_rank);
    n = p->top_k != 0 && p->top_k < n ? p->top_k : n;
    for (uint32_t i = 0; i < n; i++) {
        all[i].w = exp((double) (all[i].z - all[0].z) / (double) p->temperature);
        sum += all[i].w;
    }
    uint32_t n_kept = 0;
    while (n_kept < n && (n_kept == 0 || cumulated < (double) p->top_p * sum) &&
           all[n_kept].w >= (double) p->min_p) {
        cumulated += all[n_kept++].w;
    }
    return n_kept;
}

static void check_place(const struct ranked *kept, uint32_t n, double unit, uint32_t got)
{
    double sum = 0, at = 0;
    for (uint32_t i = 0; i < n; i++) {
        sum += kept[i].w;
    }
    for (uint32_t i = 0; i < n; i++) {
        double begin = at / sum;
        at += kept[i].w;
        if (kept[i].id == got) {
            ck_assert_msg(unit > begin - 1e-5 && unit < at / sum + 1e-5,
                          "token %u is at %.7f to %.7f, drawn for %.7f", (unsigned) got, begin,
                          at / sum, unit);
            return;
        }
    }
    ck_abort_msg("token %u was filtered, and drawn", (unsigned) got);
}

START_TEST(places_in_large_vocabularies)
{
    static const uint32_t sizes[] = { 255, 256, 257, 1003, 5000 };
    uint32_t n = sizes[_i % 5];
    bool flat = _i >= 5;
    float *logits = calloc(n, sizeof *logits);
    struct ranked *all = calloc(n, sizeof *all);
    struct mb_sampler *s = make(n);
    ck_assert(logits && all);
    for (uint32_t i = 0; i < n; i++) {
        double x = mb_rng_unit(11, 0, i);
        logits[i] =
            flat ? (float) (0.2 * x) : (float) (14 * x * x * x - 9); /* few are likely */
    }
    for (unsigned turn = 0; turn < 40 * N_SETTINGS; turn++) {
        struct mb_sampling p = settings[turn % N_SETTINGS];
        bool filters = p.top_k != 0 || p.top_p < 1 || p.min_p > 0;
        p.repetition_penalty = 1;
        p.seed = turn;
        for (uint32_t i = 0; i < n; i++) {
            all[i] = (struct ranked) { exp((double) logits[i] / (double) p.temperature),
                                       logits[i], i };
        }
        uint32_t n_kept = filters ? kept_of(&p, all, n) : n;
        mb_sampler_start(s, &p, NULL, 0);
        check_place(all, n_kept, mb_rng_unit(turn, 0, 0), draw(s, logits));
    }
    mb_sampler_free(s);
    free(all);
    free(logits);
}
END_TEST

/* The same over one long request, where the output's penalties move with every draw: each drawn
 * token must be the one that the float64 version gives for the same place in [0, 1). */
START_TEST(penalties_follow_the_history)
{
    struct mb_sampling p = { .temperature = 0,
                             .top_p = 1,
                             .repetition_penalty = 1.2f,
                             .presence_penalty = 0.3f,
                             .frequency_penalty = 0.11f };
    float logits[V];
    unsigned in_prompt[V] = { 0 }, in_output[V] = { 0 };
    uint32_t prompt[] = { 3, 9, 3 };
    in_prompt[3] = in_prompt[9] = 1;
    for (unsigned i = 0; i < V; i++) {
        logits[i] = (float) (3 * mb_rng_unit(6, 0, i) - 1);
    }
    struct mb_sampler *s = make(V);
    mb_sampler_start(s, &p, prompt, 3);
    for (unsigned step = 0; step < 300; step++) {
        struct mb_sampling hot = p;
        hot.temperature = 1;
        double want[V];
        expected(&hot, logits, in_prompt, in_output, want);
        uint32_t got = draw(s, logits);
        for (unsigned i = 0; i < V; i++) {
            ck_assert_msg(want[i] <= want[got] * (1 + 1e-5), "step %u: %u, not %u", step,
                          (unsigned) got, i);
        }
        in_output[got]++;
    }
    mb_sampler_free(s);
}
END_TEST

START_TEST(a_seed_replays_and_a_start_forgets)
{
    float logits[V];
    for (unsigned i = 0; i < V; i++) {
        logits[i] = (float) mb_rng_unit(7, 0, i);
    }
    struct mb_sampling p = settings[7];
    p.seed = 42;
    uint32_t prompt[] = { 1, 2, 3, 4000000000u }, first[64];
    struct mb_sampler *s = make(V);
    mb_sampler_start(s, &p, prompt, 4);
    for (unsigned i = 0; i < 64; i++) {
        first[i] = draw(s, logits);
    }
    mb_sampler_start(s, &plain, NULL, 0); /* another request in between */
    for (unsigned i = 0; i < 10; i++) {
        (void) draw(s, logits);
    }
    mb_sampler_start(s, &p, prompt, 4);
    for (unsigned i = 0; i < 64; i++) {
        ck_assert_uint_eq(draw(s, logits), first[i]);
    }
    p.seed = 43;
    unsigned same = 0;
    mb_sampler_start(s, &p, prompt, 4);
    for (unsigned i = 0; i < 64; i++) {
        same += draw(s, logits) == first[i];
    }
    ck_assert_uint_lt(same, 64);
    mb_sampler_free(s);
}
END_TEST

/* What any setting must do with logits that no model should give. */
START_TEST(odd_logits_give_a_token)
{
    struct mb_sampling p = settings[_i % N_SETTINGS];
    p.temperature = _i / N_SETTINGS == 0 ? 0 : _i / N_SETTINGS == 1 ? 1e-6f : p.temperature;
    struct mb_sampler *s = make(4);
    const struct {
        float logits[4];
        int want; /* -1: any of them */
    } rows[] = {
        { { NAN, -INFINITY, 1, NAN }, 2 },
        { { NAN, NAN, NAN, NAN }, 0 },
        { { -INFINITY, -INFINITY, -INFINITY, -INFINITY }, 0 },
        { { -INFINITY, INFINITY, 3, NAN }, 1 },
        { { -3e38f, 3e38f, -3e38f, 0 }, 1 },
        { { 0, 0, 0, 0 }, p.temperature > 0 ? -1 : 0 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        mb_sampler_start(s, &p, NULL, 0);
        struct mb_sampled got;
        mb_sampler_draw(s, rows[i].logits, 4, 1, &got);
        ck_assert_uint_lt(got.token, 4);
        ck_assert_msg(rows[i].want < 0 || (int) got.token == rows[i].want, "row %zu: %u", i,
                      (unsigned) got.token);
        ck_assert(got.logprob <= 1e-6f && got.logprob >= -9999);
        for (unsigned t = 0; t < got.n_top; t++) {
            ck_assert(got.top[t].logprob <= 1e-6f && got.top[t].logprob >= -9999);
        }
    }
    mb_sampler_free(s);
}
END_TEST

START_TEST(narrow_filters_are_greedy_with_the_lowest_of_equals)
{
    const float logits[] = { 1, 5, 5, 2, 5 };
    const struct mb_sampling narrow[] = {
        { .temperature = 0, .top_p = 1, .repetition_penalty = 1 },
        { .temperature = 1, .top_p = 1, .repetition_penalty = 1, .top_k = 1 },
        { .temperature = 1, .top_p = 1e-9f, .repetition_penalty = 1 },
    };
    struct mb_sampler *s = make(5);
    for (size_t i = 0; i < sizeof narrow / sizeof narrow[0]; i++) {
        mb_sampler_start(s, &narrow[i], NULL, 0);
        for (int k = 0; k < 100; k++) {
            ck_assert_uint_eq(draw(s, logits), 1);
        }
    }
    struct mb_sampling p = plain; /* min_p = 1 keeps exactly the equals of the best */
    p.min_p = 1;
    unsigned seen = 0;
    mb_sampler_start(s, &p, NULL, 0);
    for (int k = 0; k < 200; k++) {
        seen |= 1u << draw(s, logits);
    }
    ck_assert_uint_eq(seen, 1u << 1 | 1u << 2 | 1u << 4);
    mb_sampler_free(s);
}
END_TEST

START_TEST(a_vocabulary_of_one)
{
    struct mb_sampler *s = make(1);
    for (size_t i = 0; i < N_SETTINGS; i++) {
        mb_sampler_start(s, &settings[i], NULL, 0);
        struct mb_sampled got;
        mb_sampler_draw(s, (const float[]) { -3 }, 5, 1, &got);
        ck_assert_uint_eq(got.token, 0);
        ck_assert_uint_eq(got.n_top, 1);
        ck_assert_float_eq(got.logprob, 0);
    }
    mb_sampler_free(s);
}
END_TEST

START_TEST(logprobs_are_those_of_the_raw_softmax)
{
    enum { LARGE = 1003 };
    static float logits[LARGE];
    double sum = 0;
    for (unsigned i = 0; i < LARGE; i++) {
        logits[i] = (float) (9 * mb_rng_unit(8, 0, i / 2)); /* pairs of equals */
        sum += exp((double) logits[i]);
    }
    struct mb_sampling p = settings[6];
    struct mb_sampler *s = make(LARGE);
    mb_sampler_start(s, &p, (const uint32_t[]) { 1, 2 }, 2);
    for (int k = 0; k < 20; k++) {
        struct mb_sampled got;
        mb_sampler_draw(s, logits, MB_LOGPROBS_MAX, 1, &got);
        ck_assert_double_eq_tol((double) got.logprob, (double) logits[got.token] - log(sum),
                                1e-5);
        ck_assert_uint_eq(got.n_top, MB_LOGPROBS_MAX);
        for (unsigned i = 0; i < got.n_top; i++) {
            uint32_t id = got.top[i].token, rank = 0;
            for (unsigned j = 0; j < LARGE; j++) {
                rank += logits[j] > logits[id] || (logits[j] == logits[id] && j < id);
            }
            ck_assert_uint_eq(rank, i);
            ck_assert_double_eq_tol((double) got.top[i].logprob, (double) logits[id] - log(sum),
                                    1e-5);
        }
    }
    mb_sampler_free(s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("sample");
    TCase *t = tcase_create("sample");
    tcase_add_loop_test(t, draws_follow_the_float64_distribution, 0, N_SETTINGS);
    tcase_add_loop_test(t, places_in_large_vocabularies, 0, 10);
    tcase_add_test(t, penalties_follow_the_history);
    tcase_add_test(t, a_seed_replays_and_a_start_forgets);
    tcase_add_loop_test(t, odd_logits_give_a_token, 0, 3 * N_SETTINGS);
    tcase_add_test(t, narrow_filters_are_greedy_with_the_lowest_of_equals);
    tcase_add_test(t, a_vocabulary_of_one);
    tcase_add_test(t, logprobs_are_those_of_the_raw_softmax);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
