/* Nothing is sorted. Each of top_k, top_p and min_p keeps a prefix of the tokens in the order of
 * likelihood, and the draw is a place in that order; so partitioning finds the end of the prefix and
 * then the place, in time linear in the tokens that come into question. Those are found by
 * chunks of the vocabulary, most of which hold nothing likely.
 *
 * Sums over the vocabulary add the chunks' sums in float64, ascending. */
#include "core/infer/sample.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/kernels.h"
#include "proto/completion.h"

/* What OpenAI's interface says for "practically impossible"; keeps infinities out of JSON. */
#define LOGPROB_MIN (-9999.0)

enum { CHUNK = 256 };

/* Of a filtered draw, the weights that are looked at first; all others together are small. */
#define LIKELY 0x1p-12f

struct candidate {
    float z; /* penalised logit */
    float w; /* its weight */
    uint32_t id;
};

struct mb_sampler {
    const struct mb_kernels *kernels;
    uint32_t n_vocab, n_chunks;
    struct mb_sampling params;
    uint64_t n_drawn;
    float *penalised;         /* [V] logits, when there are penalties */
    float *w;                 /* [V] exp((z - max) / temperature), NaN being 0 */
    float *chunk_max;         /* [chunks] of z */
    double *chunk_sum;        /* [chunks] of w */
    struct candidate *likely; /* [V] */
    uint32_t *count;          /* [V] times in the output */
    uint8_t *known;           /* [V] is in touched */
    uint32_t *touched; /* what penalties concern: prompt (if asked) and output, once each */
    uint32_t n_touched;
};

enum mb_status mb_sampler_new(const struct mb_kernels *kernels, uint32_t n_vocab,
                              struct mb_sampler **ret, struct mb_error *err)
{
    assert(n_vocab > 0);
    struct mb_sampler *s = mb_alloc(1, sizeof *s);
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "sampler: no memory");
    }
    uint32_t n_chunks = (n_vocab + CHUNK - 1) / CHUNK;
    *s = (struct mb_sampler) {
        .kernels = kernels,
        .n_vocab = n_vocab,
        .n_chunks = n_chunks,
        .penalised = mb_alloc(n_vocab, sizeof *s->penalised),
        .w = mb_alloc(n_vocab, sizeof *s->w),
        .chunk_max = mb_alloc(n_chunks, sizeof *s->chunk_max),
        .chunk_sum = mb_alloc(n_chunks, sizeof *s->chunk_sum),
        .likely = mb_alloc(n_vocab, sizeof *s->likely),
        .count = mb_alloc(n_vocab, sizeof *s->count),
        .known = mb_alloc(n_vocab, sizeof *s->known),
        .touched = mb_alloc(n_vocab, sizeof *s->touched),
    };
    if (!s->penalised || !s->w || !s->chunk_max || !s->chunk_sum || !s->likely || !s->count ||
        !s->known || !s->touched) {
        mb_sampler_free(s);
        return mb_fail(err, MB_E_NOMEM, 0, "sampler: no memory for %u logits",
                       (unsigned) n_vocab);
    }
    *ret = s;
    return MB_OK;
}

void mb_sampler_free(struct mb_sampler *s)
{
    if (!s) {
        return;
    }
    mb_free(s->penalised);
    mb_free(s->w);
    mb_free(s->chunk_max);
    mb_free(s->chunk_sum);
    mb_free(s->likely);
    mb_free(s->count);
    mb_free(s->known);
    mb_free(s->touched);
    mb_free(s);
}

static void touch(struct mb_sampler *s, uint32_t id)
{
    if (!s->known[id]) {
        s->known[id] = 1;
        s->touched[s->n_touched++] = id;
    }
}

void mb_sampler_start(struct mb_sampler *s, const struct mb_sampling *p, const uint32_t *prompt,
                      uint32_t n_prompt)
{
    while (s->n_touched > 0) {
        uint32_t id = s->touched[--s->n_touched];
        s->known[id] = 0;
        s->count[id] = 0;
    }
    s->params = *p;
    s->n_drawn = 0;
    for (uint32_t i = 0; p->repetition_penalty != 1 && i < n_prompt; i++) {
        if (prompt[i] < s->n_vocab) {
            touch(s, prompt[i]);
        }
    }
}

