/* Goal:   every variant of every kernel returns exactly the bits that portable C returns.
 * Method: for each instruction set that this processor has, ask the selector for it, and compare
 *         each slot with portable C over short shapes (every ragged end near 16, 32 and a
 *         group's border), floats of all kinds and weights at their limits. Bytes around
 *         the outputs are compared too: a kernel that writes past its end is found.
 *         MB_REQUIRE_ISA="avx2 avx512 ..." turns a set that is missing from a skip to a failure. */
#include <stdio.h>

#include "tests/core/kernels/inputs.h"

enum { AVX512 = MB_CPU_AVX2 | MB_CPU_AVX512 };

static const struct {
    const char *name;
    mb_cpu_flags flags;
} sets[] = {
    { "c", 0 },
    { "avx2", MB_CPU_AVX2 },
    { "avx512", AVX512 },
    { "avx512vnni", AVX512 | MB_CPU_VNNI },
    { "avx512vbmi", AVX512 | MB_CPU_VNNI | MB_CPU_VBMI },
    { "avx512gfni", AVX512 | MB_CPU_VNNI | MB_CPU_VBMI | MB_CPU_VPOPCNTDQ | MB_CPU_GFNI },
    { "all", ~0u },
};
enum { N_SETS = sizeof sets / sizeof sets[0] };

static struct mb_kernels plain, best;
static const char *set_name;

/* Is name among the words of $MB_REQUIRE_ISA? */
static int required(const char *name)
{
    const char *text = getenv("MB_REQUIRE_ISA");
    char words[512], word[64];
    (void) snprintf(words, sizeof words, " %s ", text ? text : "");
    (void) snprintf(word, sizeof word, " %s ", name);
    return strstr(words, word) != NULL;
}

/* Selects set i; false when this processor lacks it. */
static int select_set(int i)
{
    mb_cpu_flags have = mb_cpu_detect();
    set_name = sets[i].name;
    mb_kernels_select(&plain, 0);
    if (sets[i].flags != ~0u && (have & sets[i].flags) != sets[i].flags) {
        ck_assert_msg(!required(set_name), "MB_REQUIRE_ISA names %s, which is not here",
                      set_name);
        return 0;
    }
    mb_kernels_select(&best, have & sets[i].flags);
    return 1;
}

#define select_or_skip(i)                                                   \
    do {                                                                    \
        if (!select_set(i)) {                                               \
            mb_skip("instruction set %s: not on this processor", set_name); \
        }                                                                   \
    } while (0)

/* Widths around what vectors, words and groups do. */
static const uint32_t widths[] = { 1,   2,   3,   7,   8,   9,   15,  16,  17,  23,  24,
                                   25,  31,  32,  33,  47,  48,  49,  63,  64,  65,  79,
                                   80,  95,  96,  97,  100, 127, 128, 129, 159, 160, 161,
                                   191, 193, 224, 255, 256, 257, 258, 288, 289, 299, 300 };
enum { N_WIDTHS = sizeof widths / sizeof widths[0], WIDTH_MAX = 300, GUARD = 5 };

struct bool_case {
    struct mb_bool_shape shape;
    size_t n_tokens, n_planes;
    enum weights weights;
    enum inputs inputs;
};

