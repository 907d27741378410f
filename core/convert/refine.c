#include <string.h>

#include "core/convert/rows.h"
#include "core/tensor/blas.h"

/* The group in hand. u is (w - q) H at the start of the visit, p->local the same restricted to
 * the group's columns and kept up to date within it. */
struct visit {
    const struct mb_fit_frame *f;
    struct mb_fit_rows *p;
    size_t g, first, n; /* the group, its first column, its columns */
};

static void expand_signs(const struct visit *v)
{
    unsigned n_kernels = v->f->shape.n_kernels;
    for (size_t r = 0; r < v->p->n_rows; r++) {
        const uint8_t *pattern = v->p->pattern + r * v->f->shape.n_cols + v->first;
        for (unsigned k = 0; k < n_kernels; k++) {
            float *sign = v->p->sign + (r * n_kernels + k) * v->n;
            for (size_t j = 0; j < v->n; j++) {
                sign[j] = pattern[j] >> k & 1 ? 1 : -1;
            }
        }
    }
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += (double) a[i] * b[i];
    }
    return sum;
}

/* The error of row r as a function of the group's coefficients, all else as it is:
 * A = B H B^T, and b = B H (w - everything else) = B u + A alpha. */
static void quadratic_of_row(const struct visit *v, size_t r, const float *product,
                             const struct mb_coefs *c, struct mb_quadratic *ret)
{
    unsigned n_kernels = v->f->shape.n_kernels;
    const float *sign = v->p->sign + r * n_kernels * v->n;
    ret->n_kernels = n_kernels;
    for (unsigned k = 0; k < n_kernels; k++) {
        for (unsigned l = 0; l <= k; l++) {
            ret->a[k][l] = dot(sign + k * v->n, product + l * v->n, v->n);
            ret->a[l][k] = ret->a[k][l];
        }
    }
    for (unsigned k = 0; k < n_kernels; k++) {
        ret->b[k] = dot(sign + k * v->n, v->p->local + r * v->n, v->n);
        for (unsigned l = 0; l < n_kernels; l++) {
            ret->b[k] += ret->a[k][l] * c->alpha[l];
        }
    }
}

/* New coefficients for row r if, once rounded, they are better than those it has. */
static void refit_row(const struct visit *v, size_t r, const float *product)
{
    unsigned n_kernels = v->f->shape.n_kernels;
    size_t width = v->f->shape.n_cols;
    struct mb_coefs *c = &v->p->coefs[r * mb_bool_groups(&v->f->shape) + v->g], fresh;
    struct mb_quadratic q;
    float alpha[MB_KERNELS_MAX];
    uint8_t map[MB_LEVELS_MAX];
    quadratic_of_row(v, r, product, c, &q);
    double before = mb_quadratic_at(&q, c->alpha);
    mb_quadratic_solve(&q, alpha);
    mb_coefs_canonical(alpha, &q, n_kernels, map);
    mb_coefs_round(&fresh, alpha, n_kernels);
    mb_coefs_rescale(&fresh, &q);
    if (!(mb_quadratic_at(&q, fresh.alpha) < before)) {
        return;
    }
    *c = fresh;
    uint8_t *pattern = v->p->pattern + r * width + v->first;
    float *value = v->p->q + r * width + v->first;
    for (size_t j = 0; j < v->n; j++) {
        pattern[j] = map[pattern[j]];
        value[j] = mb_level_value(c->alpha, n_kernels, pattern[j]);
    }
}

/* x [R][n] of the group's columns, times the group's square of H, added to local. */
static void move_local(const struct visit *v, size_t at, size_t n, const float *moved)
{
    size_t width = v->f->shape.n_cols;
    if (v->f->h) {
        mb_sgemm(MB_AS_IS, MB_AS_IS, v->p->n_rows, v->n, n, -1, moved, width,
                 v->f->h + (v->first + at) * width + v->first, width, 1, v->p->local, v->n);
        return;
    }
    for (size_t r = 0; r < v->p->n_rows; r++) {
        for (size_t j = 0; j < n; j++) {
            v->p->local[r * v->n + at + j] -= moved[r * width + j];
        }
    }
}

/* rest[:, columns] = q - what q was, which rest holds. */
static void moved_since(const struct visit *v, size_t at, size_t n)
{
    size_t width = v->f->shape.n_cols;
    for (size_t r = 0; r < v->p->n_rows; r++) {
        float *rest = v->p->rest + r * width + v->first + at;
        const float *q = v->p->q + r * width + v->first + at;
        for (size_t j = 0; j < n; j++) {
            rest[j] = q[j] - rest[j];
        }
    }
}

static void remember(const struct visit *v, size_t at, size_t n)
{
    size_t width = v->f->shape.n_cols;
    for (size_t r = 0; r < v->p->n_rows; r++) {
        size_t from = r * width + v->first + at;
        memcpy(v->p->rest + from, v->p->q + from, n * sizeof *v->p->rest);
    }
}

