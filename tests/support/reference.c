#include "tests/support/reference.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/half.h"

static void *need(size_t n, size_t size)
{
    void *p = calloc(n ? n : 1, size);
    if (!p) {
        fprintf(stderr, "reference: no memory\n");
        abort();
    }
    return p;
}

static void weight_row(const struct mb_linear *l, size_t row, float *ret)
{
    if (l->kind == MB_LINEAR_BOOL) {
        mb_bool_row(&l->boolean, row, ret);
        return;
    }
    for (size_t j = 0; j < l->n_cols; j++) {
        size_t at = row * l->n_cols + j;
        uint16_t h = 0;
        if (l->kind == MB_LINEAR_F32) {
            memcpy(&ret[j], (const char *) l->dense + at * 4, 4);
        } else {
            memcpy(&h, (const char *) l->dense + at * 2, 2);
            ret[j] = l->kind == MB_LINEAR_F16 ? mb_f16_to_f32(h) : mb_bf16_to_f32(h);
        }
    }
}

/* What a Boolean layer sees of x: the nearest of 2^P levels of its column group (for P = 1 the
 * sign times the mean size). */
static void code(double *x, size_t n, size_t group, unsigned n_planes)
{
    double top = (double) ((1u << n_planes) - 1);
    for (size_t begin = 0; begin < n; begin += group) {
        size_t end = begin + group < n ? begin + group : n;
        double max = 0, mean = 0;
        for (size_t j = begin; j < end; j++) {
            max = fmax(max, fabs(x[j]));
            mean += fabs(x[j]) / (double) (end - begin);
        }
        double a = max / top;
        for (size_t j = begin; j < end && max > 0; j++) {
            if (n_planes == 1) {
                x[j] = x[j] >= 0 ? mean : -mean;
            } else {
                x[j] = a * (2 * nearbyint((x[j] / a + top) / 2) - top);
            }
        }
    }
}

/* y = W x for one token; x is not changed. */
static void linear(const struct mb_model *m, const struct mb_linear *l, const double *x,
                   double *y)
{
    float *w = need(l->n_cols, sizeof *w);
    double *seen = need(l->n_cols, sizeof *seen);
    memcpy(seen, x, l->n_cols * sizeof *x);
    if (l->kind == MB_LINEAR_BOOL) {
        code(seen, l->n_cols, l->boolean.shape.group, m->shape.n_planes);
    }
    for (size_t i = 0; i < l->n_rows; i++) {
        weight_row(l, i, w);
        y[i] = 0;
        for (size_t j = 0; j < l->n_cols; j++) {
            y[i] += (double) w[j] * seen[j];
        }
    }
    free(w);
    free(seen);
}

static void norm(const struct mb_model *m, const float *weight, const double *x, double *y)
{
    size_t n = m->shape.width;
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
        sum += x[j] * x[j];
    }
    double r = 1 / sqrt(sum / (double) n + (double) m->shape.norm_eps);
    for (size_t j = 0; j < n; j++) {
        y[j] = x[j] * r * (double) weight[j];
    }
}

static void scale(const uint16_t *t, double *x, size_t n)
{
    for (size_t j = 0; t && j < n; j++) {
        x[j] *= (double) mb_f16_to_f32(t[j]);
    }
}

static void rope(const struct mb_model *m, double *x, size_t position)
{
    size_t half = m->shape.head_width / 2;
    for (size_t i = 0; i < half; i++) {
        double angle = (double) position * m->inv_freq[i], x0 = x[i], x1 = x[i + half];
        x[i] = x0 * cos(angle) - x1 * sin(angle);
        x[i + half] = x1 * cos(angle) + x0 * sin(angle);
    }
}

/* Attention of the query head q at position i over keys and values [.][width of all heads]. */
static void attend(const struct mb_model *m, const double *q, const double *k, const double *v,
                   size_t i, double *out)
{
    size_t d = m->shape.head_width, stride = mb_shape_kv_width(&m->shape);
    size_t window = m->shape.window ? m->shape.window : i + 1;
    size_t begin = i + 1 > window ? i + 1 - window : 0;
    double *z = need(i + 1, sizeof *z), max = -INFINITY, sum = 0;
    for (size_t j = begin; j <= i; j++) {
        for (size_t e = 0; e < d; e++) {
            z[j] += q[e] * k[j * stride + e] / sqrt((double) d);
        }
        max = fmax(max, z[j]);
    }
    for (size_t j = begin; j <= i; j++) {
        sum += exp(z[j] - max);
    }
    for (size_t e = 0; e < d; e++) {
        out[e] = 0;
        for (size_t j = begin; j <= i; j++) {
            out[e] += exp(z[j] - max) / sum * v[j * stride + e];
        }
    }
    free(z);
}

