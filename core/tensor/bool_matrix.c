#include "core/tensor/bool_matrix.h"

#include <assert.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"

enum mb_status mb_bool_shape_check(const struct mb_bool_shape *s, struct mb_error *err)
{
    if (s->n_rows < 1 || s->n_rows > MB_ROWS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "Boolean matrix: n_rows is %u, not 1..%u",
                       s->n_rows, MB_ROWS_MAX);
    }
    if (s->n_cols < 1 || s->n_cols > MB_COLS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "Boolean matrix: n_cols is %u, not 1..%u",
                       s->n_cols, MB_COLS_MAX);
    }
    if (s->group < MB_WORD_COLS || s->group > MB_GROUP_COLS_MAX ||
        s->group % MB_WORD_COLS != 0) {
        return mb_fail(err, MB_E_INVALID, 0,
                       "Boolean matrix: group is %u, not a multiple of %d in %d..%d", s->group,
                       MB_WORD_COLS, MB_WORD_COLS, MB_GROUP_COLS_MAX);
    }
    if (s->n_kernels < 1 || s->n_kernels > MB_KERNELS_MAX) {
        return mb_fail(err, MB_E_INVALID, 0, "Boolean matrix: n_kernels is %u, not 1..%d",
                       s->n_kernels, MB_KERNELS_MAX);
    }
    return MB_OK;
}

enum mb_status mb_bool_draft_init(struct mb_bool_draft *d, const struct mb_bool_shape *shape,
                                  struct mb_error *err)
{
    memset(d, 0, sizeof *d);
    enum mb_status st = mb_bool_shape_check(shape, err);
    if (st != MB_OK) {
        return st;
    }
    d->shape = *shape;
    d->scale_all = 1;
    d->bits = mb_alloc(mb_bool_bits_bytes(shape), 1);
    d->scale = mb_alloc(mb_bool_scale_bytes(shape), 1);
    d->coef = mb_alloc(mb_bool_coef_bytes(shape), 1);
    if (!d->bits || !d->scale || !d->coef) {
        mb_bool_draft_fini(d);
        return mb_fail(err, MB_E_NOMEM, 0, "Boolean matrix of %u x %u, %u kernels",
                       shape->n_rows, shape->n_cols, shape->n_kernels);
    }
    return MB_OK;
}

void mb_bool_draft_fini(struct mb_bool_draft *d)
{
    if (!d) {
        return;
    }
    mb_free(d->bits);
    mb_free(d->scale);
    mb_free(d->coef);
    memset(d, 0, sizeof *d);
}

struct mb_bool_matrix mb_bool_draft_view(const struct mb_bool_draft *d)
{
    return (struct mb_bool_matrix) {
        .shape = d->shape,
        .scale_all = d->scale_all,
        .bits = d->bits,
        .scale = d->scale,
        .coef = d->coef,
    };
}

void mb_bool_draft_set(struct mb_bool_draft *d, size_t row, size_t g, uint16_t scale,
                       const uint8_t *coef, const uint32_t *const *signs)
{
    const struct mb_bool_shape *s = &d->shape;
    assert(row < s->n_rows);
    assert(g < mb_bool_groups(s));
    size_t tile = row / MB_TILE_ROWS, r = row % MB_TILE_ROWS;
    size_t n_words = mb_bool_group_words(s, g);
    size_t used = mb_bool_group_cols(s, g) % MB_WORD_COLS;
    uint32_t *bits = d->bits + mb_bool_bits_at(s, tile, g) + r;
    uint8_t *coefs = d->coef + mb_bool_coef_at(s, tile, g) + r;

    d->scale[mb_bool_scale_at(s, tile, g) + r] = scale;
    for (size_t k = 0; k < s->n_kernels; k++) {
        coefs[k * MB_TILE_ROWS] = coef[k];
        assert(used == 0 || signs[k][n_words - 1] >> used == 0); /* B1 */
        for (size_t w = 0; w < n_words; w++) {
            bits[(k * n_words + w) * MB_TILE_ROWS] = signs[k][w];
        }
    }
}

/* The part of a row that is one group: ret[j] for the group's columns. */
static void row_group(const struct mb_bool_matrix *w, size_t row, size_t g, float *ret)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t tile = row / MB_TILE_ROWS, r = row % MB_TILE_ROWS;
    size_t n_words = mb_bool_group_words(s, g);
    const uint32_t *bits = w->bits + mb_bool_bits_at(s, tile, g) + r;
    const uint8_t *coef = w->coef + mb_bool_coef_at(s, tile, g) + r;
    float scale = w->scale_all * mb_f16_to_f32(w->scale[mb_bool_scale_at(s, tile, g) + r]);

    for (size_t j = 0; j < mb_bool_group_cols(s, g); j++) {
        int sum = 0;
        for (size_t k = 0; k < s->n_kernels; k++) {
            uint32_t word = bits[(k * n_words + j / MB_WORD_COLS) * MB_TILE_ROWS];
            int c = coef[k * MB_TILE_ROWS];
            sum += word >> j % MB_WORD_COLS & 1 ? c : -c;
        }
        ret[j] = scale * (float) sum;
    }
}

