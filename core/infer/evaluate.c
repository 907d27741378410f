#include "core/infer/evaluate.h"

#include <math.h>

#include "core/base/memory.h"
#include "core/infer/step.h"

/* Tokens of a step: enough to share the expansion of weights, and bounded in logits. */
enum { STEP_TOKENS_MAX = 256, STEP_TOKENS_MIN = 16, STEP_LOGITS = 1 << 23 };

/* One model on its way through the windows. */
struct runner {
    const struct mb_model *model;
    struct mb_stepper *stepper;
    struct mb_kv_cache *kv;
    float *logits; /* [step][V] */
};

struct place {
    double nll, kl;
    bool agrees;
};

struct evaluator {
    const struct mb_windows *windows;
    struct runner runs[2]; /* the model; the reference, or no model */
    uint32_t step, n_vocab;
    uint32_t *position, *seq, *logits_of; /* [step] */
    struct place *places;                 /* [step] */
    const uint32_t *next;                 /* the tokens to be predicted in this step */
};

static enum mb_status runner_init(struct runner *r, const struct mb_model *m, uint32_t step,
                                  uint32_t positions, const struct mb_kernels *kernels,
                                  struct mb_pool *pool, struct mb_error *err)
{
    struct mb_stepper_options o = {
        .kernels = kernels,
        .pool = pool,
        .tokens_max = step,
        .logits_max = step,
    };
    r->model = m;
    r->logits = mb_alloc((size_t) step * m->shape.n_vocab, sizeof *r->logits);
    if (!r->logits) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the logits of %u tokens",
                       (unsigned) step);
    }
    enum mb_status st = mb_stepper_new(m, &o, &r->stepper, err);
    return st != MB_OK ? st
                       : mb_kv_new(&m->shape, MB_KV_F32, mb_kv_blocks_for(positions), 1,
                                   positions, &r->kv, err);
}

static void runner_fini(struct runner *r)
{
    mb_stepper_free(r->stepper);
    mb_kv_free(r->kv);
    mb_free(r->logits);
}

/* ln of the sum of exp(z), and where z is largest; the lower id on ties. */
static double log_sum(const float *z, uint32_t n, uint32_t *ret_top)
{
    uint32_t top = 0;
    for (uint32_t v = 1; v < n; v++) {
        top = z[v] > z[top] ? v : top;
    }
    double sum = 0;
    for (uint32_t v = 0; v < n; v++) {
        sum += exp((double) z[v] - z[top]);
    }
    *ret_top = top;
    return z[top] + log(sum);
}

static void judge(void *job, size_t part, size_t worker)
{
    const struct evaluator *e = job;
    uint32_t n = e->n_vocab, top, reference_top;
    const float *z = e->runs[0].logits + part * n;
    struct place *p = &e->places[part];
    double sum = log_sum(z, n, &top);
    *p = (struct place) { .nll = sum - z[e->next[part]] };
    if (e->runs[1].model) {
        const float *r = e->runs[1].logits + part * n;
        double reference_sum = log_sum(r, n, &reference_top);
        for (uint32_t v = 0; v < n; v++) {
            double log_r = r[v] - reference_sum;
            p->kl += exp(log_r) * (log_r - (z[v] - sum));
        }
        p->agrees = top == reference_top;
    }
}

/* Tokens [from, from + n) of a window through both models, and what they say of the next
 * ones. */
static enum mb_status run_step(struct evaluator *e, size_t window, size_t from, uint32_t n,
                               struct mb_pool *pool, struct mb_error *err)
{
    const uint32_t *tokens = e->windows->ids.at + e->windows->start[window] + from;
    for (uint32_t i = 0; i < n; i++) {
        e->position[i] = (uint32_t) from + i;
        e->logits_of[i] = i;
        if (tokens[i + 1] >= e->n_vocab) { /* the step itself checks those that it reads */
            return mb_fail(err, MB_E_INVALID, 0, "token %u is outside the vocabulary of %u",
                           (unsigned) tokens[i + 1], (unsigned) e->n_vocab);
        }
    }
    struct mb_batch b = {
        .n_tokens = n,
        .token = tokens,
        .position = e->position,
        .seq = e->seq,
        .n_logits = n,
        .logits_of = e->logits_of,
    };
    for (int i = 0; i < 2 && e->runs[i].model; i++) {
        struct runner *r = &e->runs[i];
        enum mb_status st = mb_kv_reserve(r->kv, 0, (uint32_t) from + n, err);
        if (st == MB_OK) {
            st = mb_step(r->stepper, r->model, r->kv, &b, NULL, r->logits, err);
        }
        if (st != MB_OK) {
            return st;
        }
    }
    e->next = tokens + 1;
    mb_pool_run(pool, n, judge, e);
    return MB_OK;
}

