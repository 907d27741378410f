/* The source of ops.h, for any real type. Whoever includes this has defined
 *
 *     REAL         float or double
 *     REAL_EXP(x)  exp of a REAL that is at most 88; anything below -87 may give 0
 *     REAL_SGEMM   mb_sgemm or mb_dgemm
 *
 * Loops over 16 lanes are written so that a compiler makes vectors of them, at any width.
 * A fragment: it has no guard, and stands alone only with those macros. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/finetune/ops.h"
#include "core/tensor/blas.h"

#ifndef REAL /* so that the file can be checked alone */
#define REAL       double
#define REAL_EXP   exp
#define REAL_SGEMM mb_dgemm
#endif

enum { LANES = 16 };

static inline REAL lanes_sum(REAL *lane)
{
    for (int half = LANES / 2; half > 0; half /= 2) {
        for (int l = 0; l < half; l++) {
            lane[l] += lane[l + half];
        }
    }
    return lane[0];
}

/* sum x y */
static REAL dot(const REAL *x, const REAL *y, size_t n)
{
    REAL lane[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            lane[l] += x[i + (size_t) l] * y[i + (size_t) l];
        }
    }
    for (int l = 0; i < n; i++, l++) {
        lane[l] += x[i] * y[i];
    }
    return lanes_sum(lane);
}

static REAL norm(REAL *y, const REAL *x, const REAL *w, size_t n, REAL eps)
{
    REAL r = 1 / (REAL) sqrt(dot(x, x, n) / (REAL) n + eps);
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * r * w[i];
    }
    return r;
}

static void norm_back(REAL *dx, REAL *dw, const REAL *dy, const REAL *x, const REAL *w, REAL r,
                      size_t n)
{
    REAL lane[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            lane[l] += w[i + (size_t) l] * dy[i + (size_t) l] * x[i + (size_t) l];
        }
    }
    for (int l = 0; i < n; i++, l++) {
        lane[l] += w[i] * dy[i] * x[i];
    }
    REAL f = r * r * r * lanes_sum(lane) / (REAL) n;
    for (i = 0; i < n; i++) {
        dx[i] += r * w[i] * dy[i] - x[i] * f;
        dw[i] += dy[i] * x[i] * r;
    }
}

static void scale(REAL *y, const REAL *x, const REAL *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = x[i] * t[i];
    }
}

static void scale_back(REAL *dt, const REAL *dy, const REAL *y, const REAL *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        REAL d = dy[i] * y[i] / t[i];
        dt[i] += t[i] != 0 ? d : 0; /* a column that is switched off stays so */
    }
}

static void rope(REAL *x, const REAL *cos_i, const REAL *sin_i, size_t d, REAL sign)
{
    size_t half = d / 2;
    for (size_t i = 0; i < half; i++) {
        REAL x0 = x[i], x1 = x[i + half], s = sign * sin_i[i];
        x[i] = x0 * cos_i[i] - x1 * s;
        x[i + half] = x1 * cos_i[i] + x0 * s;
    }
}

/* 1 / (1 + exp(-x)), from whichever side does not overflow. */
static inline REAL sigmoid(REAL x)
{
    REAL e = REAL_EXP(-(REAL) fabs(x));
    REAL s = 1 / (1 + e);
    return x >= 0 ? s : e * s;
}

static void gate(REAL *y, const REAL *g, const REAL *u, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = g[i] * sigmoid(g[i]) * u[i];
    }
}

static void gate_back(REAL *dg, REAL *du, const REAL *dy, const REAL *g, const REAL *u,
                      size_t n)
{
    for (size_t i = 0; i < n; i++) {
        REAL s = sigmoid(g[i]), d = dy[i];
        dg[i] = d * u[i] * (s + g[i] * s * (1 - s));
        du[i] = d * g[i] * s;
    }
}

static REAL largest(const REAL *x, size_t n)
{
    REAL lane[LANES];
    for (int l = 0; l < LANES; l++) {
        lane[l] = x[0];
    }
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            REAL v = x[i + (size_t) l];
            lane[l] = v > lane[l] ? v : lane[l];
        }
    }
    for (; i < n; i++) {
        lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    }
    for (int l = 1; l < LANES; l++) {
        lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    }
    return lane[0];
}

/* x = exp(scale * x - shift), and their sum. */
static REAL exponentials(REAL *x, size_t n, REAL factor, REAL shift)
{
    REAL lane[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            REAL e = REAL_EXP(factor * x[i + (size_t) l] - shift);
            x[i + (size_t) l] = e;
            lane[l] += e;
        }
    }
    for (int l = 0; i < n; i++, l++) {
        x[i] = REAL_EXP(factor * x[i] - shift);
        lane[l] += x[i];
    }
    return lanes_sum(lane);
}

struct loss_of {
    REAL cross_entropy, divergence;
};