static float no_nan(float x)
{
    return isnan(x) ? -INFINITY : x;
}

/* The penalties of one token: repetition divides what favours it, and multiplies what speaks
 * against it; presence and frequency are subtracted. */
static float penalised(const struct mb_sampling *p, float z, uint32_t count)
{
    z = z > 0 ? z / p->repetition_penalty : z * p->repetition_penalty;
    if (count > 0) {
        z -= p->presence_penalty + p->frequency_penalty * (float) count;
    }
    return z;
}

static bool has_penalties(const struct mb_sampler *s)
{
    const struct mb_sampling *p = &s->params;
    return s->n_touched > 0 && (p->repetition_penalty != 1 || p->presence_penalty != 0 ||
                                p->frequency_penalty != 0);
}

/* The logits with penalties and biases, and without the tokens that come too early, where there are
 * any; else the logits themselves. */
static const float *penalise(struct mb_sampler *s, const float *logits)
{
    const struct mb_sampling *p = &s->params;
    bool early = s->n_drawn < p->n_early && p->n_late > 0;
    if (!has_penalties(s) && p->n_bias == 0 && !early) {
        return logits;
    }
    memcpy(s->penalised, logits, s->n_vocab * sizeof *logits);
    for (uint32_t i = 0; i < s->n_touched; i++) {
        uint32_t id = s->touched[i];
        s->penalised[id] = penalised(p, logits[id], s->count[id]);
    }
    for (size_t i = 0; i < p->n_bias; i++) {
        if (p->bias[i].token < s->n_vocab) {
            s->penalised[p->bias[i].token] += p->bias[i].bias;
        }
    }
    for (size_t i = 0; early && i < p->n_late; i++) {
        if (p->late[i] < s->n_vocab) {
            s->penalised[p->late[i]] = -INFINITY;
        }
    }
    return s->penalised;
}

static uint32_t chunk_begin(uint32_t chunk)
{
    return chunk * CHUNK;
}

static uint32_t chunk_end(const struct mb_sampler *s, uint32_t chunk)
{
    return s->n_vocab - chunk * CHUNK < CHUNK ? s->n_vocab : (chunk + 1) * CHUNK;
}

/* Fills chunk_max, and returns the id of the largest of z, the lowest of equals; 0 when there is
 * none above -inf. */
static uint32_t find_best(struct mb_sampler *s, const float *z)
{
    uint32_t best = 0;
    for (uint32_t c = 0; c < s->n_chunks; c++) {
        uint32_t begin = chunk_begin(c);
        s->chunk_max[c] = s->kernels->max(z + begin, chunk_end(s, c) - begin);
        best = s->chunk_max[c] > s->chunk_max[best] ? c : best;
    }
    float max = s->chunk_max[best];
    for (uint32_t i = chunk_begin(best); i < chunk_end(s, best); i++) {
        if (z[i] == max) {
            return max > -INFINITY ? i : 0;
        }
    }
    return 0; /* all are NaN */
}

/* Fills w and chunk_sum, and returns the sum of all. */
static double weigh(struct mb_sampler *s, const float *z, float max, float temperature)
{
    double sum = 0;
    for (uint32_t c = 0; c < s->n_chunks; c++) {
        uint32_t begin = chunk_begin(c);
        s->chunk_sum[c] = (double) s->kernels->weigh(
            s->w + begin, z + begin, chunk_end(s, c) - begin, max, 1 / temperature);
        sum += s->chunk_sum[c];
    }
    return sum;
}

/* A draw from all tokens: place is a place in the sum of weights, in order of ids. */
static uint32_t draw_from_all(const struct mb_sampler *s, double place)
{
    double at = 0;
    uint32_t c = 0;
    while (c + 1 < s->n_chunks && at + s->chunk_sum[c] <= place) {
        at += s->chunk_sum[c++];
    }
    for (uint32_t i = chunk_begin(c); i < s->n_vocab; i++) {
        at += (double) s->w[i];
        if (at > place) {
            return i;
        }
    }
    uint32_t last = s->n_vocab - 1; /* rounding: place was the whole sum */
    while (s->w[last] == 0) {
        last--; /* one has a weight of 1 */
    }
    return last;
}

