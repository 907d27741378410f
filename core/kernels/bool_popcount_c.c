#include <math.h>

#include "core/base/half.h"
#include "core/kernels/variants.h"

/* T of one group and 16 rows: sum_k c_k * sum_p 2^p * (G - 2 * popcount(B_k xor plane_p)).
 * Unsigned, because partial results may pass the ends of an int32; the sum itself fits. */
static void group_sums(uint32_t *t, const uint32_t *bits, const uint8_t *coef,
                       const uint32_t *planes, size_t n_kernels, size_t n_words, size_t n_cols,
                       size_t n_planes)
{
    for (size_t r = 0; r < MB_TILE_ROWS; r++) {
        t[r] = 0;
        for (size_t k = 0; k < n_kernels; k++) {
            const uint32_t *b = bits + k * n_words * MB_TILE_ROWS + r;
            uint32_t differ = 0; /* sum_p 2^p * popcount */
            for (size_t w = 0; w < n_words; w++) {
                for (size_t p = 0; p < n_planes; p++) {
                    uint32_t x = b[w * MB_TILE_ROWS] ^ planes[w * MB_PLANES_MAX + p];
                    differ += (uint32_t) __builtin_popcount(x) << p;
                }
            }
            uint32_t levels = (1u << n_planes) - 1;
            t[r] += coef[k * MB_TILE_ROWS + r] * (levels * (uint32_t) n_cols - 2 * differ);
        }
    }
}

static void tile_rows(float *y, const struct mb_bool_matrix *w, const struct mb_codes *x,
                      size_t n_planes, size_t tile)
{
    const struct mb_bool_shape *s = &w->shape;
    for (size_t r = 0; r < MB_TILE_ROWS; r++) {
        y[r] = 0;
    }
    for (size_t g = 0; g < mb_bool_groups(s); g++) {
        uint32_t t[MB_TILE_ROWS];
        size_t words_before = g * (s->group / MB_WORD_COLS);
        group_sums(t, w->bits + mb_bool_bits_at(s, tile, g),
                   w->coef + mb_bool_coef_at(s, tile, g),
                   (const uint32_t *) x->tables + words_before * MB_PLANES_MAX, s->n_kernels,
                   mb_bool_group_words(s, g), mb_bool_group_cols(s, g), n_planes);
        const uint16_t *scale = w->scale + mb_bool_scale_at(s, tile, g);
        float a = w->scale_all * x->a[g];
        for (size_t r = 0; r < MB_TILE_ROWS; r++) {
            y[r] = fmaf(mb_f16_to_f32(scale[r]) * a, (float) (int32_t) t[r], y[r]);
        }
    }
}

void mb_bool_popcount_c(float *y, size_t ldy, const struct mb_bool_matrix *w,
                        const struct mb_codes *x, size_t n_tokens, size_t n_planes, size_t tile,
                        size_t tile_end, void *scratch)
{
    (void) scratch;
    for (; tile < tile_end; tile++) {
        size_t row = tile * MB_TILE_ROWS;
        for (size_t t = 0; t < n_tokens; t++) {
            float rows[MB_TILE_ROWS];
            tile_rows(rows, w, &x[t], n_planes, tile);
            for (size_t r = 0; r < MB_TILE_ROWS && row + r < w->shape.n_rows; r++) {
                y[t * ldy + row + r] = rows[r];
            }
        }
    }
}