/* One lane's share of the teacher's sums at v, whose exponential replaces its logit. */
static inline void see_teacher(const REAL *z, REAL *teacher, size_t v, REAL max, REAL *sum,
                               REAL *difference)
{
    REAL t = teacher[v], e = REAL_EXP(t - max);
    *sum += e;
    *difference += e * (z[v] - t);
    teacher[v] = e;
}

/* ln sum exp(teacher) + sum_v q_v (z_v - teacher_v), q its softmax; exponentials and their sum are
 * left in teacher and *ret_sum. */
static REAL teacher_terms(const REAL *z, REAL *teacher, size_t n, REAL *ret_sum)
{
    REAL sum[LANES] = { 0 }, difference[LANES] = { 0 };
    REAL max = largest(teacher, n);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            see_teacher(z, teacher, i + (size_t) l, max, &sum[l], &difference[l]);
        }
    }
    for (int l = 0; i < n; i++, l++) {
        see_teacher(z, teacher, i, max, &sum[l], &difference[l]);
    }
    *ret_sum = lanes_sum(sum);
    return max + (REAL) log(*ret_sum) + lanes_sum(difference) / *ret_sum;
}

/* With p and q the softmax of z and teacher: cross-entropy is L(z) - z_target, divergence
 * L(z) - L(teacher) - sum q (z - teacher), where L is ln sum exp. Derivatives: p - 1_target and
 * p - q. */
static struct loss_of token_loss(REAL *z, REAL *teacher, size_t n, size_t target, REAL ce,
                                 REAL kl)
{
    struct loss_of ret = { 0, 0 };
    REAL max = largest(z, n), at_target = z[target], teacher_sum = 1;
    REAL terms = teacher ? teacher_terms(z, teacher, n, &teacher_sum) : 0;
    REAL sum = exponentials(z, n, 1, max);
    REAL log_sum = max + (REAL) log(sum);
    ret.cross_entropy = log_sum - at_target;
    ret.divergence = teacher ? log_sum - terms : 0;
    REAL own = (teacher ? ce + kl : ce) / sum, others = teacher ? kl / teacher_sum : 0;
    for (size_t i = 0; teacher && i < n; i++) {
        z[i] = own * z[i] - others * teacher[i];
    }
    for (size_t i = 0; !teacher && i < n; i++) {
        z[i] *= own;
    }
    z[target] -= ce;
    return ret;
}

static REAL match(REAL *dx, const REAL *x, const REAL *y, size_t n, REAL weight)
{
    REAL lane[LANES] = { 0 };
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (int l = 0; l < LANES; l++) {
            REAL d = x[i + (size_t) l] - y[i + (size_t) l];
            lane[l] += d * d;
        }
    }
    for (int l = 0; i < n; i++, l++) {
        lane[l] += (x[i] - y[i]) * (x[i] - y[i]);
    }
    REAL size = dot(y, y, n);
    if (!(size > 0)) {
        return 0;
    }
    REAL f = 2 * weight / size;
    for (i = 0; dx && i < n; i++) {
        dx[i] += f * (x[i] - y[i]);
    }
    return lanes_sum(lane) / size;
}

/* As core/kernels codes: u = round((x / a + L) / 2) in [0, L], L = 2^P - 1, a = max|x| / L, and
 * x ~ a (2 u - L); for P = 1 the sign times the mean size. */
static void code(REAL *x, size_t n, size_t group, unsigned n_planes)
{
    REAL levels = (REAL) ((1u << n_planes) - 1);
    for (size_t at = 0; at < n; at += group) {
        size_t end = n - at < group ? n : at + group;
        REAL most = 0, sum = 0;
        for (size_t j = at; j < end; j++) {
            REAL size = (REAL) fabs(x[j]);
            most = size > most ? size : most;
            sum += size;
        }
        REAL a = n_planes == 1 ? sum / (REAL) (end - at) : most / levels;
        REAL inverse = most > 0 ? levels / most : 0;
        for (size_t j = at; j < end; j++) {
            REAL u = (REAL) floor((x[j] * inverse + levels) * (REAL) 0.5 + (REAL) 0.5);
            REAL sign = x[j] >= 0 ? a : -a;
            u = u < levels ? u : levels;
            x[j] = n_planes == 1 ? sign : a * (2 * u - levels);
        }
    }
}

/* The keys that row i of a block of queries sees are [first, i] of the sequence. */
static size_t first_seen(const struct mb_attention_shape *s, size_t i)
{
    return s->window > 0 && i + 1 > s->window ? i + 1 - s->window : 0;
}

/* p = exp(q k / sqrt(d) - lse) of queries [from, to) over keys [first, to), 0 where not seen.
 * With find, lse is found, else it is given. */