static void check_product(const struct bool_case *c)
{
    const struct mb_bool_shape *s = &c->shape;
    struct mb_bool_draft d = matrix_new(s, c->weights, s->n_cols * 31 + s->n_rows);
    struct mb_bool_matrix w = mb_bool_draft_view(&d);
    struct mb_codes *x = codes_new(s, c->n_tokens, c->n_planes, c->inputs, s->n_cols);
    size_t ldy = s->n_rows + GUARD, n = ldy * c->n_tokens, tiles = mb_bool_tiles(s);
    float *want = mb_alloc(n, sizeof *want), *got = mb_alloc(n, sizeof *got);
    void *scratch = mb_alloc(mb_bool_expand_scratch(s), 1);
    ck_assert(want && got && scratch);

    mb_bool_product_fn *products[] = { plain.bool_expand, best.bool_popcount,
                                       best.bool_expand };
    codes_tables(&plain, x, c->n_tokens, s->n_cols, c->n_planes);
    plain.bool_popcount(want, ldy, &w, x, c->n_tokens, c->n_planes, 0, tiles, scratch);
    codes_tables(&best, x, c->n_tokens, s->n_cols, c->n_planes);
    for (size_t i = 0; i < 3; i++) {
        memset(got, 0, n * sizeof *got);
        products[i](got, ldy, &w, x, c->n_tokens, c->n_planes, 0, tiles / 2, scratch);
        products[i](got, ldy, &w, x, c->n_tokens, c->n_planes, tiles / 2, tiles, scratch);
        assert_same_floats(got, want, n,
                           "%s %s: %u x %u, G %u, K %u, P %zu, %zu tokens, ldy %zu", set_name,
                           i == 1 ? "bool_popcount" : "bool_expand", s->n_rows, s->n_cols,
                           s->group, s->n_kernels, c->n_planes, c->n_tokens, ldy);
    }
    mb_free(scratch);
    mb_free(want);
    mb_free(got);
    codes_free(x);
    mb_bool_draft_fini(&d);
}

static const uint32_t groups[] = { 32, 64, 128, 256, 320 }; /* the last is the whole row */
static const size_t planes[] = { 1, 4, 5, 6, 7, 8 };

START_TEST(bool_products_agree)
{
    select_or_skip(_i);
    size_t turn = 0;
    for (size_t c = 0; c < N_WIDTHS; c++) {
        for (size_t g = 0; g < 5; g++, turn++) {
            struct bool_case one = { { (uint32_t) (1 + turn * 7 % 40), widths[c], groups[g],
                                       (uint32_t) (1 + turn % 8) },
                                     1 + turn * 5 % 17,
                                     planes[turn % 6],
                                     WEIGHTS_USUAL,
                                     INPUTS_USUAL };
            check_product(&one);
        }
    }
    for (size_t i = 0; i < 40 * 6;
         i++) { /* all rows with all planes, all kernels, all tokens */
        struct bool_case one = { { (uint32_t) (1 + i / 6), 137, groups[i % 5],
                                   (uint32_t) (1 + i % 8) },
                                 1 + i % 17,
                                 planes[i % 6],
                                 WEIGHTS_USUAL,
                                 INPUTS_USUAL };
        check_product(&one);
    }
    for (size_t i = 0; i < 8 * 6; i++) { /* all kernels with all planes, at one token */
        struct bool_case one = { { 33, 300, 64, (uint32_t) (1 + i / 6) },
                                 1,
                                 planes[i % 6],
                                 WEIGHTS_USUAL,
                                 INPUTS_USUAL };
        check_product(&one);
    }
}
END_TEST

/* bool_expand takes MB_EXPAND_TILES tiles by MB_PANEL_TOKENS tokens at a time, and strips of
 * hundreds of tokens: all ends of all of them. */
START_TEST(bool_products_agree_in_blocks)
{
    select_or_skip(_i);
    static const uint32_t rows[] = { 63, 64, 65, 80, 127, 128, 150 };
    for (size_t i = 0; i < 7 * 13; i++) {
        struct bool_case one = { { rows[i % 7], 161, groups[i % 5], (uint32_t) (1 + i % 5) },
                                 1 + i / 7,
                                 planes[i % 6],
                                 WEIGHTS_USUAL,
                                 INPUTS_USUAL };
        check_product(&one);
    }
    static const size_t tokens[] = { 257, 258, 259, 264, 300, 516, 517, 530 };
    for (size_t i = 0; i < 8; i++) {
        struct bool_case one = { { 150, 97, groups[i % 2], (uint32_t) (1 + i % 4) },
                                 tokens[i],
                                 8,
                                 WEIGHTS_USUAL,
                                 INPUTS_USUAL };
        check_product(&one);
    }
}
END_TEST

START_TEST(bool_products_agree_at_the_limits)
{
    select_or_skip(_i);
    for (size_t i = 0; i < 2 * 3 * 6 * 8; i++) {
        struct bool_case one = { { 18, 289, groups[i % 5], (uint32_t) (1 + i / 36) },
                                 1 + i % 9,
                                 planes[i % 6],
                                 (enum weights)(i / 6 % 2),
                                 (enum inputs)(i / 12 % 3) };
        check_product(&one);
    }
    for (size_t i = 0; i < 3; i++) { /* the largest group: T comes near 2^31 */
        struct bool_case one = {
            { 2, MB_GROUP_COLS_MAX, MB_GROUP_COLS_MAX, 1 }, 2, 8, WEIGHTS_LIMIT, (enum inputs) i
        };
        check_product(&one);
    }
}
END_TEST