void mb_bool_row(const struct mb_bool_matrix *w, size_t row, float *ret)
{
    assert(row < w->shape.n_rows);
    for (size_t g = 0; g < mb_bool_groups(&w->shape); g++) {
        row_group(w, row, g, ret + g * w->shape.group);
    }
}

/* One row of one group: rules on coefficients and scale, or all zero for a padding row. */
static enum mb_status check_coefs(const struct mb_bool_matrix *w, size_t row, size_t g,
                                  struct mb_error *err)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t tile = row / MB_TILE_ROWS, r = row % MB_TILE_ROWS;
    uint16_t scale = w->scale[mb_bool_scale_at(s, tile, g) + r];
    const uint8_t *coef = w->coef + mb_bool_coef_at(s, tile, g) + r;
    unsigned sum = 0, last = UINT8_MAX;
    for (size_t k = 0; k < s->n_kernels; k++) {
        unsigned c = coef[k * MB_TILE_ROWS];
        if (c > last) {
            return mb_fail(
                err, MB_E_FORMAT, 0,
                "row %zu, group %zu: coefficient %zu is %u, above the one before (%u)", row, g,
                k, c, last);
        }
        sum += c;
        last = c;
    }
    if (row >= s->n_rows) {
        return sum == 0 && scale == 0
                   ? MB_OK
                   : mb_fail(err, MB_E_FORMAT, 0, "row %zu, group %zu: padding row is not zero",
                             row, g);
    }
    if (sum > MB_COEF_SUM_MAX) {
        return mb_fail(err, MB_E_FORMAT, 0,
                       "row %zu, group %zu: coefficients add up to %u, above %d", row, g, sum,
                       MB_COEF_SUM_MAX);
    }
    if ((scale & 0x7c00) == 0x7c00) {
        return mb_fail(err, MB_E_FORMAT, 0, "row %zu, group %zu: scale is not finite", row, g);
    }
    return MB_OK;
}

/* B1 in one tile's group: no bit in padding columns nor in padding rows. */
static enum mb_status check_padding_bits(const struct mb_bool_matrix *w, size_t tile, size_t g,
                                         struct mb_error *err)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t n_words = mb_bool_group_words(s, g);
    size_t used = mb_bool_group_cols(s, g) % MB_WORD_COLS;
    uint32_t padding = used == 0 ? 0 : ~((1u << used) - 1); /* of a row's last word */
    size_t n_real = s->n_rows - tile * MB_TILE_ROWS;        /* rows of this tile and later */
    const uint32_t *bits = w->bits + mb_bool_bits_at(s, tile, g);

    for (size_t k = 0; k < s->n_kernels; k++) {
        for (size_t i = 0; i < n_words; i++, bits += MB_TILE_ROWS) {
            uint32_t wrong = i + 1 == n_words ? padding : 0;
            for (size_t r = 0; r < MB_TILE_ROWS; r++) {
                if (bits[r] & (r < n_real ? wrong : ~0u)) {
                    return mb_fail(err, MB_E_FORMAT, 0,
                                   "row %zu, group %zu: a padding bit of kernel %zu is set",
                                   tile * MB_TILE_ROWS + r, g, k);
                }
            }
        }
    }
    return MB_OK;
}

enum mb_status mb_bool_check(const struct mb_bool_matrix *w, struct mb_error *err)
{
    const struct mb_bool_shape *s = &w->shape;
    enum mb_status st = mb_bool_shape_check(s, err);
    if (st != MB_OK) {
        return st;
    }
    if ((mb_f32_bits(w->scale_all) & 0x7f800000u) == 0x7f800000u) {
        return mb_fail(err, MB_E_FORMAT, 0, "Boolean matrix: scale_all is not finite");
    }
    for (size_t tile = 0; tile < mb_bool_tiles(s); tile++) {
        for (size_t g = 0; g < mb_bool_groups(s); g++) {
            for (size_t r = 0; r < MB_TILE_ROWS && st == MB_OK; r++) {
                st = check_coefs(w, tile * MB_TILE_ROWS + r, g, err);
            }
            if (st == MB_OK) {
                st = check_padding_bits(w, tile, g, err);
            }
            if (st != MB_OK) {
                return st;
            }
        }
    }
    return MB_OK;
}
