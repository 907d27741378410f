#include "core/convert/source.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"

static void read_row(const struct mb_linear *w, size_t row, float *ret)
{
    assert(w->kind != MB_LINEAR_BOOL);
    size_t n = w->n_cols;
    if (w->kind == MB_LINEAR_F32) {
        memcpy(ret, (const uint8_t *) w->dense + row * n * sizeof *ret, n * sizeof *ret);
        return;
    }
    const uint8_t *at = (const uint8_t *) w->dense + row * n * sizeof(uint16_t);
    for (size_t j = 0; j < n; j++) {
        uint16_t h;
        memcpy(&h, at + j * sizeof h, sizeof h);
        ret[j] = w->kind == MB_LINEAR_F16 ? mb_f16_to_f32(h) : mb_bf16_to_f32(h);
    }
}

void mb_source_row(const struct mb_source *s, size_t row, float *ret)
{
    read_row(&s->w, row, ret);
    for (size_t j = 0; s->inverse && j < s->w.n_cols; j++) {
        ret[j] *= s->inverse[j];
    }
}

struct check_job {
    const struct mb_source *source;
    float *row;     /* [workers][n_cols] */
    float *largest; /* [n_rows]; +inf or NaN says that the row has such a weight */
};

static void check_row(void *job, size_t part, size_t worker)
{
    const struct check_job *j = job;
    size_t n = j->source->w.n_cols;
    float *x = j->row + worker * n, largest = 0;
    mb_source_row(j->source, part, x);
    for (size_t i = 0; i < n; i++) {
        float size = fabsf(x[i]);
        largest = size <= largest ? largest : size; /* NaN is taken ... */
        if (isnan(size)) {
            break; /* ... and kept */
        }
    }
    j->largest[part] = largest;
}

static enum mb_status refuse(const struct mb_source *s, const char *name, size_t row, float *x,
                             struct mb_error *err)
{
    size_t col = 0;
    mb_source_row(s, row, x);
    while (isfinite(x[col])) {
        col++;
    }
    return mb_fail(err, MB_E_INVALID, 0, "%s: the weight in row %zu, column %zu is %s", name,
                   row, col, isnan(x[col]) ? "not a number" : "infinite");
}

enum mb_status mb_source_check(const struct mb_source *s, const char *name,
                               struct mb_pool *pool, float *ret_largest, struct mb_error *err)
{
    struct check_job j = { .source = s };
    j.row = mb_alloc(mb_pool_threads(pool), s->w.n_cols * sizeof *j.row);
    j.largest = mb_alloc(s->w.n_rows, sizeof *j.largest);
    enum mb_status st = MB_OK;
    if (!j.row || !j.largest) {
        st = mb_fail(err, MB_E_NOMEM, 0, "%s: no memory to check it", name);
    } else {
        float largest = 0;
        mb_pool_run(pool, s->w.n_rows, check_row, &j);
        for (size_t i = 0; st == MB_OK && i < s->w.n_rows; i++) {
            if (!isfinite(j.largest[i])) {
                st = refuse(s, name, i, j.row, err);
            }
            largest = j.largest[i] > largest ? j.largest[i] : largest;
        }
        if (st == MB_OK) {
            *ret_largest = largest;
        }
    }
    mb_free(j.row);
    mb_free(j.largest);
    return st;
}
