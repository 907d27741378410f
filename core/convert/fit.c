#include "core/convert/fit.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/memory.h"
#include "core/convert/rows.h"
#include "core/tensor/blas.h"

/* Below this a tensor's scale_all would leave float32's normal range. */
enum { EXPONENT_MIN = -110 };

struct fit_job {
    struct mb_fit_frame frame;
    const struct mb_source *source;
    const struct mb_statistics *statistics;
    struct mb_fit_rows *workers;
    struct mb_bool_draft *draft;
    struct part_errors {
        double output, output_of, plain, plain_of;
    } * errors; /* [parts] */
};

uint32_t mb_fit_group_cols(const struct mb_fit_options *o, uint32_t n_cols)
{
    return o->group > 0 ? o->group : (n_cols + MB_WORD_COLS - 1) / MB_WORD_COLS * MB_WORD_COLS;
}

struct mb_bool_shape mb_fit_shape(const struct mb_fit_options *o, const struct mb_linear *w)
{
    return (struct mb_bool_shape) {
        .n_rows = w->n_rows,
        .n_cols = w->n_cols,
        .group = mb_fit_group_cols(o, w->n_cols),
        .n_kernels = o->n_kernels,
    };
}

static enum mb_status rows_init(struct mb_fit_rows *p, const struct mb_bool_shape *s)
{
    size_t n = s->n_cols, rows = MB_FIT_ROWS;
    size_t group = s->group < n ? s->group : n;
    float **whole[] = { &p->w, &p->q, &p->u, &p->rest };
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++) {
        *whole[i] = mb_alloc(rows * n, sizeof(float));
    }
    p->pattern = mb_alloc(rows, n);
    p->coefs = mb_alloc(rows * mb_bool_groups(s), sizeof *p->coefs);
    p->level = mb_alloc(rows, sizeof *p->level);
    p->sign = mb_alloc(rows * s->n_kernels * group, sizeof *p->sign);
    p->product = mb_alloc(rows * s->n_kernels * group, sizeof *p->product);
    p->local = mb_alloc(rows * group, sizeof *p->local);
    p->before = mb_alloc(rows * group, sizeof *p->before);
    return p->w && p->q && p->u && p->rest && p->pattern && p->coefs && p->level && p->sign &&
                   p->product && p->local && p->before
               ? MB_OK
               : MB_E_NOMEM;
}

static void rows_fini(struct mb_fit_rows *p)
{
    void *all[] = { p->w,     p->q,    p->u,       p->rest,  p->pattern, p->coefs,
                    p->level, p->sign, p->product, p->local, p->before };
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mb_free(all[i]);
    }
}

/* The part's weights in units, as they are. */
static void read_weights(const struct fit_job *j, const struct mb_fit_rows *p, float *ret)
{
    size_t n = j->frame.shape.n_cols;
    for (size_t r = 0; r < p->n_rows; r++) {
        mb_source_row(j->source, p->row + r, ret + r * n);
        for (size_t i = 0; i < n; i++) {
            ret[r * n + i] *= j->frame.unit;
        }
    }
}

/* w += follow * (w drift + owed) H^-1 */
static void follow(const struct fit_job *j, struct mb_fit_rows *p)
{
    size_t n = j->frame.shape.n_cols;
    const struct mb_statistics *s = j->statistics;
    if (!s || j->frame.options->follow <= 0) {
        return;
    }
    memset(p->u, 0, p->n_rows * n * sizeof *p->u);
    for (size_t i = 0; s->owed && i < p->n_rows * n; i++) {
        p->u[i] = s->owed[p->row * n + i] * j->frame.unit;
    }
    mb_sgemm(MB_AS_IS, MB_AS_IS, p->n_rows, n, n, 1, p->w, n, s->drift, n, 1, p->u, n);
    mb_factor_solve(j->frame.factor, p->u, p->n_rows);
    for (size_t i = 0; i < p->n_rows * n; i++) {
        float moved = p->w[i] + j->frame.options->follow * p->u[i];
        p->w[i] = isfinite(moved) ? moved : p->w[i];
    }
}

static void pack(const struct fit_job *j, const struct mb_fit_rows *p)
{
    const struct mb_bool_shape *s = &j->frame.shape;
    uint32_t words[MB_KERNELS_MAX][MB_GROUP_COLS_MAX / MB_WORD_COLS];
    const uint32_t *signs[MB_KERNELS_MAX];
    size_t n_groups = mb_bool_groups(s);
    for (size_t r = 0; r < p->n_rows; r++) {
        for (size_t g = 0; g < n_groups; g++) {
            const uint8_t *pattern = p->pattern + r * s->n_cols + g * s->group;
            size_t n = mb_bool_group_cols(s, g), n_words = mb_bool_group_words(s, g);
            for (unsigned k = 0; k < s->n_kernels; k++) {
                signs[k] = words[k];
                memset(words[k], 0, n_words * sizeof words[k][0]);
                for (size_t i = 0; i < n; i++) {
                    words[k][i / MB_WORD_COLS] |= (uint32_t) (pattern[i] >> k & 1)
                                                  << i % MB_WORD_COLS;
                }
            }
            const struct mb_coefs *c = &p->coefs[r * n_groups + g];
            mb_bool_draft_set(j->draft, p->row + r, g, c->half, c->c, signs);
        }
    }
}

