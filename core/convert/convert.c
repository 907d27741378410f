#include "core/convert/convert.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/checkpoint/writer.h"
#include "core/convert/budget.h"
#include "core/convert/calibration.h"
#include "core/convert/part_draft.h"
#include "core/convert/provenance.h"
#include "core/import/hf.h"
#include "core/tensor/blas.h"

/* t beside the geometric mean of its layer: float16 has room, and no column is taken for
 * noise. */
#define INPUT_SCALE_MAX 256.0

/* For progress: each input of a block is a pass over the text and the fits that follow it, which
 * take about as long; and one pass takes the text through the block. */
enum { BLOCK_PASSES = 2 * MB_BLOCK_INPUTS + 1 };

/* Everything that a conversion holds on to; fini accepts it in any state. */
struct conversion {
    const struct mb_convert_options *o;
    struct mb_pool *pool;
    const struct mb_kernels *kernels;
    const struct mb_progress *progress;
    uint64_t done, total; /* of progress: batches through one block */

    struct mb_model *original;
    struct mb_model *converted; /* views into the drafts below; dense where not yet converted */
    struct mb_windows windows;
    struct mb_calibration *calibration; /* NULL without a text */
    struct mb_checkpoint_writer *writer;
    struct mb_bytes provenance; /* written last: versions of a model differ in its length */
    struct mb_part *part;
    uint8_t *n_kernels; /* [layers * MB_BLOCK_LINEARS] */
    struct mb_convert_report report;

    struct mb_bool_draft embed;
    uint16_t *embed_half;
    struct mb_bool_draft drafts[MB_BLOCK_LINEARS];
    uint16_t *scales[MB_BLOCK_INPUTS];
};

struct mb_convert_options mb_convert_defaults(void)
{
    return (struct mb_convert_options) {
        .fit = { .n_kernels = 3,
                 .group = MB_FIT_GROUP_DEFAULT,
                 .init = MB_INIT_GREEDY,
                 .n_turns = MB_FIT_TURNS_DEFAULT,
                 .follow = MB_FIT_FOLLOW_DEFAULT },
        .head_kernels = MB_CONVERT_HEAD_KERNELS_DEFAULT,
        .n_planes = 8,
        .damping = MB_FIT_DAMPING_DEFAULT,
        .tokens_max = MB_CONVERT_TOKENS_DEFAULT,
    };
}

void mb_convert_report_fini(struct mb_convert_report *r)
{
    mb_free(r->tensors);
    *r = (struct mb_convert_report) { 0 };
}

static enum mb_status step_done(struct conversion *c, const char *what, uint64_t n,
                                struct mb_error *err)
{
    c->done += n;
    return mb_progress_report(c->progress, what, c->done, c->total)
               ? MB_OK
               : mb_fail(err, MB_E_CANCELLED, 0, "stopped at %s", what);
}

/* The report's next line. */
static struct mb_convert_tensor *note(struct conversion *c, const char *name, uint32_t n_rows,
                                      uint32_t n_cols, uint64_t bytes)
{
    struct mb_convert_tensor *t = &c->report.tensors[c->report.n_tensors++];
    assert(strlen(name) < sizeof t->name);
    memcpy(t->name, name, strlen(name) + 1);
    t->n_rows = n_rows;
    t->n_cols = n_cols;
    t->bytes = bytes;
    c->report.n_weights += (uint64_t) n_rows * n_cols;
    c->report.weight_bytes += bytes;
    return t;
}

/* How a layer of a block is fit. */
static struct mb_fit_options fit_of(const struct conversion *c, uint32_t layer, int l)
{
    struct mb_fit_options o = c->o->fit;
    o.n_kernels = c->n_kernels[layer * MB_BLOCK_LINEARS + (size_t) l];
    return o;
}

static uint64_t draft_bytes(const struct mb_bool_draft *d)
{
    return mb_bool_bits_bytes(&d->shape) + mb_bool_scale_bytes(&d->shape) +
           mb_bool_coef_bytes(&d->shape);
}