static void check_code(enum floats kind, size_t n, size_t group, size_t n_planes)
{
    enum { ROOM = 512 };
    static _Alignas(64) uint8_t u[2][ROOM];
    float a[2][ROOM / 32] = { { 0 } };
    struct mb_kernels *k[] = { &plain, &best };
    float *x = floats_new(kind, n + group, n);
    for (int i = 0; i < 2; i++) {
        struct mb_codes c = { .u = u[i], .a = a[i] };
        memset(u[i], 0xa5, sizeof u[i]);
        k[i]->code(&c, x, n, group, n_planes);
    }
    assert_same_floats(a[1], a[0], ROOM / 32, "%s code: a, kind %d, n %zu, G %zu, P %zu",
                       set_name, kind, n, group, n_planes);
    ck_assert_msg(memcmp(u[0], u[1], sizeof u[0]) == 0,
                  "%s code: u, kind %d, n %zu, G %zu, P %zu", set_name, kind, n, group,
                  n_planes);
    mb_free(x);
}

START_TEST(codes_agree)
{
    select_or_skip(_i);
    for (int kind = 0; kind < FLOATS_KINDS; kind++) {
        for (size_t c = 0; c < N_WIDTHS; c++) {
            for (size_t i = 0; i < 30; i++) {
                check_code((enum floats) kind, widths[c], groups[i % 5], planes[i / 5]);
            }
        }
    }
}
END_TEST

START_TEST(dense_agrees)
{
    select_or_skip(_i);
    enum { ROWS = 11, TOKENS = 7 };
    static char memory[ROWS * WIDTH_MAX * sizeof(float) + 64];
    mb_dense_fn *fns[][2] = { { plain.dense_f32, best.dense_f32 },
                              { plain.dense_f16, best.dense_f16 },
                              { plain.dense_bf16, best.dense_bf16 } };
    for (size_t c = 0, turn = 0; c < N_WIDTHS; c++) {
        for (int kind = 0; kind < FLOATS_KINDS; kind++, turn++) {
            size_t n = widths[c], row = turn % 4, row_end = row + 1 + turn % (ROWS - 4);
            size_t tokens = 1 + turn % TOKENS, ldy = ROWS + 2;
            float *x = floats_new((enum floats) kind, n * 2, tokens * n);
            char *w = memory + turn % 5; /* any alignment */
            for (int type = 0; type < 3; type++) {
                for (size_t i = 0; i < ROWS * n; i++) {
                    float v = float_of((enum floats) kind, 99, i);
                    uint16_t h =
                        type == 1 ? mb_f32_to_f16(v) : (uint16_t) (mb_f32_bits(v) >> 16);
                    memcpy(w + i * (type == 0 ? 4 : 2), type == 0 ? (void *) &v : (void *) &h,
                           type == 0 ? 4 : 2);
                }
                float want[TOKENS * (ROWS + 2)] = { 0 }, got[TOKENS * (ROWS + 2)] = { 0 };
                fns[type][0](want, ldy, w, x, n, tokens, row, row_end);
                fns[type][1](got, ldy, w, x, n, tokens, row, row_end);
                assert_same_floats(
                    got, want, TOKENS * ldy,
                    "%s dense type %d: kind %d, n %zu, rows %zu..%zu, %zu tokens", set_name,
                    type, kind, n, row, row_end, tokens);
            }
            mb_free(x);
        }
    }
}
END_TEST