/* tr(x H x^T) over the part's rows; scratch is [R][n]. */
static double weighed(const struct fit_job *j, size_t n_rows, const float *x, float *scratch)
{
    size_t n = j->frame.shape.n_cols;
    double sum = 0;
    if (j->frame.h) {
        mb_sgemm(MB_AS_IS, MB_AS_IS, n_rows, n, n, 1, x, n, j->frame.h, n, 0, scratch, n);
    }
    for (size_t i = 0; i < n_rows * n; i++) {
        sum += (double) x[i] * (j->frame.h ? scratch[i] : x[i]);
    }
    return sum;
}

static double squares(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double) x[i] * x[i];
    }
    return sum;
}

static void measure(const struct fit_job *j, struct mb_fit_rows *p, struct part_errors *e)
{
    size_t count = p->n_rows * j->frame.shape.n_cols;
    read_weights(j, p, p->w);
    for (size_t i = 0; i < count; i++) {
        p->rest[i] = p->w[i] - p->q[i];
    }
    *e = (struct part_errors) {
        .output = weighed(j, p->n_rows, p->rest, p->u),
        .output_of = weighed(j, p->n_rows, p->w, p->u),
        .plain = squares(p->rest, count),
        .plain_of = squares(p->w, count),
    };
}

static void fit_part(void *job, size_t part, size_t worker)
{
    const struct fit_job *j = job;
    struct mb_fit_rows *p = &j->workers[worker];
    size_t left = j->frame.shape.n_rows - part * MB_FIT_ROWS;
    p->row = part * MB_FIT_ROWS;
    p->n_rows = left < MB_FIT_ROWS ? left : MB_FIT_ROWS;
    read_weights(j, p, p->w);
    follow(j, p);
    mb_fit_feedback(&j->frame, p);
    mb_fit_refine(&j->frame, p);
    pack(j, p);
    measure(j, p, &j->errors[part]);
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static enum mb_status run(struct fit_job *j, struct mb_pool *pool, struct mb_fit_errors *ret,
                          struct mb_error *err)
{
    size_t n_workers = mb_pool_threads(pool);
    size_t n_parts = mb_div_up(j->frame.shape.n_rows, MB_FIT_ROWS);
    j->workers = mb_alloc(n_workers, sizeof *j->workers);
    j->errors = mb_alloc(n_parts, sizeof *j->errors);
    enum mb_status st = j->workers && j->errors ? MB_OK : MB_E_NOMEM;
    for (size_t i = 0; st == MB_OK && i < n_workers; i++) {
        st = rows_init(&j->workers[i], &j->frame.shape);
    }
    if (st == MB_OK) {
        struct part_errors all = { 0 };
        mb_pool_run(pool, n_parts, fit_part, j);
        for (size_t i = 0; i < n_parts; i++) {
            all.output += j->errors[i].output;
            all.output_of += j->errors[i].output_of;
            all.plain += j->errors[i].plain;
            all.plain_of += j->errors[i].plain_of;
        }
        ret->output = ratio(all.output, all.output_of);
        ret->plain = ratio(all.plain, all.plain_of);
    } else {
        (void) mb_fail(err, st, 0, "no memory to fit %u rows of %u", (unsigned) MB_FIT_ROWS,
                       (unsigned) j->frame.shape.n_cols);
    }
    for (size_t i = 0; j->workers && i < n_workers; i++) {
        rows_fini(&j->workers[i]);
    }
    mb_free(j->workers);
    mb_free(j->errors);
    return st;
}

/* A power of two that brings the largest weight below 1; all of the fit is in such units. */
static float unit_of(float largest, float *ret_scale_all)
{
    int e = 0;
    (void) frexpf(largest, &e);
    e = e < EXPONENT_MIN ? EXPONENT_MIN : e;
    *ret_scale_all = ldexpf(MB_COEFS_UNIT, e);
    return ldexpf(1, -e);
}

enum mb_status mb_fit(const char *name, const struct mb_source *w,
                      const struct mb_fit_inputs *inputs, const struct mb_fit_options *o,
                      struct mb_pool *pool, struct mb_bool_draft *ret,
                      struct mb_fit_errors *ret_errors, struct mb_error *err)
{
    struct mb_bool_draft draft = { 0 };
    struct mb_svid svid = { 0 };
    float largest = 0;
    struct fit_job j = { .source = w, .draft = &draft };
    j.frame.options = o;
    j.frame.shape = mb_fit_shape(o, &w->w);
    if (inputs) {
        assert(inputs->statistics->n_cols == w->w.n_cols);
        assert(!inputs->statistics->owed || inputs->statistics->n_owed == w->w.n_rows);
        j.statistics = inputs->statistics;
        j.frame.h = inputs->statistics->second;
        j.frame.factor = inputs->factor;
    }
    enum mb_status st = mb_bool_draft_init(&draft, &j.frame.shape, err);
    if (st == MB_OK) {
        st = mb_source_check(w, name, pool, &largest, err);
    }
    if (st == MB_OK && o->init == MB_INIT_SVD) {
        st = mb_svid_init(&svid, w, o->n_kernels, pool, err);
        j.frame.svid = &svid;
    }
    if (st == MB_OK) {
        j.frame.unit = unit_of(largest, &draft.scale_all);
        st = run(&j, pool, ret_errors, err);
    }
    mb_svid_fini(&svid);
    if (st != MB_OK) {
        mb_bool_draft_fini(&draft);
        return st;
    }
    *ret = draft;
    return MB_OK;
}
