#include "core/convert/budget.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "core/base/memory.h"
#include "core/convert/calibration.h"
#include "core/infer/evaluate.h"

/* Of the text: for second moments, and for the divergence of a model with one layer replaced,
 * which costs two passes through the whole model per layer. */
enum { MOMENT_TOKENS = 16384, HARM_TOKENS = 2048 };

struct choice {
    const struct mb_model *original;
    struct mb_model *trial; /* the same, but for one layer */
    const struct mb_convert_options *o;
    const struct mb_kernels *kernels;
    struct mb_pool *pool;
    const struct mb_progress *progress;
    struct mb_windows moments, harm; /* views of the beginning of the text */
    struct mb_calibration *calibration;
    struct mb_budget_item *items; /* [layers * MB_BLOCK_LINEARS] */
    uint64_t n_weights;
};

/* The step from K to K + 1, or false when it does not help or does not fit. */
static bool gain(const struct mb_budget_item *t, unsigned n_kernels, uint64_t left,
                 double *ret_per_byte)
{
    if (n_kernels == MB_BUDGET_KERNELS_MAX) {
        return false;
    }
    uint64_t more = t->bytes[n_kernels] - t->bytes[n_kernels - 1];
    double undone = t->harm[n_kernels - 1] - t->harm[n_kernels];
    *ret_per_byte = undone / (double) more;
    return undone > 0 && more <= left;
}

void mb_budget_spend(const struct mb_budget_item *items, size_t n, uint64_t bytes_max,
                     uint8_t *ret_kernels)
{
    uint64_t left = bytes_max;
    for (size_t i = 0; i < n; i++) {
        ret_kernels[i] = 1;
        left -= items[i].bytes[0];
    }
    for (;;) {
        double best = 0, here;
        size_t at = n;
        for (size_t i = 0; i < n; i++) {
            if (gain(&items[i], ret_kernels[i], left, &here) && here > best) {
                best = here;
                at = i;
            }
        }
        if (at == n) {
            return;
        }
        const uint64_t *bytes = items[at].bytes;
        left -= bytes[ret_kernels[at]] - bytes[ret_kernels[at] - 1];
        ret_kernels[at]++;
    }
}

/* As many whole windows as give n tokens; the first in any case. */
static struct mb_windows beginning(const struct mb_windows *w, size_t n)
{
    struct mb_windows some = *w;
    some.n = some.n > 0;
    while (some.n < w->n && w->start[some.n + 1] <= n) {
        some.n++;
    }
    return some;
}

/* How far the model is from itself with this layer as fit. */
static enum mb_status diverge(struct choice *c, uint32_t layer, enum mb_block_linear l,
                              const struct mb_bool_draft *d, double *ret_kl,
                              struct mb_error *err)
{
    struct mb_linear *to = &c->trial->blocks[layer].linear[l], before = *to;
    struct mb_bool_matrix view = mb_bool_draft_view(d);
    struct mb_evaluation e;
    float *dense = mb_alloc(d->shape.n_rows, d->shape.n_cols * sizeof *dense);
    if (!dense) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to try a layer");
    }
    for (size_t i = 0; i < d->shape.n_rows; i++) {
        mb_bool_row(&view, i, dense + i * d->shape.n_cols);
    }
    to->kind = MB_LINEAR_F32;
    to->dense = dense;
    enum mb_status st =
        mb_evaluate(c->trial, c->original, &c->harm, c->kernels, c->pool, NULL, &e, err);
    *to = before;
    mb_free(dense);
    if (st == MB_OK) {
        *ret_kl = isfinite(e.kl) ? fmax(e.kl, 0) : FLT_MAX;
    }
    return st;
}

/* Errors of quick fits, and once per layer what an error means. */
static enum mb_status measure(struct choice *c, uint32_t layer, enum mb_block_linear l,
                              const struct mb_fit_inputs *inputs, struct mb_error *err)
{
    struct mb_budget_item *t = &c->items[layer * MB_BLOCK_LINEARS + (size_t) l];
    struct mb_source w = { .w = c->original->blocks[layer].linear[l] };
    struct mb_fit_options o = c->o->fit;
    char name[MB_TENSOR_NAME_MAX];
    double n = (double) w.w.n_rows * w.w.n_cols, error_of_two = 0, kl = 0;
    enum mb_status st = MB_OK;
    mb_block_tensor_name(name, layer, mb_block_linear_name(l));
    o.n_turns = 0;
    o.follow = 0;
    for (unsigned k = 1; st == MB_OK && k <= MB_BUDGET_KERNELS_MAX; k++) {
        struct mb_bool_draft d = { 0 };
        struct mb_fit_errors e;
        o.n_kernels = k;
        st = mb_fit(name, &w, inputs, &o, c->pool, &d, &e, err);
        if (st == MB_OK) {
            t->harm[k - 1] = inputs ? e.output : e.plain * n;
            t->bytes[k - 1] = mb_bool_bits_bytes(&d.shape) + mb_bool_scale_bytes(&d.shape) +
                              mb_bool_coef_bytes(&d.shape);
        }
        if (st == MB_OK && inputs && k == 2) {
            error_of_two = e.output;
            st = diverge(c, layer, l, &d, &kl, err);
        }
        mb_bool_draft_fini(&d);
    }
    for (unsigned k = 0; inputs && k < MB_BUDGET_KERNELS_MAX; k++) {
        t->harm[k] = error_of_two > 0 ? kl * t->harm[k] / error_of_two : 0;
    }
    c->n_weights += (uint64_t) w.w.n_rows * w.w.n_cols;
    return st;
}

