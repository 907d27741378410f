/* Inputs for the kernel tests: floats of several kinds, Boolean matrices and codes, all from
 * mb_rng, so that a failure replays. */
#ifndef MB_TESTS_CORE_KERNELS_INPUTS_H
#define MB_TESTS_CORE_KERNELS_INPUTS_H

#include <math.h>
#include <string.h>

#include "core/base/half.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/kernels/kernels.h"
#include "tests/check_main.h"

enum floats {
    FLOATS_USUAL,   /* about -4..4 */
    FLOATS_WIDE,    /* 2^-40 .. 2^40, either sign */
    FLOATS_TINY,    /* subnormals and the smallest normals */
    FLOATS_VANISH,  /* +-2^-100: products round to a signed zero */
    FLOATS_HUGE,    /* near FLT_MAX: sums overflow */
    FLOATS_SPECIAL, /* NaN, infinities, both zeros, among usual ones */
    FLOATS_ZERO,    /* both zeros */
    FLOATS_EQUAL,   /* all -1.5 */
    FLOATS_KINDS
};

static inline float float_of(enum floats kind, uint64_t seed, uint64_t i)
{
    static const float special[] = { NAN,   INFINITY,  -INFINITY,  0.0f,
                                     -0.0f, 0x1p-149f, -0x1p-126f, 3e38f };
    uint64_t r = mb_rng_u64(seed, 7, i);
    float unit = (float) (r >> 40) * 0x1p-23f - 1; /* [-1, 1) */
    switch (kind) {
    case FLOATS_WIDE:
        return ldexpf(unit, (int) (r % 81) - 40);
    case FLOATS_TINY:
        return ldexpf(unit, -126 - (int) (r % 23));
    case FLOATS_VANISH:
        return seed % 2 ? 0x1p-100f : -0x1p-100f;
    case FLOATS_HUGE:
        return unit * 3.4e38f;
    case FLOATS_SPECIAL:
        /* A NaN whose low bits are set, too: it shows arithmetic on a NaN's bits. */
        return r % 64 == 1  ? mb_f32_of_bits(0x7fc00001)
               : r % 4 == 0 ? special[r / 4 % 8]
                            : 4 * unit;
    case FLOATS_ZERO:
        return r & 1 ? 0.0f : -0.0f;
    case FLOATS_EQUAL:
        return -1.5f;
    default:
        return 4 * unit;
    }
}

static inline float *floats_new(enum floats kind, uint64_t seed, size_t n)
{
    float *x = mb_alloc(n, sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < n; i++) {
        x[i] = float_of(kind, seed, i);
    }
    return x;
}

/* The same bits, or both NaN: which NaN is not part of the contract. */
static inline int same_float(float a, float b)
{
    return (isnan(a) && isnan(b)) || mb_f32_bits(a) == mb_f32_bits(b);
}

/* Fails, naming the first difference; what is a printf-like account of the shape. */
#define assert_same_floats(got, want, n, ...)                                            \
    do {                                                                                 \
        for (size_t at_ = 0; at_ < (size_t) (n); at_++) {                                \
            if (!same_float((got)[at_], (want)[at_])) {                                  \
                char what_[256];                                                         \
                (void) snprintf(what_, sizeof what_, __VA_ARGS__);                       \
                ck_abort_msg("%s: [%zu] is %a, not %a", what_, at_, (double) (got)[at_], \
                             (double) (want)[at_]);                                      \
            }                                                                            \
        }                                                                                \
    } while (0)

/* A fresh tile of n_rows queries of d elements (q is [n_rows][d]) that all see [begin, end); one
 * allocation each holds q and out, rows beyond n_rows included. */
static inline struct mb_attend_tile tile_new(const float *q, size_t n_rows, size_t d,
                                             uint32_t begin, uint32_t end)
{
    struct mb_attend_tile t = { .n_rows = n_rows };
    t.q = mb_alloc(d * MB_ATTEND_ROWS, sizeof *t.q);
    t.out = mb_alloc(d * MB_ATTEND_ROWS, sizeof *t.out);
    ck_assert(t.q && t.out);
    for (size_t r = 0; r < MB_ATTEND_ROWS; r++) {
        t.max[r] = -INFINITY;
        t.begin[r] = begin;
        t.end[r] = end;
    }
    for (size_t i = 0; i < n_rows * d; i++) {
        t.q[i % d * MB_ATTEND_ROWS + i / d] = q[i];
    }
    return t;
}

static inline void tile_free(struct mb_attend_tile *t)
{
    mb_free(t->q);
    mb_free(t->out);
}

