#include <immintrin.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/kernels/variants.h"
#include "core/kernels/x86/lanes_avx512.h"

static float code_sign(uint8_t *u, const float *x, size_t n)
{
    const __m512 zero = _mm512_setzero_ps();
    __m512 lanes = zero;
    for (size_t j = 0; j < n; j += 16) {
        __mmask16 live = mb_lanes_first(n - j);
        __m512 v = _mm512_maskz_loadu_ps(live, x + j);
        __mmask16 number = _mm512_cmp_ps_mask(v, v, _CMP_ORD_Q);
        __mmask16 up = _mm512_cmp_ps_mask(v, zero, _CMP_GE_OQ);
        lanes = _mm512_mask_add_ps(lanes, live & number, lanes, _mm512_abs_ps(v));
        _mm_mask_storeu_epi8(u + j, live, _mm_maskz_set1_epi8(up, 1));
    }
    return mb_lanes_tree(lanes) / (float) n;
}

static float code_levels(uint8_t *u, const float *x, size_t n, float levels)
{
    __m512 size = _mm512_setzero_ps();
    for (size_t j = 0; j < n; j += 16) {
        __m512 v = _mm512_maskz_loadu_ps(mb_lanes_first(n - j), x + j);
        size = _mm512_max_ps(_mm512_abs_ps(v), size); /* a NaN leaves the second operand */
    }
    float m = _mm512_reduce_max_ps(size);
    if (m < 0x1p-100f) {
        memset(u, 0, n);
        return 0;
    }
    float half = 0.5f * levels;
    __m512 r = _mm512_set1_ps(half / m);
    for (size_t j = 0; j < n; j += 16) {
        __mmask16 live = mb_lanes_first(n - j);
        __m512 v = _mm512_maskz_loadu_ps(live, x + j);
        v = _mm512_fmadd_ps(v, r, _mm512_set1_ps(half));
        v = _mm512_max_ps(v, _mm512_setzero_ps());
        v = _mm512_min_ps(v, _mm512_set1_ps(levels));
        __m512i i = _mm512_cvt_roundps_epi32(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm_mask_storeu_epi8(u + j, live, _mm512_cvtepi32_epi8(i));
    }
    return m / levels;
}

void mb_code_avx512(struct mb_codes *ret, const float *x, size_t n, size_t group,
                    size_t n_planes)
{
    float levels = (float) ((1u << n_planes) - 1);
    for (size_t g = 0; g * group < n; g++) {
        size_t at = g * group;
        size_t cols = n - at < group ? n - at : group;
        ret->a[g] = n_planes == 1 ? code_sign(ret->u + at, x + at, cols)
                                  : code_levels(ret->u + at, x + at, cols, levels);
    }
    memset(ret->u + n, 0, mb_div_up(n, MB_WORD_COLS) * MB_WORD_COLS - n);
}
