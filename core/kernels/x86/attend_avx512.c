/* Scores have positions in lanes, so that no sum crosses lanes; outputs have elements of a head.
 * Eight rows times two vectors are 16 chains of fma, which use each vector of K or V that is
 * loaded and converted eight times. */
#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "core/kernels/attend_rows.h"
#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx512.h"

enum { ROWS = MB_ATTEND_ROWS, LANES = 16, COLS_MAX = 4 };

enum element { F32, F16 };

MB_INLINE __m512 load(const void *p, size_t i, const enum element e)
{
    if (e == F32) {
        return _mm512_loadu_ps((const float *) p + i);
    }
    return _mm512_cvtph_ps(_mm256_loadu_si256((const void *) ((const uint16_t *) p + i)));
}

MB_INLINE __m512 load_live(const void *p, size_t i, __mmask16 live, const enum element e)
{
    if (e == F32) {
        return _mm512_maskz_loadu_ps(live, (const float *) p + i);
    }
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(live, (const uint16_t *) p + i));
}

/* z[r][half] = scale * sum_i q[i] K[half][i][.], one chain of fma for each. Asks for K of the next
 * block only, and gather for V: asked for together they come faster than memory gives them, and
 * hold up the loads of this block. */
MB_INLINE void scores(__m512 z[ROWS][2], const float *q, size_t d, const void *k,
                      float qk_scale, const char *next, const size_t rows, const enum element e)
{
    const size_t lines = e == F32 ? 2 : 1; /* of K, for each i */
    for (size_t r = 0; r < rows; r++) {
        z[r][0] = z[r][1] = _mm512_setzero_ps();
    }
    for (size_t i = 0; i < d; i++) {
        for (size_t l = 0; l < lines; l++) {
            _mm_prefetch(next + (i * lines + l) * 64, _MM_HINT_T0);
        }
        __m512 k0 = load(k, i * LANES, e);
        __m512 k1 = load(k, (d + i) * LANES, e);
        for (size_t r = 0; r < rows; r++) {
            __m512 qi = _mm512_set1_ps(q[i * ROWS + r]);
            z[r][0] = _mm512_fmadd_ps(qi, k0, z[r][0]);
            z[r][1] = _mm512_fmadd_ps(qi, k1, z[r][1]);
        }
    }
    for (size_t r = 0; r < rows; r++) {
        z[r][0] = _mm512_mul_ps(z[r][0], _mm512_set1_ps(qk_scale));
        z[r][1] = _mm512_mul_ps(z[r][1], _mm512_set1_ps(qk_scale));
    }
}

/* The largest of the 8 elements of each row, row r in lane r. No element is NaN. */
static inline __m256 row_maxima(const __m256 row[ROWS])
{
    __m256 pair[ROWS / 2], four[ROWS / 4];
    for (size_t i = 0; i < ROWS / 2; i++) {
        pair[i] = _mm256_max_ps(_mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]),
                                _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]));
    }
    for (size_t i = 0; i < ROWS / 4; i++) {
        __m256d a = _mm256_castps_pd(pair[2 * i]), b = _mm256_castps_pd(pair[2 * i + 1]);
        four[i] = _mm256_max_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(a, b)),
                                _mm256_castpd_ps(_mm256_unpackhi_pd(a, b)));
    }
    return _mm256_max_ps(_mm256_permute2f128_ps(four[0], four[1], 0x20),
                         _mm256_permute2f128_ps(four[0], four[1], 0x31));
}

/* What the scores of a block become: weights, and the factor for what is in out already. */
struct weights {
    float p[ROWS][MB_KV_BLOCK];
    float f[ROWS];
};

