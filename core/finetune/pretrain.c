#include "core/finetune/pretrain.h"

#include <math.h>

#include "core/base/memory.h"
#include "core/base/rng.h"

/* The order of the windows, anew for every pass over them. */
struct shuffle {
    uint32_t *order; /* [n] */
    size_t n, next;
    uint64_t seed, pass;
};

static void shuffle_again(struct shuffle *s)
{
    for (size_t i = 0; i < s->n; i++) {
        s->order[i] = (uint32_t) i;
    }
    for (size_t i = s->n; i > 1; i--) {
        size_t j = mb_rng_u64(s->seed, UINT64_MAX - s->pass, i) % i;
        uint32_t swap = s->order[i - 1];
        s->order[i - 1] = s->order[j];
        s->order[j] = swap;
    }
    s->next = 0;
    s->pass++;
}

/* A batch in the making: windows end to end. */
struct packed {
    uint32_t *start, *token, *target; /* [tokens_max + 1] */
    float *weight;
    uint32_t tokens_max;
    struct mb_train_batch batch;
};

static enum mb_status packed_init(struct packed *p, uint32_t tokens_max, struct mb_error *err)
{
    size_t n = (size_t) tokens_max + 1;
    *p = (struct packed) {
        .start = mb_alloc(n, sizeof *p->start),
        .token = mb_alloc(n, sizeof *p->token),
        .target = mb_alloc(n, sizeof *p->target),
        .weight = mb_alloc(n, sizeof *p->weight),
        .tokens_max = tokens_max,
    };
    if (!p->start || !p->token || !p->target || !p->weight) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for a batch of %u tokens",
                       (unsigned) tokens_max);
    }
    p->batch = (struct mb_train_batch) {
        .start = p->start, .token = p->token, .target = p->target, .weight = p->weight
    };
    return MB_OK;
}

static void packed_fini(struct packed *p)
{
    mb_free(p->start);
    mb_free(p->token);
    mb_free(p->target);
    mb_free(p->weight);
}

/* The last token of a window predicts nothing. false: it has no room. */
static bool pack(struct packed *p, const struct mb_windows *w, size_t i)
{
    const uint32_t *ids = w->ids.at + w->start[i];
    size_t n = w->start[i + 1] - w->start[i] - 1;
    struct mb_train_batch *b = &p->batch;
    if (n > p->tokens_max - b->n_tokens) {
        return false;
    }
    for (size_t k = 0; k < n; k++) {
        p->token[b->n_tokens + k] = ids[k];
        p->target[b->n_tokens + k] = ids[k + 1];
        p->weight[b->n_tokens + k] = 1;
    }
    b->n_tokens += (uint32_t) n;
    p->start[++b->n_seqs] = b->n_tokens;
    return true;
}

static void pack_next(struct packed *p, const struct mb_windows *w, struct shuffle *s)
{
    p->batch.n_tokens = p->batch.n_seqs = 0;
    for (;;) {
        if (s->next == s->n) {
            shuffle_again(s);
        }
        if (!pack(p, w, s->order[s->next])) {
            return;
        }
        s->next++;
        if (s->next == s->n) { /* a pass ends with its batch */
            return;
        }
    }
}

static enum mb_status validate(struct mb_gradient *g, const struct mb_model *m,
                               struct packed *p, const struct mb_windows *w, double *ret,
                               struct mb_error *err)
{
    double loss = 0, weight = 0;
    enum mb_status st = MB_OK;
    for (size_t i = 0; i < w->n && st == MB_OK;) {
        p->batch.n_tokens = p->batch.n_seqs = 0;
        while (i < w->n && pack(p, w, i)) {
            i++;
        }
        struct mb_losses l;
        st = mb_gradient_run(g, m, NULL, &p->batch, NULL, &l, err);
        loss += l.cross_entropy * l.weight;
        weight += l.weight;
    }
    *ret = loss / weight;
    return st;
}

static float rate_at(const struct mb_pretrain_options *o, uint32_t step)
{
    if (step < o->warmup) {
        return o->rate * (float) (step + 1) / (float) o->warmup;
    }
    double along = (double) (step - o->warmup) / (o->steps - o->warmup);
    return (float) (o->rate * (0.1 + 0.9 * 0.5 * (1 + cos(3.141592653589793 * along))));
}

struct run {
    const struct mb_pretrain_options *o;
    struct mb_model *model;
    struct mb_adamw *adamw;
    struct mb_gradient *gradient;
    struct packed packed;
    struct shuffle shuffle;
    struct mb_pretrain_report report;
    double loss, weight; /* since the last report */
    uint32_t reports;
    bool stopped;
};

