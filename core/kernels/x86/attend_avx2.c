#include <immintrin.h>
#include <math.h>
#include <string.h>

#include "core/kernels/variants.h"
#include "core/kernels/x86/inline.h"
#include "core/kernels/x86/lanes_avx2.h"

/* 32 positions are 4 vectors of 8; two heads make 8 independent chains of sums. */
enum { HEADS = 2, LANES = 16, EIGHTS = MB_KV_BLOCK / 8 };

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

/* All bits of the lanes that hold positions of [first, n), of positions 8 b .. 8 b + 7. */
static inline __m256 visible(size_t first, size_t n, size_t b)
{
    size_t after = n < 8 * b ? 0 : n - 8 * b, before = first < 8 * b ? 0 : first - 8 * b;
    return _mm256_castsi256_ps(
        _mm256_andnot_si256(mb_half_first(before), mb_half_first(after)));
}

/* z[h][b] = scale * sum_i q[i] K[.][i][.], one chain of fma for each position. */
MB_INLINE void scores(__m256 z[HEADS][EIGHTS], const float *q, size_t d, const void *k,
                      float qk_scale, const size_t heads, const enum element e)
{
    for (size_t h = 0; h < heads; h++) {
        for (size_t b = 0; b < EIGHTS; b++) {
            z[h][b] = _mm256_setzero_ps();
        }
    }
    for (size_t i = 0; i < d; i++) {
        __m256 qi[HEADS];
        for (size_t h = 0; h < heads; h++) {
            qi[h] = _mm256_set1_ps(q[h * d + i]);
        }
        for (size_t b = 0; b < EIGHTS; b++) {
            __m256 ks = load(k, (b / 2 * d + i) * LANES + b % 2 * 8, e);
            for (size_t h = 0; h < heads; h++) {
                z[h][b] = _mm256_fmadd_ps(qi[h], ks, z[h][b]);
            }
        }
    }
    for (size_t h = 0; h < heads; h++) {
        for (size_t b = 0; b < EIGHTS; b++) {
            z[h][b] = _mm256_mul_ps(z[h][b], _mm256_set1_ps(qk_scale));
        }
    }
}

static inline float max_of(__m256 v) /* which holds no NaN */
{
    __m128 top = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    top = _mm_max_ps(top, _mm_movehl_ps(top, top));
    return _mm_cvtss_f32(_mm_max_ss(top, _mm_movehdup_ps(top)));
}

/* Softmax of one head's block: updates max and sum, writes p, returns the factor for what is in
 * out already. */
static inline float weigh(float p[MB_KV_BLOCK], float *sum, float *max, const __m256 z[EIGHTS],
                          size_t first, size_t n)
{
    __m256 top = _mm256_set1_ps(*max);
    for (size_t b = 0; b < EIGHTS; b++) {
        __m256 more = _mm256_max_ps(z[b], top); /* a NaN leaves top */
        top = _mm256_blendv_ps(top, more, visible(first, n, b));
    }
    float m = max_of(top) + 0.0f;

    __m256 lanes[2] = { _mm256_loadu_ps(sum), _mm256_loadu_ps(sum + 8) };
    float f = 1;
    if (*max > -INFINITY) {
        f = _mm256_cvtss_f32(mb_exp_avx2(_mm256_set1_ps(*max - m)));
        lanes[0] = _mm256_mul_ps(lanes[0], _mm256_set1_ps(f));
        lanes[1] = _mm256_mul_ps(lanes[1], _mm256_set1_ps(f));
    }
    for (size_t b = 0; b < EIGHTS; b++) {
        __m256 *half = &lanes[b % 2];
        __m256 pb = mb_exp_avx2(_mm256_sub_ps(z[b], _mm256_set1_ps(m)));
        *half = _mm256_blendv_ps(*half, _mm256_add_ps(*half, pb), visible(first, n, b));
        _mm256_storeu_ps(p + 8 * b, pb);
    }
    _mm256_storeu_ps(sum, lanes[0]);
    _mm256_storeu_ps(sum + 8, lanes[1]);
    *max = m;
    return f;
}