/* m' and f of all rows; updates the tile's max and writes m'. */
MB_INLINE void raise_maxima(float m[ROWS], float f[ROWS], struct mb_attend_tile *t,
                            __m512 z[ROWS][2], const uint32_t *seen, const size_t rows)
{
    __m256 top[ROWS];
    __mmask8 sees = 0;
    for (size_t r = 0; r < ROWS; r++) {
        __m512 most = _mm512_set1_ps(-INFINITY);
        if (r < rows) { /* a NaN leaves most */
            most = _mm512_mask_max_ps(most, (__mmask16) seen[r], z[r][0], most);
            most = _mm512_mask_max_ps(most, (__mmask16) (seen[r] >> LANES), z[r][1], most);
            sees |= (__mmask8) ((seen[r] != 0) << r);
        }
        top[r] = _mm256_max_ps(_mm512_castps512_ps256(most), _mm512_extractf32x8_ps(most, 1));
    }
    __m256 old = _mm256_loadu_ps(t->max);
    __m256 raised =
        _mm256_add_ps(_mm256_max_ps(row_maxima(top), old), _mm256_setzero_ps()); /* no -0 */
    __mmask8 scaled = _mm256_mask_cmp_ps_mask(sees, old, _mm256_set1_ps(-INFINITY), _CMP_GT_OQ);
    __m512 e = mb_exp_negative_avx512(_mm512_zextps256_ps512(_mm256_sub_ps(old, raised)));
    _mm256_storeu_ps(f,
                     _mm256_mask_mov_ps(_mm256_set1_ps(1), scaled, _mm512_castps512_ps256(e)));
    _mm256_storeu_ps(m, raised);
    _mm256_mask_storeu_ps(t->max, sees, raised);
}

/* Softmax of a block: updates max and sum. */
MB_INLINE void weigh(struct weights *w, struct mb_attend_tile *t,
                     const struct mb_attend_view *see, __m512 z[ROWS][2], const size_t rows)
{
    uint32_t seen[ROWS];
    float m[ROWS];
    for (size_t r = 0; r < rows; r++) {
        seen[r] = mb_attend_seen(see, r);
    }
    raise_maxima(m, w->f, t, z, seen, rows);
    for (size_t r = 0; r < rows; r++) {
        __m512 mr = _mm512_set1_ps(m[r]);
        __m512 p0 = mb_exp_negative_avx512(_mm512_sub_ps(z[r][0], mr));
        __m512 p1 = mb_exp_negative_avx512(_mm512_sub_ps(z[r][1], mr));
        __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(t->sum[r]), _mm512_set1_ps(w->f[r]));
        sum = _mm512_mask_add_ps(sum, (__mmask16) seen[r], sum, p0);
        sum = _mm512_mask_add_ps(sum, (__mmask16) (seen[r] >> LANES), sum, p1);
        _mm512_storeu_ps(t->sum[r], sum);
        _mm512_storeu_ps(w->p[r], p0);
        _mm512_storeu_ps(w->p[r] + LANES, p1);
    }
}

/* out[i] = f out[i], then fma(p_j, V[j][i], .) for ascending j; cols vectors of i at once. next is
 * V of the block to come, or NULL. */
MB_INLINE void gather_cols(float *out, const struct weights *w, size_t row, size_t d, size_t i,
                           const void *v, size_t first, size_t end, const char *next,
                           const size_t rows, const size_t cols, const enum element e)
{
    const size_t lines = e == F32 ? 2 : 1; /* of V, for two vectors of a position */
    __m512 sum[ROWS][COLS_MAX];
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            sum[r][c] = _mm512_mul_ps(_mm512_loadu_ps(out + r * d + i + c * LANES),
                                      _mm512_set1_ps(w->f[row + r]));
        }
    }
    for (size_t j = first; j < end; j++) {
        for (size_t l = 0; next && l < lines * cols / 2; l++) {
            _mm_prefetch(next + (i * lines + j * lines * cols / 2 + l) * 64, _MM_HINT_T0);
        }
        __m512 vs[COLS_MAX];
        for (size_t c = 0; c < cols; c++) {
            vs[c] = load(v, j * d + i + c * LANES, e);
        }
        for (size_t r = 0; r < rows; r++) {
            __m512 pj = _mm512_set1_ps(w->p[row + r][j]);
            for (size_t c = 0; c < cols; c++) {
                sum[r][c] = _mm512_fmadd_ps(pj, vs[c], sum[r][c]);
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < cols; c++) {
            _mm512_storeu_ps(out + r * d + i + c * LANES, sum[r][c]);
        }
    }
}

