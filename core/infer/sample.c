/* Why one heap serves top_k, top_p and min_p: each of them keeps a prefix of the tokens sorted
 * by logit. So tokens are taken from a heap, best first, for as long as all three agree; what
 * remains of a vocabulary of 128,000 is never sorted. */
#include "core/infer/sample.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/kernels.h"

/* What OpenAI's interface says for "practically impossible"; keeps infinities out of JSON. */
#define LOGPROB_MIN (-9999.0)

struct candidate {
    float z; /* penalised logit */
    uint32_t id;
};

struct mb_sampler {
    uint32_t n_vocab;
    struct mb_sampling params;
    uint64_t n_drawn;
    float *z;               /* [V] penalised logits, NaN replaced by -inf */
    float *w;               /* [V] their weights, when all are needed */
    struct candidate *heap; /* [V] */
    uint32_t *count;        /* [V] times in the output */
    uint8_t *known;         /* [V] is in touched */
    uint32_t *touched; /* what penalties concern: prompt (if asked) and output, once each */
    uint32_t n_touched;
};

static enum mb_status check_range(const char *field, double value, double min, double max,
                                  struct mb_error *err)
{
    if (value >= min && value <= max) {
        return MB_OK;
    }
    return mb_fail(err, MB_E_INVALID, 0, "%s is %g, outside %g..%g", field, value, min, max);
}

enum mb_status mb_sampling_check(const struct mb_sampling *p, struct mb_error *err)
{
    const struct {
        const char *field;
        double value, min, max;
    } rows[] = {
        { "temperature", p->temperature, 0, 2 },
        { "top_p", p->top_p, 1e-9, 1 },
        { "min_p", p->min_p, 0, 1 },
        { "repetition_penalty", p->repetition_penalty, 0.01, 100 },
        { "presence_penalty", p->presence_penalty, -2, 2 },
        { "frequency_penalty", p->frequency_penalty, -2, 2 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum mb_status st =
            check_range(rows[i].field, rows[i].value, rows[i].min, rows[i].max, err);
        if (st != MB_OK) {
            return st;
        }
    }
    return MB_OK;
}

enum mb_status mb_sampler_new(uint32_t n_vocab, struct mb_sampler **ret, struct mb_error *err)
{
    assert(n_vocab > 0);
    struct mb_sampler *s = mb_alloc(1, sizeof *s);
    if (!s) {
        return mb_fail(err, MB_E_NOMEM, 0, "sampler: no memory");
    }
    *s = (struct mb_sampler) {
        .n_vocab = n_vocab,
        .z = mb_alloc(n_vocab, sizeof *s->z),
        .w = mb_alloc(n_vocab, sizeof *s->w),
        .heap = mb_alloc(n_vocab, sizeof *s->heap),
        .count = mb_alloc(n_vocab, sizeof *s->count),
        .known = mb_alloc(n_vocab, sizeof *s->known),
        .touched = mb_alloc(n_vocab, sizeof *s->touched),
    };
    if (!s->z || !s->w || !s->heap || !s->count || !s->known || !s->touched) {
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
    mb_free(s->z);
    mb_free(s->w);
    mb_free(s->heap);
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
    return no_nan(z);
}

/* Fills z, and returns the id of its largest, the lowest of equals. */
static uint32_t penalise(struct mb_sampler *s, const float *logits)
{
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        s->z[i] = no_nan(logits[i]);
    }
    for (uint32_t i = 0; i < s->n_touched; i++) {
        uint32_t id = s->touched[i];
        s->z[id] = penalised(&s->params, s->z[id], s->count[id]);
    }
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->n_vocab; i++) {
        best = s->z[i] > s->z[best] ? i : best;
    }
    return best;
}

/* exp((z - max) / temperature), 1 for the largest even when it is infinite. */
static float weight(float z, float max, float temperature)
{
    return z == max ? 1 : mb_exp((z - max) / temperature);
}

/* A draw from all tokens: unit picks a place in the sum of weights, in order of ids. */
static uint32_t draw_from_all(struct mb_sampler *s, float max, double unit)
{
    double sum = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        s->w[i] = weight(s->z[i], max, s->params.temperature);
        sum += (double) s->w[i];
    }
    double place = unit * sum, at = 0;
    uint32_t last = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        at += (double) s->w[i];
        if (at > place) {
            return i;
        }
        last = s->w[i] > 0 ? i : last;
    }
    return last; /* rounding: place was the whole sum */
}

static bool before(struct candidate a, struct candidate b)
{
    return a.z > b.z || (a.z == b.z && a.id < b.id);
}

static void sift_down(struct candidate *heap, size_t n, size_t i)
{
    struct candidate c = heap[i];
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child])) {
            child++;
        }
        if (!before(heap[child], c)) {
            break;
        }
        heap[i] = heap[child];
    }
    heap[i] = c;
}