static enum mb_status report(struct run *r, struct mb_error *err)
{
    bool last = r->report.step == r->o->steps;
    r->report.loss = r->loss / r->weight;
    r->report.valid_loss = NAN;
    r->loss = r->weight = 0;
    enum mb_status st = MB_OK;
    if (r->o->valid && (last || ++r->reports % r->o->valid_every == 0)) {
        st = validate(r->gradient, r->model, &r->packed, r->o->valid, &r->report.valid_loss,
                      err);
    }
    if (st == MB_OK && r->o->report) {
        r->o->report(r->o->self, &r->report);
    }
    return st;
}

static enum mb_status step(struct run *r, struct mb_error *err)
{
    pack_next(&r->packed, r->o->train, &r->shuffle);
    r->report.rate = rate_at(r->o, r->report.step);
    mb_adamw_begin(r->adamw, (double) r->report.rate);
    struct mb_sink sink = mb_adamw_sink(r->adamw);
    struct mb_losses l;
    enum mb_status st =
        mb_gradient_run(r->gradient, r->model, NULL, &r->packed.batch, &sink, &l, err);
    if (st != MB_OK) {
        return st;
    }
    r->loss += l.cross_entropy * l.weight;
    r->weight += l.weight;
    r->report.tokens += r->packed.batch.n_tokens;
    r->report.step++;
    r->stopped = !mb_progress_report(r->o->progress, "pretrain", r->report.step, r->o->steps);
    bool due = r->report.step % r->o->report_every == 0 || r->report.step == r->o->steps;
    return due ? report(r, err) : MB_OK;
}

static size_t longest(const struct mb_windows *w)
{
    size_t n = 0;
    for (size_t i = 0; w && i < w->n; i++) {
        size_t len = w->start[i + 1] - w->start[i];
        n = len > n ? len : n;
    }
    return n;
}

static enum mb_status check(const struct mb_pretrain_options *o, size_t longest_window,
                            struct mb_error *err)
{
    if (o->steps < 1 || o->warmup >= o->steps) {
        return mb_fail(err, MB_E_INVALID, 0, "a warm-up of %u steps of %u",
                       (unsigned) o->warmup, (unsigned) o->steps);
    }
    if (longest_window > o->shape.context) {
        return mb_fail(err, MB_E_INVALID, 0, "a window of %zu tokens; the context is %u",
                       longest_window, (unsigned) o->shape.context);
    }
    if (longest_window > o->batch_tokens) {
        return mb_fail(err, MB_E_INVALID, 0, "a window of %zu tokens in a batch of %u",
                       longest_window, (unsigned) o->batch_tokens);
    }
    return MB_OK;
}

static enum mb_status open_run(struct run *r, size_t longest_window, struct mb_error *err)
{
    const struct mb_pretrain_options *o = r->o;
    struct mb_adamw_options adamw = {
        .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-8, .decay = (double) o->decay
    };
    struct mb_gradient_options gradient = { .pool = o->pool,
                                            .ops = o->ops,
                                            .tokens_max = o->batch_tokens,
                                            .positions_max = (uint32_t) longest_window,
                                            .ce = 1 };
    r->shuffle = (struct shuffle) { .n = o->train->n, .next = o->train->n, .seed = o->seed };
    r->shuffle.order = mb_alloc(o->train->n, sizeof *r->shuffle.order);
    enum mb_status st = r->shuffle.order ? packed_init(&r->packed, o->batch_tokens, err)
                                         : mb_fail(err, MB_E_NOMEM, 0, "no memory");
    if (st == MB_OK) {
        st = mb_float_model_new(&o->shape, o->rope_theta, o->seed, &r->model, err);
    }
    if (st == MB_OK) {
        st = mb_adamw_new(r->model, &adamw, &r->adamw, err);
    }
    if (st == MB_OK) {
        st = mb_gradient_new(r->model, &gradient, &r->gradient, err);
    }
    return st;
}

enum mb_status mb_pretrain(const struct mb_pretrain_options *o, struct mb_model **ret,
                           struct mb_error *err)
{
    size_t train = longest(o->train), valid = longest(o->valid);
    size_t longest_window = train > valid ? train : valid;
    enum mb_status st = check(o, longest_window, err);
    if (st != MB_OK) {
        return st;
    }
    struct run r = { .o = o, .report = { .steps = o->steps } };
    st = open_run(&r, longest_window, err);
    while (st == MB_OK && r.report.step < o->steps && !r.stopped) {
        st = step(&r, err);
    }
    mb_gradient_free(r.gradient);
    mb_adamw_free(r.adamw);
    packed_fini(&r.packed);
    mb_free(r.shuffle.order);
    if (st != MB_OK) {
        mb_model_unref(r.model);
        return st;
    }
    *ret = r.model;
    return MB_OK;
}