/* The same for the last left < 16 i. */
MB_INLINE void gather_rest(float *out, const struct weights *w, size_t row, size_t d, size_t i,
                           const void *v, size_t first, size_t end, const size_t rows,
                           const enum element e)
{
    __mmask16 live = mb_lanes_first(d - i);
    for (size_t r = 0; r < rows; r++) {
        __m512 sum = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, out + r * d + i),
                                   _mm512_set1_ps(w->f[row + r]));
        for (size_t j = first; j < end; j++) {
            __m512 vs = load_live(v, j * d + i, live, e);
            sum = _mm512_fmadd_ps(_mm512_set1_ps(w->p[row + r][j]), vs, sum);
        }
        _mm512_mask_storeu_ps(out + r * d + i, live, sum);
    }
}

/* All i, for positions [first, end) that all the rows see. */
MB_INLINE void gather(float *out, const struct weights *w, size_t row, size_t d, const void *v,
                      size_t first, size_t end, const char *next, const size_t rows,
                      const enum element e)
{
    const size_t cols = rows > 4 ? 2 : 4; /* 16 chains, or as many as there are */
    size_t i = 0;
    for (; d - i >= cols * LANES; i += cols * LANES) {
        gather_cols(out, w, row, d, i, v, first, end, next, rows, cols, e);
    }
    for (; d - i >= LANES; i += LANES) {
        gather_cols(out, w, row, d, i, v, first, end, NULL, rows, 1, e);
    }
    if (i < d) {
        gather_rest(out, w, row, d, i, v, first, end, rows, e);
    }
}

/* Rows one by one over [max(first, from), min(end, to)) of each, where they differ. */
MB_INLINE void gather_each(struct mb_attend_tile *t, struct weights *w,
                           const struct mb_attend_view *see, size_t d, const void *v,
                           size_t from, size_t to, size_t rows, const enum element e)
{
    for (size_t r = 0; r < rows; r++) {
        size_t first = see->first[r] > from ? see->first[r] : from;
        size_t end = see->end[r] < to ? see->end[r] : to;
        if (first < end) {
            gather(t->out + r * d, w, r, d, v, first, end, NULL, 1, e);
            w->f[r] = 1;
        }
    }
}

/* One call of f for each number of rows, so that its loops unroll. */
#define FOR_ROWS(n, f, ...)   \
    switch (n) {              \
    case 1:                   \
        f(__VA_ARGS__, 1, e); \
        break;                \
    case 2:                   \
        f(__VA_ARGS__, 2, e); \
        break;                \
    case 3:                   \
        f(__VA_ARGS__, 3, e); \
        break;                \
    case 4:                   \
        f(__VA_ARGS__, 4, e); \
        break;                \
    case 5:                   \
        f(__VA_ARGS__, 5, e); \
        break;                \
    case 6:                   \
        f(__VA_ARGS__, 6, e); \
        break;                \
    case 7:                   \
        f(__VA_ARGS__, 7, e); \
        break;                \
    default:                  \
        f(__VA_ARGS__, 8, e); \
        break;                \
    }

MB_INLINE void score(struct weights *w, struct mb_attend_tile *t,
                     const struct mb_attend_view *see, size_t d, const void *k, float qk_scale,
                     const void *next, const size_t rows, const enum element e)
{
    __m512 z[ROWS][2];
    scores(z, t->q, d, k, qk_scale, next, rows, e);
    weigh(w, t, see, z, rows);
}

MB_INLINE void attend(struct mb_attend_tile *t, size_t d, const void *k, const void *v,
                      size_t base, float qk_scale, const void *next, const enum element e)
{
    struct mb_attend_view see;
    struct weights w;
    mb_attend_view(&see, t, base, t->n_rows);
    FOR_ROWS(t->n_rows, score, &w, t, &see, d, k, qk_scale, next)
    if (see.all_first >= see.all_end) {
        gather_each(t, &w, &see, d, v, 0, MB_KV_BLOCK, t->n_rows, e);
        return;
    }
    if (!see.even) {
        gather_each(t, &w, &see, d, v, 0, see.all_first, t->n_rows, e);
    }
    const char *next_v = (const char *) next + ((const char *) v - (const char *) k);
    FOR_ROWS(t->n_rows, gather, t->out, &w, 0, d, v, see.all_first, see.all_end, next_v)
    if (!see.even) {
        _mm256_storeu_ps(w.f, _mm256_set1_ps(1));
        gather_each(t, &w, &see, d, v, see.all_end, MB_KV_BLOCK, t->n_rows, e);
    }
}