static void check_pointwise(enum floats kind, size_t n)
{
    enum { ROOM = WIDTH_MAX + GUARD };
    float *x = floats_new(kind, n, ROOM), *w = floats_new(FLOATS_WIDE, n + 1, ROOM);
    float y[2][ROOM];
    uint16_t t[ROOM];
    struct mb_kernels *k[] = { &plain, &best };
    for (size_t i = 0; i < ROOM; i++) {
        t[i] = (uint16_t) mb_rng_u64(n, 3, i);
    }
    for (int what = 0; what < 7; what++) {
        for (int i = 0; i < 2; i++) {
            memcpy(y[i], x, sizeof y[i]);
            switch (what) {
            case 0:
                k[i]->rmsnorm(y[i], y[i], w, n, 1e-5f);
                break;
            case 1:
                k[i]->rope(y[i], w, w + 1, n / 2 * 2);
                break;
            case 2:
                k[i]->silu_mul(y[i], y[i], w, n);
                break;
            case 3:
                k[i]->add(y[i], w, n);
                break;
            case 4:
                k[i]->scale_f16(y[i], x, t, n);
                break;
            case 5:
                k[i]->widen_f16(y[i], t, n);
                break;
            default:
                k[i]->silu_mul(y[i], w, y[i], n);
                break;
            }
        }
        assert_same_floats(y[1], y[0], ROOM, "%s pointwise %d: kind %d, n %zu", set_name, what,
                           kind, n);
    }
    for (size_t scale = 0; scale < 3; scale++) {
        float max[2], sum[2];
        for (int i = 0; i < 2; i++) {
            max[i] = k[i]->max(x, n);
            memcpy(y[i], x, sizeof y[i]);
            sum[i] = k[i]->weigh(y[i], x, n, max[i], (const float[]) { 1, 1e6f, 0.5f }[scale]);
        }
        assert_same_floats(&max[1], &max[0], 1, "%s max: kind %d, n %zu", set_name, kind, n);
        assert_same_floats(&sum[1], &sum[0], 1, "%s weigh: kind %d, n %zu", set_name, kind, n);
        assert_same_floats(y[1], y[0], ROOM, "%s weigh: kind %d, n %zu", set_name, kind, n);
    }
    mb_free(x);
    mb_free(w);
}

START_TEST(pointwise_kernels_agree)
{
    select_or_skip(_i);
    for (int kind = 0; kind < FLOATS_KINDS; kind++) {
        for (size_t c = 0; c < N_WIDTHS; c++) {
            check_pointwise((enum floats) kind, widths[c]);
        }
    }
}
END_TEST

/* exp as it stands inside the vector kernels, over its whole range: with u = 1, silu shows it. */
START_TEST(exp_agrees_everywhere)
{
    select_or_skip(_i);
    enum { N = 1 << 18 };
    float *g = mb_alloc(N, sizeof *g), *one = mb_alloc(N, sizeof *one);
    float *want = mb_alloc(N, sizeof *want), *got = mb_alloc(N, sizeof *got);
    for (size_t i = 0; i < N; i++) {
        g[i] = i % 2 ? -90 + (float) i * (180.0f / N)
                     : mb_f32_of_bits((uint32_t) i << 14); /* every exponent, either sign */
        one[i] = 1;
    }
    plain.silu_mul(want, g, one, N);
    best.silu_mul(got, g, one, N);
    assert_same_floats(got, want, N, "%s silu", set_name);
    mb_free(g);
    mb_free(one);
    mb_free(want);
    mb_free(got);
}
END_TEST

enum { HEAD_MAX = 136 };

/* What rows of a tile see of two segments: everything, ends at and around every border, nothing. */
static void see_ranges(struct mb_attend_tile *t, size_t turn)
{
    static const uint32_t ends[] = { 1,   16,  17,  31,  32,  33,  64,  255,
                                     256, 257, 272, 287, 288, 289, 319, 320 };
    static const uint32_t begins[] = {
        0, 0, 1, 15, 0, 16, 31, 0, 32, 255, 256, 0, 270, 287, 0
    };
    for (size_t r = 0; r < MB_ATTEND_ROWS; r++) {
        size_t at = turn % 3 == 0 ? turn : turn + r * (turn % 7); /* alike, or each its own */
        t->end[r] = ends[at % 16];
        t->begin[r] = begins[(at / 2 + turn) % 15] % t->end[r];
    }
}