/* A fit into the report and the checkpoint. */
static enum mb_status write_fit(struct conversion *c, const char *name,
                                const struct mb_bool_draft *d,
                                const struct mb_fit_errors *errors, struct mb_error *err)
{
    struct mb_bool_matrix view = mb_bool_draft_view(d);
    struct mb_convert_tensor *t =
        note(c, name, d->shape.n_rows, d->shape.n_cols, draft_bytes(d));
    t->n_kernels = d->shape.n_kernels;
    t->errors = *errors;
    return mb_checkpoint_add_bool(c->writer, name, &view, err);
}

/* Leaves in *ret the fit of a tensor that an earlier run has finished, if there is one, and
 * writes it. */
static enum mb_status take_tensor(struct conversion *c, const char *name,
                                  const struct mb_source *w, const struct mb_fit_options *o,
                                  struct mb_bool_draft *ret, bool *ret_taken,
                                  struct mb_error *err)
{
    struct mb_fit_errors errors;
    struct mb_bool_shape shape = mb_fit_shape(o, &w->w);
    *ret_taken = mb_part_take_draft(c->part, name, &shape, ret, &errors);
    return *ret_taken ? write_fit(c, name, ret, &errors, err) : MB_OK;
}

/* Fits a tensor, keeps and writes it, and leaves it in *ret. */
static enum mb_status fit_tensor(struct conversion *c, const char *name,
                                 const struct mb_source *w, const struct mb_fit_inputs *inputs,
                                 const struct mb_fit_options *o, struct mb_bool_draft *ret,
                                 struct mb_error *err)
{
    struct mb_fit_errors errors;
    enum mb_status st = mb_fit(name, w, inputs, o, c->pool, ret, &errors, err);
    if (st == MB_OK) {
        st = mb_part_add_draft(c->part, name, ret, &errors, err);
    }
    return st == MB_OK ? write_fit(c, name, ret, &errors, err) : st;
}

static enum mb_status half_tensor(struct conversion *c, const char *name,
                                  const struct mb_source *w, uint16_t **ret,
                                  struct mb_error *err)
{
    size_t m = w->w.n_rows, n = w->w.n_cols;
    float largest, *row = mb_alloc(n, sizeof *row);
    uint16_t *half = mb_alloc(m, n * sizeof *half);
    enum mb_status st = row && half ? mb_source_check(w, name, c->pool, &largest, err)
                                    : mb_fail(err, MB_E_NOMEM, 0, "%s: no memory", name);
    if (st == MB_OK && largest > 65504) {
        st = mb_fail(err, MB_E_INVALID, 0, "%s: a weight of size %g has no place in float16",
                     name, (double) largest);
    }
    for (size_t i = 0; st == MB_OK && i < m; i++) {
        mb_source_row(w, i, row);
        for (size_t j = 0; j < n; j++) {
            half[i * n + j] = mb_f32_to_f16(row[j]);
        }
    }
    if (st == MB_OK) {
        st = mb_checkpoint_add_f16(c->writer, name, half, (uint32_t) m, (uint32_t) n, err);
    }
    if (st == MB_OK) {
        (void) note(c, name, w->w.n_rows, w->w.n_cols, (uint64_t) m * n * sizeof *half);
        *ret = half;
    } else {
        mb_free(half);
    }
    mb_free(row);
    return st;
}

static void view_bool(struct mb_linear *l, const struct mb_bool_draft *d)
{
    l->kind = MB_LINEAR_BOOL;
    l->dense = NULL;
    l->boolean = mb_bool_draft_view(d);
}

/* Statistics of one input, and their factor. */
struct learned {
    struct mb_statistics statistics;
    struct mb_factor factor;
    struct mb_fit_inputs inputs;
};

static void learned_fini(struct learned *l)
{
    mb_statistics_fini(&l->statistics);
    mb_factor_fini(&l->factor);
}

static enum mb_status finish_learning(struct conversion *c, struct learned *l, double damping,
                                      struct mb_error *err)
{
    mb_statistics_finish(&l->statistics, damping);
    l->inputs = (struct mb_fit_inputs) { &l->statistics, &l->factor };
    return mb_factor_init(&l->factor, l->statistics.second, l->statistics.n_cols, c->pool, err);
}

/* What the head reads in the float model, for an embedding that serves as the head too. Its rows
 * are also read one at a time, where every column counts alike: hence the identity is added. */