static bool before(struct candidate a, struct candidate b)
{
    return a.z > b.z || (a.z == b.z && a.id < b.id);
}

static void swap(struct candidate *a, struct candidate *b)
{
    struct candidate c = *a;
    *a = *b;
    *b = c;
}

/* Moves what comes before a middling one of [begin, end) to the front of it, and that one behind
 * them; returns its index. Adds the weights of those before it to *sum. */
static size_t partition(struct candidate *c, size_t begin, size_t end, double *sum)
{
    size_t last = end - 1, middle = begin + (end - begin) / 2;
    if (before(c[middle], c[begin])) {
        swap(&c[middle], &c[begin]);
    }
    if (before(c[last], c[middle])) {
        swap(&c[last], &c[middle]);
    }
    if (before(c[middle], c[begin])) {
        swap(&c[middle], &c[begin]);
    }
    struct candidate pivot = c[middle];
    swap(&c[middle], &c[last]);
    size_t n = begin;
    for (size_t i = begin; i < last; i++) {
        if (before(c[i], pivot)) {
            *sum += (double) c[i].w;
            swap(&c[i], &c[n++]);
        }
    }
    swap(&c[n], &c[last]);
    return n;
}

/* The least number m of the best of n candidates with m >= count or a sum of weights above (or,
 * when reached is enough, at) weight; at most n. Afterwards they are the first m, the last of them
 * at m - 1; *ret_sum is their sum. */
static size_t best_until(struct candidate *c, size_t n, size_t count, double weight,
                         bool reached, double *ret_sum)
{
    size_t begin = 0, end = n;
    double sum = 0; /* of [0, begin), which come before all others and are not enough */
    while (begin < end) {
        double with = sum;
        size_t pivot = partition(c, begin, end, &with);
        if (pivot > begin && (pivot >= count || with > weight || (reached && with == weight))) {
            end = pivot;
            continue;
        }
        sum = with + (double) c[pivot].w;
        begin = pivot + 1;
        if (begin >= count || sum > weight || (reached && sum == weight)) {
            break;
        }
    }
    *ret_sum = sum;
    return begin;
}

/* The tokens of a weight of at least least, and above 0. */
static size_t gather_likely(struct mb_sampler *s, const float *z, float max, float least)
{
    size_t n = 0;
    for (uint32_t c = 0; c < s->n_chunks; c++) {
        float most;
        (void) s->kernels->weigh(&most, &s->chunk_max[c], 1, max, 1 / s->params.temperature);
        if (most < least * 0.999f) {
            continue; /* and no other rounds to more */
        }
        for (uint32_t i = chunk_begin(c); i < chunk_end(s, c); i++) {
            s->likely[n] = (struct candidate) { z[i], s->w[i], i };
            n += s->w[i] >= least && s->w[i] > 0;
        }
    }
    return n;
}

/* Leaves what top_k and top_p keep of n candidates in front, and returns how many, or 0 when more
 * candidates are needed to say. *ret_sum is their weight. */
static size_t filter(struct mb_sampler *s, size_t n, bool is_all, double total, double *ret_sum)
{
    const struct mb_sampling *p = &s->params;
    if (p->top_k != 0) {
        if (n < p->top_k && !is_all) {
            return 0;
        }
        n = best_until(s->likely, n, p->top_k, INFINITY, false, &total);
        *ret_sum = total;
    }
    if (p->top_p < 1) {
        double enough = (double) p->top_p * total;
        n = best_until(s->likely, n, n, enough, true, ret_sum);
        if (*ret_sum < enough && !is_all && p->top_k == 0) {
            return 0;
        }
    }
    return n;
}

/* Leaves those of n that min_p keeps in front; the best is always one. */
static size_t keep_min_p(struct mb_sampler *s, size_t n, double *ret_sum)
{
    size_t n_kept = 0;
    *ret_sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (s->likely[i].w >= s->params.min_p) {
            *ret_sum += (double) s->likely[i].w;
            s->likely[n_kept++] = s->likely[i];
        }
    }
    return n_kept;
}