static enum mb_status run_windows(struct evaluator *e, struct mb_pool *pool,
                                  const struct mb_progress *progress, struct mb_evaluation *ret,
                                  struct mb_error *err)
{
    const struct mb_windows *w = e->windows;
    struct mb_evaluation sum = { 0 };
    for (size_t i = 0; i < w->n; i++) {
        /* The last token predicts nothing. */
        size_t n_places = w->start[i + 1] - w->start[i] - 1;
        for (size_t from = 0; from < n_places; from += e->step) {
            uint32_t n = n_places - from < e->step ? (uint32_t) (n_places - from) : e->step;
            if (!mb_progress_report(progress, "tokens", w->start[i] + from,
                                    mb_windows_tokens(w))) {
                return mb_fail(err, MB_E_CANCELLED, 0, "stopped");
            }
            enum mb_status st = run_step(e, i, from, n, pool, err);
            if (st != MB_OK) {
                return st;
            }
            for (uint32_t t = 0; t < n; t++) {
                sum.nll += e->places[t].nll;
                sum.kl += e->places[t].kl;
                sum.top1 += e->places[t].agrees;
            }
            sum.n_tokens += n;
        }
        mb_kv_release(e->runs[0].kv, 0);
        if (e->runs[1].model) {
            mb_kv_release(e->runs[1].kv, 0);
        }
    }
    sum.nll /= (double) sum.n_tokens;
    sum.kl /= (double) sum.n_tokens;
    sum.top1 /= (double) sum.n_tokens;
    sum.ppl = exp(sum.nll);
    *ret = sum;
    return MB_OK;
}

static uint32_t longest_window(const struct mb_windows *w)
{
    size_t longest = 0;
    for (size_t i = 0; i < w->n; i++) {
        size_t n = w->start[i + 1] - w->start[i];
        longest = n > longest ? n : longest;
    }
    return (uint32_t) longest;
}

enum mb_status mb_evaluate(const struct mb_model *m, const struct mb_model *reference,
                           const struct mb_windows *w, const struct mb_kernels *kernels,
                           struct mb_pool *pool, const struct mb_progress *progress,
                           struct mb_evaluation *ret, struct mb_error *err)
{
    uint32_t n_vocab = m->shape.n_vocab;
    if (reference && reference->shape.n_vocab != n_vocab) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "the reference has %u tokens and the model %u: they can not be compared",
                       (unsigned) reference->shape.n_vocab, (unsigned) n_vocab);
    }
    uint32_t step = STEP_LOGITS / n_vocab;
    step = step < STEP_TOKENS_MIN ? STEP_TOKENS_MIN : step;
    step = step > STEP_TOKENS_MAX ? STEP_TOKENS_MAX : step;
    struct evaluator e = { .windows = w, .step = step, .n_vocab = n_vocab };
    e.position = mb_alloc(step, sizeof *e.position);
    e.seq = mb_alloc(step, sizeof *e.seq);
    e.logits_of = mb_alloc(step, sizeof *e.logits_of);
    e.places = mb_alloc(step, sizeof *e.places);
    enum mb_status st = MB_OK;
    if (!e.position || !e.seq || !e.logits_of || !e.places) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory to evaluate %u tokens a step",
                     (unsigned) step);
    }
    const struct mb_model *models[2] = { m, reference };
    for (int i = 0; st == MB_OK && i < 2 && models[i]; i++) {
        st = runner_init(&e.runs[i], models[i], step, longest_window(w), kernels, pool, err);
    }
    if (st == MB_OK) {
        st = run_windows(&e, pool, progress, ret, err);
    }
    runner_fini(&e.runs[0]);
    runner_fini(&e.runs[1]);
    mb_free(e.position);
    mb_free(e.seq);
    mb_free(e.logits_of);
    mb_free(e.places);
    return st;
}
