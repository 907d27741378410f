/* As attend_avx512.c, with 16 registers of 8 lanes: four rows times two vectors are 8 chains of fma. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "core/kernels/attend_rows.h"
#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx2.h"

enum { ROWS = MB_ATTEND_ROWS, SOME = 4, LANES = 16, EIGHTS = MB_KV_BLOCK / 8, COLS = 2 };

enum element { F32, F16 };

/* 8 elements from i on. */
MB_INLINE __m256 load(const void *p, size_t i, const enum element e)
{
    if (e == F32) {
        return _mm256_loadu_ps((const float *) p + i);
    }
    return _mm256_cvtph_ps(_mm_loadu_si128((const void *) ((const uint16_t *) p + i)));
}

/* The first left < 8 elements from i on, then zeros; reads no more. */
MB_INLINE __m256 load_some(const void *p, size_t i, size_t left, const enum element e)
{
    float some[8] = { 0 };
    size_t size = e == F32 ? sizeof(float) : sizeof(uint16_t);
    memcpy(some, (const char *) p + i * size, left * size);
    return load(some, 0, e);
}

/* What the scores of a block become: weights, and the factor for what is in out already. */
struct weights {
    float p[ROWS][MB_KV_BLOCK];
    float f[ROWS];
};

/* Scores of rows against one half of a block (16 positions), into p. */
MB_INLINE void scores(float (*p)[MB_KV_BLOCK], const float *q, size_t d, const void *k,
                      size_t half, float qk_scale, const char *next, const size_t rows,
                      const enum element e)
{
    const size_t lines = e == F32 ? 2 : 1; /* of K and V together, for each half and i */
    __m256 z[SOME][2];
    for (size_t r = 0; r < rows; r++) {
        z[r][0] = z[r][1] = _mm256_setzero_ps();
    }
    for (size_t i = 0; i < d; i++) {
        for (size_t l = 0; l < lines; l++) {
            _mm_prefetch(next + ((half * d + i) * lines + l) * 64, _MM_HINT_T0);
        }
        __m256 k0 = load(k, (half * d + i) * LANES, e);
        __m256 k1 = load(k, (half * d + i) * LANES + 8, e);
        for (size_t r = 0; r < rows; r++) {
            __m256 qi = _mm256_set1_ps(q[i * ROWS + r]);
            z[r][0] = _mm256_fmadd_ps(qi, k0, z[r][0]);
            z[r][1] = _mm256_fmadd_ps(qi, k1, z[r][1]);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        float *to = p[r] + half * LANES;
        _mm256_storeu_ps(to, _mm256_mul_ps(z[r][0], _mm256_set1_ps(qk_scale)));
        _mm256_storeu_ps(to + 8, _mm256_mul_ps(z[r][1], _mm256_set1_ps(qk_scale)));
    }
}

/* All bits of the lanes that hold positions that row r sees, of positions 8 b .. 8 b + 7. */
static inline __m256 seen(const struct mb_attend_view *see, size_t r, size_t b)
{
    size_t end = see->end[r] < 8 * b ? 0 : see->end[r] - 8 * b;
    size_t first = see->first[r] < 8 * b ? 0 : see->first[r] - 8 * b;
    return _mm256_castsi256_ps(_mm256_andnot_si256(mb_half_first(first), mb_half_first(end)));
}

static inline float max_of(__m256 v) /* which holds no NaN */
{
    __m128 top = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    top = _mm_max_ps(top, _mm_movehl_ps(top, top));
    return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}

/* m' and f of rows that see something; updates the tile's max, which is m' then. */
static inline void raise_maxima(struct weights *w, struct mb_attend_tile *t,
                                const struct mb_attend_view *see)
{
    float x[ROWS] = { 0 };
    for (size_t r = 0; r < t->n_rows; r++) {
        if (see->first[r] >= see->end[r]) {
            continue;
        }
        float old = t->max[r];
        __m256 top = _mm256_set1_ps(old);
        for (size_t b = 0; b < EIGHTS; b++) {
            __m256 more = _mm256_max_ps(_mm256_loadu_ps(w->p[r] + 8 * b), top); /* not a NaN */
            top = _mm256_blendv_ps(top, more, seen(see, r, b));
        }
        t->max[r] = max_of(top) + 0.0f;               /* no -0 */
        x[r] = old > -INFINITY ? old - t->max[r] : 0; /* exp(0) is 1 */
    }
    _mm256_storeu_ps(w->f, mb_exp_negative_avx2(_mm256_loadu_ps(x)));
}

/* Softmax of a block, in place in w->p: updates max and sum. */
static inline void weigh(struct weights *w, struct mb_attend_tile *t,
                         const struct mb_attend_view *see)
{
    raise_maxima(w, t, see);
    for (size_t r = 0; r < t->n_rows; r++) {
        __m256 f = _mm256_set1_ps(w->f[r]), m = _mm256_set1_ps(t->max[r]);
        __m256 sum[2] = { _mm256_mul_ps(_mm256_loadu_ps(t->sum[r]), f),
                          _mm256_mul_ps(_mm256_loadu_ps(t->sum[r] + 8), f) };
        for (size_t b = 0; b < EIGHTS; b++) {
            __m256 *half = &sum[b % 2];
            float *at = w->p[r] + 8 * b;
            __m256 p = mb_exp_negative_avx2(_mm256_sub_ps(_mm256_loadu_ps(at), m));
            *half = _mm256_blendv_ps(*half, _mm256_add_ps(*half, p), seen(see, r, b));
            _mm256_storeu_ps(at, p);
        }
        _mm256_storeu_ps(t->sum[r], sum[0]);
        _mm256_storeu_ps(t->sum[r] + 8, sum[1]);
    }
}

/* out[i] = f out[i], then fma(p_j, V[j][i], .) for ascending j; cols vectors of i at once. */
MB_INLINE void gather_cols(float *out, const struct weights *w, size_t row, size_t d, size_t i,
                           const void *v, size_t first, size_t end, const size_t rows,
                           const size_t cols, const enum element e)
{
    __m256 sum[SOME][COLS];
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            sum[r][c] = _mm256_mul_ps(_mm256_loadu_ps(out + r * d + i + c * 8),
                                      _mm256_set1_ps(w->f[row + r]));
        }
    }
    for (size_t j = first; j < end; j++) {
        __m256 vs[COLS];
        for (size_t c = 0; c < cols; c++) {
            vs[c] = load(v, j * d + i + c * 8, e);
        }
        for (size_t r = 0; r < rows; r++) {
            __m256 pj = _mm256_set1_ps(w->p[row + r][j]);
            for (size_t c = 0; c < cols; c++) {
                sum[r][c] = _mm256_fmadd_ps(pj, vs[c], sum[r][c]);
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            _mm256_storeu_ps(out + r * d + i + c * 8, sum[r][c]);
        }
    }
}