static void attention(const struct mb_model *m, const struct mb_block *b, const double *in,
                      size_t n, bool half_kv, double *out)
{
    const struct mb_shape *s = &m->shape;
    size_t d = s->head_width, kv_width = mb_shape_kv_width(s), q_width = mb_shape_q_width(s);
    double *q = need(q_width, sizeof *q);
    double *k = need(n * kv_width, sizeof *k), *v = need(n * kv_width, sizeof *v);
    for (size_t i = 0; i < n; i++) {
        double *k_i = k + i * kv_width, *v_i = v + i * kv_width;
        linear(m, &b->linear[MB_ATTN_Q], in + i * s->width, q);
        linear(m, &b->linear[MB_ATTN_K], in + i * s->width, k_i);
        linear(m, &b->linear[MB_ATTN_V], in + i * s->width, v_i);
        for (size_t h = 0; h < s->n_heads; h++) {
            rope(m, q + h * d, i);
        }
        for (size_t h = 0; h < s->n_kv_heads; h++) {
            rope(m, k_i + h * d, i);
        }
        for (size_t j = 0; half_kv && j < kv_width; j++) {
            k_i[j] = (double) mb_f16_to_f32(mb_f32_to_f16((float) k_i[j]));
            v_i[j] = (double) mb_f16_to_f32(mb_f32_to_f16((float) v_i[j]));
        }
        for (size_t h = 0; h < s->n_heads; h++) {
            size_t kv = h / (s->n_heads / s->n_kv_heads) * d;
            attend(m, q + h * d, k + kv, v + kv, i, out + i * q_width + h * d);
        }
    }
    free(q);
    free(k);
    free(v);
}

static void gate(const struct mb_model *m, const struct mb_block *b, const double *in, size_t n,
                 double *out)
{
    size_t width = m->shape.ffn_width;
    double *g = need(width, sizeof *g);
    for (size_t i = 0; i < n; i++) {
        linear(m, &b->linear[MB_FFN_GATE], in + i * m->shape.width, g);
        linear(m, &b->linear[MB_FFN_UP], in + i * m->shape.width, out + i * width);
        for (size_t j = 0; j < width; j++) {
            out[i * width + j] *= g[j] / (1 + exp(-g[j]));
        }
    }
    free(g);
}

void reference_embed(const struct mb_model *m, const uint32_t *tokens, size_t n, double *x)
{
    size_t width = m->shape.width;
    float *row = need(width, sizeof *row);
    for (size_t i = 0; i < n; i++) {
        weight_row(&m->embed, tokens[i], row);
        for (size_t j = 0; j < width; j++) {
            x[i * width + j] = (double) row[j];
        }
    }
    free(row);
}

void reference_input(const struct mb_model *m, uint32_t layer, enum mb_block_input i,
                     const double *from, size_t n, bool half_kv, double *ret)
{
    const struct mb_block *b = &m->blocks[layer];
    size_t width = mb_block_input_width(&m->shape, i);
    if (i == MB_IN_ATTN_O) {
        attention(m, b, from, n, half_kv, ret);
    } else if (i == MB_IN_FFN_DOWN) {
        gate(m, b, from, n, ret);
    }
    for (size_t t = 0; t < n; t++) {
        if (i == MB_IN_ATTN || i == MB_IN_FFN) {
            const float *weight = i == MB_IN_ATTN ? b->attn_norm : b->ffn_norm;
            norm(m, weight, from + t * width, ret + t * width);
        }
        scale(b->input_scale[i], ret + t * width, width);
    }
}

void reference_add(const struct mb_model *m, uint32_t layer, enum mb_block_linear l,
                   const double *in, size_t n, double *x)
{
    const struct mb_linear *w = &m->blocks[layer].linear[l];
    double *y = need(w->n_rows, sizeof *y);
    for (size_t t = 0; t < n; t++) {
        linear(m, w, in + t * w->n_cols, y);
        for (size_t j = 0; j < w->n_rows; j++) {
            x[t * w->n_rows + j] += y[j];
        }
    }
    free(y);
}

void reference_head(const struct mb_model *m, const double *x, size_t n, double *logits)
{
    size_t width = m->shape.width;
    double *h = need(width, sizeof *h);
    for (size_t t = 0; t < n; t++) {
        norm(m, m->final_norm, x + t * width, h);
        scale(m->head_input_scale, h, width);
        linear(m, &m->head, h, logits + t * m->shape.n_vocab);
    }
    free(h);
}

void reference_logits(const struct mb_model *m, const uint32_t *tokens, size_t n, bool half_kv,
                      double *ret)
{
    const struct mb_shape *s = &m->shape;
    double *x = need(n * s->width, sizeof *x), *h = need(n * s->width, sizeof *h);
    double *o = need(n * mb_shape_q_width(s), sizeof *o),
           *f = need(n * s->ffn_width, sizeof *f);
    reference_embed(m, tokens, n, x);
    for (uint32_t l = 0; l < s->n_layers; l++) {
        reference_input(m, l, MB_IN_ATTN, x, n, half_kv, h);
        reference_input(m, l, MB_IN_ATTN_O, h, n, half_kv, o);
        reference_add(m, l, MB_ATTN_O, o, n, x);
        reference_input(m, l, MB_IN_FFN, x, n, half_kv, h);
        reference_input(m, l, MB_IN_FFN_DOWN, h, n, half_kv, f);
        reference_add(m, l, MB_FFN_DOWN, f, n, x);
    }
    reference_head(m, x, n, ret);
    free(x);
    free(h);
    free(o);
    free(f);
}
