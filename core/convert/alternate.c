#include <assert.h>
#include <string.h>

#include "core/convert/init.h"
#include "core/convert/rows.h"

/* Weights settle in about ten turns; a bound in case they swing. */
enum { TURNS_MAX = 30 };

/* The mean scale of each SVID kernel over the group. */
static void start_from_svid(const struct mb_fit_frame *f, size_t row, size_t first, size_t n,
                            float *ret_alpha)
{
    const struct mb_svid *s = f->svid;
    for (unsigned k = 0; k < f->shape.n_kernels; k++) {
        double sum = 0;
        for (size_t j = first; j < first + n; j++) {
            sum += s->v[k * s->n_cols + j];
        }
        ret_alpha[k] = (float) (s->u[k * s->n_rows + row] * f->unit * sum / (double) n);
    }
}

static void start(const struct mb_fit_frame *f, struct mb_fit_rows *p, size_t r, size_t g,
                  const float *x, const float *d, uint8_t *pattern, float *ret_alpha)
{
    size_t n = mb_bool_group_cols(&f->shape, g), row = p->row + r;
    struct mb_init_scratch s = { .pattern = pattern, .rest = p->local };
    switch (f->options->init) {
    case MB_INIT_GREEDY:
        mb_init_greedy(x, d, n, f->shape.n_kernels, &s, ret_alpha);
        break;
    case MB_INIT_SVD:
        start_from_svid(f, row, g * f->shape.group, n, ret_alpha);
        break;
    case MB_INIT_RANDOM:
        mb_init_random(x, d, n, f->shape.n_kernels, f->options->seed,
                       row * mb_bool_groups(&f->shape) + g, &s, ret_alpha);
        break;
    }
}

/* Nearest levels; returns whether any weight moved. */
static int assign(const struct mb_levels *l, const float *x, size_t n, uint8_t *pattern)
{
    int moved = 0;
    for (size_t j = 0; j < n; j++) {
        uint8_t nearest = l->pattern[mb_levels_nearest(l, x[j])];
        moved |= nearest != pattern[j];
        pattern[j] = nearest;
    }
    return moved;
}

void mb_fit_group(const struct mb_fit_frame *f, struct mb_fit_rows *p, size_t r, size_t g,
                  const float *x, const float *d)
{
    unsigned n_kernels = f->shape.n_kernels;
    size_t n = mb_bool_group_cols(&f->shape, g);
    uint8_t *pattern = p->pattern + r * f->shape.n_cols + g * f->shape.group;
    struct mb_coefs *c = &p->coefs[r * mb_bool_groups(&f->shape) + g];
    struct mb_levels *l = &p->level[r];
    struct mb_quadratic q;
    float alpha[MB_KERNELS_MAX];
    uint8_t map[MB_LEVELS_MAX];

    start(f, p, r, g, x, d, pattern, alpha);
    mb_coefs_canonical(alpha, NULL, n_kernels, map);
    for (int turn = 0; turn < (f->options->once ? 0 : TURNS_MAX); turn++) {
        mb_levels_of(l, alpha, n_kernels);
        if (!assign(l, x, n, pattern) && turn > 0) {
            break;
        }
        mb_quadratic_of(&q, n_kernels, pattern, x, d, n);
        mb_quadratic_solve(&q, alpha);
        mb_coefs_canonical(alpha, NULL, n_kernels, map);
    }
    mb_coefs_round(c, alpha, n_kernels);
    mb_levels_of(l, c->alpha, n_kernels);
    (void) assign(l, x, n, pattern);
    mb_quadratic_of(&q, n_kernels, pattern, x, d, n);
    mb_coefs_rescale(c, &q);
    mb_levels_of(l, c->alpha, n_kernels);
}
