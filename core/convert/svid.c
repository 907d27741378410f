#include "core/convert/svid.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/memory.h"

/* |R| is positive, so its leading pair stands far from the next: twenty turns leave nothing. */
enum { POWER_TURNS = 20, CHUNK_ROWS = 64 };

struct power {
    struct mb_svid *s;
    const struct mb_source *w;
    unsigned k;
    float *row;      /* [workers][n_cols] */
    double *partial; /* [chunks][n_cols]: sum of u_i |R_i| over a chunk's rows */
};

void mb_svid_subtract(const struct mb_svid *s, size_t row, unsigned n_kernels, float *x)
{
    for (unsigned k = 0; k < n_kernels; k++) {
        float u = s->u[k * s->n_rows + row];
        const float *v = s->v + k * s->n_cols;
        for (size_t j = 0; j < s->n_cols; j++) {
            x[j] -= x[j] >= 0 ? u * v[j] : -(u * v[j]);
        }
    }
}

/* u_i = |R_i| v, and this chunk's part of |R|^T u. */
static void turn_chunk(void *job, size_t part, size_t worker)
{
    const struct power *p = job;
    const struct mb_svid *s = p->s;
    size_t n = s->n_cols, end = (part + 1) * CHUNK_ROWS;
    float *x = p->row + worker * n, *u = s->u + p->k * s->n_rows;
    const float *v = s->v + p->k * n;
    double *sum = p->partial + part * n;
    memset(sum, 0, n * sizeof *sum);
    for (size_t i = part * CHUNK_ROWS; i < end && i < s->n_rows; i++) {
        mb_source_row(p->w, i, x);
        mb_svid_subtract(s, i, p->k, x);
        double dot = 0;
        for (size_t j = 0; j < n; j++) {
            dot += (double) fabsf(x[j]) * v[j];
        }
        u[i] = (float) dot;
        for (size_t j = 0; j < n; j++) {
            sum[j] += dot * fabsf(x[j]);
        }
    }
}

/* v = the sum over chunks, in order, at unit length. Stays as it was when that is zero. */
static void gather(const struct power *p, size_t n_chunks)
{
    size_t n = p->s->n_cols;
    float *v = p->s->v + p->k * n;
    double squares = 0;
    for (size_t c = 1; c < n_chunks; c++) {
        for (size_t j = 0; j < n; j++) {
            p->partial[j] += p->partial[c * n + j];
        }
    }
    for (size_t j = 0; j < n; j++) {
        squares += p->partial[j] * p->partial[j];
    }
    double r = squares > 0 && isfinite(squares) ? 1 / sqrt(squares) : 0;
    for (size_t j = 0; r > 0 && j < n; j++) {
        v[j] = (float) (p->partial[j] * r);
    }
}

enum mb_status mb_svid_init(struct mb_svid *s, const struct mb_source *w, unsigned n_kernels,
                            struct mb_pool *pool, struct mb_error *err)
{
    size_t m = w->w.n_rows, n = w->w.n_cols, n_chunks = mb_div_up(m, CHUNK_ROWS);
    *s = (struct mb_svid) { .n_rows = m, .n_cols = n, .n_kernels = n_kernels };
    s->u = mb_alloc(n_kernels, m * sizeof *s->u);
    s->v = mb_alloc(n_kernels, n * sizeof *s->v);
    struct power p = { .s = s, .w = w };
    p.row = mb_alloc(mb_pool_threads(pool), n * sizeof *p.row);
    p.partial = mb_alloc(n_chunks, n * sizeof *p.partial);
    bool ready = s->u && s->v && p.row && p.partial;
    for (; ready && p.k < n_kernels; p.k++) {
        float *v = s->v + p.k * n;
        for (size_t j = 0; j < n; j++) {
            v[j] = (float) (1 / sqrt((double) n));
        }
        for (int turn = 0; turn < POWER_TURNS; turn++) {
            mb_pool_run(pool, n_chunks, turn_chunk, &p);
            gather(&p, n_chunks);
        }
        mb_pool_run(pool, n_chunks, turn_chunk, &p); /* u for the final v */
    }
    mb_free(p.row);
    mb_free(p.partial);
    if (!ready) {
        mb_svid_fini(s);
        return mb_fail(err, MB_E_NOMEM, 0, "no memory for the SVID of %zu x %zu", m, n);
    }
    return MB_OK;
}

void mb_svid_fini(struct mb_svid *s)
{
    mb_free(s->u);
    mb_free(s->v);
    *s = (struct mb_svid) { 0 };
}
