#include <math.h>

#include "core/base/half.h"
#include "core/kernels/strip.h"
#include "core/kernels/variants.h"

/* What the hungriest variant keeps: four tiles of one group as bytes, and the sums of so many rows
 * for a strip of tokens. The variants share the size, not the layout. */
size_t mb_bool_expand_scratch(const struct mb_bool_shape *s)
{
    size_t cols = mb_bool_words(s) * MB_WORD_COLS;
    size_t rows = MB_EXPAND_TILES * MB_TILE_ROWS;
    size_t expanded = rows * (cols < s->group ? cols : s->group);
    return expanded + mb_strip_floats(MB_EXPAND_TILES) * sizeof(float);
}

/* w8 = sum_k c_k B_k, in [-127, 127], as [column][16 rows]; 0 past n_cols. */
static void expand_group(int8_t *w8, const uint32_t *bits, const uint8_t *coef,
                         size_t n_kernels, size_t n_words, size_t n_cols)
{
    for (size_t j = 0; j < n_cols; j++) {
        for (size_t r = 0; r < MB_TILE_ROWS; r++) {
            int sum = 0;
            for (size_t k = 0; k < n_kernels; k++) {
                uint32_t word = bits[(k * n_words + j / MB_WORD_COLS) * MB_TILE_ROWS + r];
                int c = coef[k * MB_TILE_ROWS + r];
                sum += word >> j % MB_WORD_COLS & 1 ? c : -c;
            }
            w8[j * MB_TILE_ROWS + r] = (int8_t) sum;
        }
    }
}

/* y = fma(s * a, float(T), y) for the rows of one group, T = sum_j w8 * (2u - L). */
static void group_rows(float *y, const int8_t *w8, const uint8_t *u, size_t n_cols, int levels,
                       const uint16_t *scale, float a, size_t n_rows)
{
    for (size_t r = 0; r < n_rows; r++) {
        int32_t t = 0;
        for (size_t j = 0; j < n_cols; j++) {
            t += w8[j * MB_TILE_ROWS + r] * (2 * u[j] - levels);
        }
        y[r] = fmaf(mb_f16_to_f32(scale[r]) * a, (float) t, y[r]);
    }
}

void mb_bool_expand_c(float *y, size_t ldy, const struct mb_bool_matrix *w,
                      const struct mb_codes *x, size_t n_tokens, size_t n_planes, size_t tile,
                      size_t tile_end, void *scratch)
{
    const struct mb_bool_shape *s = &w->shape;
    int levels = (1 << n_planes) - 1;
    for (; tile < tile_end; tile++) {
        size_t row = tile * MB_TILE_ROWS;
        size_t n_rows = s->n_rows - row < MB_TILE_ROWS ? s->n_rows - row : MB_TILE_ROWS;
        for (size_t t = 0; t < n_tokens; t++) {
            for (size_t r = 0; r < n_rows; r++) {
                y[t * ldy + row + r] = 0;
            }
        }
        for (size_t g = 0; g < mb_bool_groups(s); g++) {
            size_t n_cols = mb_bool_group_cols(s, g);
            expand_group(scratch, w->bits + mb_bool_bits_at(s, tile, g),
                         w->coef + mb_bool_coef_at(s, tile, g), s->n_kernels,
                         mb_bool_group_words(s, g), n_cols);
            for (size_t t = 0; t < n_tokens; t++) {
                group_rows(y + t * ldy + row, scratch, x[t].u + g * s->group, n_cols, levels,
                           w->scale + mb_bool_scale_at(s, tile, g), w->scale_all * x[t].a[g],
                           n_rows);
            }
        }
    }
}