/* The same for the last left < 8 i. */
MB_INLINE void gather_rest(float *out, const struct weights *w, size_t row, size_t d, size_t i,
                           const void *v, size_t first, size_t end, const size_t rows,
                           const enum element e)
{
    __m256i live = mb_half_first(d - i);
    for (size_t r = 0; r < rows; r++) {
        __m256 sum = _mm256_mul_ps(_mm256_maskload_ps(out + r * d + i, live),
                                   _mm256_set1_ps(w->f[row + r]));
        for (size_t j = first; j < end; j++) {
            __m256 vs = load_some(v, j * d + i, d - i, e);
            sum = _mm256_fmadd_ps(_mm256_set1_ps(w->p[row + r][j]), vs, sum);
        }
        _mm256_maskstore_ps(out + r * d + i, live, sum);
    }
}

/* All i, for positions [first, end) that all the rows see. */
MB_INLINE void gather(float *out, const struct weights *w, size_t row, size_t d, const void *v,
                      size_t first, size_t end, const size_t rows, const enum element e)
{
    size_t i = 0;
    for (; d - i >= COLS * 8; i += COLS * 8) {
        gather_cols(out, w, row, d, i, v, first, end, rows, COLS, e);
    }
    for (; d - i >= 8; i += 8) {
        gather_cols(out, w, row, d, i, v, first, end, rows, 1, e);
    }
    if (i < d) {
        gather_rest(out, w, row, d, i, v, first, end, rows, e);
    }
}

/* Rows one by one over [max(first, from), min(end, to)) of each, where they differ. */
MB_INLINE void gather_each(struct mb_attend_tile *t, struct weights *w,
                           const struct mb_attend_view *see, size_t d, const void *v,
                           size_t from, size_t to, const enum element e)
{
    for (size_t r = 0; r < t->n_rows; r++) {
        size_t first = see->first[r] > from ? see->first[r] : from;
        size_t end = see->end[r] < to ? see->end[r] : to;
        if (first < end) {
            gather(t->out + r * d, w, r, d, v, first, end, 1, e);
            w->f[r] = 1;
        }
    }
}

/* Scores of all rows, 4, 2 and 1 at a time. */
MB_INLINE void score(struct weights *w, const struct mb_attend_tile *t, size_t d, const void *k,
                     float qk_scale, const void *next, const enum element e)
{
    for (size_t half = 0; half < 2; half++) {
        size_t r = 0;
        for (; t->n_rows - r >= 4; r += 4) {
            scores(w->p + r, t->q + r, d, k, half, qk_scale, r == 0 ? next : k, 4, e);
        }
        for (; t->n_rows - r >= 2; r += 2) {
            scores(w->p + r, t->q + r, d, k, half, qk_scale, r == 0 ? next : k, 2, e);
        }
        if (r < t->n_rows) {
            scores(w->p + r, t->q + r, d, k, half, qk_scale, r == 0 ? next : k, 1, e);
        }
    }
}

/* All rows over the positions that all of them see. */
MB_INLINE void gather_all(struct mb_attend_tile *t, const struct weights *w,
                          const struct mb_attend_view *see, size_t d, const void *v,
                          const enum element e)
{
    size_t r = 0, first = see->all_first, end = see->all_end;
    for (; t->n_rows - r >= 4; r += 4) {
        gather(t->out + r * d, w, r, d, v, first, end, 4, e);
    }
    for (; t->n_rows - r >= 2; r += 2) {
        gather(t->out + r * d, w, r, d, v, first, end, 2, e);
    }
    if (r < t->n_rows) {
        gather(t->out + r * d, w, r, d, v, first, end, 1, e);
    }
}