static enum mb_status learn_tied_head(struct conversion *c, struct learned *l,
                                      struct mb_error *err)
{
    struct mb_calibration *alone;
    const struct mb_shape *s = &c->original->shape;
    enum mb_status st = mb_statistics_init(&l->statistics, s->width, 0, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_calibration_new(c->original, c->original, &c->windows, c->kernels, c->pool, &alone,
                            err);
    if (st != MB_OK) {
        return st;
    }
    c->total = (1 + BLOCK_PASSES) * s->n_layers * mb_calibration_batches(alone);
    for (size_t b = 0; st == MB_OK && b < mb_calibration_batches(alone); b++) {
        for (uint32_t layer = 0; st == MB_OK && layer < s->n_layers; layer++) {
            st = mb_calibration_advance(alone, b, layer, err);
        }
        if (st == MB_OK) {
            mb_calibration_observe_head(alone, b, &l->statistics);
            st = step_done(c, "embed", s->n_layers, err);
        }
    }
    mb_calibration_free(alone);
    return st == MB_OK ? finish_learning(c, l, 1, err) : st;
}

static enum mb_status convert_embed(struct conversion *c, struct mb_error *err)
{
    struct mb_source w = { .w = c->original->embed };
    struct mb_fit_options o = c->o->fit;
    struct mb_linear *to = &c->converted->embed;
    struct learned learned = { 0 };
    bool as_head = c->o->text && c->original->shape.tied_head;
    enum mb_status st = MB_OK;
    *to = w.w;
    if (c->o->head_kernels == 0) {
        st = half_tensor(c, "embed", &w, &c->embed_half, err);
        to->kind = MB_LINEAR_F16;
        to->dense = c->embed_half;
    } else {
        bool taken;
        o.n_kernels = c->o->head_kernels;
        st = take_tensor(c, "embed", &w, &o, &c->embed, &taken, err);
        if (st == MB_OK && !taken && as_head) {
            st = learn_tied_head(c, &learned, err);
        }
        if (st == MB_OK && !taken) {
            st = fit_tensor(c, "embed", &w, as_head ? &learned.inputs : NULL, &o, &c->embed,
                            err);
        }
        view_bool(to, &c->embed);
        learned_fini(&learned);
    }
    return st;
}

/* Root mean square of each column over the layers that share input i, over the geometric mean
 * of them all, in float16; and what divides the weights in turn. */
static enum mb_status choose_scale(struct conversion *c, uint32_t layer, enum mb_block_input i,
                                   float *ret_inverse, struct mb_error *err)
{
    size_t n = mb_block_input_width(&c->original->shape, i);
    double *square = mb_alloc(n, sizeof *square), log_sum = 0;
    float *row = mb_alloc(n, sizeof *row);
    uint16_t *t = mb_alloc(n, sizeof *t);
    size_t n_used = 0;
    mb_free(c->scales[i]);
    c->scales[i] = t;
    for (int l = 0; square && row && t && l < MB_BLOCK_LINEARS; l++) {
        struct mb_source w = { .w = c->original->blocks[layer].linear[l] };
        bool reads_it = mb_block_linear_input((enum mb_block_linear) l) == i;
        for (size_t r = 0; reads_it && r < w.w.n_rows; r++) {
            mb_source_row(&w, r, row);
            for (size_t j = 0; j < n; j++) {
                square[j] += (double) row[j] * row[j];
            }
        }
    }
    bool ready = square && row && t;
    for (size_t j = 0; ready && j < n; j++) {
        log_sum += square[j] > 0 ? 0.5 * log(square[j]) : 0;
        n_used += square[j] > 0;
    }
    double mean = n_used > 0 ? exp(log_sum / (double) n_used) : 1;
    for (size_t j = 0; ready && j < n; j++) {
        double v = square[j] > 0 ? sqrt(square[j]) / mean : 1;
        v = v > INPUT_SCALE_MAX ? INPUT_SCALE_MAX : v;
        v = v < 1 / INPUT_SCALE_MAX ? 1 / INPUT_SCALE_MAX : v;
        t[j] = mb_f32_to_f16((float) v);
        ret_inverse[j] = 1 / mb_f16_to_f32(t[j]);
    }
    mb_free(square);
    mb_free(row);
    return ready ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "no memory for an input's scale");
}