/* total is the weight of all tokens. */
static uint32_t draw_filtered(struct mb_sampler *s, const float *z, float max, double total,
                              double unit)
{
    const struct mb_sampling *p = &s->params;
    bool by_order = p->top_k != 0 || p->top_p < 1;
    double sum = 0;
    size_t n = gather_likely(s, z, max, by_order ? LIKELY : p->min_p);
    n = by_order ? filter(s, n, false, total, &sum) : n;
    if (n == 0) {
        n = gather_likely(s, z, max, 0);
        n = filter(s, n, true, total, &sum);
    }
    n = keep_min_p(s, n, &sum);
    size_t at = best_until(s->likely, n, n, unit * sum, false, &sum);
    return s->likely[at - 1].id;
}

/* Logarithm of the sum of exp(logits), as max + log(sum exp(logits - max)). Overwrites w. */
static double log_sum_exp(struct mb_sampler *s, const float *logits, float max)
{
    return isfinite(max) ? (double) max + log(weigh(s, logits, max, 1)) : (double) max;
}

static float logprob(const float *logits, uint32_t id, double log_sum)
{
    double lp = (double) no_nan(logits[id]) - log_sum;
    return (float) (lp >= LOGPROB_MIN ? lp : LOGPROB_MIN); /* inf - inf is NaN: the same */
}

/* The want best of the logits, by insertion: want is small. chunk_max is that of the logits. */
static uint32_t best_of(const struct mb_sampler *s, const float *logits, uint32_t want,
                        struct candidate best[MB_LOGPROBS_MAX])
{
    uint32_t n_best = 0;
    for (uint32_t chunk = 0; chunk < s->n_chunks; chunk++) {
        if (n_best == want && s->chunk_max[chunk] <= best[want - 1].z) {
            continue; /* equals have higher ids */
        }
        for (uint32_t i = chunk_begin(chunk); i < chunk_end(s, chunk); i++) {
            struct candidate c = { .z = no_nan(logits[i]), .id = i };
            if (n_best == want && !before(c, best[want - 1])) {
                continue;
            }
            uint32_t at = n_best < want ? n_best++ : want - 1;
            for (; at > 0 && before(c, best[at - 1]); at--) {
                best[at] = best[at - 1];
            }
            best[at] = c;
        }
    }
    return n_best;
}

static void report(struct mb_sampler *s, const float *logits, uint32_t want_top,
                   struct mb_sampled *ret)
{
    float max = no_nan(logits[find_best(s, logits)]);
    double log_sum = log_sum_exp(s, logits, max);
    ret->logprob = logprob(logits, ret->token, log_sum);
    if (want_top == 0) {
        return;
    }
    struct candidate best[MB_LOGPROBS_MAX];
    ret->n_top = best_of(s, logits, want_top, best);
    for (uint32_t i = 0; i < ret->n_top; i++) {
        ret->top[i].token = best[i].id;
        ret->top[i].logprob = logprob(logits, best[i].id, log_sum);
    }
}

void mb_sampler_draw(struct mb_sampler *s, const float *logits, uint32_t want_top,
                     int want_logprob, struct mb_sampled *ret)
{
    assert(want_top <= MB_LOGPROBS_MAX);
    const struct mb_sampling *p = &s->params;
    const float *z = penalise(s, logits);
    uint32_t best = find_best(s, z);
    float max = no_nan(z[best]);
    double unit = mb_rng_unit(p->seed, 0, s->n_drawn++);
    bool filters = p->top_k != 0 || p->top_p < 1 || p->min_p > 0;

    *ret = (struct mb_sampled) { .token = best };
    if (p->temperature > 0 && max > -INFINITY) {
        double total = weigh(s, z, max, p->temperature);
        ret->token =
            filters ? draw_filtered(s, z, max, total, unit) : draw_from_all(s, unit * total);
    }
    if (want_logprob || want_top > 0) {
        report(s, logits, want_top, ret);
    }
    touch(s, ret->token);
    s->count[ret->token]++;
}

void mb_sampler_score(struct mb_sampler *s, const float *logits, uint32_t token,
                      uint32_t want_top, struct mb_sampled *ret)
{
    assert(want_top <= MB_LOGPROBS_MAX && token < s->n_vocab);
    *ret = (struct mb_sampled) { .token = token };
    report(s, logits, want_top, ret);
}