enum weights {
    WEIGHTS_USUAL,
    WEIGHTS_LIMIT, /* coefficients add up to 127, all signs equal within a row */
    WEIGHTS_KINDS
};

static inline struct mb_bool_draft matrix_new(const struct mb_bool_shape *s, enum weights kind,
                                              uint64_t seed)
{
    struct mb_bool_draft d;
    struct mb_error err;
    static uint32_t words[MB_KERNELS_MAX][MB_GROUP_COLS_MAX / 32];
    mb_assert_ok(mb_bool_draft_init(&d, s, &err), &err);
    d.scale_all = 0.37f;
    for (size_t i = 0; i < s->n_rows; i++) {
        for (size_t g = 0; g < mb_bool_groups(s); g++) {
            const uint32_t *signs[MB_KERNELS_MAX];
            uint8_t coef[MB_KERNELS_MAX];
            unsigned left = MB_COEF_SUM_MAX;
            for (size_t k = 0; k < s->n_kernels; k++) {
                uint64_t at = (i * 1024 + g) * 8 + k;
                size_t n = mb_bool_group_words(s, g), used = mb_bool_group_cols(s, g) % 32;
                unsigned most = k == 0 ? left : coef[k - 1] < left ? coef[k - 1] : left;
                coef[k] =
                    (uint8_t) (kind == WEIGHTS_LIMIT ? (k == 0 ? left - s->n_kernels + 1 : 1)
                                                     : mb_rng_u64(seed, 1, at) % (most + 1));
                left -= coef[k];
                for (size_t w = 0; w < n; w++) {
                    words[k][w] = kind == WEIGHTS_LIMIT
                                      ? 0u - (uint32_t) (i & 1)
                                      : (uint32_t) mb_rng_u64(seed + at, 2, w);
                }
                if (used != 0) {
                    words[k][n - 1] &= (1u << used) - 1;
                }
                signs[k] = words[k];
            }
            float scale = float_of(FLOATS_USUAL, seed, i * 977 + g);
            mb_bool_draft_set(&d, i, g, mb_f32_to_f16(scale), coef, signs);
        }
    }
    return d;
}

enum inputs {
    INPUTS_USUAL, /* coded from floats */
    INPUTS_ZERO,  /* u = 0 */
    INPUTS_FULL,  /* u = L */
    INPUTS_KINDS
};

/* Codes of n_tokens tokens, without tables; one allocation holds all, at codes[0].u. */
static inline struct mb_codes *codes_new(const struct mb_bool_shape *s, size_t n_tokens,
                                         size_t n_planes, enum inputs kind, uint64_t seed)
{
    size_t words = mb_bool_words(s), groups = mb_bool_groups(s);
    size_t groups_room = (groups + 15) / 16 * 16; /* keeps the next token aligned */
    size_t u_bytes = (words * 32 + 63) / 64 * 64;
    size_t bytes = u_bytes + words * MB_WORD_TABLE_BYTES + groups_room * 4;
    size_t panel_bytes = mb_code_panel_bytes(s->n_cols, s->group);
    struct mb_codes *c = mb_alloc(n_tokens, sizeof *c);
    char *memory = mb_alloc(n_tokens, bytes + panel_bytes);
    ck_assert(c && memory);
    struct mb_kernels plain;
    mb_kernels_select(&plain, 0);
    for (size_t t = 0; t < n_tokens; t++) {
        c[t].u = (uint8_t *) memory + t * bytes;
        c[t].tables = c[t].u + u_bytes;
        c[t].a = (float *) (c[t].u + u_bytes + words * MB_WORD_TABLE_BYTES);
        c[t].panel = (uint8_t *) memory + n_tokens * bytes + t * panel_bytes;
        float *x = floats_new(FLOATS_USUAL, seed + t, s->n_cols);
        plain.code(&c[t], x, s->n_cols, s->group, n_planes);
        if (kind != INPUTS_USUAL) {
            memset(c[t].u, kind == INPUTS_FULL ? (1 << n_planes) - 1 : 0, s->n_cols);
        }
        mb_free(x);
    }
    mb_code_panels(c, n_tokens, s->n_cols, s->group);
    return c;
}

/* The tables that k's bool_popcount reads. */
static inline void codes_tables(const struct mb_kernels *k, struct mb_codes *c, size_t n_tokens,
                                size_t n_cols, size_t n_planes)
{
    for (size_t t = 0; t < n_tokens; t++) {
        k->code_tables(&c[t], n_cols, n_planes);
    }
}

static inline void codes_free(struct mb_codes *c)
{
    mb_free(c[0].u);
    mb_free(c);
}

#endif