static enum mb_status learn(struct conversion *c, uint32_t layer, enum mb_block_input i,
                            struct learned *l, struct mb_error *err)
{
    const struct mb_shape *s = &c->original->shape;
    bool adds = i == MB_IN_ATTN_O || i == MB_IN_FFN_DOWN;
    char name[MB_TENSOR_NAME_MAX];
    mb_block_tensor_name(name, layer, mb_block_input_name(i));
    enum mb_status st = mb_statistics_init(&l->statistics, mb_block_input_width(s, i),
                                           adds ? s->width : 0, err);
    for (size_t b = 0; st == MB_OK && b < mb_calibration_batches(c->calibration); b++) {
        st = mb_calibration_observe(c->calibration, b, layer, i, &l->statistics, err);
        if (st == MB_OK) {
            st = step_done(c, name, 1, err);
        }
    }
    return st == MB_OK ? finish_learning(c, l, c->o->damping, err) : st;
}

static enum mb_status check_sources(struct conversion *c, uint32_t layer, enum mb_block_input i,
                                    struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        struct mb_source w = { .w = c->original->blocks[layer].linear[l] };
        char name[MB_TENSOR_NAME_MAX];
        float largest;
        if (mb_block_linear_input((enum mb_block_linear) l) == i) {
            mb_block_tensor_name(name, layer, mb_block_linear_name((enum mb_block_linear) l));
            st = mb_source_check(&w, name, c->pool, &largest, err);
        }
    }
    return st;
}

/* The layers that read input i, of which everything before it in the block is converted. What
 * the text says of the input is learned when a layer is first to be fit: those that an earlier
 * run has finished need none of it. */
static enum mb_status convert_readers(struct conversion *c, uint32_t layer,
                                      enum mb_block_input i, const float *inverse,
                                      struct learned *learned, struct mb_error *err)
{
    enum mb_status st = MB_OK;
    for (int l = 0; st == MB_OK && l < MB_BLOCK_LINEARS; l++) {
        struct mb_linear *to = &c->converted->blocks[layer].linear[l];
        struct mb_source w = { .w = c->original->blocks[layer].linear[l], .inverse = inverse };
        struct mb_fit_options o = fit_of(c, layer, l);
        char name[MB_TENSOR_NAME_MAX];
        bool taken;
        if (mb_block_linear_input((enum mb_block_linear) l) != i) {
            continue;
        }
        mb_block_tensor_name(name, layer, mb_block_linear_name((enum mb_block_linear) l));
        mb_bool_draft_fini(&c->drafts[l]);
        st = take_tensor(c, name, &w, &o, &c->drafts[l], &taken, err);
        if (st == MB_OK && !taken && c->calibration && !learned->inputs.statistics) {
            st = learn(c, layer, i, learned, err);
        }
        if (st == MB_OK && !taken) {
            st = fit_tensor(c, name, &w, c->calibration ? &learned->inputs : NULL, &o,
                            &c->drafts[l], err);
        }
        view_bool(to, &c->drafts[l]);
    }
    return st;
}

static enum mb_status write_scale(struct conversion *c, uint32_t layer, enum mb_block_input i,
                                  struct mb_error *err)
{
    uint32_t n = mb_block_input_width(&c->original->shape, i);
    char name[MB_TENSOR_NAME_MAX];
    mb_block_tensor_name(name, layer, mb_block_scale_name(i));
    c->report.weight_bytes += n * sizeof(uint16_t);
    return mb_checkpoint_add_f16(c->writer, name, c->scales[i], 1, n, err);
}