/* out[i] = f out[i], then fma(p_j, V[j][i], .) for ascending j; cols vectors of 8 i. */
MB_INLINE void gather(float *out, const float *p, float f, size_t d, size_t i, const void *v,
                      size_t first, size_t n, const size_t cols, const enum element e)
{
    __m256 sum[EIGHTS];
    for (size_t c = 0; c < cols; c++) {
        sum[c] = _mm256_mul_ps(_mm256_loadu_ps(out + i + 8 * c), _mm256_set1_ps(f));
    }
    for (size_t j = first; j < n; j++) {
        __m256 pj = _mm256_set1_ps(p[j]);
        for (size_t c = 0; c < cols; c++) {
            sum[c] = _mm256_fmadd_ps(pj, load(v, j * d + i + 8 * c, e), sum[c]);
        }
    }
    for (size_t c = 0; c < cols; c++) {
        _mm256_storeu_ps(out + i + 8 * c, sum[c]);
    }
}

/* The same for the last left < 8 i. */
MB_INLINE void gather_some(float *out, const float *p, float f, size_t d, size_t i,
                           const void *v, size_t first, size_t n, const enum element e)
{
    size_t left = d - i;
    __m256i live = mb_half_first(left);
    __m256 sum = _mm256_mul_ps(_mm256_maskload_ps(out + i, live), _mm256_set1_ps(f));
    for (size_t j = first; j < n; j++) {
        sum = _mm256_fmadd_ps(_mm256_set1_ps(p[j]), load_some(v, j * d + i, left, e), sum);
    }
    _mm256_maskstore_ps(out + i, live, sum);
}

MB_INLINE void attend_heads(float *out, float *sum, float *max, const float *q, size_t d,
                            const void *k, const void *v, size_t first, size_t n,
                            float qk_scale, const size_t heads, const enum element e)
{
    __m256 z[HEADS][EIGHTS];
    scores(z, q, d, k, qk_scale, heads, e);
    for (size_t h = 0; h < heads; h++) {
        float p[MB_KV_BLOCK];
        float f = weigh(p, sum + h * LANES, max + h, z[h], first, n);
        float *to = out + h * d;
        size_t i = 0;
        for (; d - i >= 8 * EIGHTS; i += 8 * EIGHTS) {
            gather(to, p, f, d, i, v, first, n, EIGHTS, e);
        }
        for (; d - i >= 8; i += 8) {
            gather(to, p, f, d, i, v, first, n, 1, e);
        }
        if (i < d) {
            gather_some(to, p, f, d, i, v, first, n, e);
        }
    }
}

MB_INLINE void attend(float *out, float *sum, float *max, const float *q, size_t n_q, size_t d,
                      const void *k, const void *v, size_t first, size_t n, float qk_scale,
                      const enum element e)
{
    size_t h = 0;
    for (; n_q - h >= HEADS; h += HEADS) {
        attend_heads(out + h * d, sum + h * LANES, max + h, q + h * d, d, k, v, first, n,
                     qk_scale, HEADS, e);
    }
    if (h < n_q) {
        attend_heads(out + h * d, sum + h * LANES, max + h, q + h * d, d, k, v, first, n,
                     qk_scale, 1, e);
    }
}

void mb_attend_f16_avx2(float *out, float *sum, float *max, const float *q, size_t n_q,
                        size_t d, const void *k, const void *v, size_t first, size_t n,
                        float qk_scale)
{
    attend(out, sum, max, q, n_q, d, k, v, first, n, qk_scale, F16);
}

void mb_attend_f32_avx2(float *out, float *sum, float *max, const float *q, size_t n_q,
                        size_t d, const void *k, const void *v, size_t first, size_t n,
                        float qk_scale)
{
    attend(out, sum, max, q, n_q, d, k, v, first, n, qk_scale, F32);
}

void mb_attend_finish_avx2(float *out, const float *sum, size_t n_q, size_t d)
{
    for (size_t h = 0; h < n_q; h++) {
        const float *lanes = sum + h * LANES;
        float total = mb_halves_tree(_mm256_loadu_ps(lanes), _mm256_loadu_ps(lanes + 8));
        for (size_t i = 0; i < d; i += 8) {
            __m256i live = mb_half_first(d - i);
            __m256 v = _mm256_maskload_ps(out + h * d + i, live);
            _mm256_maskstore_ps(out + h * d + i, live, _mm256_div_ps(v, _mm256_set1_ps(total)));
        }
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