/* Keys and values of a block; what lies in positions that nobody may see is NaN. */
static void store_block(char *kv[2], int half, enum floats kind, size_t d, uint64_t block,
                        size_t end)
{
    size_t bytes = 2 * MB_KV_BLOCK * d * (half ? 2 : 4);
    struct mb_kernels *k[] = { &plain, &best };
    for (int i = 0; i < 2; i++) {
        memset(kv[i], 0xff, bytes);
    }
    for (size_t j = 0; j < MB_KV_BLOCK && block * MB_KV_BLOCK + j < end; j++) {
        float *x = floats_new(kind, block * 32 + j, 2 * d);
        for (int i = 0; i < 2; i++) {
            (half ? k[i]->kv_store_f16 : k[i]->kv_store_f32)(kv[i], kv[i] + bytes / 2, x, x + d,
                                                             d, j);
        }
        mb_free(x);
    }
    ck_assert_msg(memcmp(kv[0], kv[1], bytes) == 0, "%s kv_store: half %d, kind %d, d %zu",
                  set_name, half, kind, d);
}

static void assert_same_tiles(const struct mb_attend_tile *got,
                              const struct mb_attend_tile *want, size_t d, const char *what,
                              size_t turn)
{
    assert_same_floats(got->max, want->max, MB_ATTEND_ROWS, "%s %s max: d %zu, turn %zu",
                       set_name, what, d, turn);
    for (size_t r = 0; r < MB_ATTEND_ROWS; r++) {
        assert_same_floats(got->sum[r], want->sum[r], 16, "%s %s sum %zu: d %zu, turn %zu",
                           set_name, what, r, d, turn);
    }
    assert_same_floats(got->out, want->out, MB_ATTEND_ROWS * d, "%s %s out: d %zu, turn %zu",
                       set_name, what, d, turn);
}

/* Two segments, of 8 blocks and of 2, then merged and finished. */
static void check_attend(int half, enum floats kind, size_t d, size_t n_rows, size_t turn)
{
    enum { BLOCKS = 10, SECOND = MB_ATTEND_SEGMENT / MB_KV_BLOCK };
    static _Alignas(64) char memory[2][2 * MB_KV_BLOCK * HEAD_MAX * 4];
    char *kv[] = { memory[0], memory[1] };
    struct mb_kernels *k[] = { &plain, &best };
    struct mb_attend_tile t[2][2]; /* [variant][segment] */
    float *q = floats_new(kind == FLOATS_HUGE ? FLOATS_USUAL : kind, 5, n_rows * d);
    for (int i = 0; i < 4; i++) {
        t[i / 2][i % 2] = tile_new(q, n_rows, d, 0, 0);
        see_ranges(&t[i / 2][i % 2], turn);
    }
    for (size_t block = turn % 2 * 7; block < BLOCKS; block++) {
        store_block(kv, half, kind, d, block, turn % 5 == 0 ? 320 : 290);
        for (int i = 0; i < 2; i++) {
            (half ? k[i]->attend_f16 : k[i]->attend_f32)(&t[i][block >= SECOND], d, kv[0],
                                                         block * MB_KV_BLOCK, 0.25f, kv[0]);
        }
        assert_same_tiles(&t[1][block >= SECOND], &t[0][block >= SECOND], d, "attend", turn);
    }
    for (int i = 0; i < 2; i++) {
        k[i]->attend_merge(&t[i][0], &t[i][1], d, MB_ATTEND_SEGMENT);
    }
    assert_same_tiles(&t[1][0], &t[0][0], d, "merge", turn);
    for (size_t r = 0; r < n_rows; r++) {
        float y[2][HEAD_MAX + GUARD] = { { 0 } };
        plain.attend_finish(y[0], &t[0][0], r, d);
        best.attend_finish(y[1], &t[1][0], r, d);
        assert_same_floats(y[1], y[0], HEAD_MAX + GUARD, "%s finish: d %zu", set_name, d);
    }
    for (int i = 0; i < 4; i++) {
        tile_free(&t[i / 2][i % 2]);
    }
    mb_free(q);
}

START_TEST(attention_agrees)
{
    select_or_skip(_i);
    static const size_t widths_of_heads[] = { 2,  6,  8,  16, 18, 24,  32,
                                              40, 48, 64, 66, 80, 128, HEAD_MAX };
    for (size_t w = 0, turn = 0; w < 14; w++) {
        for (int kind = 0; kind < FLOATS_KINDS; kind++) {
            for (int half = 0; half < 2; half++) {
                for (size_t i = 0; i < 4; i++, turn++) {
                    check_attend(half, (enum floats) kind, widths_of_heads[w], 1 + turn % 8,
                                 turn * 13 + w);
                }
            }
        }
    }
}
END_TEST