static enum mb_status convert_input(struct conversion *c, uint32_t layer, enum mb_block_input i,
                                    struct mb_error *err)
{
    struct learned learned = { 0 };
    bool knows = c->calibration != NULL;
    char name[MB_TENSOR_NAME_MAX];
    size_t n = mb_block_input_width(&c->original->shape, i);
    float *inverse = knows ? mb_alloc(n, sizeof *inverse) : NULL;
    enum mb_status st = check_sources(c, layer, i, err);
    if (st == MB_OK && knows) {
        st = inverse ? choose_scale(c, layer, i, inverse, err)
                     : mb_fail(err, MB_E_NOMEM, 0, "no memory for an input's scale");
        c->converted->blocks[layer].input_scale[i] = c->scales[i];
        if (st == MB_OK) {
            st = write_scale(c, layer, i, err);
        }
    }
    if (st == MB_OK) {
        st = convert_readers(c, layer, i, inverse, &learned, err);
    }
    size_t n_batches = knows ? mb_calibration_batches(c->calibration) : 1;
    size_t n_left = knows && !learned.inputs.statistics ? 2 * n_batches : n_batches;
    learned_fini(&learned);
    mb_free(inverse);
    mb_block_tensor_name(name, layer, mb_block_input_name(i));
    return st == MB_OK ? step_done(c, name, n_left, err) : st;
}

static enum mb_status write_norms(struct conversion *c, uint32_t layer, struct mb_error *err)
{
    const struct mb_block *b = &c->original->blocks[layer];
    uint32_t d = c->original->shape.width;
    char name[MB_TENSOR_NAME_MAX];
    enum mb_status st = mb_checkpoint_add_f32(
        c->writer, mb_block_tensor_name(name, layer, "attn_norm"), b->attn_norm, d, err);
    return st != MB_OK
               ? st
               : mb_checkpoint_add_f32(c->writer, mb_block_tensor_name(name, layer, "ffn_norm"),
                                       b->ffn_norm, d, err);
}

static enum mb_status convert_block(struct conversion *c, uint32_t layer, struct mb_error *err)
{
    /* Until its turn comes, each layer is the float model's. */
    c->converted->blocks[layer] = c->original->blocks[layer];
    enum mb_status st = write_norms(c, layer, err);
    for (int i = 0; st == MB_OK && i < MB_BLOCK_INPUTS; i++) {
        st = convert_input(c, layer, (enum mb_block_input) i, err);
    }
    size_t n_batches = c->calibration ? mb_calibration_batches(c->calibration) : 0;
    char name[MB_TENSOR_NAME_MAX];
    mb_block_tensor_name(name, layer, "output");
    for (size_t b = 0; st == MB_OK && b < n_batches; b++) {
        st = mb_calibration_advance(c->calibration, b, layer, err);
        if (st == MB_OK) {
            st = step_done(c, name, 1, err);
        }
    }
    return st;
}

static enum mb_status convert_head(struct conversion *c, struct mb_error *err)
{
    struct mb_source w = { .w = c->original->head };
    struct mb_fit_options o = c->o->fit;
    struct mb_bool_draft draft = { 0 };
    struct learned learned = { 0 };
    uint16_t *half = NULL;
    enum mb_status st = MB_OK;
    o.n_kernels = c->o->head_kernels;
    if (o.n_kernels == 0) {
        st = half_tensor(c, "head", &w, &half, err);
        mb_free(half);
        return st;
    }
    bool taken;
    st = take_tensor(c, "head", &w, &o, &draft, &taken, err);
    if (st == MB_OK && !taken && c->calibration) {
        st = mb_statistics_init(&learned.statistics, w.w.n_cols, 0, err);
        for (size_t b = 0; st == MB_OK && b < mb_calibration_batches(c->calibration); b++) {
            mb_calibration_observe_head(c->calibration, b, &learned.statistics);
        }
        if (st == MB_OK) {
            st = finish_learning(c, &learned, c->o->damping, err);
        }
    }
    if (st == MB_OK && !taken) {
        st =
            fit_tensor(c, "head", &w, c->calibration ? &learned.inputs : NULL, &o, &draft, err);
    }
    learned_fini(&learned);
    mb_bool_draft_fini(&draft);
    return st;
}

/* The converted model before anything is: it says which groups will come, for sizing
 * scratch. */