/* The layers that share an input, with what the text says of it. */
static enum mb_status measure_readers(struct choice *c, uint32_t layer, enum mb_block_input i,
                                      struct mb_error *err)
{
    struct mb_statistics s = { 0 };
    struct mb_factor f = { 0 };
    struct mb_fit_inputs inputs = { &s, &f };
    size_t n = mb_block_input_width(&c->original->shape, i);
    enum mb_status st = c->calibration ? mb_statistics_init(&s, n, 0, err) : MB_OK;
    size_t n_batches = c->calibration ? mb_calibration_batches(c->calibration) : 0;
    for (size_t b = 0; st == MB_OK && b < n_batches; b++) {
        st = mb_calibration_observe(c->calibration, b, layer, i, &s, err);
    }
    if (st == MB_OK && c->calibration) {
        mb_statistics_finish(&s, c->o->damping);
        st = mb_factor_init(&f, s.second, n, c->pool, err);
    }
    size_t n_items = (size_t) c->original->shape.n_layers * MB_BLOCK_LINEARS;
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        if (mb_block_linear_input((enum mb_block_linear) l) == i) {
            st = measure(c, layer, (enum mb_block_linear) l, c->calibration ? &inputs : NULL,
                         err);
            size_t done = layer * MB_BLOCK_LINEARS + (size_t) l + 1;
            if (st == MB_OK && !mb_progress_report(c->progress, "bits", done, n_items)) {
                st = mb_fail(err, MB_E_CANCELLED, 0, "stopped while choosing kernels");
            }
        }
    }
    mb_statistics_fini(&s);
    mb_factor_fini(&f);
    return st;
}

static enum mb_status measure_all(struct choice *c, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    size_t n_batches = c->calibration ? mb_calibration_batches(c->calibration) : 0;
    for (uint32_t layer = 0; st == MB_OK && layer < c->original->shape.n_layers; layer++) {
        for (int i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
            st = measure_readers(c, layer, (enum mb_block_input) i, err);
        }
        for (size_t b = 0; st == MB_OK && b < n_batches; b++) {
            st = mb_calibration_advance(c->calibration, b, layer, err);
        }
    }
    return st;
}

static enum mb_status spend(const struct choice *c, uint8_t *ret_kernels, struct mb_error *err)
{
    size_t n = (size_t) c->original->shape.n_layers * MB_BLOCK_LINEARS;
    uint64_t least = 0, most = 0;
    for (size_t i = 0; i < n; i++) {
        least += c->items[i].bytes[0];
        most += c->items[i].bytes[MB_BUDGET_KERNELS_MAX - 1];
    }
    double bytes = floor(c->o->bits * (double) c->n_weights / 8);
    if (!(bytes >= (double) least)) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "a budget of %g bits per weight is below the %.4f of one kernel",
                       c->o->bits, mb_bits_per_weight(least, c->n_weights));
    }
    mb_budget_spend(c->items, n, bytes < (double) most ? (uint64_t) bytes : most, ret_kernels);
    return MB_OK;
}

/* A model to change layers of: its views, not its weights, are its own. */
static enum mb_status copy_views(struct choice *c, struct mb_error *err)
{
    const struct mb_model *m = c->original;
    enum mb_status st = mb_model_new(&m->shape, &c->trial, err);
    if (st == MB_OK) {
        c->trial->inv_freq = m->inv_freq;
        c->trial->embed = m->embed;
        c->trial->head = m->head;
        c->trial->final_norm = m->final_norm;
        memcpy(c->trial->blocks, m->blocks, m->shape.n_layers * sizeof *m->blocks);
    }
    return st;
}

enum mb_status mb_budget_choose(const struct mb_model *m, const struct mb_windows *w,
                                const struct mb_convert_options *o,
                                const struct mb_kernels *kernels, struct mb_pool *pool,
                                const struct mb_progress *progress, uint8_t *ret_kernels,
                                struct mb_error *err)
{
    struct choice c = {
        .original = m, .o = o, .kernels = kernels, .pool = pool, .progress = progress
    };
    c.items = mb_alloc((size_t) m->shape.n_layers * MB_BLOCK_LINEARS, sizeof *c.items);
    enum mb_status st =
        c.items ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "no memory to choose kernels");
    if (st == MB_OK && w) {
        c.moments = beginning(w, MOMENT_TOKENS);
        c.harm = beginning(w, HARM_TOKENS);
        st = copy_views(&c, err);
        if (st == MB_OK) {
            st = mb_calibration_new(m, m, &c.moments, kernels, pool, &c.calibration, err);
        }
    }
    if (st == MB_OK) {
        st = measure_all(&c, err);
    }
    if (st == MB_OK) {
        st = spend(&c, ret_kernels, err);
    }
    mb_calibration_free(c.calibration);
    mb_model_unref(c.trial);
    mb_free(c.items);
    return st;
}