static void heapify(struct mb_sampler *s)
{
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        s->heap[i] = (struct candidate) { .z = s->z[i], .id = i };
    }
    for (size_t i = s->n_vocab / 2; i-- > 0;) {
        sift_down(s->heap, s->n_vocab, i);
    }
}

/* The i-th best; called for i = 0, 1, ... in turn. It is left behind the shrinking heap, so
 * that the sorted tokens lie at the end of the array, best last. */
static struct candidate take_best(struct mb_sampler *s, size_t i)
{
    size_t last = s->n_vocab - 1 - i;
    struct candidate best = s->heap[0];
    s->heap[0] = s->heap[last];
    s->heap[last] = best;
    sift_down(s->heap, last, 0);
    return best;
}

static struct candidate taken(const struct mb_sampler *s, size_t i)
{
    return s->heap[s->n_vocab - 1 - i];
}

/* The weight that top_p is a part of: of the top_k tokens (which are taken), or of all. */
static double total_weight(struct mb_sampler *s, float max, size_t n_taken)
{
    double sum = 0;
    for (size_t i = 0; i < n_taken; i++) {
        sum += (double) weight(taken(s, i).z, max, s->params.temperature);
    }
    for (uint32_t i = 0; n_taken == 0 && i < s->n_vocab; i++) {
        sum += (double) weight(s->z[i], max, s->params.temperature);
    }
    return sum;
}

/* How many of the best tokens all filters keep, at least one; *ret_sum is their weight. */
static size_t filter(struct mb_sampler *s, float max, double *ret_sum)
{
    const struct mb_sampling *p = &s->params;
    size_t n_taken = 0;
    heapify(s);
    while (n_taken < p->top_k && n_taken < s->n_vocab) {
        (void) take_best(s, n_taken++);
    }
    size_t limit = n_taken > 0 ? n_taken : s->n_vocab;
    double enough = p->top_p < 1 ? p->top_p * total_weight(s, max, n_taken) : INFINITY;

    double sum = 0;
    size_t n_kept = 0;
    while (n_kept < limit && sum < enough) {
        struct candidate c = n_kept < n_taken ? taken(s, n_kept) : take_best(s, n_kept);
        float w = weight(c.z, max, p->temperature);
        if (w < p->min_p || w == 0) {
            break; /* never the first, whose weight is 1 */
        }
        sum += (double) w;
        n_kept++;
    }
    *ret_sum = sum;
    return n_kept;
}

static uint32_t draw_filtered(struct mb_sampler *s, float max, double unit)
{
    double sum;
    size_t n_kept = filter(s, max, &sum);
    double place = unit * sum, at = 0;
    for (size_t i = 0; i < n_kept; i++) {
        at += (double) weight(taken(s, i).z, max, s->params.temperature);
        if (at > place) {
            return taken(s, i).id;
        }
    }
    return taken(s, n_kept - 1).id; /* rounding: place was the whole sum */
}

/* Logarithm of the sum of exp(logits), as max + log(sum exp(logits - max)). */
static double log_sum_exp(const float *logits, uint32_t n)
{
    float max = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        max = no_nan(logits[i]) > max ? logits[i] : max;
    }
    double sum = 0;
    for (uint32_t i = 0; isfinite(max) && i < n; i++) {
        sum += (double) weight(no_nan(logits[i]), max, 1);
    }
    return isfinite(max) ? (double) max + log(sum) : (double) max;
}

static float logprob(const float *logits, uint32_t id, double log_sum)
{
    double lp = (double) no_nan(logits[id]) - log_sum;
    return (float) (lp >= LOGPROB_MIN ? lp : LOGPROB_MIN); /* inf - inf is NaN: the same */
}

/* The want best of the raw logits, by insertion: want is small. */
static uint32_t best_of(const float *logits, uint32_t n, uint32_t want,
                        struct candidate best[MB_LOGPROBS_MAX])
{
    uint32_t n_best = 0;
    for (uint32_t i = 0; i < n; i++) {
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
    return n_best;
}

static void report(const struct mb_sampler *s, const float *logits, uint32_t want_top,
                   struct mb_sampled *ret)
{
    double log_sum = log_sum_exp(logits, s->n_vocab);
    ret->logprob = logprob(logits, ret->token, log_sum);
    if (want_top == 0) {
        return;
    }
    struct candidate best[MB_LOGPROBS_MAX];
    ret->n_top = best_of(logits, s->n_vocab, want_top, best);
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
    uint32_t best = penalise(s, logits);
    float max = s->z[best];
    double unit = mb_rng_unit(p->seed, 0, s->n_drawn++);
    bool filters = p->top_k != 0 || p->top_p < 1 || p->min_p > 0;

    *ret = (struct mb_sampled) { .token = best };
    if (p->temperature > 0 && max > -INFINITY) {
        ret->token = filters ? draw_filtered(s, max, unit) : draw_from_all(s, max, unit);
    }
    if (want_logprob || want_top > 0) {
        report(s, logits, want_top, ret);
    }
    touch(s, ret->token);
    s->count[ret->token]++;
}