MB_INLINE void attend(struct mb_attend_tile *t, size_t d, const void *k, const void *v,
                      size_t base, float qk_scale, const void *next, const enum element e)
{
    struct mb_attend_view see;
    struct weights w;
    mb_attend_view(&see, t, base, t->n_rows);
    score(&w, t, d, k, qk_scale, next, e);
    weigh(&w, t, &see);
    if (see.all_first >= see.all_end) {
        gather_each(t, &w, &see, d, v, 0, MB_KV_BLOCK, e);
        return;
    }
    if (!see.even) {
        gather_each(t, &w, &see, d, v, 0, see.all_first, e);
    }
    gather_all(t, &w, &see, d, v, e);
    if (!see.even) {
        _mm256_storeu_ps(w.f, _mm256_set1_ps(1));
        gather_each(t, &w, &see, d, v, see.all_end, MB_KV_BLOCK, e);
    }
}

void mb_attend_f16_avx2(struct mb_attend_tile *t, size_t d, const void *kv, size_t base,
                        float qk_scale, const void *next)
{
    attend(t, d, kv, (const uint16_t *) kv + MB_KV_BLOCK * d, base, qk_scale, next, F16);
}

void mb_attend_f32_avx2(struct mb_attend_tile *t, size_t d, const void *kv, size_t base,
                        float qk_scale, const void *next)
{
    attend(t, d, kv, (const float *) kv + MB_KV_BLOCK * d, base, qk_scale, next, F32);
}

/* f of a merge: exp(old - m), or 1 when that is 0. */
static inline __m256 merge_factor(float old, float m)
{
    __m256 x = _mm256_set1_ps(old - m);
    return old < m ? mb_exp_negative_avx2(x) : _mm256_set1_ps(1);
}

/* to[i] = fma(from[i], g, to[i] * f) */
static inline void merge_floats(float *to, const float *from, size_t n, __m256 f, __m256 g)
{
    for (size_t i = 0; i < n; i += 8) {
        __m256i live = mb_half_first(n - i);
        __m256 v = _mm256_mul_ps(_mm256_maskload_ps(to + i, live), f);
        v = _mm256_fmadd_ps(_mm256_maskload_ps(from + i, live), g, v);
        _mm256_maskstore_ps(to + i, live, v);
    }
}

static void merge_row(struct mb_attend_tile *t, const struct mb_attend_tile *s, size_t r,
                      size_t d)
{
    float m = t->max[r] > s->max[r] ? t->max[r] : s->max[r];
    __m256 f = merge_factor(t->max[r], m), g = merge_factor(s->max[r], m);
    merge_floats(t->sum[r], s->sum[r], LANES, f, g);
    merge_floats(t->out + r * d, s->out + r * d, d, f, g);
    t->max[r] = m;
}

void mb_attend_merge_avx2(struct mb_attend_tile *t, const struct mb_attend_tile *segment,
                          size_t d, size_t base)
{
    mb_attend_merge_rows(t, segment, d, base, merge_row);
}

void mb_attend_finish_avx2(float *y, const struct mb_attend_tile *t, size_t row, size_t d)
{
    const float *lanes = t->sum[row], *out = t->out + row * d;
    __m256 total =
        _mm256_set1_ps(mb_halves_tree(_mm256_loadu_ps(lanes), _mm256_loadu_ps(lanes + 8)));
    for (size_t i = 0; i < d; i += 8) {
        __m256i live = mb_half_first(d - i);
        __m256 v = _mm256_maskload_ps(out + i, live);
        _mm256_maskstore_ps(y + i, live, _mm256_div_ps(v, total));
    }
}

/* Float16, nearest even, between -65504 and 65504; NaN stays NaN. */
static inline __m128i to_f16(__m256 x)
{
    x = _mm256_min_ps(_mm256_set1_ps(65504), x); /* a NaN is the second operand, which stays */
    x = _mm256_max_ps(_mm256_set1_ps(-65504), x);
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}

void mb_kv_store_f16_avx2(void *k_block, void *v_block, const float *k, const float *v,
                          size_t d, size_t j)
{
    uint16_t *ks = (uint16_t *) k_block + j / LANES * d * LANES + j % LANES;
    uint16_t *vs = (uint16_t *) v_block + j * d;
    for (size_t i = 0; i < d; i += 8) {
        uint16_t k_half[8], v_half[8];
        size_t left = d - i < 8 ? d - i : 8;
        __m256i live = mb_half_first(left);
        _mm_storeu_si128((void *) k_half, to_f16(_mm256_maskload_ps(k + i, live)));
        _mm_storeu_si128((void *) v_half, to_f16(_mm256_maskload_ps(v + i, live)));
        memcpy(vs + i, v_half, left * sizeof *vs);
        for (size_t l = 0; l < left; l++) {
            ks[(i + l) * LANES] = k_half[l];
        }
    }
}
