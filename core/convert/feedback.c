#include <string.h>

#include "core/convert/rows.h"
#include "core/tensor/blas.h"

/* aim[:, first..first+n) += rest[:, from..to) F[from..to, first..first+n): what the columns
 * decided so far ask of those to come. */
static void feed(const struct mb_fit_frame *f, struct mb_fit_rows *p, size_t from, size_t to,
                 size_t first, size_t n)
{
    size_t width = f->shape.n_cols;
    if (f->factor && to > from) {
        mb_sgemm(MB_AS_IS, MB_AS_IS, p->n_rows, n, to - from, 1, p->rest + from, width,
                 f->factor->feed + from * width + first, width, 1, p->u + first, width);
    }
}

/* Columns [first, end) of one row, of one group, each told of the errors of those before. */
static void decide(const struct mb_fit_frame *f, struct mb_fit_rows *p, size_t r, size_t first,
                   size_t end)
{
    size_t width = f->shape.n_cols;
    const struct mb_levels *l = &p->level[r];
    float *aim = p->u + r * width, *q = p->q + r * width, *rest = p->rest + r * width;
    const float *w = p->w + r * width;
    for (size_t j = first; j < end; j++) {
        unsigned level = mb_levels_nearest(l, aim[j]);
        p->pattern[r * width + j] = l->pattern[level];
        q[j] = l->value[level];
        rest[j] = w[j] - q[j];
        if (f->factor) {
            const float *feed_j = f->factor->feed + j * width;
            for (size_t i = j + 1; i < end; i++) {
                aim[i] += rest[j] * feed_j[i];
            }
        }
    }
}

void mb_fit_feedback(const struct mb_fit_frame *f, struct mb_fit_rows *p)
{
    size_t width = f->shape.n_cols, n_groups = mb_bool_groups(&f->shape);
    memcpy(p->u, p->w, p->n_rows * width * sizeof *p->u);
    for (size_t g = 0; g < n_groups; g++) {
        size_t first = g * f->shape.group, end = first + mb_bool_group_cols(&f->shape, g);
        feed(f, p, 0, first, first, end - first);
        for (size_t r = 0; r < p->n_rows; r++) {
            mb_fit_group(f, p, r, g, p->u + r * width + first,
                         f->factor ? f->factor->weight + first : NULL);
        }
        for (size_t at = first; at < end; at += MB_FIT_BLOCK) {
            size_t n = end - at < MB_FIT_BLOCK ? end - at : MB_FIT_BLOCK;
            feed(f, p, first, at, at, n);
            for (size_t r = 0; r < p->n_rows; r++) {
                decide(f, p, r, at, at + n);
            }
        }
    }
}