static void probabilities(REAL *p, REAL *lse, const REAL *q, const REAL *k,
                          const struct mb_attention_shape *s, size_t from, size_t to,
                          size_t first, bool find)
{
    REAL factor = 1 / (REAL) sqrt((REAL) s->head_width);
    size_t n_keys = to - first;
    REAL_SGEMM(MB_AS_IS, MB_TRANSPOSED, to - from, n_keys, s->head_width, 1,
               q + from * s->q_row, s->q_row, k + first * s->kv_row, s->kv_row, 0, p, n_keys);
    for (size_t i = from; i < to; i++) {
        REAL *row = p + (i - from) * n_keys, *lse_i = lse + i * s->lse_row;
        size_t begin = first_seen(s, i) - first, end = i + 1 - first;
        if (find) {
            REAL max = factor * largest(row + begin, end - begin);
            REAL sum = exponentials(row + begin, end - begin, factor, max);
            *lse_i = max + (REAL) log(sum);
            for (size_t j = begin; j < end; j++) {
                row[j] /= sum;
            }
        } else {
            (void) exponentials(row + begin, end - begin, factor, *lse_i);
        }
        memset(row, 0, begin * sizeof *row);
        memset(row + end, 0, (n_keys - end) * sizeof *row);
    }
}

static void attend(REAL *out, REAL *lse, const REAL *q, const REAL *k, const REAL *v,
                   const struct mb_attention_shape *s, REAL *scratch)
{
    for (size_t h = 0; h < s->n_q_per_kv; h++) {
        size_t at = h * s->head_width;
        for (size_t from = 0; from < s->n; from += MB_ATTENTION_ROWS) {
            size_t to = s->n - from < MB_ATTENTION_ROWS ? s->n : from + MB_ATTENTION_ROWS;
            size_t first = first_seen(s, from);
            probabilities(scratch, lse + h, q + at, k, s, from, to, first, true);
            REAL_SGEMM(MB_AS_IS, MB_AS_IS, to - from, s->head_width, to - first, 1, scratch,
                       to - first, v + first * s->kv_row, s->kv_row, 0,
                       out + at + from * s->q_row, s->q_row);
        }
    }
}

static void clear_rows(REAL *x, size_t n, size_t row, size_t width)
{
    for (size_t i = 0; i < n; i++) {
        memset(x + i * row, 0, width * sizeof *x);
    }
}

/* dp = dout v^T, then ds = p (dp - sum_j p dp) / sqrt(d) in place of dp. */
static void score_back(REAL *dp, const REAL *p, const REAL *dout, const REAL *v,
                       const struct mb_attention_shape *s, size_t n_rows, size_t n_keys)
{
    REAL factor = 1 / (REAL) sqrt((REAL) s->head_width);
    REAL_SGEMM(MB_AS_IS, MB_TRANSPOSED, n_rows, n_keys, s->head_width, 1, dout, s->q_row, v,
               s->kv_row, 0, dp, n_keys);
    for (size_t i = 0; i < n_rows; i++) {
        const REAL *p_i = p + i * n_keys;
        REAL *d_i = dp + i * n_keys;
        REAL mean = dot(p_i, d_i, n_keys);
        for (size_t j = 0; j < n_keys; j++) {
            d_i[j] = p_i[j] * (d_i[j] - mean) * factor;
        }
    }
}

static void attend_back(REAL *dq, REAL *dk, REAL *dv, const REAL *dout, const REAL *q,
                        const REAL *k, const REAL *v, const REAL *lse,
                        const struct mb_attention_shape *s, REAL *scratch)
{
    size_t d = s->head_width;
    clear_rows(dk, s->n, s->kv_row, d);
    clear_rows(dv, s->n, s->kv_row, d);
    for (size_t h = 0; h < s->n_q_per_kv; h++) {
        size_t at = h * d;
        for (size_t from = 0; from < s->n; from += MB_ATTENTION_ROWS) {
            size_t to = s->n - from < MB_ATTENTION_ROWS ? s->n : from + MB_ATTENTION_ROWS;
            size_t first = first_seen(s, from), n_keys = to - first, n_rows = to - from;
            REAL *p = scratch, *ds = scratch + n_rows * n_keys;
            const REAL *q_h = q + at + from * s->q_row, *dout_h = dout + at + from * s->q_row;
            /* lse is only read when it is not to be found */
            probabilities(p, (REAL *) lse + h, q + at, k, s, from, to, first, false);
            REAL_SGEMM(MB_TRANSPOSED, MB_AS_IS, n_keys, d, n_rows, 1, p, n_keys, dout_h,
                       s->q_row, 1, dv + first * s->kv_row, s->kv_row);
            score_back(ds, p, dout_h, v + first * s->kv_row, s, n_rows, n_keys);
            REAL_SGEMM(MB_AS_IS, MB_AS_IS, n_rows, d, n_keys, 1, ds, n_keys,
                       k + first * s->kv_row, s->kv_row, 0, dq + at + from * s->q_row,
                       s->q_row);
            REAL_SGEMM(MB_TRANSPOSED, MB_AS_IS, n_keys, d, n_rows, 1, ds, n_keys, q_h, s->q_row,
                       1, dk + first * s->kv_row, s->kv_row);
        }
    }
}