static void refit(const struct visit *v)
{
    unsigned n_kernels = v->f->shape.n_kernels;
    const float *product = v->p->sign;
    expand_signs(v);
    if (v->f->h) {
        size_t width = v->f->shape.n_cols;
        mb_sgemm(MB_AS_IS, MB_AS_IS, v->p->n_rows * n_kernels, v->n, v->n, 1, v->p->sign, v->n,
                 v->f->h + v->first * width + v->first, width, 0, v->p->product, v->n);
        product = v->p->product;
    }
    remember(v, 0, v->n);
    for (size_t r = 0; r < v->p->n_rows; r++) {
        refit_row(v, r, product + r * n_kernels * v->n);
    }
    moved_since(v, 0, v->n);
    move_local(v, 0, v->n, v->p->rest + v->first);
}

/* Columns [at, at + n) of the group, of one row: each takes the level nearest to where the
 * error is least, all other weights as they are. u is that row's local, for these columns. */
static void settle_row(const struct visit *v, size_t r, size_t at, size_t n)
{
    size_t width = v->f->shape.n_cols, first = v->first + at;
    const struct mb_levels *l = &v->p->level[r];
    uint8_t *pattern = v->p->pattern + r * width + first;
    float *q = v->p->q + r * width + first;
    float u[MB_FIT_BLOCK];
    memcpy(u, v->p->local + r * v->n + at, n * sizeof *u);
    for (size_t j = 0; j < n; j++) {
        const float *h = v->f->h ? v->f->h + (first + j) * width + first : NULL;
        unsigned level = mb_levels_nearest(l, q[j] + (h ? u[j] / h[j] : u[j]));
        float moved = l->value[level] - q[j];
        pattern[j] = l->pattern[level];
        q[j] = l->value[level];
        for (size_t i = j + 1; h && moved != 0 && i < n; i++) {
            u[i] -= moved * h[i];
        }
    }
}

static void settle(const struct visit *v)
{
    for (size_t r = 0; r < v->p->n_rows; r++) {
        mb_levels_of(&v->p->level[r],
                     v->p->coefs[r * mb_bool_groups(&v->f->shape) + v->g].alpha,
                     v->f->shape.n_kernels);
    }
    for (size_t at = 0; at < v->n; at += MB_FIT_BLOCK) {
        size_t n = v->n - at < MB_FIT_BLOCK ? v->n - at : MB_FIT_BLOCK;
        remember(v, at, n);
        for (size_t r = 0; r < v->p->n_rows; r++) {
            settle_row(v, r, at, n);
        }
        moved_since(v, at, n);
        move_local(v, at, n, v->p->rest + v->first + at);
    }
}

/* u += (w - q) H, or its part for the columns [first, first + n) of w - q, in rest. */
static void add_error(const struct mb_fit_frame *f, struct mb_fit_rows *p, size_t first,
                      size_t n, float sign)
{
    size_t width = f->shape.n_cols;
    if (f->h) {
        mb_sgemm(MB_AS_IS, MB_AS_IS, p->n_rows, width, n, sign, p->rest + first, width,
                 f->h + first * width, width, 1, p->u, width);
        return;
    }
    for (size_t r = 0; r < p->n_rows; r++) {
        for (size_t j = first; j < first + n; j++) {
            p->u[r * width + j] += sign * p->rest[r * width + j];
        }
    }
}

static void visit_group(const struct visit *v)
{
    struct mb_fit_rows *p = v->p;
    size_t width = v->f->shape.n_cols;
    float *before = p->before;
    for (size_t r = 0; r < p->n_rows; r++) {
        memcpy(p->local + r * v->n, p->u + r * width + v->first, v->n * sizeof *p->local);
        memcpy(before + r * v->n, p->q + r * width + v->first, v->n * sizeof *before);
    }
    refit(v);
    settle(v);
    refit(v);
    for (size_t r = 0; r < p->n_rows; r++) {
        for (size_t j = 0; j < v->n; j++) {
            size_t at = r * width + v->first + j;
            p->rest[at] = p->q[at] - before[r * v->n + j];
        }
    }
    add_error(v->f, p, v->first, v->n, -1);
}

void mb_fit_refine(const struct mb_fit_frame *f, struct mb_fit_rows *p)
{
    size_t count = p->n_rows * f->shape.n_cols, n_groups = mb_bool_groups(&f->shape);
    for (size_t i = 0; i < count; i++) {
        p->rest[i] = p->w[i] - p->q[i];
    }
    memset(p->u, 0, count * sizeof *p->u);
    add_error(f, p, 0, f->shape.n_cols, 1);
    for (unsigned turn = 0; turn < f->options->n_turns; turn++) {
        for (size_t g = 0; g < n_groups; g++) {
            struct visit v = { .f = f, .p = p, .g = g, .first = g * f->shape.group };
            v.n = mb_bool_group_cols(&f->shape, g);
            visit_group(&v);
        }
    }
}