void mb_attend_f16_avx512(struct mb_attend_tile *t, size_t d, const void *kv, size_t base,
                          float qk_scale, const void *next)
{
    attend(t, d, kv, (const uint16_t *) kv + MB_KV_BLOCK * d, base, qk_scale, next, F16);
}

void mb_attend_f32_avx512(struct mb_attend_tile *t, size_t d, const void *kv, size_t base,
                          float qk_scale, const void *next)
{
    attend(t, d, kv, (const float *) kv + MB_KV_BLOCK * d, base, qk_scale, next, F32);
}

/* f of a merge: exp(old - m), or 1 when that is 0. */
static inline __m512 merge_factor(float old, float m)
{
    __m512 x = _mm512_set1_ps(old - m);
    return old < m ? mb_exp_negative_avx512(x) : _mm512_set1_ps(1);
}

static void merge_row(struct mb_attend_tile *t, const struct mb_attend_tile *s, size_t r,
                      size_t d)
{
    float m = t->max[r] > s->max[r] ? t->max[r] : s->max[r];
    __m512 f = merge_factor(t->max[r], m), g = merge_factor(s->max[r], m);
    __m512 sum = _mm512_mul_ps(_mm512_loadu_ps(t->sum[r]), f);
    _mm512_storeu_ps(t->sum[r], _mm512_fmadd_ps(_mm512_loadu_ps(s->sum[r]), g, sum));
    for (size_t i = 0; i < d; i += LANES) {
        __mmask16 live = mb_lanes_first(d - i);
        __m512 out = _mm512_mul_ps(_mm512_maskz_loadu_ps(live, t->out + r * d + i), f);
        __m512 more = _mm512_maskz_loadu_ps(live, s->out + r * d + i);
        _mm512_mask_storeu_ps(t->out + r * d + i, live, _mm512_fmadd_ps(more, g, out));
    }
    t->max[r] = m;
}

void mb_attend_merge_avx512(struct mb_attend_tile *t, const struct mb_attend_tile *segment,
                            size_t d, size_t base)
{
    mb_attend_merge_rows(t, segment, d, base, merge_row);
}

void mb_attend_finish_avx512(float *y, const struct mb_attend_tile *t, size_t row, size_t d)
{
    __m512 total = _mm512_set1_ps(mb_lanes_tree(_mm512_loadu_ps(t->sum[row])));
    for (size_t i = 0; i < d; i += LANES) {
        __mmask16 live = mb_lanes_first(d - i);
        __m512 v = _mm512_maskz_loadu_ps(live, t->out + row * d + i);
        _mm512_mask_storeu_ps(y + i, live, _mm512_div_ps(v, total));
    }
}

/* Float16, nearest even, between -65504 and 65504; NaN stays NaN. */
static inline __m256i to_f16(__m512 x)
{
    x = _mm512_min_ps(_mm512_set1_ps(65504), x); /* a NaN is the second operand, which stays */
    x = _mm512_max_ps(_mm512_set1_ps(-65504), x);
    return _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT);
}

void mb_kv_store_f16_avx512(void *k_block, void *v_block, const float *k, const float *v,
                            size_t d, size_t j)
{
    uint16_t *ks = (uint16_t *) k_block + j / LANES * d * LANES + j % LANES;
    uint16_t *vs = (uint16_t *) v_block + j * d;
    for (size_t i = 0; i < d; i += LANES) {
        uint16_t half[LANES];
        size_t left = d - i < LANES ? d - i : LANES;
        __mmask16 live = mb_lanes_first(left);
        _mm256_mask_storeu_epi16(vs + i, live, to_f16(_mm512_maskz_loadu_ps(live, v + i)));
        _mm256_storeu_si256((void *) half, to_f16(_mm512_maskz_loadu_ps(live, k + i)));
        for (size_t l = 0; l < left; l++) {
            ks[(i + l) * LANES] = half[l];
        }
    }
}