START_TEST(the_best_set_is_really_selected)
{
    mb_cpu_flags have = mb_cpu_detect();
    char text[64];
    mb_cpu_describe(have, text, sizeof text);
    printf("this processor has: %s\n", text);
    mb_kernels_select(&best, have);
    mb_kernels_select(&plain, 0);
    ck_assert_str_eq(plain.name, "c");
#ifdef __x86_64__
    ck_assert_str_eq(best.name, have & MB_CPU_AVX512 ? "avx512"
                                : have & MB_CPU_AVX2 ? "avx2"
                                                     : "c");
    ck_assert((best.bool_expand == plain.bool_expand) == (have == 0));
#endif
    mb_kernels_select(&best, MB_CPU_AVX512 | MB_CPU_VNNI); /* a step without the one below */
    ck_assert_str_eq(best.name, "c");
    ck_assert(best.bool_expand == plain.bool_expand);
}
END_TEST

START_TEST(required_sets_are_known)
{
    char words[512];
    const char *text = getenv("MB_REQUIRE_ISA");
    (void) snprintf(words, sizeof words, "%s", text ? text : "");
    for (char *word = strtok(words, " "); word; word = strtok(NULL, " ")) {
        int known = 0;
        for (size_t i = 0; i < N_SETS; i++) {
            known |= strcmp(word, sets[i].name) == 0;
        }
        ck_assert_msg(known, "MB_REQUIRE_ISA: no set is called '%s'", word);
    }
}
END_TEST

START_TEST(names_narrow_the_processor)
{
    struct mb_error err;
    mb_cpu_flags got = 77, all = AVX512 | MB_CPU_VPOPCNTDQ | MB_CPU_VNNI | MB_CPU_VBMI;
    static const struct {
        const char *name;
        mb_cpu_flags want;
    } names[] = { { "auto", AVX512 | MB_CPU_VPOPCNTDQ | MB_CPU_VNNI | MB_CPU_VBMI },
                  { "c", 0 },
                  { "avx2", MB_CPU_AVX2 },
                  { "avx512", AVX512 },
                  { "avx512vnni", AVX512 | MB_CPU_VPOPCNTDQ | MB_CPU_VNNI | MB_CPU_VBMI } };
    for (size_t i = 0; i < 5; i++) {
        mb_assert_ok(mb_cpu_narrow(names[i].name, all, &got, &err), &err);
        ck_assert_uint_eq(got, names[i].want);
    }
    got = 77;
    ck_assert_int_eq(mb_cpu_narrow("avx512", MB_CPU_AVX2, &got, &err), MB_E_UNSUPPORTED);
    ck_assert_msg(strstr(err.what, "has only avx2") != NULL, "%s", err.what);
    ck_assert_int_eq(mb_cpu_narrow("sse9", all, &got, &err), MB_E_INVALID);
    ck_assert_uint_eq(got, 77);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("kernels_variants");
    TCase *t = tcase_create("variants");
    tcase_add_test(t, the_best_set_is_really_selected);
    tcase_add_test(t, required_sets_are_known);
    tcase_add_test(t, names_narrow_the_processor);
    tcase_add_loop_test(t, bool_products_agree, 0, N_SETS);
    tcase_add_loop_test(t, bool_products_agree_in_blocks, 0, N_SETS);
    tcase_add_loop_test(t, bool_products_agree_at_the_limits, 0, N_SETS);
    tcase_add_loop_test(t, codes_agree, 0, N_SETS);
    tcase_add_loop_test(t, dense_agrees, 0, N_SETS);
    tcase_add_loop_test(t, pointwise_kernels_agree, 0, N_SETS);
    tcase_add_loop_test(t, exp_agrees_everywhere, 0, N_SETS);
    tcase_add_loop_test(t, attention_agrees, 0, N_SETS);
    suite_add_tcase(s, t);
    return mb_run_suite(s);
}