static enum mb_status plan_converted(struct conversion *c, const struct mb_shape *shape,
                                     struct mb_error *err)
{
    enum mb_status st = mb_model_new(shape, &c->converted, err);
    if (st != MB_OK) {
        return st;
    }
    c->converted->inv_freq = c->original->inv_freq;
    c->converted->final_norm = c->original->final_norm;
    c->converted->head = c->original->head;
    for (uint32_t layer = 0; layer < shape->n_layers; layer++) {
        for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
            struct mb_linear *to = &c->converted->blocks[layer].linear[l];
            *to = c->original->blocks[layer].linear[l];
            to->kind = MB_LINEAR_BOOL;
            struct mb_fit_options o = fit_of(c, layer, l);
            to->boolean.shape = mb_fit_shape(&o, to);
            st = mb_bool_shape_check(&to->boolean.shape, err);
            if (st != MB_OK) {
                return st;
            }
        }
    }
    return MB_OK;
}

static enum mb_status read_text(struct conversion *c, const uint8_t *tokenizer, size_t n,
                                struct mb_error *err)
{
    struct mb_tokenizer *t;
    size_t window = c->original->shape.context;
    window = window < MB_CONVERT_WINDOW_MAX ? window : MB_CONVERT_WINDOW_MAX;
    enum mb_status st = mb_tokenizer_from_bytes(tokenizer, n, &t, err);
    if (st == MB_OK) {
        st = mb_windows_of_marked_text(t, c->o->text, c->o->n_text, window, c->o->tokens_max,
                                       &c->windows, err);
        mb_tokenizer_free(t);
        c->report.n_tokens = mb_windows_tokens(&c->windows);
    }
    return st;
}

/* Sections that say what the model is and where it comes from. */
static enum mb_status write_words(struct conversion *c, const char *template,
                                  const struct mb_bytes *tokenizer, struct mb_error *err)
{
    const struct mb_shape *s = &c->original->shape;
    enum mb_status st = MB_OK;
    if (tokenizer->len > 0) {
        st =
            mb_checkpoint_add_bytes(c->writer, "tokenizer", tokenizer->at, tokenizer->len, err);
    }
    if (st == MB_OK && template) {
        st = mb_checkpoint_add_bytes(c->writer, "chat_template", template, strlen(template),
                                     err);
    }
    if (st == MB_OK) {
        st = mb_checkpoint_add_f64(c->writer, "rope.inv_freq", c->original->inv_freq,
                                   s->head_width / 2, err);
    }
    return st == MB_OK ? mb_checkpoint_add_f32(c->writer, "final_norm", c->original->final_norm,
                                               s->width, err)
                       : st;
}

static enum mb_status convert_all(struct conversion *c, struct mb_error *err)
{
    uint32_t n_layers = c->original->shape.n_layers;
    enum mb_status st = convert_embed(c, err);
    if (st == MB_OK && c->o->text) {
        st = mb_calibration_new(c->original, c->converted, &c->windows, c->kernels, c->pool,
                                &c->calibration, err);
    }
    size_t per_block = c->calibration ? mb_calibration_batches(c->calibration) : 0;
    c->total =
        c->done + n_layers * (per_block > 0 ? per_block * BLOCK_PASSES : MB_BLOCK_INPUTS);
    for (uint32_t layer = 0; st == MB_OK && layer < n_layers; layer++) {
        st = convert_block(c, layer, err);
    }
    if (st == MB_OK && !c->original->shape.tied_head) {
        st = convert_head(c, err);
    }
    return st;
}

static void conclude(struct mb_convert_report *r)
{
    double error = 0, n_weights = 0;
    for (size_t i = 0; i < r->n_tensors; i++) {
        const struct mb_convert_tensor *t = &r->tensors[i];
        bool of_a_block = strncmp(t->name, "blocks.", 7) == 0;
        double n = of_a_block ? (double) t->n_rows * t->n_cols : 0;
        r->n_block_weights += of_a_block ? (uint64_t) t->n_rows * t->n_cols : 0;
        r->block_bytes += of_a_block ? t->bytes : 0;
        error += t->errors.output * n;
        n_weights += n;
    }
    r->output_error = n_weights > 0 ? error / n_weights : 0;
}

