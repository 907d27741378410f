#include "core/finetune/weights.h"

#include <assert.h>
#include <stdbool.h>
#include <string.h>

#include "core/base/checked.h"
#include "core/base/half.h"

enum { ROWS_PER_PART = MB_TILE_ROWS };

/* Bit b of a byte into byte b of a word, as 0 or 1. */
static inline uint64_t spread(uint8_t bits)
{
    uint64_t each = (uint64_t) bits * UINT64_C(0x0101010101010101);
    uint64_t one = each & UINT64_C(0x8040201008040201);
    return ((one + UINT64_C(0x7f7f7f7f7f7f7f7f)) | one) >> 7 & UINT64_C(0x0101010101010101);
}

/* The other way: byte b, 0 or 1, into bit b. */
static inline uint8_t gather(uint64_t bytes)
{
    return (uint8_t) ((bytes * UINT64_C(0x0102040810204080)) >> 56);
}

void mb_weights_patterns(const struct mb_bool_matrix *w, size_t row, size_t g, uint8_t *ret)
{
    const struct mb_bool_shape *s = &w->shape;
    size_t n_words = mb_bool_group_words(s, g), n = mb_bool_group_cols(s, g);
    const uint32_t *bits =
        w->bits + mb_bool_bits_at(s, row / MB_TILE_ROWS, g) + row % MB_TILE_ROWS;
    for (size_t at = 0; at < n; at += 8) {
        uint64_t eight = 0;
        for (size_t k = 0; k < s->n_kernels; k++) {
            uint32_t word = bits[(k * n_words + at / MB_WORD_COLS) * MB_TILE_ROWS];
            eight |= spread((uint8_t) (word >> at % MB_WORD_COLS)) << k;
        }
        size_t left = n - at < 8 ? n - at : 8;
        for (size_t j = 0; j < left; j++) {
            ret[at + j] = (uint8_t) (eight >> 8 * j);
        }
    }
}

void mb_weights_set_patterns(struct mb_bool_draft *d, size_t row, size_t g,
                             const uint8_t *pattern)
{
    const struct mb_bool_shape *s = &d->shape;
    size_t n_words = mb_bool_group_words(s, g), n = mb_bool_group_cols(s, g);
    uint32_t *bits = d->bits + mb_bool_bits_at(s, row / MB_TILE_ROWS, g) + row % MB_TILE_ROWS;
    for (size_t k = 0; k < s->n_kernels; k++) {
        for (size_t w = 0; w < n_words; w++) {
            uint32_t word = 0;
            for (size_t at = w * MB_WORD_COLS; at < n && at < (w + 1) * MB_WORD_COLS; at += 8) {
                uint64_t eight = 0;
                size_t left = n - at < 8 ? n - at : 8;
                for (size_t j = 0; j < left; j++) {
                    eight |= (uint64_t) (pattern[at + j] >> k & 1) << 8 * j;
                }
                word |= (uint32_t) gather(eight) << at % MB_WORD_COLS;
            }
            bits[(k * n_words + w) * MB_TILE_ROWS] = word;
        }
    }
}

void mb_weights_levels(const struct mb_bool_matrix *w, size_t row, size_t g,
                       float ret[1u << MB_KERNELS_MAX])
{
    const struct mb_bool_shape *s = &w->shape;
    size_t tile = row / MB_TILE_ROWS, r = row % MB_TILE_ROWS;
    const uint8_t *coef = w->coef + mb_bool_coef_at(s, tile, g) + r;
    float scale = w->scale_all * mb_f16_to_f32(w->scale[mb_bool_scale_at(s, tile, g) + r]);
    for (unsigned p = 0; p < 1u << s->n_kernels; p++) {
        int sum = 0;
        for (size_t k = 0; k < s->n_kernels; k++) {
            int c = coef[k * MB_TILE_ROWS];
            sum += p >> k & 1 ? c : -c;
        }
        ret[p] = scale * (float) sum;
    }
}

static void bool_row(const struct mb_bool_matrix *w, size_t row, float *ret)
{
    float level[1u << MB_KERNELS_MAX];
    uint8_t pattern[MB_GROUP_COLS_MAX];
    for (size_t g = 0; g < mb_bool_groups(&w->shape); g++) {
        size_t n = mb_bool_group_cols(&w->shape, g);
        float *to = ret + g * w->shape.group;
        mb_weights_levels(w, row, g, level);
        mb_weights_patterns(w, row, g, pattern);
        for (size_t j = 0; j < n; j++) {
            to[j] = level[pattern[j]];
        }
    }
}

void mb_weights_row(const struct mb_linear *l, size_t row, float *ret)
{
    size_t n = l->n_cols;
    const uint8_t *dense = l->dense;
    if (l->kind == MB_LINEAR_BOOL) {
        bool_row(&l->boolean, row, ret);
    } else if (l->kind == MB_LINEAR_F32) {
        memcpy(ret, dense + row * n * sizeof *ret, n * sizeof *ret);
    } else {
        for (size_t j = 0; j < n; j++) {
            uint16_t h;
            memcpy(&h, dense + (row * n + j) * sizeof h, sizeof h);
            ret[j] = l->kind == MB_LINEAR_F16 ? mb_f16_to_f32(h) : mb_bf16_to_f32(h);
        }
    }
}

struct dense_job {
    const struct mb_linear *l;
    float *ret;
};

static void dense_part(void *job, size_t part, size_t worker)
{
    const struct dense_job *j = job;
    size_t row = part * ROWS_PER_PART, n = j->l->n_rows;
    size_t end = n - row < ROWS_PER_PART ? n : row + ROWS_PER_PART;
    for (; row < end; row++) {
        mb_weights_row(j->l, row, j->ret + row * j->l->n_cols);
    }
}

const float *mb_weights_dense(const struct mb_linear *l, struct mb_pool *pool, float *scratch)
{
    if (l->kind == MB_LINEAR_F32 && (uintptr_t) l->dense % sizeof(float) == 0) {
        return l->dense;
    }
    struct dense_job j = { l, scratch };
    mb_pool_run(pool, mb_div_up(l->n_rows, ROWS_PER_PART), dense_part, &j);
    return scratch;
}