static void conversion_fini(struct conversion *c)
{
    mb_bytes_fini(&c->provenance);
    mb_calibration_free(c->calibration);
    mb_checkpoint_writer_abort(c->writer);
    mb_windows_fini(&c->windows);
    mb_model_unref(c->converted);
    mb_model_unref(c->original);
    mb_bool_draft_fini(&c->embed);
    mb_free(c->embed_half);
    mb_free(c->n_kernels);
    for (int l = 0; l < MB_BLOCK_LINEARS; l++) {
        mb_bool_draft_fini(&c->drafts[l]);
    }
    for (int i = 0; i < MB_BLOCK_INPUTS; i++) {
        mb_free(c->scales[i]);
    }
    mb_convert_report_fini(&c->report);
}

/* The folder: its model into *c, its tokenizer and chat template to the caller. */
static enum mb_status open_folder(struct conversion *c, const char *dir,
                                  struct mb_bytes *ret_tokenizer, struct mb_bytes *ret_template,
                                  struct mb_error *err)
{
    struct mb_hf *h;
    enum mb_status st = mb_hf_open(dir, &h, err);
    if (st != MB_OK) {
        return st;
    }
    st = mb_hf_tokenizer(h, ret_tokenizer, err);
    if (st == MB_E_NOTFOUND && !c->o->text) {
        st = MB_OK; /* a model of numbers only; it can be converted blindly */
    }
    const char *template = mb_hf_chat_template(h);
    if (template) {
        mb_bytes_put_text(ret_template, template);
    }
    if (st == MB_OK && ret_template->failed) {
        st = mb_fail(err, MB_E_NOMEM, 0, "no memory for the chat template");
    }
    if (st == MB_OK) {
        st = mb_model_from_hf(h, &c->original, err);
    }
    if (st != MB_OK) {
        mb_hf_free(h);
    }
    return st;
}

/* Fits that come from the part file or go there: not those in float16. */
static size_t fits(const struct conversion *c)
{
    const struct mb_shape *s = &c->original->shape;
    size_t n_ends = c->o->head_kernels == 0 ? 0 : s->tied_head ? 1 : 2;
    return (size_t) s->n_layers * MB_BLOCK_LINEARS + n_ends;
}

/* The key says what the provenance says, to the last digit, and what the floats are computed by:
 * other processors may round differently. */
static enum mb_status open_part(struct conversion *c, const char *path,
                                const struct mb_bytes *provenance, struct mb_error *err)
{
    const struct mb_convert_options *o = c->o;
    struct mb_bytes key = { 0 };
    mb_bytes_put(&key, provenance->at, provenance->len);
    mb_bytes_printf(&key, "exactly: damping %a follow %a bits %a blas %s\n", o->damping,
                    (double) o->fit.follow, o->bits, mb_blas_name());
    enum mb_status st = key.failed ? mb_fail(err, MB_E_NOMEM, 0, "no memory for a part file")
                                   : mb_part_open(path, &key, o->anew, &c->part, err);
    size_t n_others = o->bits > 0; /* the choice of kernels */
    if (st == MB_OK && o->found && mb_part_found(c->part) > n_others) {
        o->found(o->found_self, mb_part_found(c->part) - n_others, fits(c));
    }
    mb_bytes_fini(&key);
    return st;
}

/* The part file's first record, under a budget: choosing takes about as long as converting. */
#define KERNELS_RECORD "kernels"

static bool take_kernels(struct conversion *c, size_t n)
{
    struct mb_part_piece found = mb_part_next(c->part, KERNELS_RECORD);
    const uint8_t *at = found.at;
    for (size_t i = 0; i < n; i++) {
        if (!at || found.n != n || at[i] < 1 || at[i] > MB_BUDGET_KERNELS_MAX) {
            return false;
        }
    }
    memcpy(c->n_kernels, at, n);
    mb_part_pass(c->part);
    return true;
}

/* K of each layer of the blocks: one for all, or by the budget. */
static enum mb_status choose_kernels(struct conversion *c, struct mb_error *err)
{
    const struct mb_convert_options *o = c->o;
    size_t n = (size_t) c->original->shape.n_layers * MB_BLOCK_LINEARS;
    c->n_kernels = mb_alloc(n, sizeof *c->n_kernels);
    if (!c->n_kernels) {
        return mb_fail(err, MB_E_NOMEM, 0, "no memory to choose kernels");
    }
    if (o->bits == 0) {
        uint32_t k = o->fit.n_kernels < UINT8_MAX ? o->fit.n_kernels : UINT8_MAX; /* refused */
        memset(c->n_kernels, (int) k, n);
        return MB_OK;
    }
    if (take_kernels(c, n)) {
        return MB_OK;
    }
    enum mb_status st = mb_budget_choose(c->original, o->text ? &c->windows : NULL, o,
                                         c->kernels, c->pool, c->progress, c->n_kernels, err);
    struct mb_part_piece all = { c->n_kernels, n };
    return st == MB_OK ? mb_part_add(c->part, KERNELS_RECORD, &all, 1, err) : st;
}

static enum mb_status open_output(struct conversion *c, const char *dir, const char *path,
                                  const char *template, const struct mb_bytes *tokenizer,
                                  struct mb_error *err)
{
    struct mb_shape shape = c->original->shape;
    size_t n_tensors = (size_t) shape.n_layers * MB_BLOCK_LINEARS + 2;
    size_t n_others = (size_t) shape.n_layers * (MB_BLOCK_INPUTS + 2) + 5;
    shape.n_planes = c->o->n_planes;
    c->report.tensors = mb_alloc(n_tensors, sizeof *c->report.tensors);
    enum mb_status st =
        c->report.tensors ? MB_OK : mb_fail(err, MB_E_NOMEM, 0, "no memory for a report");
    if (st == MB_OK) {
        st = mb_checkpoint_writer_open(path, &shape, n_tensors + n_others, &c->writer, err);
    }
    if (st == MB_OK) {
        st = mb_provenance(dir, c->o, c->report.n_tokens, &c->provenance, err);
    }
    if (st == MB_OK) {
        st = open_part(c, path, &c->provenance, err);
    }
    if (st == MB_OK && (st = choose_kernels(c, err)) == MB_OK) {
        st = plan_converted(c, &shape, err);
    }
    if (st == MB_OK) {
        st = write_words(c, template, tokenizer, err);
    }
    return st;
}

static enum mb_status prepare(struct conversion *c, const char *dir, const char *path,
                              struct mb_error *err)
{
    struct mb_bytes tokenizer = { 0 }, template = { 0 };
    enum mb_status st = open_folder(c, dir, &tokenizer, &template, err);
    if (st == MB_OK && c->o->text) {
        st = read_text(c, tokenizer.at, tokenizer.len, err);
    }
    if (st == MB_OK) {
        st = open_output(c, dir, path, template.len > 0 ? mb_bytes_text(&template) : NULL,
                         &tokenizer, err);
    }
    mb_bytes_fini(&tokenizer);
    mb_bytes_fini(&template);
    return st;
}

/* The part file has done its work, or can do no more, or will be needed by the next run. */
static void end_part(struct conversion *c, enum mb_status st)
{
    if (st == MB_OK || st == MB_E_INVALID) {
        mb_part_remove(c->part);
    } else {
        mb_part_keep(c->part);
    }
    c->part = NULL;
}

enum mb_status mb_convert(const char *dir, const char *path, const struct mb_convert_options *o,
                          const struct mb_kernels *kernels, struct mb_pool *pool,
                          const struct mb_progress *progress, struct mb_convert_report *ret,
                          struct mb_error *err)
{
    struct conversion c = { .o = o, .pool = pool, .kernels = kernels, .progress = progress };
    enum mb_status st = prepare(&c, dir, path, err);
    if (st == MB_OK) {
        st = convert_all(&c, err);
    }
    if (st == MB_OK) {
        st = mb_checkpoint_add_bytes(c.writer, "provenance", c.provenance.at, c.provenance.len,
                                     err);
    }
    if (st == MB_OK) {
        struct mb_checkpoint_writer *w = c.writer;
        c.writer = NULL; /* commit frees it, whatever the outcome */
        st = mb_checkpoint_writer_commit(w, err);
    }
    end_part(&c, st);
    if (st == MB_OK) {
        conclude(&c.report);
        *ret = c.report;
        c.report = (struct mb_convert_report) { 0 };
    }
    conversion_fini(&c);
    return st;
}
